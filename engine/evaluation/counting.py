"""Other rules for counting true positives, each under its own name, so that a figure can be compared with any paper.

This project is not judged by these, but by `engine.evaluation.metrics.count`.
"""

from collections.abc import Callable, Iterable

from engine.evaluation.matching import Detection, VideoResult, by_score
from engine.evaluation.metrics import Counts
from engine.matching import iou

T_EVAL = 0.5


def best_iou_greedy(video: VideoResult) -> Counts:
    """In score order, each detection is compared only with the ME that it overlaps best (the rule of PASCAL VOC).

    If that ME is taken, the detection is a false positive, even when a second ME would fit. IoU >= 0.5.
    """
    return _greedy(video, lambda overlap: overlap >= T_EVAL)


def strict_greater(video: VideoResult) -> Counts:
    """`best_iou_greedy` with IoU > 0.5."""
    return _greedy(video, lambda overlap: overlap > T_EVAL)


def duplicates_as_tp(video: VideoResult) -> Counts:
    """Every detection that fits some ME is a true positive, so two on one ME count twice. This is a common bug."""
    hit = [any(_iou(video, d, t) >= T_EVAL for t in range(len(video.truths))) for d in video.detections]
    found = [any(_iou(video, d, t) >= T_EVAL for d in video.detections) for t in range(len(video.truths))]
    return Counts(sum(hit), hit.count(False), found.count(False))


def megc2020_small(video: VideoResult) -> Counts:
    """Counts like the public script of Zhang et al., MEGC 2020 (Small-Steel-Cannon/MEGC2020, `spotting.py`).

    A true positive is a *pair* of a detection and an ME with IoU >= 0.5 and more than one common frame. A detection on
    two MEs counts twice, and so do two detections on one ME. Detections and MEs without a pair are false.
    """
    fits = [[_fits_small(video, d, t) for t in range(len(video.truths))] for d in video.detections]
    found = [any(row[t] for row in fits) for t in range(len(video.truths))]
    return Counts(sum(map(sum, fits)), sum(not any(row) for row in fits), found.count(False))


def dummy_for_silent(video: VideoResult) -> Counts:
    """`best_iou_greedy`, with an invented false positive for a video without detections.

    Scripts with an object-detection mAP package do this, since it fails on an empty list (SOFTNet and its descendants).
    """
    return best_iou_greedy(video) if video.detections else Counts(0, 1, len(video.truths))


RULES: dict[str, Callable[[VideoResult], Counts]] = {
    rule.__name__: rule
    for rule in (best_iou_greedy, strict_greater, duplicates_as_tp, megc2020_small, dummy_for_silent)
}


def count_as(rule: str, videos: Iterable[VideoResult], threshold: float = 0.0) -> Counts:
    """Sums a named rule over all videos, for detections that reach the threshold. Raises KeyError for an unknown
    name."""
    total = Counts()
    for v in videos:
        kept = tuple(d for d in v.detections if d.score >= threshold)
        total += RULES[rule](VideoResult(v.subject, v.name, v.fps, v.duration_s, v.truths, kept))
    return total


def _greedy(video: VideoResult, fits: Callable[[float], bool]) -> Counts:
    taken: set[int] = set()
    for d in by_score(video.detections):
        overlap, best = max(((_iou(video, d, t), -t) for t in range(len(video.truths))), default=(0.0, 0))
        if fits(overlap) and -best not in taken:
            taken.add(-best)
    tp = len(taken)
    return Counts(tp, len(video.detections) - tp, len(video.truths) - tp)


def _iou(video: VideoResult, d: Detection, t: int) -> float:
    truth = video.truths[t]
    return iou(d.onset, d.offset, truth.onset, truth.offset)


def _fits_small(video: VideoResult, d: Detection, t: int) -> bool:
    truth = video.truths[t]
    share = min(d.offset, truth.offset) - max(d.onset, truth.onset) + 1
    # the script asks whether the earlier-ending interval ends after the other's onset
    first, last = sorted(((d.onset, d.offset), (truth.onset, truth.offset)), key=lambda i: i[1])
    return share > 0 and first[1] > last[0] and _iou(video, d, t) >= T_EVAL
