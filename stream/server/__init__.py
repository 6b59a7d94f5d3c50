"""The event service: sockets, journal, access, metrics and the dashboard."""
