"""The network: what its motion stem measures, what its modules promise each other."""

import numpy as np
import pytest
import torch

from engine.mesnet import CPN, CRN, STCN1D, STCN2D, MESNet, MotionStem, asinh, solve3
from engine.spec import CLASSES, HEAD_FIELDS, ModelSpec
from engine.training.learn.trainer import anchors_of
from engine.training.pools.pool import through_stem

SPEC = ModelSpec()
LAGS, GRID, SIDE = len(SPEC.lags), 16, SPEC.crop_px
INNER = slice(1, -1)  # cells whose window does not reach over the rim


def texture(x, y):
    """Grey levels with structure anywhere, of a face's contrast: waves of 8 to 30 px in many directions."""
    rng = np.random.default_rng(3)
    grey = np.full(np.broadcast(x, y).shape, 128.0)
    for _ in range(12):
        k, angle = 2 * np.pi / rng.uniform(8, 30), rng.uniform(0, np.pi)
        grey += 16 * np.sin(k * (np.cos(angle) * x + np.sin(angle) * y) + rng.uniform(0, 6.3))
    return grey


def crop(u=0.0, v=0.0):
    """The texture moved by (u, v) px, fields over the crop: a point goes from p to p + (u, v)."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    return texture(x - u, y - v)


def cell(k):
    """Where the window of cell k is centred, px."""
    return 8 * k + 3


def stem_of(now, past):
    """u, v in px [G, G] and the affine part [6] of one lag, the same pair of crops at every lag."""
    crops = torch.as_tensor(np.stack([now] + [past] * LAGS), dtype=torch.float32)[None]
    local, affine = MotionStem(SPEC)(crops)
    local, affine = inverse(local[0]), inverse(affine[0])
    assert torch.equal(affine[:6], affine[6:12])
    return local[0].numpy(), local[LAGS].numpy(), affine[:6].numpy()


def inverse(a):
    """Back from asinh(10 x)."""
    return torch.sign(a) * torch.expm1(a.abs()) / 10


@pytest.mark.parametrize(("u", "v"), [(0.6, 0.0), (0.0, -0.4), (-0.3, 0.3)])
def test_a_local_shift_below_a_pixel_is_measured_where_it_is(u, v):
    """Right in sign and place; its size is shrunk by the ridge and by what of the window does not move."""
    y, x = np.mgrid[:SIDE, :SIDE]
    bump = np.exp(-((x - cell(4)) ** 2 + (y - cell(11)) ** 2) / (2 * 14**2))
    got_u, got_v, _ = stem_of(crop(u * bump, v * bump), crop())
    assert got_u[11, 4] == pytest.approx(0.78 * u, abs=0.05)
    assert got_v[11, 4] == pytest.approx(0.78 * v, abs=0.05)
    far = np.hypot(x - cell(4), y - cell(11))[3::8, 3::8] > 50
    assert np.hypot(got_u, got_v)[far].max() < 0.06


def test_motion_of_the_whole_face_goes_to_the_affine_part():
    """A shift, a turn and a change of size, as large as an aligner's error, hardly leave anything in the local part."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ex, ey = (x - cell(7.5)) / 60, (y - cell(7.5)) / 60  # -1..1 over the grid's cells
    u, v = 0.2 + 0.08 * ex - 0.05 * ey, -0.15 + 0.05 * ex + 0.08 * ey
    got_u, got_v, affine = stem_of(crop(u, v), crop())
    np.testing.assert_allclose(affine, [0.2, -0.15, 0.08, 0.05, -0.05, 0.08], atol=0.045)
    assert np.hypot(got_u, got_v)[INNER, INNER].max() < 0.08


def test_a_local_motion_stays_out_of_the_affine_part():
    """The fit is robust: what a fifth of the face does is not what the face does."""
    y, x = np.mgrid[:SIDE, :SIDE]
    bump = np.exp(-((x - cell(4)) ** 2 + (y - cell(11)) ** 2) / (2 * 14**2))
    _, _, affine = stem_of(crop(0.8 * bump), crop())
    assert np.abs(affine).max() < 0.05


@pytest.mark.parametrize(("gain", "offset"), [(1.1, 0), (1, 25), (0.9, -10), (0.6, 0), (1.6, 5)])
def test_a_change_of_light_is_no_motion(gain, offset):
    """Nor is one step of exposure: what is left is a hundredth of the smallest movement asked for (0.2 px)."""
    got_u, got_v, affine = stem_of(gain * crop() + offset, crop())
    assert np.hypot(got_u, got_v).max() < 0.002
    assert np.abs(affine).max() < 0.005


def test_a_shadow_on_a_part_of_the_face_is_hardly_motion():
    """Light that falls off softly over the face: means are taken out in every window."""
    y, x = np.mgrid[:SIDE, :SIDE]
    shadow = -8 * np.exp(-((x - 40) ** 2 + (y - 60) ** 2) / (2 * 40**2))
    got_u, got_v, _ = stem_of(crop() + shadow, crop())
    assert np.hypot(got_u, got_v)[INNER, INNER].max() < 0.15


def test_a_frame_sees_itself_and_its_lags_alone(moving_crops):
    """Row t depends on the crops t, t-3, t-6, t-12: a live program may keep it for good."""
    crops = moving_crops(13, SIDE, 0)
    stem = MotionStem(SPEC)
    (row,) = through_stem(stem, crops, SPEC)
    for back in range(13):
        other = crops.copy()
        other[12 - back] = crops[12 - back][::-1]
        changed = not np.array_equal(through_stem(stem, other, SPEC)[0], row)
        assert changed == (back in (0, *SPEC.lags)), back


def test_rows_do_not_depend_on_the_batch(moving_crops):
    crops = moving_crops(20, SIDE, 1)
    stem = MotionStem(SPEC)
    whole, ones = (through_stem(stem, crops, SPEC, batch).astype(np.float32) for batch in (32, 1))
    assert whole.shape == (8, 5 * LAGS * GRID * GRID + 6 * LAGS)
    np.testing.assert_allclose(whole, ones, atol=2e-2)


def test_small_systems_are_solved():
    a = torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(0))
    a = a @ a.transpose(1, 2) + 0.3 * torch.eye(3)
    b = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(solve3(a, b), torch.linalg.solve(a, b), rtol=1e-3, atol=1e-3)


def test_large_numbers_are_squeezed_and_keep_their_sign():
    x = torch.tensor([-100.0, -0.001, 0, 0.001, 100])
    torch.testing.assert_close(asinh(x)[[1, 2, 3]], x[[1, 2, 3]], rtol=1e-3, atol=0)
    assert torch.equal(asinh(-x), -asinh(x))
    assert asinh(x)[4] < 5


@pytest.fixture(scope="module")
def net():
    """Untrained, with statistics and offsets that are not the trivial ones."""
    torch.manual_seed(0)
    net = MESNet(SPEC).eval()
    for parameter in net.parameters():
        if parameter.ndim == 1:
            parameter.data.normal_(0.2, 0.5)
    return net


@pytest.fixture(scope="module")
def feats():
    return torch.randn(2, SPEC.clip_frames, SPEC.channels, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_modules_take_and_give_what_they_say(feats):
    n, p, valid = 2, SPEC.proposals, torch.ones(2, SPEC.clip_frames)
    assert STCN2D(SPEC)(torch.zeros(n, 5 * LAGS, GRID, GRID), torch.zeros(n, 6 * LAGS)).shape == (n, SPEC.channels)
    x = STCN1D(SPEC)(feats, valid)
    assert x.shape == (n, SPEC.channels, SPEC.clip_frames)
    objectness, clips = CPN(SPEC, SPEC.channels)(x)
    assert (objectness.shape, clips.shape) == ((n, p), (n, p, 2))
    classes, times, regions = CRN(SPEC, SPEC.channels)(x, clips)
    assert (classes.shape, times.shape, regions.shape) == ((n, p, len(CLASSES)), (n, p, 3), (n, p, 4))


@torch.no_grad()
def test_frames_that_do_not_exist_say_nothing(net, feats):
    valid = torch.ones(2, SPEC.clip_frames)
    valid[:, :20] = 0
    other = feats.clone()
    other[:, :20] = 100
    assert torch.equal(net.heads(other, valid), net.heads(feats, valid))
    assert not torch.allclose(net.heads(feats, torch.ones_like(valid)), net.heads(feats, valid))


@torch.no_grad()
def test_unmoved_candidates_are_the_anchors_of_the_loss():
    cpn = CPN(SPEC, SPEC.channels)
    for parameter in cpn.parameters():
        parameter.zero_()
    _, clips = cpn(torch.randn(1, SPEC.channels, SPEC.clip_frames))
    torch.testing.assert_close(clips[0], anchors_of(SPEC))
    assert len(anchors_of(SPEC)) == SPEC.proposals


@torch.no_grad()
def test_a_candidate_is_scored_by_the_features_at_its_own_place():
    """Objectness of anchor centre c hangs on features about frame c; all four lengths sit side by side."""
    cpn, scales = CPN(SPEC, SPEC.channels), len(SPEC.anchors)
    x = torch.zeros(1, SPEC.channels, SPEC.clip_frames)
    quiet = cpn(x)[0]
    x[:, :, 40] = 1
    touched = (cpn(x)[0] != quiet)[0].nonzero().flatten()
    centres = anchors_of(SPEC).mean(dim=1)[touched]
    assert len(touched) == scales
    assert torch.all(centres == 40)


@torch.no_grad()
def test_probabilities_sum_to_one_and_times_are_in_order(net, feats):
    heads = net.heads(3 * feats, torch.ones(2, SPEC.clip_frames))
    assert heads.shape == (2, SPEC.proposals, HEAD_FIELDS)
    assert (heads[..., 3:] >= 0).all()
    torch.testing.assert_close(heads[..., 3:9].sum(-1), torch.ones(2, SPEC.proposals))
    torch.testing.assert_close(heads[..., 9:].sum(-1), torch.ones(2, SPEC.proposals))
    assert (heads[..., 0] <= heads[..., 1]).all()
    assert (heads[..., 1] <= heads[..., 2]).all()


@torch.no_grad()
def test_both_modules_must_believe_in_a_micro_expression(net, feats):
    """What the proposal network doubts goes to `none`, not to another nuisance."""
    doubting = MESNet(SPEC).eval()
    doubting.load_state_dict(net.state_dict())
    doubting.cpn.conv.bias[: len(SPEC.anchors)] -= 50
    valid = torch.ones(2, SPEC.clip_frames)
    before, after = net.heads(feats, valid), doubting.heads(feats, valid)
    assert after[..., 3].max() < 1e-6
    torch.testing.assert_close(after[..., 4:8], before[..., 4:8])
    torch.testing.assert_close(after[..., 8], before[..., 8] + before[..., 3])
