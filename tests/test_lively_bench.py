"""`python -m benchmarks lively`: every third face is calm, and a baseline's first seconds count apart."""

import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import lively
from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.training.generator.actors import actors_of, build_all, split_of
from stream.errors import UserError
from stream.faces.model_file import locate

pytestmark = pytest.mark.slow

FPS = 10


def test_what_begins_late_is_counted_apart():
    """Two MEs before the tenth second, one found; two after, one found and a false alarm. What overlaps an ME without
    fitting it is none."""
    truths = (Truth(10, 14), Truth(50, 54), Truth(120, 124), Truth(150, 154))
    said = [(10, 14), (30, 34), (120, 124), (153, 159), (180, 184)]
    video = VideoResult("x", "x", FPS, 20.0, truths, tuple(Detection(a, b, 0.9) for a, b in said))
    film = lively.Seen(True, video, video)
    whole = lively.row([film], 0.0)
    assert (whole["mes"], whole["found_with"], whole["false_alarms_with"]) == (4, 2, 2)
    late = lively.row([film, film], 10.0)
    assert (late["mes"], late["found_with"], late["false_alarms_with"]) == (4, 2, 2)
    assert late["minutes"] == pytest.approx(20 / 60, abs=0.01)


def test_a_calm_and_a_lively_film_of_the_same_tuning_person(tmp_path, monkeypatch):
    """Real films through the live path, a few seconds of each; without a baseline nothing is moved."""
    somebody = next(name for k in range(200) if split_of(name := f"london:{k:03d}") == "tune")
    portrait, folder = tmp_path / "portraits" / "face.jpg", tmp_path / "actors"
    for made in (portrait.parent, folder):
        made.mkdir()
    shutil.copy(Path(__file__).parent / "data" / "face.jpg", portrait)
    assert build_all([(somebody, portrait)], tmp_path, folder, locate()) == []
    monkeypatch.setattr(lively, "DURATION_S", 4.5)
    actors = actors_of(folder, "tune")
    calm, moving = (lively.seen(lively.Job(number, actors, tmp_path, None)) for number in (0, 1))
    assert (calm.lively, moving.lively) == (False, True)
    assert calm.without.truths
    assert calm.without.detections == calm.with_.detections, "so few seconds are no baseline yet"


def test_without_a_tuning_actor_it_says_so(tmp_path):
    with pytest.raises(UserError, match="actor"):
        lively.run(Namespace(actors=tmp_path, data=tmp_path, model=None, films=1, workers=1))
