"""`python -m benchmarks remains`: all of a movement is left where the film is the same, nothing where it was frozen."""

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import remains
from benchmarks.conditions import smaller
from benchmarks.same_films import Change
from engine.datasets.truth import TruthInterval, TruthVideo, save_truth
from engine.training.film.encode import FINE, write_video
from engine.training.film.film import Film, Setting
from engine.training.film.injection import movement
from engine.training.generator.actors import build_actor
from engine.training.generator.camera import Camera
from engine.training.generator.script import still_script
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

pytestmark = pytest.mark.slow

CAMERA = Camera(fps=30, dropped=0, resolution=1, noise=0.5, smear=0, codec="none", quality=90, flicker=0, flicker_hz=1)
TIME_S = np.arange(36) / 30
SETTING = Setting(320, 240, 120.0, 160.0, 108.0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One film of a face that makes one movement of 3 px."""
    folder = tmp_path_factory.mktemp("bench")
    portrait = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    landmarks = Landmarker(locate()).find(portrait)[0]
    actor = build_actor(portrait, landmarks, "composite:f_multi", "face.jpg")
    script, rng = still_script(list(TIME_S), CAMERA), np.random.default_rng(2)
    script.light[:, 1:] = 0
    injection, label = movement("landmarks", script, actor, rng, 0.55, 3.0)
    write_video(folder / "a.mp4", Film(script, actor, portrait, SETTING, rng, [injection]), TIME_S, FINE)
    told = (TruthInterval(label.onset_s, label.apex_s, label.offset_s, amplitude_px=3.0),)
    save_truth(folder / "truth.json", [TruthVideo("a.mp4", "x", 30, 1.2, "test", told, tags={"codec": "none"})])
    return folder


def told(bench, monkeypatch, **changes):
    """The rows by the change: what is left, and how far the motion errs."""
    monkeypatch.setattr(remains, "CHANGES", changes)
    rows = remains.run(Namespace(bench=bench, split=None, changes=list(changes)))["rows"]
    assert all(row["mes"] == row["large"] == 1 and row["left"] == row["large_left"] for row in rows)
    return [(row["left"], row["error_px"]) for row in rows]


def test_all_is_left_of_the_same_film_most_in_a_smaller_one_and_nothing_where_the_picture_froze(bench, monkeypatch):
    first = []

    def frozen(frame):
        first.append(frame.image)
        return first[0]

    same, half, none = told(bench, monkeypatch, same=None, half=smaller(0.5), none=Change(frozen))
    assert same == (1, 0)
    assert 0.6 < half[0] < 1.2
    assert abs(none[0]) < 0.05
    assert 0 < half[1] < none[1]


def test_nothing_is_left_where_the_face_is_lost(bench, monkeypatch):
    assert told(bench, monkeypatch, dark=Change(lambda f: np.zeros_like(f.image))) == [(0, None)]


def test_a_bench_that_is_too_small_is_told_in_one_line(bench, tmp_path):
    (tmp_path / "a.mp4").write_bytes((bench / "a.mp4").read_bytes())
    save_truth(tmp_path / "truth.json", [TruthVideo("a.mp4", "x", 30, 1.2, "test", tags={"codec": "none"})])
    with pytest.raises(UserError, match="build a larger one"):
        remains.run(Namespace(bench=tmp_path, split=None, changes=["as they are"]))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.5])
def test_a_share_of_the_motion_is_told_as_it_is(share):
    """Whatever else moves, as long as it is unlike."""
    whole = np.zeros((4, 2, 6, 6), np.float32)
    whole[2, 0, 1:3, 1:3] = 0.7
    there = share * whole
    there[2, 1, 4, 4] = 0.7
    assert remains.shares(whole, there, np.array([2])) == pytest.approx([share])
    assert remains.differences(whole, there, np.array([2])) == pytest.approx([np.hypot(1 - share, 0.5)])


def test_errors_of_the_motion_count_on_the_face_alone_and_in_both_directions():
    quick = np.random.default_rng(1).normal(0, 1, (5, 2, 16, 16)).astype(np.float32)
    there = quick + np.array([0.03, 0.04], np.float32)[:, None, None]
    assert remains.error_px(quick, there) == pytest.approx(0.05, rel=1e-4)
    there[..., :3, :] += 9
    assert remains.error_px(quick, there) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("frames", [-2, 0, 3])
def test_a_course_that_comes_later_is_told_by_how_much(frames):
    t = np.arange(60)
    whole, there = (np.exp(-(((t - at) / 5.0) ** 2)).reshape(-1, 1, 1, 1) for at in (30, 30 + frames))
    whole, there = (np.tile(c, (1, 2, 3, 3)).astype(np.float32) for c in (whole, there))
    assert remains.delays_ms(whole, 0.9 * there, np.array([30])) == pytest.approx([frames * 1000 / 30])
    assert remains.delays_ms(whole, 0.1 * there, np.array([30])) == []
