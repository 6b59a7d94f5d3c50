"""File formats of other programs: one file each, listed here.

A writer takes the videos of a session and the path that the user named, and returns the content of each file. A
reader returns the rows of one file, and raises ValueError or KeyError if the file is not of its kind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from stream.sessions.formats import bids, boris, elan, label_studio, table, textgrid, vtt
from stream.sessions.rows import Row, VideoRows

Writer = Callable[[Sequence[VideoRows], Path], dict[Path, str]]
Reader = Callable[[Path], list[Row]]

WRITERS: dict[str, Writer] = {
    "csv": table.files,
    "bids": bids.files,
    "elan": elan.files,
    "boris": boris.files,
    "textgrid": textgrid.files,
    "vtt": vtt.files,
    "label-studio": label_studio.files,
}


def reader(path: Path) -> Reader:
    """Returns the reader of this file, chosen by its ending and for tables by their header."""
    if path.suffix.lower() == ".eaf":
        return elan.rows
    return table.rows if table.is_ours(path) else boris.rows
