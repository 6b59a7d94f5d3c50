"""Fits how a face's level moves its threshold: the law that finds most MEs at equal false alarms, or no law at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.stretches import Stretch
from calibration.threshold import LEAST_ALARMS, RATES_PER_HOUR, is_alarm
from engine.evaluation.metrics import pairs
from stream.decide.baseline import BaselineLaw
from stream.decide.odds import log_odds

GAINS = (0.25, 0.5, 0.75, 1.0)
LOWESTS = (0.0, -1.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Data of every interval: log-odds and level float64[n] (nan: unknown), whether it hits an ME, whether it is a
    false alarm, and the number of its stretch. Data of every stretch: its group, MEs and hours."""

    odds: NDArray[np.float64]
    levels: NDArray[np.float64]
    hit: NDArray[np.bool_]
    alarm: NDArray[np.bool_]
    stretch: NDArray[np.intp]
    groups: NDArray[np.str_]
    truths: NDArray[np.intp]
    hours: NDArray[np.float64]


def evidence(stretches: Sequence[Stretch]) -> Evidence:
    """The data of the stretches. Hits are decided once, by the unmoved scores."""
    rows = []
    for number, s in enumerate(stretches):
        level_of = dict(zip(s.result.detections, s.levels, strict=True))
        for d, truth in pairs(s.result, 0.0):
            level = level_of[d]
            known = np.nan if level is None else level
            rows.append((log_odds(d.score), known, truth is not None, is_alarm(d, s.result), number))
    odds, levels, hit, alarm, stretch = (np.array(column) for column in zip(*rows, strict=True)) if rows else [[]] * 5
    return Evidence(
        np.asarray(odds, float),
        np.asarray(levels, float),
        np.asarray(hit, bool),
        np.asarray(alarm, bool),
        np.asarray(stretch, int),
        np.array([s.result.subject for s in stretches], str),
        np.array([len(s.result.truths) for s in stretches], int),
        np.array([s.result.duration_s / 3600 for s in stretches], float),
    )


def moved(e: Evidence, law: BaselineLaw) -> NDArray[np.float64]:
    """Log-odds relative to the common threshold, float64[n]."""
    shift = np.clip(law.gain * (e.levels - law.usual), law.lowest, law.highest)
    return e.odds - np.where(np.isnan(shift), 0, shift)


def recall_at_rates(e: Evidence, odds: NDArray[np.float64], which: NDArray[np.bool_]) -> float:
    """Mean recall over the rates of RATES_PER_HOUR that the data can support, on the stretches `which` bool[s]."""
    inside, hours, truths = which[e.stretch], float(e.hours[which].sum()), int(e.truths[which].sum())
    alarms = np.sort(odds[inside & e.alarm])[::-1]
    hits = odds[inside & e.hit]
    recalls = []
    for rate in RATES_PER_HOUR:
        if rate * hours >= LEAST_ALARMS:
            allowed = int(rate * hours + 1e-9)
            above = alarms[allowed] if allowed < len(alarms) else -np.inf
            recalls.append(float((hits > above).sum()) / max(truths, 1))
    return float(np.mean(recalls)) if recalls else 0.0


def fit_law(stretches: Sequence[Stretch]) -> tuple[BaselineLaw, dict[str, float]]:
    """The best law on all stretches, and the figures that support it.

    The law is kept only if it also finds more when each group is judged by the law of the others. Otherwise the gain is
    0.
    """
    e = evidence(stretches)
    levels = [s.usual for s in stretches if s.usual is not None]
    usual = round(float(np.median(levels)), 3) if levels else BaselineLaw().usual
    none = BaselineLaw(0.0, usual)
    laws = [none, *(BaselineLaw(gain, usual, lowest) for gain in GAINS for lowest in LOWESTS)]
    everyone = np.ones(len(stretches), bool)
    without = recall_at_rates(e, moved(e, none), everyone)
    best = _best(e, laws, everyone)
    crossed = e.odds.copy()
    for group in np.unique(e.groups):
        theirs = (e.groups == group)[e.stretch]
        crossed[theirs] = moved(e, _best(e, laws, e.groups != group))[theirs]
    with_ = recall_at_rates(e, crossed, everyone)
    judged = {"recall_without": round(without, 4), "recall_with_held_out": round(with_, 4)}
    return (best if with_ > without else none), {**judged, "groups": len(np.unique(e.groups))}


def _best(e: Evidence, laws: Sequence[BaselineLaw], which: NDArray[np.bool_]) -> BaselineLaw:
    return max(laws, key=lambda law: (round(recall_at_rates(e, moved(e, law), which), 6), -law.gain))
