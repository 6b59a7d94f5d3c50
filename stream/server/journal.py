"""The durable event log behind the server. An event is on disk before any client gets it.

SQLite runs in WAL mode with `synchronous=FULL`, so every commit is fsynced. Neither `kill -9` nor a power cut loses an
event that was sent. Every start is a new epoch, so a sequence number is never used twice, whatever was lost. Epochs are
in the order in which they were first stored, independent of the clock. `locking_mode=EXCLUSIVE` allows one process per
journal. The kernel's lock enforces it and ends with the process.
"""

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import TypeVar

from platformdirs import user_state_path

from stream.errors import UserError
from stream.protocol.log import EVERYTHING, Cursor, Entry, Missing
from stream.protocol.messages import encode, event_message
from stream.protocol.ulid import new_ulid
from stream.server import journal_file
from stream.server.journal_file import SEQ_BITS, SEQ_MAX
from stream.server.retention import DEFAULT, Retention, prune_expired, prune_to_size
from stream.types import Event

_log = logging.getLogger("stream.server")
_T = TypeVar("_T")


def default_path() -> Path | None:
    """Returns the default place of the journal, in the user's state directory; None if the user has no home."""
    try:
        path = user_state_path("mestream", appauthor=False) / "journal.sqlite"
    except RuntimeError:
        return None
    return path if path.is_absolute() else None


def with_gaps(
    cursor: Cursor, rows: Iterable[Entry], last_seqs: Mapping[str, int], until: Cursor
) -> tuple[list[Entry | Missing], Cursor]:
    """Returns every event after `cursor` up to and including `until`: those in `rows`, and all others named as missing.

    Also returns the reader's new cursor. `last_seqs`: the last number used in each epoch, in the log's order.
    """
    found: list[Entry | Missing] = []
    epoch, seq = cursor
    following = dropwhile(lambda name: name != epoch, last_seqs)
    next(following)
    for row in [*rows, None]:
        row_epoch, row_seq = row[:2] if row else (until.epoch, until.seq + 1)
        while epoch != row_epoch:
            if last_seqs[epoch] > seq:
                found.append(Missing(epoch, seq + 1, last_seqs[epoch]))
            epoch, seq = next(following), 0
        if row_seq > seq + 1:
            found.append(Missing(epoch, seq + 1, row_seq - 1))
        if row:
            found.append(row)
            seq = row.seq
    return found, Cursor(epoch, max(seq, until.seq))


class Journal:
    """The log of one running server. One thread owns `append`; any thread may call `read_after`.

    A full, read-only or broken disk does not stop it. Events then wait in memory (the newest `waiting_max`), and
    `degraded` says why. The next `append` or `retry` stores them once the disk works again. A damaged file is replaced
    by its readable part, and `rescued` says so. Without a `path` events always wait in memory.

    Raises UserError if `path` is in use by another process or is not a journal.
    """

    def __init__(self, path: Path | None, retention: Retention = DEFAULT, waiting_max: int = 10_000) -> None:
        self.path = path
        self.retention = retention
        self.epoch = new_ulid()
        self.seq = 0
        self.oldest_seq = 1
        self.degraded: str | None = None
        self.rescued: str | None = None
        self._n = 0
        self._waiting: deque[tuple[Entry, float]] = deque(maxlen=waiting_max)
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._degrade(error)
        self.prune(time.time())

    def append(self, events: Sequence[Event]) -> list[Entry]:
        """Number these events and store them in one transaction. On return they are on disk, or `degraded` is set."""
        entries = []
        for event in events:
            self.seq += 1
            entry = Entry(self.epoch, self.seq, encode(event_message(event, self.epoch, self.seq)))
            self._waiting.append((entry, time.time()))
            entries.append(entry)
        self.retry()
        return entries

    def retry(self) -> None:
        """Store the events that wait in memory, and reopen the journal if it was lost."""
        with self._lock:
            if not self._waiting and self.degraded is None:
                return
            try:
                if self._db is None:
                    self._open()
            except (sqlite3.Error, OSError, UserError) as error:
                self._degrade(error)
            if not self._on_disk(self._store):
                return
            self._waiting.clear()
            self.degraded = None
        for stored in self._listeners:
            stored()

    def listen(self, stored: Callable[[], None]) -> None:
        """Call `stored` in the storing thread whenever there is more to read. `stored` must neither wait nor raise."""
        self._listeners.append(stored)

    def read_after(self, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        """Returns up to `limit` stored events after `cursor`, in the order they were stored, with the missing ones
        named.

        Also returns the reader's new cursor, which stays at `cursor` if nothing can be read any more.
        """
        with self._lock:
            return self._on_disk(lambda db: self._read(db, cursor, limit)) or ([], cursor)

    def prune(self, now_s: float) -> None:
        """Delete what the retention does not allow, oldest first. `now_s`: wall clock, s since 1970."""
        with self._lock:
            self._on_disk(lambda db: self._prune(db, now_s))

    def close(self) -> None:
        """Store what can be stored, and close the file."""
        with self._lock:
            self.retry()
            self._drop_connection()

    def _on_disk(self, work: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Do this with the open file. After damage, do it once more with the rescued file. None if it can't be done."""
        for first in (True, False):
            if self._db is None:
                return None
            try:
                return work(self._db)
            except (sqlite3.Error, OSError) as error:
                self._degrade(error)
                if not (first and journal_file.is_damage(error)):
                    return None
                try:
                    self._rescue()
                except (sqlite3.Error, OSError, UserError) as why:
                    self._degrade(why)
                else:
                    self.degraded = None
        return None

    @property
    def _file(self) -> Path:
        if self.path is None:
            raise OSError("no home directory: neither HOME nor XDG_STATE_HOME is set; give --journal FILE")
        return self.path

    def _open(self) -> None:
        """Open the file, or its rescued part, and begin this run's epoch in it."""
        try:
            self._use(journal_file.open_journal(self._file))
        except sqlite3.Error as error:
            if not journal_file.is_damage(error):
                raise
            self._rescue()

    def _rescue(self) -> None:
        self._drop_connection()
        self.rescued = journal_file.rescue(self._file)
        _log.warning("%s", self.rescued)
        self._use(journal_file.open_journal(self._file))

    def _use(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._n = journal_file.begin_epoch(db, self.epoch)

    def _store(self, db: sqlite3.Connection) -> bool:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(  # REPLACE, because a commit may fail after it was written
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?)",
            [(self._n << SEQ_BITS | entry.seq, time_s, entry.body) for entry, time_s in self._waiting],
        )
        db.execute("UPDATE epochs SET last_seq = ? WHERE n = ?", (self.seq, self._n))
        db.execute("COMMIT")
        return True

    def _read(self, db: sqlite3.Connection, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        epochs = db.execute("SELECT n, epoch, last_seq FROM epochs ORDER BY n").fetchall()
        names = {n: epoch for n, epoch, _ in epochs}
        last_seqs = {epoch: last_seq for _, epoch, last_seq in epochs}
        n = next((n for n, epoch, _ in epochs if epoch == cursor.epoch), 0)
        rows = [
            (Cursor(names[place >> SEQ_BITS], place & SEQ_MAX), body)
            for place, _, body in db.execute(journal_file.EVENTS, (n << SEQ_BITS | min(cursor.seq, SEQ_MAX), limit))
        ]
        until = rows[-1][0] if len(rows) == limit else Cursor(self.epoch, last_seqs[self.epoch])
        unknown = [] if n or cursor == EVERYTHING else [Missing(cursor.epoch, cursor.seq + 1, None)]
        if not n:  # everything is stored
            cursor = Cursor(rows[0][0].epoch, max(rows[0][0].seq - 1, 0)) if rows else until
        sound = [Entry(*at, str(body, "utf-8")) for at, body in rows if journal_file.is_sound(*at, body)]
        found, end = with_gaps(cursor, sound, last_seqs, until)
        return unknown + found, end

    def _prune(self, db: sqlite3.Connection, now_s: float) -> None:
        if removed := prune_expired(db, self.retention, now_s):
            _log.info("journal %s: %d events that were too old have been removed", self.path, removed)
        prune_to_size(db, self.retention)
        (oldest,) = db.execute("SELECT min(place) FROM events WHERE place > ?", (self._n << SEQ_BITS,)).fetchone()
        self.oldest_seq = (oldest or self.seq + 1) & SEQ_MAX

    def _degrade(self, error: Exception) -> None:
        self.degraded = f"journal: events are not being stored ({error})"
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
