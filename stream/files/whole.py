"""Writes that are complete or absent: neither a full disk nor `kill -9` leaves half a line, record or file."""

import os
import tempfile
from contextlib import suppress
from io import FileIO
from pathlib import Path


def append(file: FileIO, data: bytes) -> None:
    """Append all of `data` to an unbuffered file. If a full disk takes only a part, that part is removed again.

    Raises OSError. A pipe or a device can't take anything back.
    """
    sent = 0
    try:
        while sent < len(data):
            sent += file.write(memoryview(data)[sent:]) or 0
    except OSError:
        if sent:
            with suppress(OSError):
                file.seek(file.truncate(os.fstat(file.fileno()).st_size - sent))
        raise


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of a private file. A reader finds the old content or the new one. Raises OSError."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with FileIO(handle, "wb") as file:
            append(file, data)
            os.fsync(handle)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
