"""Films: scripts as video files, real footage with injected micro-expressions, and the pools made of both."""
