"""The one exception that the engine means a user to read."""


class EngineError(Exception):
    """A model, runtime or compiled engine can't be used: one line that names value, reason and remedy."""
