"""Arithmetic of scored intervals: overlap, IoU, mean, clipping. Times are seconds. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from engine.spec import REGIONS
from stream.types import ScoredInterval


def mean(votes: list[ScoredInterval]) -> ScoredInterval:
    """Returns the mean interval: times and regions are averaged by score. Score and kinds come from the best vote."""
    weights = [max(v.score, 1e-6) for v in votes]
    total = sum(weights)

    def weighted(values: Iterable[float]) -> float:
        return sum(w * x for w, x in zip(weights, values, strict=True)) / total

    onset_s, offset_s = weighted(v.onset_s for v in votes), weighted(v.offset_s for v in votes)
    offset_s = max(onset_s, offset_s)  # rounding can swap them if the interval is a point
    apex_s = min(max(weighted(v.apex_s for v in votes), onset_s), offset_s)
    regions = tuple(weighted(v.regions[r] for v in votes) for r in range(len(REGIONS)))
    best = max(votes, key=lambda v: v.score)
    return ScoredInterval(onset_s, apex_s, offset_s, best.score, best.kinds, regions)


def clipped(where: ScoredInterval, taken: list[ScoredInterval]) -> ScoredInterval:
    """Returns `where` without the parts at its ends that earlier intervals cover. Its length is 0 if
    nothing is left.
    """
    onset_s, offset_s = where.onset_s, where.offset_s
    for other in taken:
        if overlap_s(where, other) > 0:
            if other.apex_s <= where.apex_s:
                onset_s = max(onset_s, other.offset_s)
            else:
                offset_s = min(offset_s, other.onset_s)
    offset_s = max(onset_s, offset_s)
    return replace(where, onset_s=onset_s, apex_s=min(max(where.apex_s, onset_s), offset_s), offset_s=offset_s)


def length_s(a: ScoredInterval) -> float:
    """Returns the time from onset to offset, s."""
    return a.offset_s - a.onset_s


def overlap_s(a: ScoredInterval, b: ScoredInterval) -> float:
    """Returns how long both intervals overlap, s. A negative value is the distance between them."""
    return min(a.offset_s, b.offset_s) - max(a.onset_s, b.onset_s)


def share(a: ScoredInterval, b: ScoredInterval) -> float:
    """Returns the overlap over the shorter of the two; 0 for intervals without length."""
    shorter_s = min(length_s(a), length_s(b))
    return overlap_s(a, b) / shorter_s if shorter_s > 0 else 0.0


def iou(a: ScoredInterval, b: ScoredInterval) -> float:
    """Returns the intersection over union of two intervals in seconds; 0 if they do not overlap or have no length."""
    shared_s = overlap_s(a, b)
    union_s = length_s(a) + length_s(b) - shared_s
    return shared_s / union_s if shared_s > 0 and union_s > 0 else 0.0
