"""What shows people belongs to its user alone: files are made with mode 0600, folders with 0700, whatever the umask.

What exists already keeps its mode, which somebody chose; so does a device or a pipe. Windows has no such modes: there a
file has the rights of its folder.
"""

import os
from io import FileIO
from pathlib import Path
from typing import cast


def open_private(path: Path, mode: str) -> FileIO:
    """Open an unbuffered file to write to: `mode` is "wb", "ab" or "xb". A new one is private. Raises OSError."""
    return cast(FileIO, open(path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600)))


def make_private_file(path: Path) -> None:
    """Make an empty private file, if there is none, for a library that opens its files itself. Raises OSError."""
    open_private(path, "ab").close()


def make_private_dir(path: Path, *, exist_ok: bool = True) -> None:
    """Make a private folder, and those above it that are missing. Raises OSError; FileExistsError unless `exist_ok`."""
    for folder in reversed([parent for parent in path.parents if not parent.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=exist_ok)
