"""Tells faces apart by their place and motion. It uses geometry alone and recognises nobody."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream.faces.landmarks import Points, Roi
from stream.faces.steady import Steady

MEMORY_S = 2.0
"""A lost face keeps its number for this long."""
DRIFT_S = 0.4
"""A lost face is assumed to keep moving for about this long."""
SAME_FACE = 0.4
"""Two centres closer than this share of a face's side are one face, since two heads cannot be that close."""
REACH = 1.0
REACH_PER_S = 1.5
"""How far from its expected place a face may reappear, in sides of the face: REACH at once, plus REACH_PER_S per second
lost."""
SIZE_RATIO = 2.0


@dataclass(slots=True)
class Track:
    """One numbered face: its last place (`roi`, at `seen_s`), its speed in px/s, and why it gives no crops (`gap`)."""

    face_id: int
    roi: Roi
    seen_s: float
    points: Points | None
    speed: complex = 0j
    gap: str | None = None
    surprised: float = 0.0
    """How much the newest place differs from the expected one."""
    steady: Steady = field(default_factory=Steady)
    _before: tuple[Roi, float, complex] | None = None

    @property
    def lost(self) -> bool:
        """Whether the face was not seen in the newest frame."""
        return self.points is None

    def expected(self, time_s: float) -> complex:
        """Returns the expected centre (x + iy, px) at `time_s`. A lost face keeps moving and comes to rest."""
        ahead_s = DRIFT_S * -math.expm1(-max(0.0, time_s - self.seen_s) / DRIFT_S)
        return complex(self.roi.x, self.roi.y) + self.speed * ahead_s

    def roi_at(self, time_s: float) -> Roi:
        """Returns the square in which to look for the face at `time_s`."""
        centre = self.expected(time_s)
        return Roi(centre.real, centre.imag, self.roi.side, self.roi.roll_rad)

    def surprise(self, roi: Roi, time_s: float) -> float:
        """Returns how much `roi` differs from the expected place: distance in sides plus the log of the size ratio."""
        away = abs(complex(roi.x, roi.y) - self.expected(time_s)) / self.roi.side
        return away + abs(math.log(roi.side / self.roi.side))

    def reaches(self, roi: Roi, time_s: float) -> bool:
        """Whether the face can have moved to `roi` since it was last seen."""
        away = abs(complex(roi.x, roi.y) - self.expected(time_s)) / self.roi.side
        within = REACH + REACH_PER_S * max(0.0, time_s - self.seen_s)
        return away <= within and abs(math.log(roi.side / self.roi.side)) <= math.log(SIZE_RATIO)

    def see(self, points: Points, roi: Roi, time_s: float) -> None:
        """Take the new place. The speed adapts within a few frames and restarts after a loss."""
        self._before = self.roi, self.seen_s, self.speed
        self.surprised = self.surprise(roi, time_s)
        since_s = time_s - self.seen_s
        if self.points is None or since_s <= 0:
            self.speed = 0j
        else:
            speed = complex(roi.x - self.roi.x, roi.y - self.roi.y) / since_s
            self.speed += (speed - self.speed) * (1 - math.exp(-since_s / 0.06))
        self.points, self.roi, self.seen_s = points, roi, time_s

    def lose(self, *, unsee: bool = False) -> None:
        """The face is not in the newest frame. With `unsee`, the last place is undone because it belongs to another
        face.
        """
        self.points = None
        if unsee and self._before is not None:
            self.roi, self.seen_s, self.speed = self._before


def same_face(a: Roi, b: Roi) -> bool:
    """Whether two squares are on the same face."""
    return math.hypot(a.x - b.x, a.y - b.y) < SAME_FACE * max(a.side, b.side) / 1.5


def assign(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Returns the pairs (row, column) of least total cost, as many as possible. Infinite cost forbids a pair.

    The method is shortest augmenting paths (Kuhn 1955, Munkres 1957), on a matrix of a few faces.
    """
    rows, columns = cost.shape
    size = max(rows, columns)
    if size == 0:
        return []
    finite = cost[np.isfinite(cost)]
    forbidden = 1e6 + float(np.abs(finite).sum()) if finite.size else 1e6
    square = np.full((size, size), forbidden)
    square[:rows, :columns] = np.where(np.isfinite(cost), cost, forbidden)
    partner = _least(square)
    return [(r, c) for r, c in enumerate(partner[:rows]) if c < columns and np.isfinite(cost[r, c])]


def _least(square: NDArray[np.float64]) -> list[int]:
    """Returns the column of each row in the assignment of least total cost. `square` must be finite."""
    size = len(square)
    row_price, column_price = np.zeros(size), np.zeros(size)
    row_of = np.full(size, -1)
    for start in range(size):
        best, came_from = np.full(size, np.inf), np.full(size, -1)
        done = np.zeros(size, bool)
        row, column = start, -1
        while True:
            if column >= 0:
                done[column] = True
            reduced = square[row] - row_price[row] - column_price
            better = ~done & (reduced < best)
            best[better], came_from[better] = reduced[better], column
            column = int(np.where(done, np.inf, best).argmin())
            step = best[column]
            row_price[start] += step
            row_price[row_of[done]] += step
            column_price[done] -= step
            best[~done] -= step
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        while column >= 0:
            before = int(came_from[column])
            row_of[column] = start if before < 0 else row_of[before]
            column = before
    partner = [0] * size
    for column, row in enumerate(row_of):
        partner[int(row)] = column
    return partner
