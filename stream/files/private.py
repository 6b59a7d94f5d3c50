"""Files that show people belong to their user alone: files get mode 0600, folders 0700, whatever the umask.

A file that exists already keeps its mode, because somebody chose it. So does a device or a pipe. Windows has no such
modes; there a file has the rights of its folder.
"""

import os
from io import FileIO
from pathlib import Path
from typing import cast


def open_private(path: Path, mode: str) -> FileIO:
    """Open an unbuffered file for writing: `mode` is "wb", "ab" or "xb". A new file is private. Raises OSError."""
    return cast(FileIO, open(path, mode, buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600)))


def make_private_file(path: Path) -> None:
    """Make an empty private file, if there is none, for a library that opens its own files. Raises OSError."""
    open_private(path, "ab").close()


def make_private_dir(path: Path, *, exist_ok: bool = True) -> None:
    """Make a private folder and its missing parents. Raises OSError, and FileExistsError unless `exist_ok`."""
    for folder in reversed([parent for parent in path.parents if not parent.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=exist_ok)
