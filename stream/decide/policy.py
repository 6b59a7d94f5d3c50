"""Chooses the threshold: --threshold, else --calibration, else what was measured for the weights.

--threshold applies unchanged to every face, whatever its baseline. Without it the threshold is that of the operating
point, and each face's baseline moves it (`stream.decide.baseline`).
"""

from dataclasses import dataclass

from engine.model import Model
from stream.config import Config
from stream.decide.baseline import Baseline, BaselineLaw, KnownBaseline
from stream.decide.operating_point import Fitted, OperatingPoint, ProbabilityMap, load
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError

BESIDE_WEIGHTS = "operating_point.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """How the tracker decides, and how often it is wrong, if that was measured.

    `law`: how a face's baseline moves its threshold; None if it does not. `known`: a baseline to start from.
    """

    tracker: TrackerConfig
    point: OperatingPoint | None = None
    probability: ProbabilityMap | None = None
    law: BaselineLaw | None = None
    known: KnownBaseline | None = None

    def new_baseline(self) -> Baseline | None:
        """Returns the baseline of a new face, or None if it would change nothing."""
        return None if self.law is None or self.law.gain == 0 else Baseline(self.law, self.known)


def policy_of(config: Config, model: Model, source: str) -> Policy:
    """Returns the policy for a run. `source`: name of the watched source. Raises UserError(code=2) if a calibration
    file can't be used.
    """
    path = model.directory / BESIDE_WEIGHTS
    shipped = load(path, model.sha256) if path.exists() else None
    given = load(config.calibration, model.sha256) if config.calibration else None
    fitted = given if isinstance(given, Fitted) else shipped if isinstance(shipped, Fitted) else None
    known = None
    if given is not None and not isinstance(given, Fitted):
        if given.source != source:
            raise UserError(
                f"--calibration {config.calibration}: is a baseline of {given.source}, not of {source}; "
                "run mestream calibrate baseline for this one",
                code=2,
            )
        if fitted is None or fitted.baseline is None:
            raise UserError(f"--calibration {config.calibration}: needs {path}; run mestream calibrate threshold", 2)
        known = given.known
    curve = fitted.probability if fitted else None
    if config.threshold is not None:
        tracker = _at(config.threshold)
        return Policy(tracker, fitted.at(config.threshold) if fitted else None, curve)
    if fitted is None:
        return Policy(TrackerConfig())
    return Policy(_at(fitted.point.threshold), fitted.point, curve, fitted.baseline, known)


def _at(threshold: float) -> TrackerConfig:
    if not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold}: is not a probability strictly between 0 and 1", code=2)
    return TrackerConfig().at(threshold)
