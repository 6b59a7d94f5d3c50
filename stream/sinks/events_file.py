"""Writes events as lines of JSON to a file (`--events`)."""

from pathlib import Path

from stream.config import Config
from stream.errors import UserError
from stream.files.private import open_private
from stream.files.whole import append
from stream.protocol.messages import encode, event_message
from stream.sinks import Item, Run
from stream.types import Event


def open_events_file(config: Config, run: Run) -> "EventsFile | None":
    """See `stream.sinks.OpenSink`. A live run appends to an existing file."""
    return EventsFile(config.events, run.epoch, append=run.live) if config.events else None


class EventsFile:
    """One event message of protocol v1 per line. Each line is completely on disk before `put` returns.

    `epoch` and the counted `seq` match those of the server's messages. Raises UserError if the file can't be opened;
    `flag` names the setting to change.
    """

    def __init__(self, path: Path, epoch: str, *, append: bool = False, flag: str = "--events") -> None:
        self.path = path
        self._flag = flag
        self.trouble: str | None = None
        self.dropped: dict[str, int] = {}
        self._epoch = epoch
        self._seq = 0
        self._live = append
        try:
            self._file = open_private(path, "ab" if append else "wb")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another {flag}") from None

    def put(self, item: Item) -> None:
        """Append an event as one line."""
        if not isinstance(item, Event):
            return
        self._seq += 1
        line = f"{encode(event_message(item, self._epoch, self._seq))}\n"
        try:
            append(self._file, line.encode())
            self.trouble = None
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not self._live:
                raise
            self.trouble = f"{self._flag} {self.path}: {error.strerror}"

    def close(self) -> None:
        """Finish, since no more lines come."""
        self._file.close()
