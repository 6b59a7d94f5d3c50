"""Reads the JSON files of `calibration` for `stream`. A file that does not fit gets one error line.

There are two kinds, each with `kind`, `version` and `model_sha256`:

- `operating_point`: `threshold`, `false_alarms_per_hour`, `upper_bound`, `hours`; `table`, the same at other
  thresholds; `probability`, a map from log-odds of scores to log-odds of being right; `baseline`, a `BaselineLaw`.
- `baseline`: `source`, `level`, `spread`, `seconds`, `conditions`: one person's noise floor at one camera.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.small_file import read_object
from stream.decide.baseline import BaselineLaw, Conditions, KnownBaseline
from stream.decide.odds import probability
from stream.errors import UserError

VERSION = 1
KINDS = ("operating_point", "baseline")
REMEDY = "run mestream calibrate"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and its measurement: false alarms per hour, their upper confidence bound, and the measured hours."""

    threshold: float
    false_alarms_per_hour: float
    upper_bound: float
    hours: float

    @property
    def words(self) -> str:
        """The point in words."""
        rate = f"{self.false_alarms_per_hour:.1f} false alarms an hour, at most {self.upper_bound:.1f}"
        return f"threshold {self.threshold:.4f}: {rate} with 95% confidence, on {self.hours:.2f} h"


@dataclass(frozen=True, slots=True)
class ProbabilityMap:
    """Maps a score to how often such an interval is right: rising straight lines between knots, in log-odds."""

    scores: tuple[float, ...]
    rights: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.scores, self.scores[1:], strict=False))
        level = all(a <= b for a, b in zip(self.rights, self.rights[1:], strict=False))
        if not (len(self.scores) == len(self.rights) > 0 and rising and level):
            raise ValueError("a probability map needs as many rising scores as rising rights, at least one")
        if not all(map(math.isfinite, (*self.scores, *self.rights))):
            raise ValueError("a probability map holds a number that is not finite")

    def right(self, odds: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Maps log-odds of scores to log-odds of being right. A value between two knots never exceeds either one, so
        rounding can't make the map fall.
        """
        after = np.searchsorted(self.scores, odds, side="right")
        rights = np.asarray(self.rights)
        lower, upper = rights[np.maximum(after - 1, 0)], rights[np.minimum(after, len(rights) - 1)]
        return np.clip(np.interp(odds, self.scores, self.rights), lower, upper)

    def __call__(self, odds: float) -> float:
        """Returns the probability for the log-odds of a score."""
        return probability(float(self.right(odds)))


@dataclass(frozen=True, slots=True)
class Fitted:
    """The content of an `operating_point` file. `table`: points in falling order of threshold."""

    point: OperatingPoint
    table: tuple[OperatingPoint, ...] = ()
    probability: ProbabilityMap | None = None
    baseline: BaselineLaw | None = None

    def at(self, threshold: float) -> OperatingPoint | None:
        """Returns what is known about another threshold: the rate of the nearest one in the table that is not higher.

        Returns None below the table, because nothing was measured there.
        """
        lower = [p for p in (self.point, *self.table) if p.threshold <= threshold + 1e-9]
        near = max(lower, key=lambda p: p.threshold, default=None)
        return near and OperatingPoint(threshold, near.false_alarms_per_hour, near.upper_bound, near.hours)


@dataclass(frozen=True, slots=True)
class StoredBaseline:
    """The content of a `baseline` file. `source`: name of the camera or file at which it was measured."""

    source: str
    known: KnownBaseline


def load(path: Path, model_sha256: str) -> Fitted | StoredBaseline:
    """Read a file of either kind. Raises UserError(code=2) for a wrong kind, another version or other weights."""
    said = _read(path)
    kind, version, of = (said.get(key) for key in ("kind", "version", "model_sha256"))
    if kind not in KINDS:
        raise UserError(f"--calibration {path}: kind {kind} is not one of {', '.join(KINDS)}; {REMEDY}", code=2)
    if version != VERSION:
        raise UserError(f"--calibration {path}: version {version}, this program reads {VERSION}; {REMEDY}", code=2)
    if of != model_sha256:
        raise UserError(
            f"--calibration {path}: made with other weights ({str(of)[:12]}, these are {model_sha256[:12]}); {REMEDY}",
            code=2,
        )
    try:
        return _fitted(said) if kind == "operating_point" else _stored(said)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"--calibration {path}: {what}; {REMEDY}", code=2) from None


def fitted_fields(fitted: Fitted) -> dict[str, Any]:
    """Returns the fields of an `operating_point` file that `load` reads, without kind, version and weights."""
    return {
        **asdict(fitted.point),
        "table": [asdict(p) for p in fitted.table],
        "probability": None if fitted.probability is None else asdict(fitted.probability),
        "baseline": None if fitted.baseline is None else asdict(fitted.baseline),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except OSError as error:
        raise UserError(f"--calibration {path}: {error.strerror}; {REMEDY}", code=2) from None
    except ValueError as error:
        raise UserError(f"--calibration {path}: {error}; {REMEDY}", code=2) from None


def _fitted(said: Mapping[str, Any]) -> Fitted:
    table = sorted((_point(row) for row in said.get("table") or ()), key=lambda p: -p.threshold)
    curve, law = said.get("probability"), said.get("baseline")
    return Fitted(
        _point(said),
        tuple(table),
        None
        if curve is None
        else ProbabilityMap(tuple(map(float, curve["scores"])), tuple(map(float, curve["rights"]))),
        None
        if law is None
        else BaselineLaw(**{k: float(law[k]) for k in ("gain", "usual", "lowest", "highest", "ongoing")}),
    )


def _point(said: Mapping[str, Any]) -> OperatingPoint:
    point = OperatingPoint(*(float(said[k]) for k in OperatingPoint.__dataclass_fields__))
    if not 0 < point.threshold < 1:
        raise ValueError(f"threshold {point.threshold} is not a probability strictly between 0 and 1")
    rates = (point.false_alarms_per_hour, point.upper_bound, point.hours)
    if not all(math.isfinite(x) and x >= 0 for x in rates):
        raise ValueError(f"rates and hours {rates} must be finite and not negative")
    return point


def _stored(said: Mapping[str, Any]) -> StoredBaseline:
    where = said["conditions"]
    fps = where.get("fps")
    conditions = Conditions(float(where["light"]), float(where["face_px"]), None if fps is None else float(fps))
    known = KnownBaseline(float(said["level"]), float(said["spread"]), float(said["seconds"]), conditions)
    return StoredBaseline(str(said["source"]), known)
