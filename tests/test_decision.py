"""Which threshold decides: the flag, else the file given, else the one beside the weights, else the default."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from engine.model import Model, load_model
from engine.spec import ModelSpec
from stream.config import Config
from stream.decide.baseline import BaselineLaw, State
from stream.decide.operating_point import Fitted, OperatingPoint, ProbabilityMap, fitted_fields
from stream.decide.policy import policy_of
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError

POINT = OperatingPoint(threshold=0.7, false_alarms_per_hour=9.0, upper_bound=14.0, hours=2.0)
HIGHER = OperatingPoint(threshold=0.9, false_alarms_per_hour=1.0, upper_bound=3.0, hours=2.0)
CURVE = ProbabilityMap((-2.0, 2.0), (-3.0, 1.0))
LAW = BaselineLaw(gain=0.5)
SOURCE = "camera:0"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path, ModelSpec(), "ab" * 32)


def written(path: Path, model: Model, fitted: Fitted, **changed: Any) -> Path:
    about = {"kind": "operating_point", "version": 1, "model_sha256": model.sha256}
    path.write_text(json.dumps({**about, **fitted_fields(fitted), **changed}))
    return path


def baseline_file(path: Path, model: Model, **changed: Any) -> Path:
    about = {"kind": "baseline", "version": 1, "model_sha256": model.sha256, "source": SOURCE, "level": -4.0}
    about |= {"spread": 0.5, "seconds": 42.0, "conditions": {"light": 110, "face_px": 180, "fps": None}}
    path.write_text(json.dumps({**about, **changed}))
    return path


def assert_one_line(error: UserError, path: Path, says: str) -> None:
    assert str(error).startswith(f"--calibration {path}: ")
    assert says in str(error)
    assert "run mestream calibrate" in str(error)
    assert "\n" not in str(error)
    assert error.code == 2


def test_the_more_specific_wins(tmp_path, model):
    assert policy_of(Config(), model, SOURCE).tracker == TrackerConfig()
    written(tmp_path / "operating_point.json", model, Fitted(POINT, (POINT, HIGHER), CURVE, LAW))
    shipped = policy_of(Config(), model, SOURCE)
    assert shipped.tracker == TrackerConfig().at(0.7)
    assert (shipped.point, shipped.probability, shipped.law) == (POINT, CURVE, LAW), "what was written is read"
    given = written(tmp_path / "mine.json", model, Fitted(HIGHER), what=["else", "it", "says"])
    mine = policy_of(Config(calibration=given), model, SOURCE)
    assert (mine.tracker, mine.point) == (TrackerConfig().at(0.9), HIGHER)


def test_a_given_threshold_is_exact_and_its_rate_is_looked_up(tmp_path, model):
    """No baseline moves it; its rate is that of the nearest measured threshold below, or not known."""
    written(tmp_path / "operating_point.json", model, Fitted(POINT, (POINT, HIGHER), CURVE, LAW))
    between, below = (policy_of(Config(threshold=t), model, SOURCE) for t in (0.8, 0.3))
    assert between.tracker.threshold == pytest.approx(0.8)
    assert between.new_baseline() is None
    assert between.point == OperatingPoint(0.8, 9.0, 14.0, 2.0)
    assert below.point is None


def test_a_stored_baseline_begins_every_face(tmp_path, model):
    given = baseline_file(tmp_path / "me.json", model)
    with pytest.raises(UserError, match="needs"):
        policy_of(Config(calibration=given), model, SOURCE)
    written(tmp_path / "operating_point.json", model, Fitted(POINT, baseline=LAW))
    baseline = policy_of(Config(calibration=given), model, SOURCE).new_baseline()
    assert baseline is not None
    assert baseline.state is State.WATCHING
    assert baseline.level == pytest.approx(-4.0, abs=0.05)
    fresh = policy_of(Config(), model, SOURCE).new_baseline()
    assert fresh is not None
    assert fresh.state is State.CALIBRATING


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"source": "camera:1"}, "is a baseline of camera:1, not of camera:0"),
        ({"model_sha256": "cd" * 32}, "made with other weights (cdcdcdcdcdcd, these are abababababab)"),
        ({"version": 2}, "version 2, this program reads 1"),
        ({"kind": "camera"}, "kind camera is not one of"),
        ({"level": None}, "me.json"),
        ({"seconds": -1}, "are no baseline"),
        ({"conditions": {}}, "lacks 'light'"),
    ],
)
def test_a_baseline_that_does_not_fit_is_one_line(tmp_path, model, changed, says):
    """The line names the file and the remedy; where Python finds the fault, its own words are nobody's promise."""
    written(tmp_path / "operating_point.json", model, Fitted(POINT, baseline=LAW))
    given = baseline_file(tmp_path / "me.json", model, **changed)
    with pytest.raises(UserError) as caught:
        policy_of(Config(calibration=given), model, SOURCE)
    assert_one_line(caught.value, given, says)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"threshold": 1.0}, "threshold 1.0 is not a probability"),
        ({"threshold": "high"}, "mine.json"),
        ({"hours": -1}, "must be finite and not negative"),
        ({"table": [{}]}, "lacks 'threshold'"),
        ({"probability": {"scores": [1, 0], "rights": [0, 1]}}, "rising"),
        ({"baseline": {"gain": -1, "usual": 0, "lowest": 0, "highest": 0, "ongoing": 0}}, "gain must be >= 0"),
        ({"baseline": []}, "mine.json"),
    ],
)
def test_an_operating_point_that_is_none_is_one_line(tmp_path, model, changed, says):
    """The line names the file and the remedy; where Python finds the fault, its own words are nobody's promise."""
    given = written(tmp_path / "mine.json", model, Fitted(POINT), **changed)
    with pytest.raises(UserError) as caught:
        policy_of(Config(calibration=given), model, SOURCE)
    assert_one_line(caught.value, given, says)


@pytest.mark.parametrize(("text", "says"), [(None, "No such file"), ("{", "is not JSON"), ("[]", "not a JSON object")])
def test_a_file_that_is_no_calibration_is_one_line(tmp_path, model, text, says):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        policy_of(Config(calibration=path), model, SOURCE)
    assert_one_line(caught.value, path, says)


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_decides_nothing_is_refused(model, threshold):
    with pytest.raises(UserError, match="--threshold"):
        policy_of(Config(threshold=threshold), model, SOURCE)


def test_the_readme_states_the_rate_that_the_program_states():
    """One number from one source: the operating point that is shipped with the weights."""
    point = policy_of(Config(), load_model(), SOURCE).point
    assert point is not None
    words = point.words
    readme = " ".join((Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8").split())
    rates = re.findall(r"\| false alarms \| ([0-9.]+) an hour \| at most ([0-9.]+) \|", readme)
    assert rates == re.findall(r"([0-9.]+) false alarms an hour, at most ([0-9.]+) ", words)
    assert len(re.findall(r"[0-9] false alarms? ?(?:an|per|/) ?h", readme)) == 0, "another rate stands beside it"
