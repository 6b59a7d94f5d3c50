"""Matches intervals: a maximum one-to-one matching. Frames are inclusive."""

from collections.abc import Sequence
from typing import Protocol

MIN_IOU = 0.5
"""T_eval of MESNet (Wang et al. 2021) and of the field."""


class Frames(Protocol):
    """Anything with an onset and an offset frame, both inclusive."""

    @property
    def onset(self) -> int:
        """First frame."""

    @property
    def offset(self) -> int:
        """Last frame."""


def iou(a_onset: int, a_offset: int, b_onset: int, b_offset: int) -> float:
    """Intersection over union of two frame intervals, ends inclusive."""
    shared = max(0, min(a_offset, b_offset) - max(a_onset, b_onset) + 1)
    return shared / (a_offset - a_onset + 1 + b_offset - b_onset + 1 - shared)


def match(truths: Sequence[Frames], ranked: Sequence[Frames], min_iou: float = MIN_IOU) -> list[int | None]:
    """For each entry of `ranked`, the index of its match in `truths`, or None: a maximum one-to-one matching.

    `ranked` is sorted best first. Hits are decided in that order, and each prefix has the largest possible number of
    hits (Kuhn's algorithm).
    """
    overlap = [[iou(d.onset, d.offset, t.onset, t.offset) for t in truths] for d in ranked]
    fits = [[t for o, t in sorted((-o, t) for t, o in enumerate(row)) if -o >= min_iou] for row in overlap]
    owner: dict[int, int] = {}

    def claim(d: int, asked: set[int]) -> bool:
        for t in fits[d]:
            if t not in asked:
                asked.add(t)
                if t not in owner or claim(owner[t], asked):
                    owner[t] = d
                    return True
        return False

    for d in range(len(ranked)):
        claim(d, set())
    truth_of = {d: t for t, d in owner.items()}
    return [truth_of.get(d) for d in range(len(ranked))]
