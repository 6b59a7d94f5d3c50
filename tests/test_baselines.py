"""The baselines: that each sees what it is meant to see, and that the table is made by the rule all are judged by."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import baselines
from engine.datasets.truth import TruthInterval, TruthVideo, save_truth
from engine.evaluation.baseline_signals import BLENDSHAPES, BLINK, GAZE, REGIONS, Blendshapes, Signals, flow, signals_of
from engine.training.film.encode import encoder_of, write_video
from engine.training.film.film import Film, Setting
from engine.training.generator.actors import build_actor
from engine.training.generator.camera import Camera
from engine.training.generator.script import Script
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

PORTRAIT = Path(__file__).parent / "data" / "face.jpg"
JAW_OPEN, BROW_INNER_UP = 25, 3
TIME_S = np.arange(0, 10, 1 / 25)


def bump(onset_s: float, length_s: float = 0.44) -> np.ndarray:
    share = np.clip((TIME_S - onset_s) / length_s, 0, 1)
    return (1 - np.cos(2 * np.pi * share)) / 2


def signals(blendshape=None, region=None, both_with_nose=False, size=0.3) -> Signals:
    """Quiet noise everywhere, and one movement: of a blendshape (index, onset), or a region (name, onset)."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.001, (len(TIME_S), BLENDSHAPES))
    path = np.zeros((len(TIME_S), len(REGIONS), 2))
    if blendshape is not None:
        scores[:, blendshape[0]] += size * bump(*blendshape[1:])
    if region is not None:
        path[:, list(REGIONS).index(region[0]), 1] += size * bump(*region[1:])
    if both_with_nose:
        path += bump(region[1])[:, None, None]
    moved = np.diff(path, axis=0, prepend=path[:1]) + rng.normal(0, 0.003, path.shape)
    return Signals(TIME_S, scores.astype(np.float32), moved.astype(np.float32))


def truth(onset_s: float | None, split="test", name="a.mp4") -> TruthVideo:
    intervals = () if onset_s is None else (TruthInterval(onset_s, onset_s + 0.22, onset_s + 0.44, "micro", 2.0),)
    return TruthVideo(name, "somebody", 25, 10.0, split, intervals)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Half a second of a face at rest, then half a second with the mouth open; a blank frame between."""
    portrait = cv2.imread(str(PORTRAIT))
    actor = build_actor(portrait, Landmarker(locate()).find(portrait)[0], "composite:f_multi", "face.jpg")
    light = np.tile(np.array([1, 0, 0, 0], np.float32), (20, 1))
    camera = Camera(20, 0, 1, 0, 0, "none", 20, 0, 1)
    script = Script(np.arange(20) / 20, camera, np.zeros((20, 4), np.float32), light)
    script.add("jaw_open", np.repeat([0, 0.6], 10).astype(np.float32))
    frames = list(Film(script, actor, portrait, Setting(320, 240, 120, 160, 110), np.random.default_rng(0)))
    frames[10] = np.full_like(frames[10], 128)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, frames, script.time_s, encoder_of(camera))
    return path


@pytest.mark.slow
def test_signals_are_those_of_the_face_and_unknown_without_one(film):
    found = signals_of(film)
    assert found.blendshapes.shape == (20, BLENDSHAPES)
    assert found.moved.shape == (20, len(REGIONS), 2)
    assert np.isnan(found.blendshapes[10]).all()
    assert np.isnan(found.moved[10]).all()
    shut, open_ = found.blendshapes[2:10, JAW_OPEN].mean(), found.blendshapes[13:, JAW_OPEN].mean()
    assert open_ > shut + 0.2
    assert np.abs(found.moved[2:10]).max() < 0.1, "a still face does not move"
    assert (found.moved[11] == 0).all(), "after a gap nothing has moved yet"


def test_blendshapes_do_not_depend_on_place_and_size():
    """The network normalises its landmarks itself, as MediaPipe's graph relies on."""
    points = Landmarker(locate()).find(cv2.imread(str(PORTRAIT)))[0]
    network = Blendshapes(locate())
    np.testing.assert_allclose(network(points), network(points * 0.5 + 40), atol=0.01)


def test_flow_is_the_shift_of_the_picture():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (128, 128)).astype(np.float32), (0, 0), 3)
    image = (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    moved = flow(image, np.roll(image, 1, axis=1))
    np.testing.assert_allclose(moved, np.tile([1.0, 0.0], (len(REGIONS), 1)), atol=0.15)


def test_the_hack_finds_an_expression_that_comes_and_goes():
    (spot,) = baselines.blendshape_spots(signals(blendshape=(BROW_INNER_UP, 4.0)), 0.5)
    assert spot[0] == pytest.approx(4.0, abs=0.12)
    assert spot[2] == pytest.approx(4.44, abs=0.12)
    assert baselines.blendshape_spots(signals(blendshape=(BROW_INNER_UP, 4.0)), 5.0) == []


@pytest.mark.parametrize("index", [*BLINK, *GAZE])
def test_the_hack_leaves_out_blinks_and_gaze(index):
    assert baselines.blendshape_spots(signals(blendshape=(index, 4.0)), 0.5) == []


def test_flow_peaks_are_of_motion_against_the_nose():
    """A brow that moves is found at its apex; a head that moves as a whole is not."""
    best = max(baselines.flow_spots(signals(region=("brow_left", 4.0), size=1.0)), key=lambda s: s[3])
    assert best[1] == pytest.approx(4.22, abs=0.07)
    assert best[2] - best[0] == pytest.approx(baselines.LENGTH_S)
    head = baselines.flow_spots(signals(region=("brow_left", 4.0), size=0.0, both_with_nose=True))
    assert max(s[3] for s in head) < 0.3 * best[3]


def test_chance_is_as_frequent_as_its_rate_says():
    rng = np.random.default_rng(1)
    spots = [s for _ in range(200) for s in baselines.random_spots(60.0, 5.0, rng)]
    assert len(spots) / 200 == pytest.approx(5, abs=0.5)
    assert all(0 <= s[0] < s[1] < s[2] <= 60 for s in spots)


def test_runs_with_a_short_pause_are_one():
    on = np.array([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1], bool)
    assert baselines._stretches(on, bridge=2) == [(1, 5), (10, 10)]


@pytest.fixture
def bench(tmp_path):
    """Eight videos, half of them to tune on, whose signals are known: an ME each, but for one in four."""
    out, truths = tmp_path / "out", []
    (out / "signals").mkdir(parents=True)
    for k in range(8):
        onset = None if k % 4 == 3 else 2.0 + 0.5 * k
        one = signals() if onset is None else signals((BROW_INNER_UP, onset), ("brow_left", onset), size=0.8)
        one.save(out / "signals" / f"v{k}.npz")
        truths.append(truth(onset, "tune" if k < 4 else "test", f"v{k}.mp4"))
    save_truth(tmp_path / "truth.json", truths)
    return tmp_path


def test_the_table_is_made_from_tuned_thresholds_and_judged_on_test(bench, capsys):
    assert baselines.main(["--bench", str(bench), "--out", str(bench / "out"), "--workers", "1"]) == 0
    rows = {row["name"]: row for row in json.loads((bench / "out" / "baselines.json").read_text())}
    assert rows["blendshape derivative"]["f1"] == 1.0
    assert rows["optical-flow peaks"]["f1"] == 1.0
    assert rows["optical-flow peaks"]["alarms_per_minute"] == 0
    assert 0 < rows["chance"]["f1"] < 0.5
    assert rows["chance"]["tp"] + rows["chance"]["fn"] == pytest.approx(3)
    assert "| chance |" in capsys.readouterr().out


def test_mesnets_row_is_read_from_its_evaluation(bench, capsys):
    rule = {"tp": 3, "fp": 1, "fn": 0, "f1": 6 / 7, "recall": 1.0, "precision": 0.75}
    said = {"rule": rule, "from_size": {"1.5": rule}, "threshold": {"of": {"a": 0.4}}, "recall_at": {"10/h": 0.5}}
    path = bench / "evaluation.json"
    path.write_text(json.dumps(said | {"false_alarms": {"me_free": {"per_hour": 120.0}}}))
    row = baselines.mesnet_row(path)
    assert (row.f1, row.alarms_per_minute, row.threshold) == (6 / 7, 2.0, 0.4)
    path.write_text("{}")
    assert baselines.main(["--bench", str(bench), "--out", str(bench / "o"), "--evaluation", str(path)]) == 2
    assert "--evaluation" in capsys.readouterr().err


def test_a_bench_without_a_tuning_split_is_refused_in_one_line(bench, capsys):
    save_truth(bench / "truth.json", [truth(2.0)])
    assert baselines.main(["--bench", str(bench), "--out", str(bench / "out"), "--workers", "1"]) == 2
    assert '"tune"' in capsys.readouterr().err
