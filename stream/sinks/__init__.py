"""Where events go besides the server."""
