"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input: printed as one line that names value, reason and remedy; the program exits with `code`.

    `code` is 1 for a failure at run time (camera missing, stream dead) and 2 for wrong usage (unknown flag, bad value).
    0: the user ended the program before it had begun.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
