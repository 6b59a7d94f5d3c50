"""Text from outside (file names, names of devices) made fit to be shown, logged and sent."""

import unicodedata
from contextlib import suppress

_UNFIT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of what ends a line, steers a terminal, turns the writing round or is no character at all."""
_JOINERS = "\u200c\u200d"
"""Persian and Indic words and many emoji need these two of category Cf."""


def printable(text: str) -> str:
    r"""The same text on one line that UTF-8 can hold: what is unfit is escaped, as `\n`, `\x1b`, `\u202e`.

    A byte of a file name that is no UTF-8, which Python holds as a lone surrogate, becomes `\xe9`.
    """
    with suppress(UnicodeEncodeError):  # a locale that is not UTF-8 leaves every letter beyond ASCII as lone surrogates
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(_escaped(c) if unicodedata.category(c) in _UNFIT and c not in _JOINERS else c for c in text)


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode("ascii")
