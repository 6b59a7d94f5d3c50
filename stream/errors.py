"""The one exception that is written for users."""


class UserError(Exception):
    """Bad input. It is printed as one line with value, reason and remedy, and the program exits with `code`.

    `code` is 1 for a failure at run time (camera missing, stream dead) and 2 for wrong usage (unknown flag, bad value).
    It is 0 if the user ended the program before it began.
    """

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
