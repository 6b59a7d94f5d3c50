"""The renderer: what a script says moves in the crops, where and as far as it says, and nothing else does."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.generator.actors import build_actor
from engine.training.generator.camera import Camera
from engine.training.generator.render import fields_of, on_grid, render, through_codec
from engine.training.generator.script import Push, Script
from engine.training.generator.warps import EXTENT_PX, MAP_SIZE, MARGIN_PX, to_samples
from engine.training.pools.stemmed import mirrored
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

GOOD = Camera(fps=30, dropped=0, resolution=1.5, noise=0.5, smear=0, codec="none", quality=90, flicker=0, flicker_hz=1)
BROW_L, BROW_R, CHIN = 336, 107, 152
SPEC = ModelSpec()


@pytest.fixture(scope="module")
def actor():
    image = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    return build_actor(image, Landmarker(locate()).find(image)[0], "test:face")


@pytest.fixture(scope="module")
def speckled(actor):
    """The same person with structure everywhere, so that motion can be measured everywhere."""
    noise = np.random.default_rng(0).normal(0, 1, actor.texture.shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return dataclasses.replace(actor, texture=(128 + 40 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))


def still(frames=4, camera=GOOD, **actions):
    """Nothing moves but the named actions, from frame 2 on, as far as they say."""
    light = np.tile(np.array([1, 0, 0, 0], np.float32), (frames, 1))
    script = Script(np.arange(frames) / camera.fps, camera, np.zeros((frames, 4), np.float32), light, jitter=(0, 0))
    for name, size in actions.items():
        script.add(name, np.where(np.arange(frames) >= 2, size, 0).astype(np.float32))
    return script


def crops_of(script, actor, seed=0):
    return render(script, actor, np.random.default_rng(seed))


def flow(before, after):
    """Dense displacement [S, S, 2] in crop px, by another method than the stem's."""
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return finder.calc(before, after, None)


def field_of(script, actor, seed=0):
    """What the last frame's crop is to be sampled with, [S, S, 2] crop px: source minus target."""
    field = fields_of(script, actor, np.random.default_rng(seed), "cpu")[0][-1].numpy().transpose(1, 2, 0)
    return cv2.resize(field, (EXTENT_PX, EXTENT_PX))[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def share_of(field, before, after):
    """Which multiple of `field` takes one crop to the other best."""
    y, x = np.mgrid[: len(before), : len(before)].astype(np.float32)
    moving = np.hypot(*field.transpose(2, 0, 1)) > 0.2 * np.hypot(*field.transpose(2, 0, 1)).max()

    rim = np.ones(moving.shape, bool)
    rim[4:-4, 4:-4] = False  # what comes from outside is not known

    def error(share):
        warped = cv2.remap(
            before, x + np.float32(share) * field[..., 0], y + np.float32(share) * field[..., 1], cv2.INTER_CUBIC
        )
        return np.square(warped.astype(float) - after)[moving & ~rim].sum()

    return min(np.linspace(0, 2, 41), key=error)


def around(field, point, radius=6):
    x, y = np.round(point[:2]).astype(int)
    return field[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius].reshape(-1, 2)


def test_a_lowered_brow_moves_the_brow_as_far_as_it_says_and_not_the_chin(speckled):
    """AU4 of 3 px on a 256-px face: 1.18 crop px here; downward, at the brows."""
    script = still(AU4_L=3.0, AU4_R=3.0)
    crops, field = crops_of(script, speckled), field_of(script, speckled)
    assert share_of(field, crops[1], crops[3]) == pytest.approx(1, abs=0.1)
    wanted, moved = speckled.crop_px(3.0), flow(crops[1], crops[3])
    for brow in (BROW_L, BROW_R):
        x, y = np.round(speckled.points[brow, :2]).astype(int)
        assert 0.6 * wanted < -field[y - 6 : y + 6, x - 6 : x + 6, 1].min() < 1.05 * wanted
        assert np.median(around(moved, speckled.points[brow])[:, 1]) > 0.2 * wanted
    assert np.abs(around(moved, speckled.points[CHIN])).max() < 0.1
    one_sided = flow(*crops_of(still(AU4_L=3.0), speckled)[[1, 3]])
    left, right = (np.abs(around(one_sided, speckled.points[brow])).mean() for brow in (BROW_L, BROW_R))
    assert left > 2 * right


def test_the_stem_sees_the_same_brow(actor):
    crops = crops_of(still(AU4_L=3.0, AU4_R=3.0), actor)
    pair = torch.as_tensor(np.stack([crops[3]] + [crops[1]] * 3))[None]
    local = MotionStem(SPEC)(pair)[0][0]
    v = torch.sign(local[3]) * torch.expm1(local[3].abs()) / 10
    x, y = (actor.points[[BROW_L, BROW_R], :2].mean(axis=0) / 8).astype(int)
    assert v[y - 1 : y + 2, x - 1 : x + 2].max() > 0.35 * actor.crop_px(3.0)
    x, y = (actor.points[CHIN, :2] / 8).astype(int)
    assert v[min(y, 15) - 1 : min(y, 15) + 1, x - 1 : x + 2].abs().max() < 0.1


def test_the_peak_is_the_amplitude_on_every_person_and_scales(actor):
    """Each action unit's largest displacement is its curve, in px on a 256-px face; a push's too."""
    for name in ("AU4_L", "AU12_R", "AU17_B", "AU1_L", "AU7_R"):
        peaks = []
        for size in (1.0, 3.0):
            field = fields_of(still(**{name: size}), actor, np.random.default_rng(1), "cpu")[0].numpy()
            assert np.abs(field[:2]).max() == 0
            peaks.append(np.hypot(*field[3]).max())
        assert peaks[0] == pytest.approx(actor.crop_px(1.0), rel=0.03)
        assert peaks[1] == pytest.approx(3 * peaks[0], rel=1e-3)


def test_a_push_is_where_and_as_it_says(speckled):
    actor, script = speckled, still()
    script.pushes.append((Push(205, 0.1, np.pi / 2), np.array([0, 0, 0, 2], np.float32)))
    field = fields_of(script, actor, np.random.default_rng(0), "cpu")[0][3].numpy()
    size = np.hypot(*field)
    at = np.unravel_index(size.argmax(), size.shape)
    np.testing.assert_allclose(at[::-1], to_samples(actor.points[205, :2], MAP_SIZE), atol=1.01)
    assert size.max() == pytest.approx(actor.crop_px(2.0), rel=0.03)
    assert field[1].min() == pytest.approx(-size.max(), rel=1e-3)  # backward map: skin goes down
    crops = crops_of(script, actor)
    assert share_of(field_of(script, actor), crops[2], crops[3]) == pytest.approx(1, abs=0.1)


def test_nothing_moves_when_nothing_acts(actor):
    crops = crops_of(still(), actor).astype(float)
    assert np.abs(crops[3] - crops[0]).mean() < 1.0  # the sensor's noise
    assert np.hypot(*flow(*crops_of(still(), actor)[[0, 3]]).transpose(2, 0, 1)).max() < 0.2


def test_a_blink_shuts_the_eyes(actor):
    crops = crops_of(still(blink_L=1.0, blink_R=1.0), actor).astype(float)
    change = np.abs(crops[3] - crops[1])[..., None]
    eye = actor.points[[159, 145]].mean(axis=0)
    assert around(change.repeat(2, -1), eye, 4).mean() > 4 * around(change.repeat(2, -1), actor.points[CHIN], 6).mean()


def test_pose_is_undone_by_the_aligner_up_to_its_error(actor):
    """Head about in the camera's picture: the crops stay; with jitter they move by what it says."""
    script = still(3)
    script.pose[2] = [9, -6, 4, 0.05]
    crops = crops_of(script, actor)
    moved = flow(crops[1], crops[2])[16:-16, 16:-16]
    assert np.abs(np.median(moved, axis=(0, 1))).max() < 0.05
    assert np.quantile(np.hypot(*moved.transpose(2, 0, 1)), 0.9) < 0.25
    shaky = still(24)
    shaky.jitter = (0.5, 0.0)
    crops = crops_of(shaky, actor)
    at = [np.median(flow(crops[0], crop)[32:-32, 32:-32], axis=(0, 1)) for crop in crops]
    assert 0.3 < np.std(at) < 0.75


def test_light_and_noise_are_what_they_say(actor):
    script = still(4)
    script.light[2:] = [1.2, -20, 0, 0]
    crops = crops_of(script, actor).astype(float)
    middle = slice(32, 96)
    before, after = crops[0, middle, middle], crops[3, middle, middle]
    gain, offset = np.polyfit(before.ravel()[before.ravel() < 200], after.ravel()[before.ravel() < 200], 1)
    assert (gain, offset) == (pytest.approx(1.2, abs=0.04), pytest.approx(-20, abs=3.5))
    spread = []
    for noise in (0.5, 6.0):
        camera = Camera(30, 0, 1.0, noise, 0, "none", 90, 0, 1)
        crops = crops_of(still(4, camera), actor).astype(float)
        spread.append((crops[1] - crops[0])[middle, middle].std())
    assert 4 < spread[1] / spread[0] < 12


def test_an_occluder_comes_and_goes(actor):
    script = still(30)
    script.occluder = (0.3, 0.6)
    crops = crops_of(script, actor, seed=5).astype(float)
    change = np.abs(crops - crops[0]).mean(axis=(1, 2))
    assert change[:5].max() < 1
    assert change[10:18].max() > 5
    assert change[-5:].max() < 1


@pytest.mark.parametrize(("codec", "good", "bad"), [("mjpeg", 95, 45), ("h264", 18, 32)])
def test_codecs_cost_what_their_quality_says(actor, codec, good, bad):
    """Same number and size of frames, near the original, the nearer the better the quality."""
    y, x = np.mgrid[:176, :176]
    rng = np.random.default_rng(0)
    pictures = np.stack(
        [128 + 60 * np.sin(x / 6 + i / 3) * np.sin(y / 9) + rng.normal(0, 4, x.shape) for i in range(6)]
    )
    pictures = pictures.clip(0, 255).astype(np.uint8)
    errors = []
    for quality in (good, bad):
        coded = through_codec(pictures, Camera(30, 0, 1, 1, 0, codec, quality, 0, 1))
        assert coded.shape == pictures.shape
        assert coded.dtype == np.uint8
        errors.append(np.abs(coded.astype(float) - pictures).mean())
    assert 0 < errors[0] < errors[1] < 8


def test_a_camera_that_codes_delivers_the_same_face(actor):
    plain = crops_of(still(), actor).ravel()
    for codec, quality in (("mjpeg", 90), ("h264", 20)):
        coded = crops_of(still(camera=Camera(30, 0, 1.5, 0.5, 0, codec, quality, 0, 1)), actor).ravel()
        assert not np.array_equal(coded, plain)
        assert np.corrcoef(coded, plain)[0, 1] > 0.99


@pytest.mark.parametrize("fps", [15, 24, 25, 60])
def test_crops_come_onto_the_grid_by_their_stamps(fps):
    """A grey level that rises evenly in time is right at every grid moment, whatever the camera's rate."""
    time_s = np.arange(0, 2.001, 1 / fps)
    crops = np.repeat(np.repeat((40 + 80 * time_s)[:, None, None], 128, 1), 128, 2).round().astype(np.uint8)
    grid = on_grid(crops, time_s, 30, 60)
    assert grid.shape == (60, 128, 128)
    np.testing.assert_allclose(grid[:59, 5, 5], 40 + 80 * np.arange(59) / 30, atol=1.6)


def test_a_seed_is_a_clip(actor):
    script = still(6, Camera(30, 0, 1.2, 3, 0.3, "h264", 25, 0, 1), AU12_L=2.0)
    script.jitter = (0.1, 0.1)
    assert np.array_equal(crops_of(script, actor, 3), crops_of(script, actor, 3))
    assert not np.array_equal(crops_of(script, actor, 3), crops_of(script, actor, 4))


def interior(local):
    """Cells that see nothing of the rim."""
    return local[..., 2:-2, 2:-2]


@torch.no_grad()
def test_mirrored_rows_are_the_rows_of_mirrored_crops(actor):
    """Training mirrors the stem's output instead of the crops.

    The stem samples at even px, which a mirror makes odd: flipped and moved by 1 px, its windows fall on the same px
    and the rows must agree to rounding. The 1 px by itself is a small difference (an eighth of a cell).
    """
    crops = torch.as_tensor(crops_of(still(AU4_L=3.0, AU12_R=3.0), actor))[[3, 2, 1, 0]][None].float()
    y, x = torch.meshgrid(torch.arange(128.0) - 63, torch.arange(128.0) - 63, indexing="ij")
    crops = 120 + (crops - 120) * torch.sigmoid((46 - torch.maximum(x.abs(), y.abs())) / 3)  # nothing at the rim
    stem = MotionStem(SPEC)
    local, affine = stem(crops)
    assert local[:, :6].abs().max() > 1
    wanted = mirrored(local, affine, len(SPEC.lags))
    same_px = stem(crops.flip(3).roll(-1, dims=3))
    torch.testing.assert_close(interior(wanted[0]), interior(same_px[0]), atol=0.03, rtol=0.03)
    torch.testing.assert_close(wanted[1], same_px[1], atol=0.03, rtol=0.03)
    # and with real flipping the motion is the same but for the 1 px
    flipped = stem(crops.flip(3))
    difference = (interior(wanted[0]) - interior(flipped[0]))[:, :6].norm() / interior(flipped[0])[:, :6].norm()
    assert difference < 0.35
    assert (interior(local) - interior(flipped[0]))[:, :6].norm() > 2 * difference * interior(flipped[0])[:, :6].norm()
