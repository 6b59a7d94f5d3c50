"""Recorded sessions: stored, listed, reviewed, coded, exported. A session is a folder; `stream.sessions.session`."""
