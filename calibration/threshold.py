"""An operating point with a stated rate: the threshold for that many false alarms per hour, and its certainty.

A false alarm is an `end` that overlaps no ME. Hours are the time of the stretches outside their MEs. The count is
Poisson, and its exact (Garwood) upper bound limits what the hours can show. With none in h hours, no rate below 3 / h
can be shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.stretches import FLOOR
from engine.evaluation.matching import Detection, VideoResult
from engine.evaluation.metrics import Curve, poisson_interval, sweep
from stream.decide.odds import HIGHEST, log_odds, probability
from stream.decide.operating_point import OperatingPoint

CONFIDENCE = 0.95
LEAST_ALARMS = 3.0
"""Data supports a rate if it gives at least this many alarms on average. Seeing none would be a surprise (p < 0.05)."""
RATES_PER_HOUR = (360.0, 240.0, 120.0, 60.0, 30.0, 20.0, 10.0, 5.0, 2.0, 1.0)
DEFAULT_PER_HOUR = 10.0


@dataclass(frozen=True, slots=True)
class Alarms:
    """Scores of all false alarms, highest first: float64[K], and the hours of video."""

    scores: NDArray[np.float64]
    hours: float

    @property
    def lowest_rate(self) -> float:
        """The lowest rate per hour that these hours can support."""
        return LEAST_ALARMS / self.hours if self.hours else math.inf

    def point(self, threshold: float) -> OperatingPoint:
        """The measurement at a threshold. The bound is one-sided."""
        k = int((self.scores >= threshold).sum())
        upper = poisson_interval(k, 2 * CONFIDENCE - 1)[1]
        return OperatingPoint(round(threshold, 4), k / self.hours, upper / self.hours, self.hours)

    def at_rate(self, per_hour: float) -> OperatingPoint:
        """The lowest threshold, at 4 decimals, with no more than `per_hour` alarms per hour.

        Raises ValueError below `lowest_rate`.
        """
        if per_hour < self.lowest_rate * (1 - 1e-9):
            raise ValueError(f"{self.hours:.2f} h can back {self.lowest_rate:.3g} false alarms per hour or more")
        allowed = int(per_hour * self.hours + 1e-9)
        if allowed >= len(self.scores):
            return self.point(FLOOR)
        first_out = float(self.scores[allowed])
        kept = self.scores[self.scores > first_out]  # alarms with the same score count together
        above = float(kept[-1]) if len(kept) else probability(HIGHEST)
        between = probability((log_odds(first_out) + log_odds(above)) / 2)
        threshold = math.ceil(max(between, FLOOR) * 1e4) / 1e4
        return self.point(min(threshold, 0.9999))


def is_alarm(d: Detection, video: VideoResult) -> bool:
    """Whether a detection is a false alarm: it overlaps no ME. A badly placed detection is not one."""
    return not any(d.onset <= t.offset and t.onset <= d.offset for t in video.truths)


def alarms(videos: Sequence[VideoResult]) -> Alarms:
    """False alarms of stretches that hold every `end` from FLOOR on."""
    scores, seconds = [], 0.0
    for v in videos:
        scores += [d.score for d in v.detections if is_alarm(d, v)]
        seconds += v.duration_s - sum(t.offset - t.onset + 1 for t in v.truths) / v.fps
    return Alarms(np.sort(np.array(scores, float))[::-1], max(seconds, 0.0) / 3600)


def table(videos: Sequence[VideoResult]) -> list[dict[str, float]]:
    """One row per rate of RATES_PER_HOUR that the hours can support, with recall and F1 at its threshold."""
    found, curve = alarms(videos), sweep(videos)
    backed = [rate for rate in RATES_PER_HOUR if rate >= found.lowest_rate]
    rows = {(point := found.at_rate(rate)).threshold: {"asked": rate, **row(point, curve)} for rate in backed}
    return list(rows.values())  # with few alarms, several rates share a threshold; the row is the lowest's


def row(point: OperatingPoint, curve: Curve) -> dict[str, float]:
    """An operating point with what it finds."""
    k = int((curve.thresholds >= point.threshold).sum())
    return {
        "threshold": point.threshold,
        "false_alarms_per_hour": round(point.false_alarms_per_hour, 3),
        "upper_bound": round(point.upper_bound, 3),
        "hours": round(point.hours, 4),
        "recall": round(float(curve.recall[k - 1]), 4) if k else 0.0,
        "f1": round(float(curve.f1[k - 1]), 4) if k else 0.0,
    }


def default_rate(found: Alarms) -> float:
    """DEFAULT_PER_HOUR if the hours can support it, else the lowest rate that they can."""
    return max(DEFAULT_PER_HOUR, found.lowest_rate)
