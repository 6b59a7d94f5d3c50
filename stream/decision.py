"""From which score on an interval is reported: --threshold, else --calibration, else what was measured for the weights.

A calibration file is JSON; known so far are `threshold`, `false_alarms_per_hour` (the rate that the threshold stands
for) and `model_sha256` (the weights it was measured with). What else it says is ignored.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from engine.model import Model
from stream.config import Config
from stream.errors import UserError
from stream.tracker import TrackerConfig

BESIDE_WEIGHTS = "calibration.json"


@dataclass(frozen=True, slots=True)
class Decision:
    """How the tracker decides, and how often it will be wrong at that, if that was measured."""

    tracker: TrackerConfig
    false_alarms_per_hour: float | None = None


def decision(config: Config, model: Model) -> Decision:
    """Raises UserError(code=2) when a calibration file can't be used with these weights."""
    if config.threshold is not None:
        return Decision(_at(config.threshold, "--threshold"))
    path = config.calibration or model.directory / BESIDE_WEIGHTS
    if config.calibration is None and not path.exists():
        return Decision(TrackerConfig())
    said = _read(path)
    of = said.get("model_sha256")
    if of is not None and of != model.sha256:
        raise UserError(
            f"{path}: measured with other weights ({str(of)[:12]}, these are {model.sha256[:12]}); calibrate again",
            code=2,
        )
    rate = said.get("false_alarms_per_hour")
    return Decision(_at(said.get("threshold"), f"{path}: threshold"), rate if isinstance(rate, int | float) else None)


def _read(path: Path) -> dict[str, object]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--calibration {path}: {error.strerror}; run python -m calibration", code=2) from None
    except ValueError:
        raise UserError(f"--calibration {path}: is not JSON; run python -m calibration", code=2) from None
    if not isinstance(said, dict):
        raise UserError(f"--calibration {path}: is not a calibration; run python -m calibration", code=2)
    return said


def _at(threshold: object, said: str) -> TrackerConfig:
    if not isinstance(threshold, int | float) or not 0 < threshold < 1:
        raise UserError(f"{said} {threshold}: is not a probability strictly between 0 and 1", code=2)
    return TrackerConfig().at(float(threshold))
