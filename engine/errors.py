"""The one exception of the engine that a user should read."""


class EngineError(Exception):
    """A model, runtime or compiled engine can't be used: one line that names value, reason and remedy."""
