"""The camera check: what is measured of a look, held against looks whose every property is known."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import PORTRAIT, face_video

from calibration import camera, visible
from calibration.__main__ import main
from calibration.camera import Flicker, Measures, alias_hz
from calibration.look import Look, blockiness
from calibration.verdicts import verdicts
from stream.faces.condition import MIN_FPS, MIN_LIGHT
from stream.sources.info import SourceInfo
from stream.types import Quality

INFO = SourceInfo("camera:0", True, 640, 480, 30.0, "test", 0.01)
GOOD = Measures(
    seconds=15, fps=30, nominal_fps=30, interval_ms=33.3, jitter_ms=1, missing=0, slow_share=0, dim_slows=0, light=120,
    blur=0.4, flicker=Flicker(5, 0.001, None), face_px=200, noise=1.5, blockiness=0.05, landmark_jitter_px=0.3,
)  # fmt: skip


def looked(times_s: np.ndarray, bright: np.ndarray, rng: np.random.Generator) -> Look:
    """A look whose frames have these times and this brightness; a noisy face in every one."""
    seen = Look(INFO)
    for time_s, light in zip(times_s, bright, strict=True):
        seen.time_s.append(float(time_s))
        seen.bands.append(np.full(64, light, np.float32))
        seen.face_s.append(float(time_s))
        seen.crops.append(np.clip(rng.normal(light, 3.0, (128, 128)), 0, 255).round().astype(np.uint8))
        seen.quality.append(Quality(150, 0, 0, 0.4, float(light)))
        seen.rigid.append(rng.normal(300, 0.2, (20, 2)).astype(np.float32))
        seen.blocks.append(0.1)
    return seen


def test_rate_jitter_and_missing_frames():
    rng = np.random.default_rng(0)
    times_s = np.arange(300) / 25 + rng.normal(0, 0.002, 300)
    kept = np.delete(times_s, [50, 100, 150, 200, 250])
    found = camera.measure(looked(kept, np.full(len(kept), 120.0), rng))
    assert found.fps == pytest.approx(25 * 295 / 300, rel=0.01)
    assert found.interval_ms == pytest.approx(40, abs=1)
    assert found.jitter_ms == pytest.approx(2 * 2**0.5, rel=0.35), "an interval holds two stamps' errors"
    assert found.missing == pytest.approx(5 / 294)
    assert found.slow_share == pytest.approx(1 - 25 * 295 / 300 / 30, abs=0.02)
    assert found.noise == pytest.approx(3.0, rel=0.05)
    assert found.landmark_jitter_px == pytest.approx(0.2 * 256 / 150, rel=0.15)


@pytest.mark.parametrize(
    ("fps", "mains", "lamp_hz"), [(29.97, "50 Hz", 100), (29.0, "60 Hz", 120), (24.0, "50 Hz", 100)]
)
def test_a_lamp_is_seen_at_its_alias_and_named(fps, mains, lamp_hz):
    """A lamp of half a percent, sampled by a camera that is far too slow for it."""
    times_s = np.arange(0, 12, 1 / fps)
    bright = 120 * (1 + 0.005 * np.sin(2 * np.pi * lamp_hz * times_s + 1)) + 3 * np.sin(2 * np.pi * 0.1 * times_s)
    found = camera.flicker(times_s, bright, fps)
    assert found.mains == mains
    assert found.hz == pytest.approx(alias_hz(lamp_hz, fps), abs=0.2)
    assert found.share == pytest.approx(0.005, rel=0.2)


def test_steady_light_does_not_flicker():
    rng = np.random.default_rng(1)
    times_s = np.arange(0, 12, 1 / 30)
    assert camera.flicker(times_s, 120 + rng.normal(0, 0.1, len(times_s)), 30).share < 0.001


def test_blocks_of_a_codec_stand_out_more_the_stronger_it_is():
    grey = cv2.resize(cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE), (320, 320))
    said = [blockiness(grey)]
    for quality in (60, 25, 8):
        coded = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
        said.append(blockiness(np.asarray(coded, np.uint8)))
    assert said == sorted(said)
    assert said[0] < 0.12
    assert said[-1] > 0.5


def test_a_good_set_up_has_nothing_to_mend():
    assert {v.grade for v in verdicts(GOOD, 0.8)} == {"good"}
    assert not any(v.remedy for v in verdicts(GOOD, 0.8))


@pytest.mark.parametrize(
    ("changed", "item", "grade", "remedy"),
    [
        ({"fps": MIN_FPS - 0.1}, "frame rate", "bad", "light"),
        ({"fps": 20.0}, "frame rate", "fair", "exposure"),
        ({"jitter_ms": 30.0}, "time stamps", "bad", "USB"),
        ({"slow_share": 0.5, "light": 50.0}, "exposure", "bad", "light"),
        ({"light": MIN_LIGHT - 1}, "light", "bad", "more light"),
        ({"light": 245.0}, "light", "bad", "less light"),
        ({"flicker": Flicker(10, 0.03, "50 Hz")}, "flicker", "bad", "anti-flicker"),
        ({"face_px": 40.0}, "face size", "bad", "closer"),
        ({"blur": 0.95}, "sharpness", "bad", "focus"),
        ({"noise": 9.0}, "noise", "bad", "gain"),
        ({"blockiness": 0.8}, "compression", "bad", "bit rate"),
        ({"landmark_jitter_px": 3.0}, "landmarks", "bad", "light"),
    ],
)
def test_each_trouble_is_named_with_its_remedy(changed, item, grade, remedy):
    """And nothing else is blamed: the other items stay good (dim light aside, which a slow camera may come from)."""
    judged = {v.item: v for v in verdicts(replace(GOOD, **changed), 0.8)}
    assert judged[item].grade == grade
    assert remedy in judged[item].remedy
    others = {v.grade for v in judged.values() if v.item not in (item, "light")}
    assert others == {"good"}


# --- the smallest ME -------------------------------------------------------------------------------------------------


PLACES = ((42, 36), (86, 36), (47, 96), (80, 96))
"""Brows and corners of the mouth in a crop, px."""


def face_crops(noise: float, moved_px: float, at: tuple[int, int], seed: int, frames: int = 45) -> np.ndarray:
    """A still face with sensor noise; from 0.7 to 1.1 s the skin at `at` moves by `moved_px` (256-px face) and back."""
    rng = np.random.default_rng(seed)
    still = cv2.resize(cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE), (128, 128), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    near = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 8.0**2)).astype(np.float32)
    out = []
    for k in range(frames):
        share = (k / 30 - 0.7) / 0.4
        size = moved_px * camera.FACE_CROP_PX / 256 * (1 - np.cos(2 * np.pi * share)) / 2 if 0 < share < 1 else 0.0
        image = cv2.remap(still, x, y + np.float32(size) * near, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        out.append(image + rng.normal(0, noise, image.shape))
    return np.clip(np.stack(out), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("noise", [1.5, 4.0])
def test_a_movement_of_the_smallest_size_is_seen_and_one_of_a_quarter_is_not(noise):
    """Injected at four places: its peak in the stem's windows against what the same windows do without it."""
    quiet = visible.displacements_px(face_crops(noise, 0.0, PLACES[0], seed=9))
    smallest = visible.smallest_px(visible.motion_noise_px(face_crops(noise, 0.0, PLACES[0], seed=9)))
    ceiling = 1.05 * np.nanmax(quiet)
    seen = {1.0: 0, 0.25: 0}
    for k, at in enumerate(PLACES):
        for share in seen:
            moved = visible.displacements_px(face_crops(noise, share * smallest, at, seed=k))
            column, row = at[0] // 8, at[1] // 8
            near = moved[:, row - 1 : row + 2, column - 1 : column + 2]
            seen[share] += bool(np.nanmax(near) > ceiling)
    assert seen[1.0] >= 3, f"{smallest:.2f} px should be seen"
    assert seen[0.25] <= 1, f"{0.25 * smallest:.2f} px should not"


def test_more_noise_hides_more():
    sizes = [
        visible.smallest_px(visible.motion_noise_px(face_crops(n, 0.0, PLACES[0], seed=2))) for n in (1.0, 3.0, 8.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]


def test_nothing_is_seen_where_there_is_no_texture():
    assert visible.smallest_px(np.full((16, 16), np.nan)) == float("inf")


def test_the_command_looks_at_a_real_video(tmp_path: Path, capsys):
    """File in, verdicts, JSON and picture out, by the live path's own faces."""
    video = face_video(tmp_path / "face.mp4", length_s=2.6)
    out, plot = tmp_path / "camera.json", tmp_path / "camera.png"
    code = main(["camera", "--source", str(video), "--json", "--out", str(out), "--plot", str(plot)])
    caught = capsys.readouterr()
    if code and "face model" in caught.err:
        pytest.skip(caught.err)
    assert code == 0, caught.err
    said = json.loads(caught.out)
    assert said == json.loads(out.read_text())
    assert said["measured"]["fps"] == pytest.approx(30, abs=0.1)
    assert 0 < said["smallest_me_px"] < 10
    assert {v["item"] for v in said["verdicts"]} >= {"frame rate", "flicker", "landmarks", "smallest ME"}
    assert plot.stat().st_size > 10_000


def test_a_camera_too_slow_to_measure_motion_by_is_one_line(tmp_path, capsys):
    """At 4 frames a second every pair of frames is a hole apart; that ended in a traceback."""
    assert main(["camera", "--source", str(face_video(tmp_path / "slow.mp4", fps=4.0, length_s=8.0))]) == 1
    error = capsys.readouterr().err
    assert "seen without a hole for 0.0 s; 0.9 s are needed" in error
    assert error.count("\n") == 1
