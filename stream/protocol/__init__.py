"""The messages of the event service: the one place where their fields are written down."""
