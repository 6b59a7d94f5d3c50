"""All figures of a report, computed from judged videos as plain data (the content of `evaluation.json`)."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.datasets.truth import VISIBLE
from engine.evaluation import metrics
from engine.evaluation.counting import RULES, count_as
from engine.evaluation.events import Judged
from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.evaluation.metrics import Counts

SIZES_PX = (0.0, 0.8, 1.0, 1.5, 2.0, 3.0, math.inf)
VISIBILITIES = (0.0, 0.25, 0.5, 1.0, 2.0, math.inf)
LENGTHS_S = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, math.inf)
ASKED_FROM_PX = (0.8, 1.5)
MAX_TAG_VALUES = 16
"""A tag with more values than this identifies videos and not groups."""

ALONE = "nothing known"
"""Stands for the surroundings of an ME or false alarm when the truth names none."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The judged videos. `swept`: test videos with every detection. `final`: only detections that reach their
    threshold.

    `thresholds`: of each subject. `how`: in words. `floor`: the lowest score that a detection can have.
    """

    swept: tuple[Judged, ...]
    final: tuple[Judged, ...]
    thresholds: dict[str, float]
    how: str
    floor: float


def figures(decided: Decided, rounds: int = 1000) -> dict[str, Any]:
    """All figures as JSON-ready data. Unknown figures are None."""
    swept, final = [j.result for j in decided.swept], [j.result for j in decided.final]
    quiet = metrics.me_free(final)
    alarms = metrics.me_free(swept) or None
    curve = metrics.sweep(swept)
    return {
        "threshold": {"how": decided.how, "of": decided.thresholds, "floor": decided.floor},
        "material": _material(final),
        "rule": _counts(metrics.count(final)) | _intervals(final, rounds),
        "paper": {"t_eval": metrics.MIN_IOU} | _counts(metrics.count(final, min_iou=metrics.MIN_IOU)),
        "by_iou": {f"{i:g}": _counts(metrics.count(final, min_iou=i)) for i in (0.3, 0.5, 0.7)},
        "average_precision": curve.average_precision,
        "best_f1_on_test": float(curve.f1.max(initial=0.0)),
        "frame_ap": metrics.frame_ap(swept),
        "start_pmap": metrics.start_pmap(swept) if any(v.starts for v in swept) else None,
        "false_alarms": {"all": _rate(final), "me_free": _rate(quiet)},
        "recall_at": {k: metrics.recall_at_rate(swept, r, alarms) for k, r in metrics.FA_RATES_PER_HOUR.items()},
        "recall_at_counts": "me_free" if alarms else "all",
        "from_size": {f"{px:g}": _counts(metrics.count_asked(final, metrics.from_size(px))) for px in ASKED_FROM_PX}
        if any(t.size_px is not None for v in final for t in v.truths)
        else None,
        "visible": _visible(swept, final, alarms, rounds),
        "timing": _timing(metrics.timing(final, -math.inf)),
        "others": {rule: _counts(count_as(rule, final)) for rule in RULES},
        "by_size": _recall_by(final, SIZES_PX, lambda t, v: t.size_px),
        "by_visibility": _recall_by(final, VISIBILITIES, lambda t, v: t.visibility),
        "by_length": _recall_by(final, LENGTHS_S, lambda t, v: (t.offset - t.onset + 1) / v.fps),
        "by_region": _recall_where(decided.final, lambda t, j: t.regions),
        "by_company": _recall_where(decided.final, _company),
        "by_tag": _by_tag(final),
        "by_person": {s: _group(vs) for s, vs in _grouped(final, lambda v: v.subject).items()},
        "alarms_on": _alarms_on(decided.final),
        "suppressed": dict(
            Counter(s.suppressed for j in decided.final for s in j.emitted if s.phase == "retract").most_common()
        ),
        "notes": [f"{j.result.name}: {note}" for j in decided.final for note in j.notes],
    }


def at_threshold(video: Judged, threshold: float) -> Judged:
    """The video with the detections that reach the threshold."""
    kept = tuple(d for d in video.result.detections if d.score >= threshold)
    return replace(video, result=replace(video.result, detections=kept))


def found_mes(video: VideoResult) -> list[tuple[Truth, Detection | None]]:
    """Every ME of a decided video with the detection that found it."""
    of = {id(t): d for d, t in metrics.pairs(video, -math.inf) if t is not None}
    return [(t, of.get(id(t))) for t in video.truths]


def _material(videos: Sequence[VideoResult]) -> dict[str, Any]:
    quiet = metrics.me_free(videos)
    return {
        "videos": len(videos),
        "people": len({v.subject for v in videos}),
        "minutes": metrics.hours(videos) * 60,
        "mes": sum(len(v.truths) for v in videos),
        "me_free_videos": len(quiet),
        "me_free_minutes": metrics.hours(quiet) * 60,
        "me_free_people": len({v.subject for v in quiet}),
    }


def _counts(c: Counts) -> dict[str, float]:
    return {"tp": c.tp, "fp": c.fp, "fn": c.fn, "precision": c.precision, "recall": c.recall, "f1": c.f1}


def _intervals(
    videos: Sequence[VideoResult], rounds: int, asked: metrics.Asked = lambda t: True
) -> dict[str, list[float | None]]:
    """95 % intervals of precision, recall and F1 over people. Each video is matched once."""
    of = {id(v): metrics.count_asked([v], asked) for v in videos}

    def interval(name: str) -> list[float | None]:
        def statistic(drawn: Sequence[VideoResult]) -> float:
            return float(getattr(sum((of[id(v)] for v in drawn), Counts()), name))

        return [_known(x) for x in metrics.bootstrap(videos, statistic, rounds=rounds)]

    return {f"{name}_ci95": interval(name) for name in ("precision", "recall", "f1")}


def _visible(
    swept: Sequence[VideoResult], final: Sequence[VideoResult], alarms: Sequence[VideoResult] | None, rounds: int
) -> dict[str, Any] | None:
    """The rule for visible MEs only. Returns None when no visibility is known."""
    if all(t.visibility is None for v in final for t in v.truths):
        return None
    rates = metrics.FA_RATES_PER_HOUR.items()
    at = {k: metrics.recall_at_rate(swept, r, alarms, metrics.is_visible) for k, r in rates}
    counts = _counts(metrics.count_asked(final, metrics.is_visible))
    return {"from": VISIBLE, **counts, **_intervals(final, rounds, metrics.is_visible), "recall_at": at}


def _rate(videos: Sequence[VideoResult]) -> dict[str, Any]:
    """False alarms over the length of these videos, with Garwood's interval."""
    hours, alarms = metrics.hours(videos), metrics.count(videos).fp
    if not hours:
        return {"alarms": alarms, "minutes": 0.0, "per_hour": None, "per_hour_ci95": None}
    low, high = metrics.poisson_interval(alarms)
    return {
        "alarms": alarms,
        "minutes": hours * 60,
        "per_hour": alarms / hours,
        "per_hour_ci95": [low / hours, high / hours],
    }


def _timing(timing: metrics.Timing) -> dict[str, Any]:
    return {
        name: _spread(getattr(timing, name))
        for name in (
            "onset_error_s",
            "apex_error_s",
            "offset_error_s",
            "boundary_error_s",
            "start_delay_s",
            "end_delay_s",
        )
    }


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    if not len(values):
        return {"n": 0, "median": None, "p90": None}
    return {"n": len(values), "median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}


def _recall_by(
    videos: Sequence[VideoResult], edges: Sequence[float], value: Callable[[Truth, VideoResult], float | None]
) -> list[dict[str, Any]]:
    """Recall in half-open bins [low, high) with Wilson's interval. Bins without an ME are left out."""
    known = [(x, d is not None) for v in videos for t, d in found_mes(v) if (x := value(t, v)) is not None]
    bins = [(low, high, [hit for x, hit in known if low <= x < high]) for low, high in pairwise(edges)]
    return [{"from": low, "to": _known(high)} | _recall(hits) for low, high, hits in bins if hits]


def _recall_where(
    videos: Sequence[Judged], names: Callable[[Truth, Judged], Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """Recall of the MEs under each name. An ME may have several names, or none."""
    hits: dict[str, list[bool]] = {}
    for j in videos:
        for t, d in found_mes(j.result):
            for name in names(t, j):
                hits.setdefault(name, []).append(d is not None)
    return {name: _recall(hits[name]) for name in sorted(hits)}


def _company(t: Truth, j: Judged) -> list[str]:
    """What else is known to go on during an ME."""
    onset_s, offset_s = t.onset / j.result.fps, (t.offset + 1) / j.result.fps
    return sorted({n.kind for n in j.other if n.onset_s < offset_s and onset_s < n.offset_s}) or [ALONE]


def _recall(hits: Sequence[bool]) -> dict[str, Any]:
    n, found = len(hits), sum(hits)
    return {"n": n, "found": found, "recall": found / n, "recall_ci95": list(wilson(found, n))}


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, n >= 1."""
    p, k = hits / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + k / (4 * n))
    return max(0.0, (p + k / 2 - half) / (1 + k)), min(1.0, (p + k / 2 + half) / (1 + k))


def _group(videos: Sequence[VideoResult]) -> dict[str, Any]:
    return {"videos": len(videos), "mes": sum(len(v.truths) for v in videos)} | _counts(metrics.count(videos)) | {
        "minutes": metrics.hours(videos) * 60,
        "alarms_per_minute": metrics.false_alarms_per_hour(videos, -math.inf) / 60,
    }  # fmt: skip


def _by_tag(videos: Sequence[VideoResult]) -> dict[str, dict[str, Any]]:
    out = {}
    for key in sorted({k for v in videos for k in v.tags}):
        groups = _grouped([v for v in videos if key in v.tags], lambda v, key=key: v.tags[key])  # type: ignore[misc]
        if len(groups) <= MAX_TAG_VALUES:
            out[key] = {value: _group(vs) for value, vs in groups.items()}
    return out


def _grouped(videos: Sequence[VideoResult], key: Callable[[VideoResult], str]) -> dict[str, list[VideoResult]]:
    groups: dict[str, list[VideoResult]] = {}
    for v in sorted(videos, key=key):
        groups.setdefault(key(v), []).append(v)
    return groups


def _alarms_on(videos: Sequence[Judged]) -> dict[str, int]:
    """The surroundings of the false alarms: the true movement or nuisance that covers most of each, or ALONE."""
    on: Counter[str] = Counter()
    for video in videos:
        fps = video.result.fps
        for d, truth in metrics.pairs(video.result, -math.inf):
            if truth is None:
                onset_s, offset_s = d.onset / fps, (d.offset + 1) / fps
                shares = [(min(offset_s, n.offset_s) - max(onset_s, n.onset_s), n.kind) for n in video.other]
                share_s, kind = max(shares, default=(0.0, ""))
                near_me = any(t.onset <= d.offset and d.onset <= t.offset for t in video.result.truths)
                on["an ME, badly placed" if near_me else kind if share_s > 0 else ALONE] += 1
    return dict(on.most_common())


def _known(x: float) -> float | None:
    return x if math.isfinite(x) else None
