"""The stored events for an output that must lose nothing, and how far that output has come."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from stream.files.private import open_private
from stream.protocol.log import EVERYTHING, Cursor, Entry, Missing
from stream.protocol.ulid import is_ulid

log = logging.getLogger("stream")


class Outbox(Protocol):
    """The stored events of this run and of earlier ones. Any thread may call these methods.

    `path`: the file that holds them. Without one (None) nothing can be read.
    """

    path: Path | None

    def read_after(self, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        """Returns up to `limit` events after `cursor`, oldest first, with the missing ones named, and the
        new cursor.
        """

    def listen(self, stored: Callable[[], None]) -> None:
        """Call `stored` in the storing thread whenever there is more to read. `stored` must neither wait nor raise."""


class Bookmark:
    """How far an output has come, kept in a private file of one line.

    A new bookmark is at `start`. An unreadable one is set before everything, because twice is better than never.
    `trouble` says why the file can't be written; the output goes on all the same.
    """

    def __init__(self, path: Path, start: Cursor) -> None:
        self.path = path
        self.trouble: str | None = None
        try:
            epoch, _, seq = path.read_text(encoding="ascii").strip().partition(":")
            sound = is_ulid(epoch) and seq.isdigit()
            self.cursor = Cursor(epoch, int(seq)) if sound else EVERYTHING
        except FileNotFoundError:
            self.move(start)
        except (OSError, UnicodeDecodeError):
            self.cursor = EVERYTHING
        if self.cursor == EVERYTHING:
            log.warning("%s: can't be read; all stored events are sent again", path)

    def move(self, cursor: Cursor) -> None:
        """Note that everything up to `cursor` has arrived."""
        self.cursor = cursor
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.unlink(missing_ok=True)
            with open_private(new, "xb") as file:
                file.write(f"{cursor.epoch}:{cursor.seq}\n".encode())
            os.replace(new, self.path)
            self.trouble = None
        except OSError as error:
            self.trouble = f"{self.path}: can't be written ({error.strerror}); a restart sends events again"
