"""How long events are kept, and when they are deleted. Clocks may be wrong, so none is trusted at first."""

import logging
import math
import sqlite3
from dataclasses import dataclass

from stream.server.journal_file import KEY_MAX

_log = logging.getLogger("stream.server")

_ROWS = 100
_DAY_S = 86400.0
_SECOND_LOOK_S = 1800.0  # prunes are an hour apart, but two starts may be close together


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: events younger than `age_s`, and at most `size_bytes` in total (the oldest go first)."""

    age_s: float = 30 * _DAY_S
    size_bytes: int = 256 * 1024 * 1024


DEFAULT = Retention()


def prune_expired(db: sqlite3.Connection, retention: Retention, now_s: float) -> int:
    """Delete events that are too old at `now_s` (wall clock, s since 1970). Returns how many.

    Events are deleted in the order in which they were stored, and never one that was stored after a young one. A time
    in the future says nothing about an event's age. Deleting more than a day's worth takes a second check that agrees.
    """
    too_old_s = now_s - retention.age_s
    expired, oldest_s = 0, math.inf
    for place, time_s in db.execute("SELECT place, CAST(time_s AS REAL) FROM events ORDER BY place"):
        if time_s < too_old_s:
            expired, oldest_s = place, min(oldest_s, time_s)
        elif time_s <= now_s:
            break
    if expired and not _is_certain(db, now_s, too_old_s - oldest_s):
        return 0
    db.execute("DELETE FROM doubt")
    removed = 0
    while some := _remove_oldest(db, expired):
        removed += some
    return removed


def prune_to_size(db: sqlite3.Connection, retention: Retention) -> None:
    """Delete the oldest events until the others fit."""
    while _used_bytes(db) > retention.size_bytes and _remove_oldest(db, KEY_MAX):
        pass


def _is_certain(db: sqlite3.Connection, now_s: float, over_s: float) -> bool:
    """Whether events that are too old by up to `over_s` may be deleted. If a second check is due, this stores and logs
    that once.
    """
    (since_s,) = db.execute("SELECT max(CAST(since_s AS REAL)) FROM doubt").fetchone()
    if over_s <= _DAY_S or (since_s is not None and now_s - since_s >= _SECOND_LOOK_S):
        return True
    if since_s is None or since_s > now_s:
        db.execute("DELETE FROM doubt")
        db.execute("INSERT INTO doubt VALUES (?)", (now_s,))
        _log.warning(
            "journal: by the clock, the oldest events should have been removed %.0f days ago. Is the clock right? "
            "They are removed at the next look (in an hour, or at a later start) if it still says so",
            over_s / _DAY_S,
        )
    return False


def _used_bytes(db: sqlite3.Connection) -> int:
    pages, free, page_bytes = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page_bytes


def _remove_oldest(db: sqlite3.Connection, until: int) -> int:
    """Delete some of the oldest events up to this place. Returns how many."""
    db.execute("BEGIN IMMEDIATE")
    removed = db.execute(
        "DELETE FROM events WHERE place IN (SELECT place FROM events WHERE place <= ? ORDER BY place LIMIT ?)",
        (until, _ROWS),
    ).rowcount
    db.execute("COMMIT")
    if removed:
        db.executescript("PRAGMA incremental_vacuum")  # execute() would free one page
    return removed
