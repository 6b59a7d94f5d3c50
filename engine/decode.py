"""Turns the network's dense output into a few proposals: a threshold, then temporal non-maximum suppression."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.spec import CLASSES, HEAD_FIELDS, REGIONS

FLOOR = 0.1
"""Proposals with a lower probability of a micro-expression are dropped. It is well below any sensible decision
threshold, so the decision is left to the caller."""
NMS_IOU = 0.4
"""When two proposals overlap by more than this, the less probable one is dropped. The value is below the 0.5 at which
two intervals count as the same, since two micro-expressions do not overlap."""

_CLASS = slice(3, 3 + len(CLASSES))
_REGION = slice(3 + len(CLASSES), HEAD_FIELDS)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One candidate interval. Its times are frames of the time grid relative to the newest crop: 0 is the newest, the
    past is negative.

    start_frame <= apex_frame <= end_frame. `end_frame` may be > 0 when the network expects the end after the newest
    crop. `score` is the probability of a micro-expression. `kinds` is the probability of each of CLASSES[:5]; the rest
    to 1 is "none". `regions` is the share per entry of REGIONS and sums to 1.
    """

    start_frame: float
    apex_frame: float
    end_frame: float
    score: float
    kinds: tuple[float, ...]
    regions: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.start_frame <= self.apex_frame <= self.end_frame:
            raise ValueError(f"out of order: {self.start_frame} <= {self.apex_frame} <= {self.end_frame} does not hold")
        if len(self.kinds) != len(CLASSES) - 1 or len(self.regions) != len(REGIONS):
            raise ValueError(f"kinds and regions need {len(CLASSES) - 1} and {len(REGIONS)} entries")


def temporal_iou(start: float, end: float, starts: NDArray, ends: NDArray) -> NDArray:
    """IoU of one interval with many, in frames, both ends included."""
    shared = np.minimum(end, ends) - np.maximum(start, starts) + 1
    union = np.maximum(end, ends) - np.minimum(start, starts) + 1  # exact whenever shared > 0
    return np.maximum(shared, 0) / union


def score_covering(heads: NDArray[np.float32], clip_frames: int, frame: float) -> float:
    """The highest probability of a micro-expression among the candidates of float32[P, HEAD_FIELDS] that cover `frame`
    (0 is the newest crop, the past < 0). Returns 0 when no candidate covers it. FLOOR does not apply."""
    at = clip_frames - 1 + frame
    covers = (heads[:, :3].min(axis=1) <= at) & (heads[:, :3].max(axis=1) >= at)
    return float(heads[covers, _CLASS.start].max(initial=0.0))


def decode(heads: NDArray[np.float32], clip_frames: int, floor: float = FLOOR) -> list[Proposal]:
    """float32[P, HEAD_FIELDS] of one clip -> proposals with score >= floor, best first.

    The NMS is greedy and hard. Soft-NMS would lower the scores of neighbours but keep them, and a live tracker would
    have to merge them again. Raises ValueError for another shape.
    """
    if heads.ndim != 2 or heads.shape[1] != HEAD_FIELDS:
        raise ValueError(f"heads must be float32[P, {HEAD_FIELDS}], not {list(heads.shape)}")
    rows = heads[heads[:, _CLASS.start] >= floor].astype(np.float64)
    rows = rows[np.argsort(-rows[:, _CLASS.start], kind="stable")]
    # the regression may break the order onset <= apex <= offset
    times = np.sort(rows[:, :3], axis=1) - (clip_frames - 1)
    alive = np.ones(len(rows), bool)
    proposals = []
    for i in range(len(rows)):
        if not alive[i]:
            continue
        start, apex, end = times[i]
        alive &= temporal_iou(start, end, times[:, 0], times[:, 2]) <= NMS_IOU
        kinds = tuple(rows[i, _CLASS][:-1].tolist())
        proposals.append(
            Proposal(float(start), float(apex), float(end), kinds[0], kinds, tuple(rows[i, _REGION].tolist()))
        )
    return proposals
