"""Made-up clips: people who can be moved, what happens to them, and the renderer."""
