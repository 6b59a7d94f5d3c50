"""The clip that `mestream --demo` plays: an averaged face with four micro-expressions and nuisances."""

from pathlib import Path

import cv2
import numpy as np

from engine.datasets.truth import TruthVideo, save_truth
from engine.training.film.encode import encoder_of, write_video
from engine.training.film.film import Film, Setting
from engine.training.film.truth import truth_of
from engine.training.generator.actors import build_actor, split_of
from engine.training.generator.camera import Camera
from engine.training.generator.curves import Curve, min_jerk, there_and_back
from engine.training.generator.script import Label, Script
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

FACE = "m_multi"
DURATION_S = 15.0
FPS = 30
MICROS = (
    # onset, apex, offset (s), px on a 256-px face, action units with their share, region
    (3.20, 3.37, 3.63, 3.5, {"AU1_L": 0.8, "AU1_R": 0.8, "AU2_L": 0.6, "AU2_R": 0.6}, 0),
    (5.70, 5.88, 6.10, 3.0, {"AU4_L": 1.0, "AU4_R": 1.0}, 0),
    (10.30, 10.47, 10.73, 3.5, {"AU12_L": 1.0, "AU12_R": 0.15}, 3),
    (12.70, 12.87, 13.10, 3.0, {"AU14_R": 1.0, "AU15_R": 0.5}, 3),
)
BLINKS = ((0.90, 1.0), (4.55, 0.9), (9.10, 1.0), (11.60, 0.6), (14.05, 1.0))
SMILE_S = (7.0, 7.45, 7.9, 8.6)
LOOKS = ((1.9, -4.0, 1.0), (2.4, 0.0, 0.0), (11.75, 5.0, 0.0), (12.05, 0.0, 0.0))
"""Gaze steps: the time in s, then px to the image's right and down. The eyes stay there until the next step."""


def demo_script() -> Script:
    """The script of the clip. It ends as it begins, so that it can loop."""
    t = np.arange(round(DURATION_S * FPS)) / FPS
    camera = Camera(FPS, 0, 1, 0.5, 0, "h264", 19, 0, 0)
    light = np.tile(np.array([1, 0, 0, 0], np.float32), (len(t), 1))
    light[:, 0] += 0.006 * np.sin(2 * np.pi * t / DURATION_S)
    script = Script(t, camera, pose=_sway(t), light=light)
    script.add("yaw", _wave(t, ((1, 1.5, 0.3), (3, 0.8, 1.0))))
    script.add("pitch", _wave(t, ((2, 1.0, 0.0), (3, 0.5, 2.0))))
    for onset, apex, offset, size, units, region in MICROS:
        for unit, share in units.items():
            script.add(unit, size * share * there_and_back(t, onset, apex, offset))
        regions = tuple(float(i == region) for i in range(4))
        script.labels.append(Label("micro", onset, apex, offset, size, regions))
    for onset, depth in BLINKS:
        curve = there_and_back(t, onset, onset + 0.14, onset + 0.42)
        script.add("blink_L", depth * curve)
        script.add("blink_R", depth * curve)
        script.labels.append(Label("blink", onset, onset + 0.14, onset + 0.42))
    onset, apex, fall, offset = SMILE_S
    for side in "LR":
        script.add(f"smile_{side}", 0.35 * there_and_back(t, onset, apex, offset, fall - apex))
    script.labels.append(Label("macro", onset, apex, offset))
    now = np.zeros(2)
    for at, x, y in LOOKS:
        for name, i in (("gaze_x", 0), ("gaze_y", 1)):
            script.add(name, ((x, y)[i] - now[i]) * min_jerk((t - at) / 0.06))
        now = np.array([x, y])
    return script


def _wave(t: np.ndarray, parts: tuple[tuple[int, float, float], ...]) -> Curve:
    """Sum of sinusoids with (cycles per clip, size, phase). The last frame continues smoothly into the first."""
    return np.sum([a * np.sin(2 * np.pi * n * t / DURATION_S + p) for n, a, p in parts], axis=0).astype(np.float32)


def _sway(t: np.ndarray) -> Curve:
    x, y = _wave(t, ((1, 3.0, 0.0), (4, 0.8, 1.0))), _wave(t, ((2, 1.5, 0.5), (5, 0.5, 0.0)))
    return np.stack([x, y, _wave(t, ((2, 0.6, 0.0),)), _wave(t, ((1, 0.006, 2.0),))], axis=1)


def make(data: Path, out: Path, face_model: Path | None = None) -> TruthVideo:
    """Writes `demo.mp4` and `truth.json` into `out`."""
    path = data / "portraits" / "composite" / f"{FACE}.jpg"
    read = cv2.imread(str(path))
    if read is None:
        raise UserError(f"--data {data}: no portraits/composite/{FACE}.jpg in it; name the folder above portraits/", 2)
    portrait = np.asarray(read, np.uint8)
    points = Landmarker(locate(face_model)).find(portrait)[0]
    identity = f"composite:{FACE}"
    actor = build_actor(portrait, points, identity, f"portraits/composite/{FACE}.jpg")
    script = demo_script()
    out.mkdir(parents=True, exist_ok=True)
    # Another seed would draw another person's way of doing the same action.
    film = Film(script, actor, portrait, Setting(face_px=230, y_px=205), np.random.default_rng(1))
    write_video(out / "demo.mp4", film, script.time_s, encoder_of(script.camera))
    truth = truth_of(script, "demo.mp4", identity, "test", {"split": split_of(identity)})
    save_truth(out / "truth.json", [truth])
    return truth
