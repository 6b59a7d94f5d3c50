"""A frame in, aligned face crops on the time grid out."""
