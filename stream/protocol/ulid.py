"""ULIDs: 26 characters that sort by their creation time in ms (https://github.com/ulid/spec)."""

import os
import re
import time

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS = 80
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def new_ulid(after: str = "") -> str:
    """Returns a new ULID that sorts after `after`, even if the wall clock was set back meanwhile."""
    made = _encode(time.time_ns() // 1_000_000 << _RANDOM_BITS | int.from_bytes(os.urandom(10)))
    return made if made > after else _encode(_decode(after) + (1 << _RANDOM_BITS))


def ulid_of(time_ms: int, noise: bytes) -> str:
    """Returns the ULID of a given millisecond and 10 given bytes, for runs that must be repeatable."""
    return _encode(time_ms << _RANDOM_BITS | int.from_bytes(noise[:10]))


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in its canonical (upper-case) form."""
    return _PATTERN.fullmatch(text) is not None


def _encode(number: int) -> str:
    return "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))


def _decode(ulid: str) -> int:
    number = 0
    for character in ulid:
        number = number << 5 | _DIGITS.index(character)
    return number
