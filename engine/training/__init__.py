"""Making clips, and training on them. Tools on top of `engine`: nothing that runs live imports this package."""
