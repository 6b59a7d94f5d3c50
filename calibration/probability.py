"""Scores that are probabilities: a rising map from an interval's score to how often such an interval is right.

Candidates are the score itself, temperature (Guo et al., ICML 2017), Platt (1999) and isotonic regression. The best by
cross-validated log-loss over groups (people) is kept, and the simplest if several are equal. The map holds for video in
which MEs are as frequent as in its data. When they are rarer, fewer intervals are right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.matching import VideoResult
from engine.evaluation.metrics import pairs
from stream.decide.odds import log_odds
from stream.decide.operating_point import ProbabilityMap

BINS = 10
ENDS = (-7.0, 7.0)
"""The straight maps are drawn between these log-odds."""
EDGE = 1e-3
"""Every map stays between EDGE and 1 - EDGE."""

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Data of every interval: log-odds of its score float64[n], whether it was right bool[n], its person str[n]."""

    odds: Float
    right: NDArray[np.bool_]
    groups: NDArray[np.str_]


def sample(videos: Sequence[VideoResult]) -> Sample:
    """Every detection of these videos. It is right if it is a true positive by `engine.evaluation.metrics`."""
    found = [(log_odds(d.score), t is not None, v.subject) for v in videos for d, t in pairs(v, 0.0)]
    odds, right, groups = zip(*found, strict=True) if found else ((), (), ())
    return Sample(np.array(odds, float), np.array(right, bool), np.array(groups, str))


def identity(odds: Float, right: NDArray[np.bool_]) -> ProbabilityMap:
    """The score as it is."""
    return ProbabilityMap(ENDS, ENDS)


def temperature(odds: Float, right: NDArray[np.bool_]) -> ProbabilityMap:
    """Log-odds divided by one number."""
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(lambda log_t: loss(odds * np.exp(-log_t), right), bounds=(-3, 3), method="bounded")
    return ProbabilityMap(ENDS, tuple(float(x * np.exp(-best.x)) for x in ENDS))


def platt(odds: Float, right: NDArray[np.bool_]) -> ProbabilityMap:
    """Log-odds times a number plus a number. Platt's own targets prevent certainty."""
    from scipy.optimize import minimize

    ones, zeros = int(right.sum()), int((~right).sum())
    target = np.where(right, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    best = minimize(lambda ab: loss(np.exp(ab[0]) * odds + ab[1], target), np.zeros(2), method="Nelder-Mead")
    slope, shift = float(np.exp(best.x[0])), float(best.x[1])
    return ProbabilityMap(ENDS, tuple(slope * x + shift for x in ENDS))


def isotonic(odds: Float, right: NDArray[np.bool_]) -> ProbabilityMap:
    """The rising step function nearest to the data (pool adjacent violators), joined by straight lines."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(odds, kind="stable")
    at, first = np.unique(odds[order], return_index=True)
    counts = np.diff(np.append(first, len(odds)))
    mean = np.add.reduceat(right[order].astype(float), first) / counts
    level = np.clip(isotonic_regression(mean, weights=counts).x, EDGE, 1 - EDGE)
    inside = np.zeros(len(at), bool)  # the inside of a step adds nothing to its two ends
    inside[1:-1] = (level[:-2] == level[1:-1]) & (level[1:-1] == level[2:])
    at, level = at[~inside], level[~inside]
    return ProbabilityMap(tuple(at.tolist()), tuple(np.log(level / (1 - level)).tolist()))


METHODS: dict[str, Callable[[Float, NDArray[np.bool_]], ProbabilityMap]] = {
    "identity": identity,
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}


def loss(odds: Float, target: NDArray) -> float:
    """Mean log-loss of log-odds float64[n] against targets in 0..1."""
    return float(np.mean(np.logaddexp(0, odds) - target * odds))


def apply(curve: ProbabilityMap, odds: Float) -> Float:
    """Log-odds of scores -> log-odds of being right, float64[n], bounded by EDGE."""
    bound = float(np.log((1 - EDGE) / EDGE))
    return np.clip(curve.right(odds), -bound, bound)


def held_out(method: str, data: Sample) -> Float:
    """Log-odds float64[n] of every interval by a map fitted without its group, or nan if that is impossible."""
    out = np.full(len(data.odds), np.nan)
    for group in np.unique(data.groups):
        theirs = data.groups == group
        others = data.right[~theirs]
        if others.any() and not others.all():
            out[theirs] = apply(METHODS[method](data.odds[~theirs], others), data.odds[theirs])
    return out


@dataclass(frozen=True, slots=True)
class FittedProbability:
    """The best map and its figures: held-out log-loss per method, ECE before and after. The latter is held out."""

    method: str
    curve: ProbabilityMap
    log_loss: dict[str, float]
    ece_before: float
    ece_after: float
    intervals: int
    right: int
    bins_before: tuple[tuple[float, float, int], ...]
    bins_after: tuple[tuple[float, float, int], ...]


def fit(data: Sample) -> FittedProbability | None:
    """Returns None when there are too few people or intervals. It needs at least two of each kind, in two groups."""
    if min(int(data.right.sum()), int((~data.right).sum())) < 2 or len(np.unique(data.groups)) < 2:
        return None
    predicted = {name: held_out(name, data) for name in METHODS}
    if any(np.isnan(p).any() for p in predicted.values()):
        return None
    losses = {name: round(loss(p, data.right), 4) for name, p in predicted.items()}
    method = min(METHODS, key=lambda name: losses[name])
    before = reliability(apply(identity(data.odds, data.right), data.odds), data.right)
    after = reliability(predicted[method], data.right)
    return FittedProbability(
        method,
        METHODS[method](data.odds, data.right),
        losses,
        round(expected_error(before), 4),
        round(expected_error(after), 4),
        len(data.odds),
        int(data.right.sum()),
        before,
        after,
    )


def reliability(odds: Float, right: NDArray[np.bool_]) -> tuple[tuple[float, float, int], ...]:
    """(mean probability, share of right intervals, count) of up to BINS bins with about equally many intervals."""
    order = np.argsort(odds, kind="stable")
    p = 1 / (1 + np.exp(-odds[order]))
    parts = [part for part in np.array_split(np.arange(len(order)), BINS) if len(part)]
    return tuple((float(p[part].mean()), float(right[order][part].mean()), len(part)) for part in parts)


def expected_error(bins: Sequence[tuple[float, float, int]]) -> float:
    """Expected calibration error: mean distance between probability and share, weighted by count."""
    total = sum(n for *_, n in bins)
    return sum(n * abs(p - share) for p, share, n in bins) / total if total else 0.0
