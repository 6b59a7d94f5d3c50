"""Micro-expressions added behind the stem: what the stem would have said of crops that really moved, and its truth."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.actors import build_actor, kept_actor
from engine.training.imprint import APART, STILL, Imprinter, on_cells, reversed_rows, reversed_truth
from engine.training.loss import ABSENT, BLINK, HEAD, MACRO, MICRO
from engine.training.pool import through_stem, truth_rows
from engine.training.render import individual, push_map
from engine.training.script import Label, still_script
from engine.training.stemmed import unsquashed
from engine.training.warps import EXTENT_PX, MARGIN_PX
from stream.face_model import locate
from stream.landmarks import Landmarker

SPEC = ModelSpec()
HISTORY, FRAMES = max(SPEC.lags), 40
MOTION = 2 * len(SPEC.lags) * 256  # columns of u and v


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    image = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    path = tmp_path_factory.mktemp("actors") / "x.npz"
    build_actor(image, Landmarker(locate()).find(image)[0], "congress:X").save(path)
    return path


@pytest.fixture(scope="module")
def imprinter(path):
    return Imprinter([path], SPEC)


def crops_of(path):
    """A still face before a noisy camera, float32[HISTORY + FRAMES, S, S]."""
    whole = cv2.resize(kept_actor(path).texture, (EXTENT_PX, EXTENT_PX), interpolation=cv2.INTER_AREA)
    face = whole[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 1.5, (HISTORY + FRAMES, *face.shape)).astype(np.float32)
    return face + noise


def inject(crops, fields):
    """Crops [F, S, S] warped by fields [F, 2, M, M] over the extent (crop px, backward)."""
    frames, size = len(crops), crops.shape[1]
    inner = torch.as_tensor([[size / EXTENT_PX, 0, 0], [0, size / EXTENT_PX, 0]]).expand(frames, -1, -1)
    moved = functional.grid_sample(
        fields, functional.affine_grid(inner, [frames, 2, size, size], align_corners=False), align_corners=False
    ).numpy()
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.stack([
        cv2.remap(c, x + m[0], y + m[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for c, m in zip(crops, moved, strict=True)
    ])  # fmt: skip


def stemmed(crops):
    return torch.as_tensor(through_stem(MotionStem(SPEC), crops.round().clip(0, 255).astype(np.uint8), SPEC)).float()


@pytest.mark.parametrize("seed", range(6))
def test_a_small_movement_is_added_as_the_stem_would_have_measured_it(path, imprinter, seed, monkeypatch):
    """Held against crops that are really warped: the same pattern over cells, lags and frames, of the same size."""
    used = []

    def kept(make):
        def noted(*args):
            used.append(make(*args))
            return used[-1]

        return noted

    monkeypatch.setattr("engine.training.render.individual", kept(individual))
    monkeypatch.setattr("engine.training.render.push_map", kept(push_map))
    monkeypatch.setattr("engine.training.imprint.usual_amplitude", lambda rng: 2.0)
    curves = []
    parts = imprinter._parts
    monkeypatch.setattr(imprinter, "_parts", lambda *args: curves.append(parts(*args)) or curves[-1])
    _, motion = imprinter.movement(np.random.default_rng(seed), 10.0, FRAMES)

    crops = crops_of(path)
    fields = torch.einsum("kt,khwc->tchw", curves[0][0], torch.as_tensor(np.stack(used)))
    plain, true = stemmed(crops), stemmed(inject(crops, fields))
    mine = imprinter.add(plain, motion)
    wanted, got = ((unsquashed(a[:, :MOTION]) - unsquashed(plain[:, :MOTION])).flatten().numpy() for a in (true, mine))
    assert np.corrcoef(wanted, got)[0, 1] > 0.75
    assert 0.5 < (wanted @ got) / (got @ got) < 1.5


def test_a_turn_of_the_head_is_as_large_as_in_a_clip(path, imprinter):
    """Its map is per degree and every person's own: neither scaled by the face's width nor bent like an action."""
    script = still_script(np.arange(FRAMES) / SPEC.fps, STILL)
    script.add("yaw", np.linspace(0, 3, FRAMES))
    actor = kept_actor(path)
    curves, cells = imprinter._parts(script, actor, np.random.default_rng(0))
    np.testing.assert_allclose(curves[0], np.linspace(0, 3, FRAMES), rtol=1e-6)
    torch.testing.assert_close(cells[0], on_cells(actor.maps[actor.index["yaw"][0]].astype(np.float32), imprinter.stem))


def test_nothing_added_is_nothing_changed(path, imprinter):
    plain = stemmed(crops_of(path))
    again = imprinter.add(plain, torch.zeros(FRAMES, len(SPEC.lags), 2, 16, 16))
    torch.testing.assert_close(again, plain, atol=0.03, rtol=0.02)  # the affine fit is robust, so not quite idempotent


def test_backwards_is_what_the_stem_says_of_the_reversed_crops(path):
    crops = crops_of(path)
    crops[HISTORY:] = np.roll(crops[HISTORY:], 1, axis=2)  # something moves, once
    torch.testing.assert_close(reversed_rows(stemmed(crops), SPEC), stemmed(crops[::-1])[: FRAMES - HISTORY])


def test_truth_is_turned_with_the_clip():
    """What lasts from frame 10 to 30 of 128 lasts from 85 to 105 of the 116 that are left, apex mirrored too."""
    labels = [Label("blink", 10 / 30, 15 / 30, 30 / 30)]
    truth = truth_rows(labels, SPEC)
    truth[0, 1:4] = [10, 15, 30]
    turned = reversed_truth(truth, 128 - 1 - HISTORY)
    assert turned[0, 1:4].tolist() == [85, 100, 105]
    assert (turned[1:] == truth[1:]).all()


@given(seed=st.integers(0, 10_000))
def test_imprinted_ones_keep_apart_and_are_in_the_truth(imprinter, seed):
    """Each has its row, none comes near another, what was there stays; decoys have rows too."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((24, 9), np.float32)
    truth[:, 0], truth[:, 1:4] = ABSENT, -1e3
    truth[0], truth[1] = [MICRO, 20, 25, 32, 1, 1, 0, 0, 0], [BLINK, 5, 8, 14, 1, 0, 0, 0, 0]
    rows = torch.zeros(64, 5 * len(SPEC.lags) * 256 + 6 * len(SPEC.lags))
    rows[:, MOTION : 2 * MOTION] = 0.9  # structure everywhere
    changed, out = imprinter.imprint(rows, truth, rng)
    assert (out[:2] == truth[:2]).all()
    spans = sorted(r[1:4].tolist() for r in out if r[0] == MICRO)
    assert all(a[2] + APART < b[0] for a, b in itertools.pairwise(spans))
    assert all(onset <= apex <= offset for onset, apex, offset in spans)
    added = out[2:][out[2:, 0] != ABSENT]
    assert set(added[:, 0]) <= {MICRO, MACRO, HEAD}
    assert bool(len(added)) == (not torch.equal(changed, rows))


def test_the_same_draw_gives_the_same_clip(path, imprinter):
    piece = stemmed(np.concatenate([crops_of(path)] * 2)).half().numpy()
    truth = truth_rows([Label("micro", 1.0, 1.1, 1.4, 2.0)], SPEC)
    (a, ta), (b, tb) = (imprinter.vary([(piece, truth)] * 2, np.random.default_rng(4)) for _ in range(2))
    assert a.shape == (len(piece) - HISTORY, piece.shape[1])
    assert np.array_equal(a, b)
    assert np.array_equal(ta, tb)
