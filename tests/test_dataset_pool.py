"""Training on a licensed data set: its videos become pools through the live path's aligner, folds leave people out."""

import argparse
import shutil

import cv2
import numpy as np
import openpyxl
import pytest
from clips import face_image, raised_at

from engine.datasets import Interval, Video
from engine.evaluation.folds import train_folds
from engine.model import load_model
from engine.spec import CLASSES, ModelSpec
from engine.train import main as train_main
from engine.training.pools.dataset import Stretch, label_of, make_pools, region_shares, split, windows
from engine.training.pools.pool import LENGTH, Pool
from engine.training.pools.truth import ABSENT, UNKNOWN
from stream.errors import UserError

pytestmark = pytest.mark.slow

SPEC = ModelSpec()
SIZE = max(SPEC.lags) + LENGTH


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """5 s of the portrait at 30 fps, one brow raise at 2 s, as a data set's video."""
    folder = tmp_path_factory.mktemp("frames")
    frames = []
    for n in range(150):
        path = folder / f"{n}.jpg"
        cv2.imwrite(str(path), face_image(n / 30, raised_at(n / 30, 2.0), 240))
        frames.append((n, path))
    return Video(
        "p1", "v", 30.0, tuple(frames), (Interval(60, 66, 72, "micro", "4+7"), Interval(90, None, 140, "macro"))
    )


@pytest.fixture(scope="module")
def pools(person, tmp_path_factory):
    return make_pools([person], tmp_path_factory.mktemp("pools"), None)


def test_truth_lies_where_the_movement_is(pools):
    """The rows' frames count from the first frame that has its history, in every window of the video."""
    pool = Pool([pools["p1"]], SPEC)
    assert len(pool) >= 2
    for index in range(len(pool)):
        rows, truth = pool[index]
        assert rows.shape[0] == LENGTH
        (micro,) = truth[truth[:, 0] == CLASSES.index("micro")]
        (macro,) = truth[truth[:, 0] == CLASSES.index("macro")]
        assert micro[3] - micro[1] == pytest.approx(12)
        assert macro[1] - micro[1] == pytest.approx(30)
        assert tuple(micro[5:]) == (0.5, 0.5, 0, 0)
        assert UNKNOWN in truth[:, 0]
        assert ABSENT in truth[:, 0]
        motion = np.abs(rows[:, : -6 * len(SPEC.lags)].astype(np.float32)).mean(axis=1)
        inside = np.arange(LENGTH)
        inside = (inside >= micro[1] + 2) & (inside <= micro[3])
        assert motion[inside].mean() > motion[~inside].mean()


def test_windows_cover_a_stretch_and_every_me(person):
    labels = [label_of(Interval(400, None, 415, "micro"), 30.0)]
    stretch = Stretch(100, np.zeros((500, 1, 1), np.uint8))
    starts = [first for first, crops in windows(stretch, labels, SPEC) if len(crops) == SIZE]
    assert starts[0] == 100
    assert starts[-1] == 100 + 500 - SIZE
    covered = {n for s in starts for n in range(s, s + SIZE)}
    assert covered == set(range(100, 600))
    assert any(s + max(SPEC.lags) <= 400 and s + SIZE > 415 for s in starts)
    assert not list(windows(Stretch(0, np.zeros((SIZE - 1, 1, 1), np.uint8)), labels, SPEC))


@pytest.mark.parametrize(
    ("action_units", "shares"),
    [("4(B/C)+7B", (0.5, 0.5, 0, 0)), ("L12", (0, 0, 0, 1)), ("", (0, 0, 0, 0)), ("1+2+4+6", (0.75, 0, 0.25, 0))],
)
def test_regions_by_action_units(action_units, shares):
    assert region_shares(action_units) == shares


def test_nobody_is_trained_or_tuned_on_who_is_judged():
    people = [f"s{n}" for n in range(12)]
    for subject in people:
        train, tune = split(subject, people)
        assert subject not in train + tune
        assert not set(train) & set(tune)
        assert set(train) | set(tune) == set(people) - {subject}
    with pytest.raises(UserError, match="too few"):
        split("a", ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--dataset", "smic"], 2, "--dataset needs --root"),
        (["--dataset", "smic", "--root", "."], 1, "SMIC-HS-E_annotation.xlsx is missing"),
        (
            ["--dataset", "smic", "--root", "smic", "--leave-out", "9"],
            2,
            "--leave-out 9: no such person in smic; there are 1, 2",
        ),
    ],
)
def test_training_on_a_data_set_says_in_one_line_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, code, says):
    book = openpyxl.Workbook()
    for row in (
        ["Subject", "Filename", "OnsetF", "OffsetF", "FirstF", "Emotion"],
        [1, "a", 2, 4, 1, ""],
        [2, "b", 2, 4, 1, ""],
    ):
        book.active.append(row)
    (tmp_path / "smic").mkdir()
    book.save(tmp_path / "smic" / "SMIC-HS-E_annotation.xlsx")
    monkeypatch.chdir(tmp_path)
    assert train_main([*arguments, "--out", "out"]) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.timeout(300)
def test_a_fold_is_trained_exported_and_not_trained_twice(pools, person, tmp_path):
    """One step of real training on copies of one person: what counts here is the way, not the weights."""
    people = [Video(s, "v", 30.0, person.frames, person.intervals) for s in ("a", "b", "c")]
    for s in "abc":
        shutil.copytree(pools["p1"], tmp_path / "pools" / s)
    options = argparse.Namespace(out=tmp_path, face_model=None, train_pool=[], train_options="--steps 1 --device cpu")
    (tmp_path / "folds" / "b").mkdir(parents=True)
    (tmp_path / "folds" / "b" / "mesnet_1d.onnx").touch()
    (tmp_path / "folds" / "c").mkdir()
    (tmp_path / "folds" / "c" / "mesnet_1d.onnx").touch()
    weights = train_folds(people, options)
    assert weights == {s: tmp_path / "folds" / s for s in "abc"}
    assert load_model(weights["a"]).spec == SPEC.live()
    made = (weights["a"] / "mesnet.safetensors").stat().st_mtime_ns
    train_folds(people, options)
    assert (weights["a"] / "mesnet.safetensors").stat().st_mtime_ns == made
