"""The journal's file: who owns it, how it is opened, and how a damaged one is rescued.

An event's `place` is `epoch number << SEQ_BITS | seq`, one integer that rises with every stored event. Epochs are
numbered in the order in which they were first stored, so the order of the log depends on no clock.
"""

import contextlib
import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stream.errors import UserError
from stream.files.private import make_private_dir, make_private_file
from stream.protocol.ulid import is_ulid

SEQ_BITS = 40
SEQ_MAX = (1 << SEQ_BITS) - 1
BODY_BYTES_MAX = 65_536

_APPLICATION_ID = 0x4D45534A  # "MESJ", in the field where SQLite names the program that owns a file
_FORMAT = 2
_LOCK_WAIT_S = 2.0  # a restart may overlap with the end of the last run
_EPOCHS_MAX = 1 << (62 - SEQ_BITS)
KEY_MAX = (1 << 62) - 1
_SCHEMA = (
    "CREATE TABLE epochs (n INTEGER PRIMARY KEY, epoch TEXT NOT NULL, last_seq INTEGER NOT NULL)",
    "CREATE TABLE events (place INTEGER PRIMARY KEY, time_s REAL NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE doubt (since_s REAL NOT NULL)",
)
_FORMAT_1 = (  # epochs were sorted by name; written before the first release
    "CREATE TABLE epochs (epoch TEXT PRIMARY KEY, pruned_seq INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "CREATE TABLE events (epoch TEXT NOT NULL, seq INTEGER NOT NULL, time_s REAL NOT NULL, body TEXT NOT NULL,\n"
    "  PRIMARY KEY (epoch, seq)) WITHOUT ROWID",
)
_FROM_FORMAT_1 = f"""
ALTER TABLE epochs RENAME TO epochs_1;
ALTER TABLE events RENAME TO events_1;
{";".join(_SCHEMA)};
INSERT INTO epochs (epoch, last_seq)
  SELECT epoch, max(pruned_seq, coalesce((SELECT max(seq) FROM events_1 e WHERE e.epoch = p.epoch), 0))
  FROM epochs_1 p ORDER BY epoch;
INSERT INTO events SELECT n << {SEQ_BITS} | seq, time_s, body FROM events_1 JOIN epochs USING (epoch);
DROP TABLE epochs_1;
DROP TABLE events_1;
"""


_EPOCHS = "SELECT n, CAST(epoch AS BLOB), last_seq FROM epochs WHERE n > ? ORDER BY n LIMIT ?"
_ALL_EVENTS = f"""
SELECT place, coalesce(CAST(time_s AS REAL), 0),
  CASE WHEN length(CAST(body AS BLOB)) <= {BODY_BYTES_MAX} THEN CAST(body AS BLOB) END
FROM events WHERE place > ? ORDER BY place LIMIT ?
"""
EVENTS = _ALL_EVENTS.replace("ORDER", f"AND EXISTS (SELECT 1 FROM epochs WHERE n = place >> {SEQ_BITS}) ORDER")
"""Place, wall clock (s since 1970) and body of events after a place. The body is bytes, or None if it is too long for
an event."""


class DamagedError(sqlite3.DatabaseError):
    """The file is a journal, but its content is not valid."""


def open_journal(path: Path) -> sqlite3.Connection:
    """Open or create the journal. No other process can open it until it is closed. Its content is checked with
    `_check`.

    Raises UserError if the file is something else or in use. Raises sqlite3.Error or OSError for a faulty disk or file.
    """
    _refuse_foreign(path)
    make_private_dir(path.parent)
    if not path.exists():
        make_private_file(path)  # SQLite gives its side files the same mode
    for own in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # an earlier version made them readable by all
            own.chmod(0o600)
    db = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        if _pragma(db, "application_id") != _APPLICATION_ID:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA journal_size_limit=4194304")
        _update_format(db, path)
        _check(db)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise _in_use(path) from None
        raise
    return db


def begin_epoch(db: sqlite3.Connection, epoch: str) -> int:
    """Returns the number of an epoch. It becomes the last one, even if others began since it was last stored."""
    (newest,) = db.execute("SELECT coalesce(max(n), 0) FROM epochs").fetchone()
    (own,) = db.execute("SELECT max(n) FROM epochs WHERE epoch = ?", (epoch,)).fetchone()
    if own == newest:
        return int(own)
    n = int(newest) + 1
    db.execute("BEGIN IMMEDIATE")
    if own is None:
        db.execute("INSERT INTO epochs VALUES (?, ?, 0)", (n, epoch))
    else:
        db.execute("UPDATE epochs SET n = ? WHERE n = ?", (n, own))
        moved = (n - own << SEQ_BITS, own << SEQ_BITS, own << SEQ_BITS | SEQ_MAX)
        db.execute("UPDATE events SET place = place + ? WHERE place BETWEEN ? AND ?", moved)
    db.execute("COMMIT")
    return n


def is_damage(error: Exception) -> bool:
    """Whether the file itself is at fault, rather than the disk or the system."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, DamagedError) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def rescue(path: Path) -> str:
    """Copy the readable part of a damaged journal into a new one, and keep the old one under another name. Returns a
    description.

    The new file is complete before it takes the name, so a kill in between loses nothing. Without room for it, the old
    file is only renamed. Raises sqlite3.Error or OSError.
    """
    fresh = Path(f"{path}.rescue")
    _remove(fresh)
    try:
        rescued = _copy_readable(path, fresh)
    except (sqlite3.Error, OSError) as error:
        if "locked" in str(error):
            raise
        _remove(fresh)
        rescued, why = 0, f" ({error})"
    else:
        why = ""
    aside = next(name for k in range(1, 10**6) if not (name := Path(f"{path}.damaged-{k}")).exists())
    path.rename(aside)
    with contextlib.suppress(FileNotFoundError):
        Path(f"{path}-wal").rename(f"{aside}-wal")
    if fresh.exists():
        fresh.rename(path)
    return f"journal: the file was damaged; {rescued} events were rescued{why}, the damaged file is kept as {aside}"


def is_sound(epoch: str | None, seq: int, body: bytes | None) -> bool:
    """Whether a stored body is the event of this number. Anything else must not be sent."""
    message = _message(body)
    return message.get("type") == "event" and message.get("epoch") == epoch and message.get("seq") == seq >= 1


def _message(body: bytes | None) -> dict[str, Any]:
    """Returns the message of a stored body, or an empty one if it is no message."""
    try:
        message = json.loads(str(body or b"", "utf-8"))
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _schema(db: sqlite3.Connection) -> set[str]:
    return {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")}


def _in_use(path: Path) -> UserError:
    return UserError(f"journal {path} is in use by another running stream; stop that one or give --journal PATH")


def _refuse_foreign(path: Path) -> None:
    """Raise UserError if the file is no journal. This writes nothing, so another program's file stays unchanged."""
    if "\0" in str(path):
        raise UserError(f"--journal {str(path)!r}: a file's name can't hold a NUL; give another one", 2)
    not_ours = UserError(f"journal {path} is not an event journal; move it away or give --journal PATH")
    if path.exists() and not path.is_file():
        raise not_ours
    if not path.exists() or path.stat().st_size == 0:
        return
    wal = Path(f"{path}-wal")
    answers = [_is_ours(path, "immutable=1")]
    if not answers[0] and wal.exists() and wal.stat().st_size:
        answers.append(_is_ours(path, "mode=ro"))
    if not any(answers) and not (None in answers and _says_ours(path)):
        raise not_ours


def _is_ours(path: Path, how: str) -> bool | None:
    """Whether SQLite reads the file as a journal. None if it can't be read this way. Raises UserError if it is in use.

    `immutable=1` reads only the file, without a lock. `mode=ro` also reads what has not reached the file yet.
    """
    address = f"{path.absolute().as_uri()}?{how}"
    try:
        with contextlib.closing(sqlite3.connect(address, timeout=_LOCK_WAIT_S, uri=True)) as db:
            owner, version = _pragma(db, "application_id"), _pragma(db, "user_version")
            if owner != 0:
                return owner == _APPLICATION_ID
            return _schema(db) == (set(_FORMAT_1) if version == 1 else set()) and version in (0, 1)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise _in_use(path) from None
        if is_damage(error):
            return None
        raise


def _says_ours(path: Path) -> bool:
    """Whether the first bytes of a file that SQLite can't read are those of a journal."""
    with path.open("rb") as file:
        head = file.read(72)
    return head[:16] == b"SQLite format 3\0" and head[68:] == _APPLICATION_ID.to_bytes(4)


def _update_format(db: sqlite3.Connection, path: Path) -> None:
    version = _pragma(db, "user_version")
    if version not in (0, 1, _FORMAT):
        raise UserError(f"journal {path}: format {version} was written by a newer program; use another --journal PATH")
    if version < _FORMAT:
        sql = _FROM_FORMAT_1 if version == 1 else ";".join(_SCHEMA) + ";"
        db.executescript(f"BEGIN IMMEDIATE; {sql} PRAGMA user_version={_FORMAT}; COMMIT")


def _check(db: sqlite3.Connection) -> None:
    """Raise DamagedError if tables or epochs differ from what this program writes. Events are checked when they are
    read.
    """
    if _schema(db) != set(_SCHEMA):
        raise DamagedError("its tables are not those of a journal")
    epochs = db.execute(_EPOCHS, (0, -1)).fetchall()
    if not all(map(_is_epoch, epochs)) or len({name for _, name, _ in epochs}) < len(epochs):
        raise DamagedError("its epochs are not those of a journal")


def _is_epoch(row: Sequence[Any]) -> bool:
    n, name, last_seq = row
    ulid = isinstance(name, bytes) and is_ulid(str(name, "utf-8", "replace"))
    return 1 <= n < _EPOCHS_MAX and ulid and isinstance(last_seq, int) and 0 <= last_seq <= SEQ_MAX


def _copy_readable(path: Path, fresh: Path) -> int:
    """Fill a new journal at `fresh` with the readable part of the one at `path`. Returns the number of events."""
    with (
        contextlib.closing(sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)) as old,
        contextlib.closing(open_journal(fresh)) as new,
    ):
        old.execute("PRAGMA locking_mode=EXCLUSIVE")
        new.execute("BEGIN IMMEDIATE")
        names: dict[int, str] = {}
        for n, name, last_seq in filter(_is_epoch, _readable(old, _EPOCHS)):
            if (text := str(name, "utf-8")) not in names.values():
                names[n] = text
                new.execute("INSERT INTO epochs VALUES (?, ?, ?)", (n, text, last_seq))
        for place, time_s, body in _readable(old, _ALL_EVENTS):
            n, seq = place >> SEQ_BITS, place & SEQ_MAX
            text = str(_message(body).get("epoch"))
            if n not in names and text not in names.values() and _is_epoch((n, text.encode(errors="replace"), seq)):
                names[n] = text  # its row is lost, but its events hold its name
                new.execute("INSERT INTO epochs VALUES (?, ?, 0)", (n, text))
            if is_sound(names.get(n), seq, body):
                new.execute("INSERT INTO events VALUES (?, ?, ?)", (place, time_s, str(body, "utf-8")))
        new.execute(f"""
            UPDATE epochs SET last_seq = max(last_seq, coalesce((SELECT max(place) & {SEQ_MAX} FROM events
            WHERE place BETWEEN n << {SEQ_BITS} AND n << {SEQ_BITS} | {SEQ_MAX}), 0))""")
        new.execute("COMMIT")
        return int(new.execute("SELECT count(*) FROM events").fetchone()[0])


def _readable(db: sqlite3.Connection, query: str) -> Iterator[Any]:
    """Yields the rows of a query like EVENTS, in order. Rows on broken pages are skipped."""
    key = 0

    def broken(key: int) -> bool:
        try:
            db.execute(query, (key, 1)).fetchone()
        except sqlite3.DatabaseError:
            return True
        return False

    while True:
        try:
            for row in db.execute(query, (key, -1)):
                if row[0] <= key:
                    raise DamagedError("pages are out of order")
                key = row[0]
                yield row
            return
        except sqlite3.DatabaseError:
            step = 1
            while broken(key + step):
                step *= 2
                if key + step > KEY_MAX:
                    return
            key = bisect_left(range(key + step), True, lo=key + step // 2, key=lambda k: not broken(k))


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
