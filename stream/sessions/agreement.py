"""Measures how far two raters agree on the same sessions. Pure: it uses neither files nor the command line.

A rater is a coder or the machine. Times become frames as in `engine.evaluation`: frame = round(time * fps), both ends
inclusive. Intervals of different faces never match.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.matching import match


@dataclass(frozen=True, slots=True)
class Rated:
    """One interval that a rater considers a micro-expression: frames (inclusive), seconds, its action units."""

    face: int
    onset_s: float
    offset_s: float
    fps: float
    units: frozenset[int] = frozenset()

    @property
    def onset(self) -> int:
        """First frame."""
        return round(self.onset_s * self.fps)

    @property
    def offset(self) -> int:
        """Last frame."""
        return round(self.offset_s * self.fps)


@dataclass(frozen=True, slots=True)
class Shared:
    """One session that both raters have rated. `watched`: by face, the frames on which it was seen (int64[n])."""

    first: tuple[Rated, ...]
    second: tuple[Rated, ...]
    watched: dict[int, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """One action unit in the matched pairs in which both raters coded units: the number of pairs, by who coded it."""

    unit: int
    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of `compare`. An undefined figure is None: no events, no frames, one pair, or no variance.

    `frames`: by rater, [neither, only second, only first, both]. `onset_error_s`, `offset_error_s`: mean absolute
    difference over matched pairs.
    """

    first: str
    second: str
    sessions: int
    first_events: int
    second_events: int
    matched: int
    f1: float | None
    frames: tuple[int, int, int, int]
    percent: float | None
    kappa: float | None
    icc_onset: float | None
    icc_offset: float | None
    onset_error_s: float | None
    offset_error_s: float | None
    units: tuple[UnitCounts, ...]


def compare(first: str, second: str, sessions: Sequence[Shared]) -> Agreement:
    """Returns the agreement of two raters over all sessions that both rated. Counts are added up."""
    pairs = [pair for session in sessions for pair in matched(session.first, session.second)]
    table = sum((contingency(session) for session in sessions), np.zeros((2, 2), np.int64))
    first_events = sum(len(session.first) for session in sessions)
    second_events = sum(len(session.second) for session in sessions)
    events = first_events + second_events
    onsets = np.array([[a.onset_s, b.onset_s] for a, b in pairs]).reshape(-1, 2)
    offsets = np.array([[a.offset_s, b.offset_s] for a, b in pairs]).reshape(-1, 2)
    return Agreement(
        first,
        second,
        len(sessions),
        first_events,
        second_events,
        len(pairs),
        f1=2 * len(pairs) / events if events else None,
        frames=(int(table[0, 0]), int(table[0, 1]), int(table[1, 0]), int(table[1, 1])),
        percent=float(100 * np.trace(table) / table.sum()) if table.sum() else None,
        kappa=kappa(table),
        icc_onset=icc(onsets),
        icc_offset=icc(offsets),
        onset_error_s=float(np.abs(onsets[:, 0] - onsets[:, 1]).mean()) if pairs else None,
        offset_error_s=float(np.abs(offsets[:, 0] - offsets[:, 1]).mean()) if pairs else None,
        units=unit_counts(pairs),
    )


def matched(first: Iterable[Rated], second: Iterable[Rated]) -> list[tuple[Rated, Rated]]:
    """Returns one-to-one pairs of the same face with an IoU of at least 0.5, as many as possible."""
    firsts, seconds = (sorted(side, key=lambda r: (r.onset_s, r.offset_s)) for side in (first, second))
    pairs = []
    for face in sorted({r.face for r in firsts}):
        a, b = [r for r in firsts if r.face == face], [r for r in seconds if r.face == face]
        pairs += [(a[i], one) for one, i in zip(b, match(a, b), strict=True) if i is not None]
    return pairs


def contingency(session: Shared) -> NDArray[np.int64]:
    """Counts frames of all faces as int64[2, 2]. Row 1: the first rater sees a micro-expression. Column 1: the second
    does.

    It counts the frames on which a face was seen, and any others that a rater marked.
    """
    table = np.zeros((2, 2), np.int64)
    faces = {*session.watched, *(r.face for r in session.first + session.second)}
    for face in faces:
        a, b = (_frames(r for r in side if r.face == face) for side in (session.first, session.second))
        frames = np.union1d(session.watched.get(face, np.empty(0, np.int64)), np.union1d(a, b))
        np.add.at(table, (np.isin(frames, a).astype(int), np.isin(frames, b).astype(int)), 1)
    return table


def kappa(table: NDArray[np.int64]) -> float | None:
    """Returns Cohen's kappa of a table of counts [2, 2] (Cohen 1960); None if chance alone explains all."""
    total = table.sum()
    expected = float(table.sum(0) @ table.sum(1)) / float(total) ** 2 if total else 1.0
    return float((np.trace(table) / total - expected) / (1 - expected)) if expected < 1 else None


def icc(ratings: NDArray[np.float64]) -> float | None:
    """Returns the ICC(2,1) of float64[n, k]: two-way random, absolute agreement, single rater (Shrout and
    Fleiss 1979).
    """
    n, k = ratings.shape
    if n < 2:
        return None
    centred = ratings - ratings.mean()
    rows, columns = centred.mean(1, keepdims=True), centred.mean(0, keepdims=True)
    between = k * (rows**2).sum() / (n - 1)
    raters = n * (columns**2).sum() / (k - 1)
    error = ((centred - rows - columns) ** 2).sum() / ((n - 1) * (k - 1))
    whole = between + (k - 1) * error + k * (raters - error) / n
    return float((between - error) / whole) if whole > 0 else None


def unit_counts(pairs: Iterable[tuple[Rated, Rated]]) -> tuple[UnitCounts, ...]:
    """Returns, per action unit and in order, how many matched pairs have it on both sides, on one, on none."""
    coded = [(a.units, b.units) for a, b in pairs if a.units and b.units]
    found = []
    for unit in sorted({unit for a, b in coded for unit in a | b}):
        has = [(unit in a, unit in b) for a, b in coded]
        counts = [has.count(case) for case in ((True, True), (True, False), (False, True), (False, False))]
        found.append(UnitCounts(unit, *counts))
    return tuple(found)


def _frames(rated: Iterable[Rated]) -> NDArray[np.int64]:
    spans = [np.arange(r.onset, r.offset + 1, dtype=np.int64) for r in rated]
    return np.unique(np.concatenate(spans)) if spans else np.empty(0, np.int64)
