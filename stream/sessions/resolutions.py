"""A score trace at several resolutions, so that two hours are drawn as fast as ten seconds.

A bucket keeps the lowest and the highest score of its time, so a short peak shows at every resolution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTHS_S = (0.25, 1.0, 4.0, 16.0, 64.0)
"""Widths of the buckets. The finest resolution has the scores themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Resolution:
    """One face's trace in buckets, each array [n]: first time (s), lowest and highest score, highest threshold."""

    time_s: NDArray[np.float64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    threshold: NDArray[np.float32]

    def between(self, from_s: float, to_s: float) -> "Resolution":
        """Returns the buckets from `from_s` to `to_s` and one more on either side, so that a line reaches the edges."""
        first = max(int(np.searchsorted(self.time_s, from_s)) - 1, 0)
        last = int(np.searchsorted(self.time_s, to_s, side="right")) + 1
        part = slice(first, last)
        return Resolution(self.time_s[part], self.low[part], self.high[part], self.threshold[part])


def resolutions_of(trace: NDArray[np.void]) -> dict[int, tuple[Resolution, ...]]:
    """Returns every face's trace (TRACE[n]), finest first."""
    return {int(face): _of_one_face(trace[trace["face"] == face]) for face in np.unique(trace["face"])}


def fitting(resolutions: tuple[Resolution, ...], from_s: float, to_s: float, points: int) -> Resolution:
    """Returns the part between two times, at the finest resolution of at most `points` buckets, or else the
    coarsest.
    """
    for resolution in resolutions:
        found = resolution.between(from_s, to_s)
        if len(found.time_s) <= points:
            return found
    return found


def _of_one_face(trace: NDArray[np.void]) -> tuple[Resolution, ...]:
    trace = trace[np.argsort(trace["time_s"], kind="stable")]
    found = [Resolution(trace["time_s"], trace["score"], trace["score"], trace["threshold"])]
    for width_s in WIDTHS_S:
        fine = found[-1]
        bucket = np.floor(fine.time_s / width_s)
        starts = np.flatnonzero(np.diff(bucket, prepend=-np.inf))
        found.append(
            Resolution(
                fine.time_s[starts],
                np.minimum.reduceat(fine.low, starts),
                np.maximum.reduceat(fine.high, starts),
                np.maximum.reduceat(fine.threshold, starts),
            )
        )
    return tuple(found)
