"""Made-up clips: people who can be moved, the events of a clip, and the renderer."""
