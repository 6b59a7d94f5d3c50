"""Which threshold decides: the flag, else the file given, else the one beside the weights, else the default."""

import json
from pathlib import Path

import pytest

from engine.model import Model
from engine.spec import ModelSpec
from stream.config import Config
from stream.decision import decision
from stream.errors import UserError
from stream.tracker import TrackerConfig


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path, ModelSpec(), "ab" * 32)


def test_the_more_specific_wins(tmp_path, model):
    given = tmp_path / "mine.json"
    assert decision(Config(), model).tracker == TrackerConfig()
    (tmp_path / "calibration.json").write_text(json.dumps({"threshold": 0.7, "false_alarms_per_hour": 12}))
    assert decision(Config(), model).tracker == TrackerConfig().at(0.7)
    assert decision(Config(), model).false_alarms_per_hour == 12
    given.write_text(json.dumps({"threshold": 0.8, "model_sha256": model.sha256, "what": ["else", "it", "says"]}))
    assert decision(Config(calibration=given), model).tracker.threshold == pytest.approx(0.8)
    assert decision(Config(calibration=given), model).false_alarms_per_hour is None
    assert decision(Config(calibration=given, threshold=0.9), model).tracker.threshold == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[]", "is not a calibration"),
        ("{}", "threshold None: is not a probability"),
        ('{"threshold": 1.0}', "threshold 1.0: is not a probability"),
        ('{"threshold": "high"}', "threshold high: is not a probability"),
        ('{"threshold": 0.5, "model_sha256": "cdcd"}', "measured with other weights (cdcd, these are abab"),
    ],
)
def test_a_bad_calibration_is_one_line(tmp_path, model, text, says):
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        decision(Config(calibration=path), model)
    assert says in str(caught.value)
    assert caught.value.code == 2


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_decides_nothing_is_refused(model, threshold):
    with pytest.raises(UserError, match="--threshold"):
        decision(Config(threshold=threshold), model)
