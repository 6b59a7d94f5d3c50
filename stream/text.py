"""Makes text from outside (names of files and devices) safe to show, log and send."""

import unicodedata
from contextlib import suppress

_UNFIT = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of characters that end a line, control a terminal, reverse the writing direction or are no
character."""
_JOINERS = "\u200c\u200d"
"""Persian, Indic words and many emoji need these two of category Cf."""


def printable(text: str) -> str:
    r"""Returns the text as one line that UTF-8 can hold. Unsafe characters are escaped, as `\n`, `\x1b`, `\u202e`.

    A byte of a file name that is not UTF-8, which Python holds as a lone surrogate, becomes `\xe9`.
    """
    with suppress(UnicodeEncodeError):  # in a locale other than UTF-8 every letter beyond ASCII is a lone surrogate
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(_escaped(c) if unicodedata.category(c) in _UNFIT and c not in _JOINERS else c for c in text)


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode("ascii")
