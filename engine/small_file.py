"""Reads small files that others may have made. A limit keeps a file from filling the memory or never ending."""

import json
import stat
from pathlib import Path
from typing import Any

LIMIT_BYTES = 1 << 20
"""Descriptions, ranges, calibrations and settings take a few kilobytes."""


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file of at most LIMIT_BYTES.

    Raises OSError when the file can't be opened, and ValueError with a text when it is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
        raise ValueError("is not a regular file")
    with path.open("rb") as file:
        data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise ValueError(f"is larger than {LIMIT_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, with the same limit and errors as `read_text`."""
    text = read_text(path)
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise ValueError("is not a JSON object")
    return said
