"""The one ordered log that all clients read, each at its own cursor. The newest events are in memory, the
rest on disk.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from stream.protocol.log import Cursor, Entry, Missing
from stream.server.journal import Journal


class Tail:
    """The newest `length` events of the running epoch. A client that keeps up never needs the disk."""

    def __init__(self, epoch: str, length: int) -> None:
        self.epoch = epoch
        self.newest_seq = 0
        self._bodies: deque[str] = deque(maxlen=length)

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest event held (newest + 1 if there is none)."""
        return self.newest_seq - len(self._bodies) + 1

    @property
    def newest(self) -> Cursor:
        """The end of the log."""
        return Cursor(self.epoch, self.newest_seq)

    def is_behind(self, cursor: Cursor) -> bool:
        """Whether the log has more than a reader at `cursor`."""
        return cursor.epoch != self.epoch or cursor.seq < self.newest_seq

    def append(self, entry: Entry) -> None:
        """Append the next event. Events come without holes."""
        if entry.seq != self.newest_seq + 1:
            raise ValueError(f"event {entry.seq} follows {self.newest_seq}")
        self._bodies.append(entry.body)
        self.newest_seq = entry.seq

    def reaches(self, cursor: Cursor) -> bool:
        """Whether the tail holds everything after `cursor`."""
        return cursor.epoch == self.epoch and cursor.seq >= self.first_seq - 1

    def after(self, seq: int, limit: int) -> list[Entry]:
        """Returns up to `limit` events after `seq`, which must be within reach."""
        start = seq + 1 - self.first_seq
        bodies = islice(self._bodies, start, start + limit)
        return [Entry(self.epoch, seq + 1 + i, body) for i, body in enumerate(bodies)]


class EventLog:
    """Reads from the journal into the tail, for clients on one asyncio loop."""

    def __init__(self, journal: Journal, tail: Tail) -> None:
        self.tail = tail
        self._journal = journal
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="journal-read")

    @property
    def oldest_seq(self) -> int:
        """Sequence number of the oldest event of the running epoch that is still available."""
        return min(self._journal.oldest_seq, self.tail.first_seq)

    def start(self, after: Cursor | None) -> Cursor:
        """Returns the start for a reader that asked for `after` (None: only events from now on)."""
        newest = self.tail.newest
        return newest if after is None or not self.tail.is_behind(after) else after

    async def read_after(self, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        """Returns up to `limit` events after `cursor`, with the missing ones named, and the reader's new cursor."""
        tail = self.tail
        if not tail.reaches(cursor):
            read = self._journal.read_after
            items, end = await asyncio.get_running_loop().run_in_executor(self._disk, read, cursor, limit)
            if end != cursor:
                return items, end
            # the journal can't be read, or no longer has the events between the cursor and the tail
            if cursor.epoch != tail.epoch:
                return [Missing(cursor.epoch, cursor.seq + 1, None)], Cursor(tail.epoch, 0)
            if not tail.reaches(cursor):
                return [Missing(tail.epoch, cursor.seq + 1, tail.first_seq - 1)], Cursor(tail.epoch, tail.first_seq - 1)
        found = tail.after(cursor.seq, limit)
        return list(found), Cursor(tail.epoch, cursor.seq + len(found))

    def close(self) -> None:
        """End the reading thread."""
        self._disk.shutdown(wait=False, cancel_futures=True)
