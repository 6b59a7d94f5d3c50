"""Events as lines of JSON in a file (`--events`)."""

from pathlib import Path
from types import TracebackType

from stream.errors import UserError
from stream.protocol.messages import encode, event_message
from stream.types import Event


class EventsFile:
    """One event message of protocol v1 per line, complete on disk before `write` returns; closes with its `with` block.

    `epoch` and the counted `seq` are those under which the server sends the same events. Raises UserError when the file
    can't be opened.
    """

    def __init__(self, path: Path, epoch: str, *, append: bool = False) -> None:
        self.path = path
        self._epoch = epoch
        self._seq = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab" if append else "wb", buffering=0)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another --events file") from None

    def write(self, event: Event) -> None:
        """Append one line. Raises OSError when the disk does not take it."""
        self._seq += 1
        line = memoryview(f"{encode(event_message(event, self._epoch, self._seq))}\n".encode())
        while line:
            line = line[self._file.write(line) or 0 :]

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def __enter__(self) -> "EventsFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
