"""Micro-expressions added behind the stem: what the stem would have said of crops that really moved, and its truth."""

import dataclasses
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
from engine.training.generator.actors import build_actor, kept_actor
from engine.training.generator.render import individual, push_map
from engine.training.generator.script import Label, still_script
from engine.training.generator.warps import EXTENT_PX, MAP_SIZE, MARGIN_PX, to_samples
from engine.training.learn.imprint import (
    APART,
    STILL,
    Imprinter,
    Movement,
    imprinted,
    moved_by,
    reversed_rows,
    reversed_truth,
    together,
)
from engine.training.pools.pool import through_stem, truth_rows
from engine.training.pools.stemmed import unsquashed
from engine.training.pools.truth import ABSENT, BLINK, HEAD, MACRO, MICRO, SPEECH
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SPEC = ModelSpec()
HISTORY, FRAMES, LAGS = max(SPEC.lags), 40, len(SPEC.lags)
MOTION = 2 * LAGS * 256  # columns of u and v


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


def as_the_stem_looks(field):
    """A backward map [M, M, 2] -> [2, G, G], as the stem goes: every second px of the crop, then its windows."""
    px = np.arange(0, SPEC.crop_px, 2, dtype=np.float32)
    x, y = np.meshgrid(*[to_samples(px[:, None], MAP_SIZE)[:, 0]] * 2)
    sampled = -cv2.remap(field.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    window = MotionStem(SPEC).window[:1]
    return functional.conv2d(torch.as_tensor(sampled.transpose(2, 0, 1))[:, None], window, stride=4, padding=2)[:, 0]


def added(rows, *moving):
    """One clip [T, features] with movements added."""
    courses, cells = together([moving], dataclasses.replace(SPEC, clip_frames=len(rows)))
    return imprinted(rows[None], moved_by(courses, cells), MotionStem(SPEC), SPEC)[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_small_movement_is_added_as_the_stem_would_have_measured_it(path, imprinter, seed, monkeypatch):
    """Held against crops that are really warped: the same pattern over cells, lags and frames, of the same size."""
    used = []

    def kept(make):
        def noted(*args):
            used.append(make(*args))
            return used[-1]

        return noted

    monkeypatch.setattr("engine.training.generator.render.individual", kept(individual))
    monkeypatch.setattr("engine.training.generator.render.push_map", kept(push_map))
    monkeypatch.setattr("engine.training.learn.imprint.usual_amplitude", lambda rng: 2.0)
    curves = []
    parts = imprinter._parts
    monkeypatch.setattr(imprinter, "_parts", lambda *args: curves.append(parts(*args)) or curves[-1])
    _, motion = imprinter.movement(np.random.default_rng(seed), 10.0, FRAMES)

    crops = crops_of(path)
    fields = torch.einsum("kt,khwc->tchw", torch.as_tensor(curves[0][0]), torch.as_tensor(np.stack(used)))
    plain, true = stemmed(crops), stemmed(inject(crops, fields))
    mine = added(plain, motion)
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
    np.testing.assert_allclose(cells[0], as_the_stem_looks(actor.maps[actor.index["yaw"][0]]), atol=1e-4)


def test_what_is_over_before_the_clip_begins_moves_nothing(path, imprinter):
    curves, cells = imprinter._parts(still_script(np.arange(FRAMES) / SPEC.fps, STILL), kept_actor(path), None)
    assert curves.shape == (0, FRAMES)
    plain = stemmed(crops_of(path))
    assert torch.equal(added(plain, Movement(np.zeros((0, FRAMES, LAGS), np.float32), cells)), plain)


def test_what_nothing_is_added_to_stays(path, imprinter):
    """To the bit, beside a clip that is moved; and a movement of no size is nearly none: the affine fit is robust, so
    not quite idempotent."""
    plain = stemmed(crops_of(path))
    _, motion = imprinter.movement(np.random.default_rng(0), 10.0, FRAMES)
    faint = Movement(motion.courses * 1e-6, motion.cells)
    courses, cells = together([[], [motion], [faint]], dataclasses.replace(SPEC, clip_frames=FRAMES))
    still, moved, hardly = imprinted(plain.expand(3, -1, -1), moved_by(courses, cells), MotionStem(SPEC), SPEC)
    assert torch.equal(still, plain)
    assert not torch.allclose(moved, plain, atol=0.1)
    torch.testing.assert_close(hardly, plain, atol=0.03, rtol=0.02)


def test_backwards_is_what_the_stem_says_of_the_reversed_crops(path):
    crops = crops_of(path)
    crops[HISTORY:] = np.roll(crops[HISTORY:], 1, axis=2)  # something moves, once
    both = torch.stack([stemmed(crops), stemmed(crops).flip(0)])
    wanted = stemmed(crops[::-1])[: FRAMES - HISTORY]
    torch.testing.assert_close(reversed_rows(both, SPEC)[0], wanted)


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
    moving, out = imprinter.draw(truth, rng)
    assert (out[:2] == truth[:2]).all()
    spans = sorted(r[1:4].tolist() for r in out if r[0] == MICRO)
    assert all(a[2] + APART < b[0] for a, b in itertools.pairwise(spans))
    assert all(onset <= apex <= offset for onset, apex, offset in spans)
    drawn = out[2:][out[2:, 0] != ABSENT]
    assert set(drawn[:, 0]) <= {MICRO, MACRO, HEAD, SPEECH}
    assert len(drawn) <= len(moving) <= 4
    shown = [r for r in drawn if r[0] == MICRO and 0 < r[2] < SPEC.clip_frames]
    assert bool(shown) <= any(np.abs(movement.courses).max() > 0 for movement in moving)
