"""`python -m benchmarks liveliness` and `errors`: faces as they are, then as lively or as badly seen as is asked."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import errors, liveliness, same_faces
from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.generator.actors import build_actor, split_of
from engine.training.pools.pool import LENGTH, ROWS, prepare, write_shard
from engine.training.pools.truth import ABSENT, TRUTH_COLUMNS
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

pytestmark = pytest.mark.slow

SPEC = ModelSpec()
FEATURES = 3 * 5 * 256 + 6 * 3


def faces(count, seed=0):
    """Stem rows of faces that shiver by some hundredths of a px."""
    rows = np.random.default_rng(seed).normal(0, 0.2, (count, LENGTH, FEATURES)).astype(np.float16)
    rows[..., 6 * 256 : 12 * 256] = 0.8  # confidence
    return rows


@pytest.fixture
def pool(tmp_path):
    truth = np.zeros((6, ROWS, TRUTH_COLUMNS), np.float32)
    truth[..., 0] = ABSENT
    prepare(tmp_path / "pool", SPEC)
    write_shard(tmp_path / "pool", 0, list(faces(6)), list(truth))
    return tmp_path / "pool"


@pytest.fixture(scope="module")
def actors(tmp_path_factory):
    """A folder with one actor of the tuning split."""
    image = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    folder = tmp_path_factory.mktemp("actors")
    somebody = next(name for k in range(200) if split_of(name := f"london:{k:03d}") == "tune")
    build_actor(image, Landmarker(locate()).find(image)[0], somebody).save(folder / "x.npz")
    return folder


def test_motion_grows_as_told_and_from_twice_on_another_face_is_added():
    one, other = (torch.as_tensor(faces(1, seed)).float() for seed in (1, 2))
    torch.testing.assert_close(liveliness.livelier(one, other, 1.0, SPEC), one, rtol=1e-3, atol=1e-3)
    still = same_faces.motion_px(one, SPEC)
    assert same_faces.motion_px(liveliness.livelier(one, other, 1.5, SPEC), SPEC) == pytest.approx(
        1.5 * still, rel=0.01
    )
    both = same_faces.motion_px(liveliness.livelier(one, other, 2.0, SPEC), SPEC)
    # two motions that know nothing of each other: their squares add up
    assert both == pytest.approx(2 * still * np.hypot(1, liveliness.ON_TOP), rel=0.05)


@pytest.mark.parametrize(("size", "memory"), [(0.03, 0.0), (0.12, 0.0), (0.12, 0.65)])
def test_motion_errs_by_as_much_as_is_asked_and_by_nothing_else(size, memory):
    spec, stem = replace(SPEC, clip_frames=LENGTH), MotionStem(SPEC)
    still = torch.zeros(1, LENGTH, FEATURES)
    still[..., 6 * 256 : 12 * 256] = 0.2  # confidence: on smooth skin too
    moved = errors.erring(still, size, memory, 3, stem, spec)
    assert same_faces.motion_px(moved, SPEC) == pytest.approx(size, rel=0.05)
    kept = slice(6 * 256, 15 * 256)  # confidence, residual
    assert torch.equal(moved[..., kept], still[..., kept])
    assert torch.equal(moved, errors.erring(still, size, memory, 3, stem, spec))
    assert not torch.equal(moved, errors.erring(still, size, memory, 4, stem, spec))


def test_errors_are_told_beside_what_they_leave(pool, actors, capsys):
    options = Namespace(pool=[pool], actors=actors, model=None, errors=[0.0, 0.5], memory=0.5)
    rows = errors.run(options)["rows"]
    assert [(r["errors_px"], r["mes"]) for r in rows] == [(0.0, 3), (0.5, 3)]
    assert rows[1]["motion_px"] == pytest.approx(np.hypot(rows[0]["motion_px"], 0.5), rel=0.1)
    assert capsys.readouterr().out.count("errs by") == 2


def test_every_other_face_shows_a_micro_expression(pool, actors, capsys):
    options = Namespace(pool=[pool], actors=actors, model=None, times=[1.0, 3.0])
    rows = liveliness.run(options)["rows"]
    assert [(r["times"], r["mes"]) for r in rows] == [(1.0, 3), (3.0, 3)]
    assert rows[1]["motion_px"] > 2 * rows[0]["motion_px"]
    assert capsys.readouterr().out.count("times as lively") == 2


def test_a_pool_without_faces_to_vary_is_refused(tmp_path, actors):
    prepare(tmp_path / "pool", SPEC)
    with pytest.raises(UserError, match="fewer than two sequences"):
        liveliness.run(Namespace(pool=[tmp_path / "pool"], actors=actors, model=None, times=[1.0]))


def test_errors_that_would_stay_for_ever_are_refused():
    with pytest.raises(UserError, match="below 1"):
        errors.run(Namespace(memory=1.0))
