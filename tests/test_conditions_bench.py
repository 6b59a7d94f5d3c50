"""`python -m benchmarks conditions`: the same films and truth in every row, worse in the way that is named."""

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import conditions, same_films
from engine.datasets.truth import TruthInterval, TruthVideo, save_truth
from engine.training.film.encode import FINE, write_video
from engine.training.film.injection import read_frames

TIME_S = np.arange(15) / 30 + 1e-4


@pytest.fixture
def bench(tmp_path):
    """A face that stands still for half a second, and a claim that it did not."""
    face = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    face = cv2.copyMakeBorder(cv2.resize(face, (240, 240)), 0, 0, 40, 40, cv2.BORDER_REPLICATE)
    write_video(tmp_path / "a.mp4", [face] * len(TIME_S), TIME_S, FINE)
    told = (TruthInterval(0.1, None, 0.3, amplitude_px=2.0),)
    save_truth(tmp_path / "truth.json", [TruthVideo("a.mp4", "x", 30, 0.5, "test", told, tags={"codec": "none"})])
    return tmp_path


def remade(bench, folder, name):
    before = list(read_frames(str(bench / "a.mp4")))
    path = same_films.remade(conditions.CHANGES[name], before, folder)
    return before, list(read_frames(str(path)))


@pytest.mark.parametrize(
    ("name", "width"), [("2/3 as wide, face 96 to 173 px", 213), ("1/2 as wide, face 72 to 130 px", 160)]
)
def test_a_smaller_picture_is_the_same_picture(bench, tmp_path, name, width):
    before, after = remade(bench, tmp_path, name)
    assert len(after) == len(before)
    assert abs(after[0].image.shape[1] - width) <= 1
    again = cv2.resize(after[0].image, before[0].image.shape[1::-1])
    assert np.abs(again.astype(int) - before[0].image).mean() < 6


def test_a_coarser_encoder_is_the_only_difference_where_one_is_named(bench, tmp_path):
    sizes = []
    for name in ("1/2 as wide, face 72 to 130 px", "1/2 as wide, by a webcam's H.264 at CRF 23"):
        before, after = remade(bench, tmp_path, name)
        assert (len(after), after[0].image.shape[1]) == (len(before), 160)
        sizes.append((tmp_path / "film.mp4").stat().st_size)
    assert sizes[1] < 0.75 * sizes[0]


@pytest.mark.parametrize(("fps", "kept"), [(20, [0, 2, 3, 5, 6, 8, 9, 11, 12, 14]), (15, [0, 2, 4, 6, 8, 10, 12, 14])])
def test_frames_are_left_out_and_the_others_keep_their_stamps(bench, tmp_path, fps, kept):
    """Of frames 1/30 s apart two of three at 20 fps, every other at 15."""
    before, after = remade(bench, tmp_path, f"at most {fps} fps")
    assert np.abs(np.array([f.time_s for f in after]) - TIME_S[kept]).max() < 1e-3
    assert np.abs(after[1].image.astype(int) - before[kept[1]].image).mean() < 3


@pytest.mark.parametrize("share", [2, 4])
def test_a_darker_picture_has_that_share_of_the_grey_levels(bench, tmp_path, share):
    before, after = remade(bench, tmp_path, f"1/{share} of the grey levels")
    assert after[0].image.mean() == pytest.approx(before[0].image.mean() / share, abs=3)


@pytest.mark.parametrize("sigma", [4, 8])
def test_noise_is_as_strong_as_it_says_new_in_every_frame_and_the_same_twice(bench, tmp_path, sigma):
    before, after = remade(bench, tmp_path, f"noise of {sigma} grey levels")
    _, twice = remade(bench, tmp_path, f"noise of {sigma} grey levels")
    assert all(np.array_equal(f.image, g.image) for f, g in zip(after, twice, strict=True))
    grey = [cv2.cvtColor(f.image, cv2.COLOR_BGR2GRAY).astype(float) for f in (before[5], before[6], after[5], after[6])]
    expected = sigma * np.linalg.norm([0.299, 0.587, 0.114])  # of three independent colours, as grey
    assert np.std((grey[3] - grey[1]) - (grey[2] - grey[0])) / 2**0.5 == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_every_change_is_asked_for_the_same(bench, capsys):
    """What is not there is not found, in any row."""
    options = Namespace(bench=bench, split=None, model=None, changes=list(conditions.CHANGES))
    rows = conditions.run(options)["rows"]
    assert [r["change"] for r in rows] == list(conditions.CHANGES)
    assert {(r["found"], r["mes"], r["large"], r["f1"]) for r in rows} == {(0, 1, 1, 0.0)}
    assert capsys.readouterr().out.count("found 0 of 1") == len(rows)
