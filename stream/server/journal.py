"""The durable event log behind the server: an event is on disk before anybody hears of it.

SQLite in WAL mode with `synchronous=FULL`: a commit has been fsynced, so that neither `kill -9` nor a power cut loses
an event that was sent. Every start is a new epoch (a ULID that sorts behind all older ones), so a sequence number can
never be given twice, whatever was lost. `locking_mode=EXCLUSIVE`: one process per journal, enforced by the kernel's
lock, which dies with the process.
"""

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from platformdirs import user_state_path

from stream.errors import UserError
from stream.protocol.messages import encode, event_message
from stream.protocol.ulid import new_ulid
from stream.types import Event

_SCHEMA_VERSION = 1
_LOCK_WAIT_S = 2.0  # a restart may overlap with the end of the run before
_PRUNE_ROWS = 100
_SCHEMA = """
CREATE TABLE IF NOT EXISTS epochs (epoch TEXT PRIMARY KEY, pruned_seq INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (epoch TEXT NOT NULL, seq INTEGER NOT NULL, time_s REAL NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (epoch, seq)) WITHOUT ROWID;
"""


class Cursor(NamedTuple):
    """A place in the log: everything up to and including `seq` of `epoch` is known. Sorts in the log's order."""

    epoch: str
    seq: int


EVERYTHING = Cursor("", 0)
"""Before the oldest event there is."""


class Entry(NamedTuple):
    """One journalled event; `body` is the JSON text as it is sent, now and on every replay."""

    epoch: str
    seq: int
    body: str


class Missing(NamedTuple):
    """Events `first` to `last` of `epoch` are not in the log; `last` is None if the epoch is not known at all."""

    epoch: str
    first: int
    last: int | None


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: events younger than `age_s`, and no more than `size_bytes` in all (oldest go first)."""

    age_s: float = 30 * 86400.0
    size_bytes: int = 256 * 1024 * 1024


def default_path() -> Path:
    """Where the journal lives unless told otherwise: the user's state directory."""
    return user_state_path("mestream", appauthor=False) / "journal.sqlite"


def with_gaps(
    cursor: Cursor, rows: Iterable[Entry], last_seqs: Mapping[str, int], end: str | None
) -> tuple[list[Entry | Missing], Cursor]:
    """Rows behind `cursor` with what is missing between them said, and how far that brings a reader.

    `last_seqs`: last sequence number ever given in each epoch that is known, in order. `end`: the epoch up to whose
    beginning the log is complete after the last row; None while there may be more rows.
    """
    found: list[Entry | Missing] = []
    rows = list(rows)
    if cursor == EVERYTHING:
        if not rows:
            return [], Cursor(end or cursor.epoch, 0)
        cursor = Cursor(rows[0].epoch, rows[0].seq - 1)
    at = cursor
    for row in [*rows, Entry(end, 0, "")] if end else rows:
        if row.epoch > at.epoch:
            if at.epoch not in last_seqs:
                found.append(Missing(at.epoch, at.seq + 1, None))
            elif last_seqs[at.epoch] > at.seq:
                found.append(Missing(at.epoch, at.seq + 1, last_seqs[at.epoch]))
            found += [Missing(e, 1, last) for e, last in last_seqs.items() if at.epoch < e < row.epoch and last > 0]
            at = Cursor(row.epoch, 0)
        if row.seq > at.seq + 1:
            found.append(Missing(row.epoch, at.seq + 1, row.seq - 1))
        if row.seq > at.seq:
            found.append(row)
            at = Cursor(row.epoch, row.seq)
    return found, at


class Journal:
    """The log of one running server. `append` belongs to one thread; `read_after` may be called from any.

    A disk that is full, read-only or broken does not stop it: events then wait in memory (the newest `waiting_max`),
    `degraded` says why, and the next `append` or `retry` stores them once that works again.

    Raises UserError if `path` is in use by another process or is not a journal.
    """

    def __init__(self, path: Path, retention: Retention = Retention(), waiting_max: int = 10_000) -> None:
        self.path = path
        self.retention = retention
        self.epoch = new_ulid()
        self.seq = 0
        self.oldest_seq = 1
        self.degraded: str | None = None
        self._waiting: deque[tuple[Entry, float]] = deque(maxlen=waiting_max)
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        try:
            self._open()
            self._db_or_raise().execute("BEGIN IMMEDIATE")
            (newest,) = self._db_or_raise().execute("SELECT max(epoch) FROM epochs").fetchone()
            self.epoch = new_ulid(newest or "")
            self._db_or_raise().execute("INSERT INTO epochs (epoch) VALUES (?)", (self.epoch,))
            self._db_or_raise().execute("COMMIT")
            self.prune(time.time())
        except (sqlite3.Error, OSError) as error:
            self._refuse_if_wrong(error)
            self._degrade(error)

    def append(self, events: Sequence[Event]) -> list[Entry]:
        """Number and store these events in one transaction; on return they are on disk, or `degraded` is set."""
        entries = []
        for event in events:
            self.seq += 1
            entry = Entry(self.epoch, self.seq, encode(event_message(event, self.epoch, self.seq)))
            self._waiting.append((entry, time.time()))
            entries.append(entry)
        self.retry()
        return entries

    def retry(self) -> None:
        """Store what waits in memory, reopening the journal if it was lost."""
        with self._lock:
            if not self._waiting and self.degraded is None:
                return
            try:
                if self._db is None:
                    self._open()
                self._store()
            except (sqlite3.Error, OSError) as error:
                self._degrade(error)
            else:
                self._waiting.clear()
                self.degraded = None

    def read_after(self, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        """Up to `limit` stored events behind `cursor`, oldest first, through all epochs to this one, gaps said.

        Also returns how far that brings the reader: no further than `cursor` if nothing can be read any more.
        """
        with self._lock:
            if self._db is None:
                return [], cursor
            try:
                rows = self._db.execute(
                    "SELECT epoch, seq, body FROM events WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
                    (*cursor, limit),
                ).fetchall()
                last_seqs = self._last_seqs(cursor.epoch)
            except sqlite3.Error as error:
                self._degrade(error)
                return [], cursor
        return with_gaps(cursor, map(Entry._make, rows), last_seqs, self.epoch if len(rows) < limit else None)

    def prune(self, now_s: float) -> None:
        """Let go of events older than the retention allows (`now_s`: wall clock, s since 1970), oldest first."""
        with self._lock:
            try:
                while self._db is not None and self._prune_some(self._db, now_s):
                    pass
                self.oldest_seq = self._oldest_seq()
            except sqlite3.Error as error:
                self._degrade(error)

    def close(self) -> None:
        """Store what can be stored and let go of the file."""
        with self._lock:
            self.retry()
            self._drop_connection()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA journal_size_limit=4194304")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _SCHEMA_VERSION):
                raise UserError(
                    f"journal {self.path}: format {version} was written by a newer program; use another --journal PATH"
                )
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_SCHEMA_VERSION}; COMMIT")
        except BaseException:
            db.close()
            raise
        self._db = db

    def _store(self) -> None:
        db = self._db_or_raise()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT OR IGNORE INTO epochs (epoch) VALUES (?)", (self.epoch,))
        db.executemany(
            "INSERT INTO events (epoch, seq, time_s, body) VALUES (?, ?, ?, ?)",
            [(entry.epoch, entry.seq, time_s, entry.body) for entry, time_s in self._waiting],
        )
        db.execute("COMMIT")

    def _prune_some(self, db: sqlite3.Connection, now_s: float) -> bool:
        """Delete up to _PRUNE_ROWS of the oldest events; whether there may be more to delete."""
        pages, free, page_bytes = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        too_big = (pages - free) * page_bytes > self.retention.size_bytes
        rows = db.execute(
            "SELECT epoch, seq, time_s FROM events ORDER BY epoch, seq LIMIT ?", (_PRUNE_ROWS,)
        ).fetchall()
        doomed = rows if too_big else [row for row in rows if row[2] < now_s - self.retention.age_s]
        if not doomed:
            return False
        db.execute("BEGIN IMMEDIATE")
        db.executemany("DELETE FROM events WHERE epoch = ? AND seq = ?", [row[:2] for row in doomed])
        db.executemany(
            "UPDATE epochs SET pruned_seq = max(pruned_seq, ?) WHERE epoch = ?",
            [(seq, epoch) for epoch, seq, _ in doomed],
        )
        db.execute("COMMIT")
        db.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
        return len(doomed) == len(rows)

    def _oldest_seq(self) -> int:
        """Oldest event of this epoch that is still stored; the next one if none is."""
        if self._db is None:
            return 1
        (seq,) = self._db.execute("SELECT min(seq) FROM events WHERE epoch = ?", (self.epoch,)).fetchone()
        return int(seq or self.seq + 1)

    def _last_seqs(self, since_epoch: str) -> dict[str, int]:
        assert self._db is not None
        return dict(
            self._db.execute(
                "SELECT epoch, max(pruned_seq, coalesce((SELECT max(seq) FROM events e WHERE e.epoch = p.epoch), 0))"
                " FROM epochs p WHERE epoch >= ? ORDER BY epoch",
                (since_epoch,),
            ).fetchall()
        )

    def _db_or_raise(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("the journal is not open")
        return self._db

    def _refuse_if_wrong(self, error: Exception) -> None:
        text = str(error)
        if "locked" in text:
            raise UserError(
                f"journal {self.path} is in use by another running stream; stop that one or give --journal PATH"
            ) from None
        if "not a database" in text or "malformed" in text or self.path.is_dir():
            raise UserError(
                f"journal {self.path} is not an event journal; move it away or give --journal PATH"
            ) from None

    def _degrade(self, error: Exception) -> None:
        self.degraded = f"journal: events are not being stored ({error})"
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None
