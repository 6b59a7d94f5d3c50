"""Recorded sessions: stored, listed, reviewed, coded and exported. A session is a folder, see
`stream.sessions.session`.
"""
