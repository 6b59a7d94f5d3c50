"""The rule by which spotting is judged: pure functions over true and emitted intervals. Frames are inclusive.

A detection is a true positive if its IoU with an ME is >= 0.5, one-to-one. Every other detection is a false positive,
and every other ME a false negative. Counts are summed over all videos, with and without MEs. The sums give one
precision, recall and F1.

One-to-one is a *maximum* matching. Detections claim an ME in order of score, and a later one may move an earlier one to
another ME that it also fits (augmenting paths). Greedy matching undercounts when one detection fits two MEs, and its
count depends on the order. In score order, the matching of every prefix is maximum too. So one pass gives the whole
precision-recall curve, and a hit stays a hit as the threshold falls.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.datasets.truth import VISIBLE
from engine.evaluation.matching import Detection, Truth, VideoResult, by_score
from engine.matching import MIN_IOU, match

FA_RATES_PER_HOUR = {"1/min": 60.0, "10/h": 10.0, "1/h": 1.0}
START_TOLERANCES_S = tuple(round(0.1 * i, 1) for i in range(1, 11))
"""Tolerances over which action-start p-mAP is averaged (Shou et al., ECCV 2018)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives, false negatives. A ratio with denominator 0 is 0."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def pairs(video: VideoResult, threshold: float, min_iou: float = MIN_IOU) -> list[tuple[Detection, Truth | None]]:
    """The video's detections that reach the threshold, each with its ME or None."""
    ranked = by_score(d for d in video.detections if d.score >= threshold)
    found = match(video.truths, ranked, min_iou)
    return [(d, None if t is None else video.truths[t]) for d, t in zip(ranked, found, strict=True)]


def count(videos: Iterable[VideoResult], threshold: float = -math.inf, min_iou: float = MIN_IOU) -> Counts:
    """The rule, summed over all videos."""
    total = Counts()
    for video in videos:
        found = pairs(video, threshold, min_iou)
        tp = sum(truth is not None for _, truth in found)
        total += Counts(tp, len(found) - tp, len(video.truths) - tp)
    return total


Asked = Callable[[Truth], bool]
"""Selects the MEs to find. Other MEs, and detections that fit them, count neither way."""


def from_size(size_px: float) -> Asked:
    """MEs of at least that size, px on a 256-px face, or of unknown size."""
    return lambda t: t.size_px is None or t.size_px >= size_px


def is_visible(t: Truth) -> bool:
    """Whether the ME is visible, or its visibility unknown."""
    return t.visibility is None or t.visibility >= VISIBLE


def count_asked(videos: Iterable[VideoResult], asked: Asked, threshold: float = -math.inf) -> Counts:
    """The rule where only some MEs are asked for."""
    total = Counts()
    for video in videos:
        found = pairs(video, threshold)
        tp = sum(t is not None and asked(t) for _, t in found)
        total += Counts(tp, sum(t is None for _, t in found), sum(map(asked, video.truths)) - tp)
    return total


@dataclass(frozen=True)
class Curve:
    """Counts at every distinct score, highest first: float64[K] thresholds, int64[K] tp and fp, and the number of
    MEs."""

    thresholds: NDArray[np.float64]
    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    truths: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """float64[K]."""
        return self.tp / max(self.truths, 1)

    @property
    def precision(self) -> NDArray[np.float64]:
        """float64[K]."""
        return self.tp / np.maximum(self.tp + self.fp, 1)

    @property
    def f1(self) -> NDArray[np.float64]:
        """float64[K]."""
        return 2 * self.tp / np.maximum(self.tp + self.fp + self.truths, 1)

    @property
    def average_precision(self) -> float:
        """Area under the steps of the curve: the sum of precision times the gain in recall. It is 0 without MEs."""
        return float(np.sum(self.precision * np.diff(self.recall, prepend=0.0)))


def sweep(videos: Sequence[VideoResult], min_iou: float = MIN_IOU, asked: Asked = lambda t: True) -> Curve:
    """The rule at every threshold at once."""
    scores, hits = [], []
    for video in videos:
        ranked = by_score(video.detections)
        for d, t in zip(ranked, match(video.truths, ranked, min_iou), strict=True):
            if t is None or asked(video.truths[t]):
                scores.append(d.score)
                hits.append(t is not None)
    return _curve(np.array(scores, float), np.array(hits, bool), sum(asked(t) for v in videos for t in v.truths))


def best_threshold(videos: Sequence[VideoResult]) -> float:
    """The threshold with the best F1, and the highest if several are equal. 1.0 if nothing was emitted. For tuning
    folds only."""
    curve = sweep(videos)
    return float(curve.thresholds[int(np.argmax(curve.f1))]) if len(curve.thresholds) else 1.0


def hours(videos: Iterable[VideoResult]) -> float:
    """Length of all videos together."""
    return sum(v.duration_s for v in videos) / 3600


def false_alarms_per_hour(videos: Sequence[VideoResult], threshold: float) -> float:
    """False positives over the length of these videos. Pass only ME-free videos for the rate on ME-free video."""
    return _ratio(count(videos, threshold).fp, hours(videos))


def me_free(videos: Iterable[VideoResult]) -> list[VideoResult]:
    """The videos without a single ME."""
    return [v for v in videos if not v.truths]


def recall_at_rate(
    videos: Sequence[VideoResult],
    per_hour: float,
    quiet: Sequence[VideoResult] | None = None,
    asked: Asked = lambda t: True,
) -> float:
    """The best recall over `videos` at a threshold with at most `per_hour` false alarms on `quiet` (default:
    `videos`)."""
    curve, alarms = sweep(videos, asked=asked), sweep(videos if quiet is None else quiet)
    budget = per_hour * hours(videos if quiet is None else quiet)
    best = 0.0
    for threshold, recall in zip(curve.thresholds, curve.recall, strict=True):
        k = int(np.searchsorted(-alarms.thresholds, -threshold, side="right"))  # scores that reach the threshold
        if (alarms.fp[k - 1] if k else 0) <= budget + 1e-9:
            best = max(best, float(recall))
    return best


def frame_ap(videos: Sequence[VideoResult]) -> float:
    """Average precision over frames inside MEs. A frame's rank is the best score of an emitted interval that covers
    it."""
    scores, labels = [np.empty(0)], [np.empty(0, bool)]
    for video in videos:
        past = [t.offset + 1 for t in video.truths] + [d.offset + 1 for d in video.detections]
        n = max([round(video.duration_s * video.fps), *past])
        score, label = np.zeros(n), np.zeros(n, bool)
        for d in by_score(video.detections)[::-1]:
            score[max(d.onset, 0) : d.offset + 1] = d.score
        for t in video.truths:
            label[max(t.onset, 0) : t.offset + 1] = True
        scores.append(score)
        labels.append(label)
    label_all = np.concatenate(labels)
    return _curve(np.concatenate(scores), label_all, int(label_all.sum())).average_precision


def start_ap(videos: Sequence[VideoResult], tolerance_s: float) -> float:
    """Point AP of action starts (Shou et al., ECCV 2018). A `start` is right if emitted within the tolerance of an
    onset.

    In order of score, each claims the nearest free onset. The point is the time of emission, which cannot be backdated.
    Every `start` counts, including retracted ones.
    """
    scores, hits = [], []
    for video in videos:
        free = [t.onset / video.fps for t in video.truths]
        for emitted_s, score in sorted(video.starts, key=lambda s: (-s[1], s[0])):
            near = min(free, key=lambda onset_s: abs(onset_s - emitted_s), default=math.inf)
            hit = abs(near - emitted_s) <= tolerance_s + 1e-9
            if hit:
                free.remove(near)
            scores.append(score)
            hits.append(hit)
    return _curve(np.array(scores, float), np.array(hits, bool), sum(len(v.truths) for v in videos)).average_precision


def start_pmap(videos: Sequence[VideoResult]) -> float:
    """`start_ap` averaged over tolerances of 0.1 to 1 s. With one class, mAP is AP."""
    return float(np.mean([start_ap(videos, tolerance_s) for tolerance_s in START_TOLERANCES_S]))


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of the true positives at one threshold, in s: float64[TP] each, empty when unknown.

    Boundary errors are absolute. Delays are emission minus the true time, so an early `start` is negative.
    """

    onset_error_s: NDArray[np.float64]
    apex_error_s: NDArray[np.float64]
    offset_error_s: NDArray[np.float64]
    start_delay_s: NDArray[np.float64]
    end_delay_s: NDArray[np.float64]

    @property
    def boundary_error_s(self) -> NDArray[np.float64]:
        """Onset and offset errors together: float64[2 TP]."""
        return np.concatenate([self.onset_error_s, self.offset_error_s])


def timing(videos: Iterable[VideoResult], threshold: float) -> Timing:
    """Boundary errors and delays of the found MEs."""
    found = [(d, t, v.fps) for v in videos for d, t in pairs(v, threshold) if t is not None]
    apexes = [abs(d.apex - t.apex) / f for d, t, f in found if d.apex is not None and t.apex is not None]
    return Timing(
        np.array([abs(d.onset - t.onset) / fps for d, t, fps in found], float),
        np.array(apexes, float),
        np.array([abs(d.offset - t.offset) / fps for d, t, fps in found], float),
        np.array([d.start_s - t.onset / fps for d, t, fps in found if d.start_s is not None], float),
        np.array([d.end_s - t.offset / fps for d, t, fps in found if d.end_s is not None], float),
    )


def bootstrap(
    videos: Sequence[VideoResult],
    statistic: Callable[[Sequence[VideoResult]], float],
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval by resampling people instead of videos, since one person's videos are not independent.

    It is a percentile bootstrap with a fixed seed. Rounds with a NaN statistic are left out. (nan, nan) if all are.
    """
    people: dict[str, list[VideoResult]] = {}
    for video in videos:
        people.setdefault(video.subject, []).append(video)
    groups, rng = list(people.values()), np.random.default_rng(seed)
    drawn = (rng.integers(0, len(groups), len(groups)) for _ in range(rounds))
    values = np.array([statistic([v for g in draw for v in groups[g]]) for draw in drawn]) if groups else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def poisson_interval(events: int, level: float = 0.95) -> tuple[float, float]:
    """Exact (Garwood) interval of the mean behind a count. It shows what, for example, zero false alarms in ten
    minutes mean."""
    tail = (1 - level) / 2

    def solve(k: int, target: float) -> float:  # the mean at which P(X <= k) equals target
        low, high = 0.0, 10.0 * (k + 10)
        for _ in range(80):
            mean = (low + high) / 2
            low, high = (mean, high) if _poisson_cdf(k, mean) > target else (low, mean)
        return low

    return (solve(events - 1, 1 - tail) if events else 0.0), solve(events, tail)


def _poisson_cdf(k: int, mean: float) -> float:
    if mean == 0:
        return 1.0
    return sum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(k + 1))


def _curve(scores: NDArray[np.float64], hits: NDArray[np.bool_], truths: int) -> Curve:
    """Counts at each distinct score. Equal scores count together."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf)) if len(scores) else np.empty(0, np.intp)
    tp = np.cumsum(hits, dtype=np.int64)[last]
    return Curve(scores[last], tp, (last + 1 - tp).astype(np.int64), truths)


def _ratio(above: float, below: float) -> float:
    return above / below if below else 0.0
