"""What varies a pooled clip behind the stem: other proportions, other liveliness, another clip's motion on top."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.spec import ModelSpec
from engine.training.learn.augment import another_face, distorted, overlaid, shiver, true_of_both
from engine.training.pools.stemmed import join_stem, split_stem, unsquashed
from engine.training.pools.truth import ABSENT, BLINK, MICRO, UNKNOWN

SPEC = ModelSpec()
LAGS = len(SPEC.lags)


def clip(seed: int, frames: int = 6) -> torch.Tensor:
    """Stem rows with smooth motion, full confidence."""
    rng = np.random.default_rng(seed)
    local = torch.zeros(frames, 5 * LAGS, 16, 16)
    coarse = torch.as_tensor(rng.normal(0, 1, (frames, 2 * LAGS, 3, 3)), dtype=torch.float32)
    local[:, : 2 * LAGS] = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear", align_corners=True)
    local[:, 2 * LAGS : 4 * LAGS] = 0.9
    return join_stem(local, torch.as_tensor(rng.normal(0, 1, (frames, 6 * LAGS)), dtype=torch.float32))


def truth(*rows) -> np.ndarray:
    table = np.zeros((24, 9), np.float32)
    table[:, 0], table[:, 1:4] = ABSENT, -1e3
    for row, given_row in zip(table, rows, strict=False):
        row[:5] = given_row
    return table


def motion_of(rows):
    local, affine = split_stem(rows, SPEC)
    return unsquashed(local[:, : 2 * LAGS]), unsquashed(affine)


@given(seed=st.integers(0, 500))
def test_another_face_moves_nearly_alike(seed):
    """Proportions change by some per cent and liveliness by at most a third: the motion stays recognisable."""
    rows = clip(seed)
    theta, liveliness = another_face(np.random.default_rng(seed), SPEC)
    (still, other) = distorted(
        torch.stack([rows, rows]),
        torch.as_tensor(np.stack([[[1, 0, 0], [0, 1, 0]], theta]), dtype=torch.float32),
        torch.tensor([1.0, liveliness]),
        SPEC,
    )
    torch.testing.assert_close(still, rows, rtol=1e-3, atol=1e-3)  # each clip by its own draw
    assert other.shape == rows.shape
    (before, b), (after, a) = motion_of(rows), motion_of(other)
    assert np.corrcoef(before.flatten(), after.flatten())[0, 1] > 0.8
    gain = a / b
    torch.testing.assert_close(gain, gain[0, 0].expand_as(gain), rtol=1e-3, atol=1e-3)  # one gain for all
    assert 0.77 < gain[0, 0] < 1.29
    torch.testing.assert_close(split_stem(other, SPEC)[0][:, 2 * LAGS : 4 * LAGS], torch.full((6, 6, 16, 16), 0.9))


def test_motions_add_up_and_the_texture_stays():
    a, b = clip(1), clip(2)
    both, none = overlaid(torch.stack([a, a]), torch.stack([b, b]), torch.tensor([0.5, 0.0]), SPEC)
    torch.testing.assert_close(none, a, rtol=1e-4, atol=1e-4)
    for mine, theirs, sum_ in zip(motion_of(a), motion_of(b), motion_of(both), strict=True):
        torch.testing.assert_close(sum_, mine + 0.5 * theirs, rtol=1e-4, atol=1e-4)
    assert torch.equal(split_stem(both, SPEC)[0][:, 2 * LAGS :], split_stem(a, SPEC)[0][:, 2 * LAGS :])


def test_what_is_true_of_either_is_true_of_both():
    """A laid-over micro-expression counts by its share; of two unknowns one says enough."""
    mine = truth([MICRO, 20, 25, 32, 1], [UNKNOWN, 0, 0, 0, 1])
    theirs = truth([MICRO, 40, 45, 52, 1], [BLINK, 3, 5, 9, 1], [UNKNOWN, 0, 0, 0, 1])
    rows = true_of_both(mine, theirs, 0.5)
    said = sorted(tuple(r[:5].tolist()) for r in rows if r[0] != ABSENT)
    assert said == [(MICRO, 20, 25, 32, 1), (MICRO, 40, 45, 52, 0.5), (BLINK, 3, 5, 9, 1), (UNKNOWN, 0, 0, 0, 1)]


def test_two_micro_expressions_are_not_laid_over_each_other():
    assert true_of_both(truth([MICRO, 20, 25, 32, 1]), truth([MICRO, 30, 35, 42, 1]), 0.5) is None


def test_a_noisier_camera_errs_by_as_much_as_is_asked_and_not_twice_alike():
    """A place that errs by s in every frame moves by s times the root of two over any lag; neighbours err alike."""
    sizes = torch.tensor([0.0, 0.01, 0.03])
    noise = shiver(sizes, 5, SPEC)
    assert noise.shape == (3, SPEC.clip_frames, LAGS, 2, 16, 16)
    inner = noise[..., 1:-1, 1:-1]
    rms = inner.square().mean(dim=(1, 3, 4, 5)).sqrt()
    torch.testing.assert_close(rms, (sizes * 2**0.5)[:, None].expand(3, LAGS), rtol=0.05, atol=0)
    beside = (inner[..., 1:] * inner[..., :-1]).mean() / inner.square().mean()
    assert 0.5 < beside < 0.8
    # over a lag of 6 = over 3, and over 3 before that
    torch.testing.assert_close(noise[:, 3:, 1], noise[:, 3:, 0] + noise[:, :-3, 0], rtol=0, atol=1e-6)
    assert torch.equal(noise, shiver(sizes, 5, SPEC))
    assert not torch.equal(noise, shiver(sizes, 6, SPEC))


def test_of_an_encoders_error_so_much_is_there_a_frame_later_as_is_asked():
    """Places that err by s, a share m of it from before, move by s times the root of 2 (1 - m^lag)."""
    memories = torch.tensor([0.0, 0.5, 0.9])
    noise = shiver(torch.full((3,), 0.1), 5, SPEC, memories)[..., 1:-1, 1:-1]
    rms = noise.square().mean(dim=(1, 3, 4, 5)).sqrt()
    expected = [[0.1 * (2 * (1 - float(m) ** lag)) ** 0.5 for lag in SPEC.lags] for m in memories]
    torch.testing.assert_close(rms, torch.tensor(expected), rtol=0.08, atol=0)
