"""The camera and the light of a made-up clip, drawn from a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.training.generator.curves import Curve, log_uniform, min_jerk, wander


@dataclass(frozen=True, slots=True)
class Camera:
    """`fps` and `dropped` set the time stamps. The other fields are effects of sensor and codec on the picture."""

    fps: float
    dropped: float
    resolution: float  # px of the camera per px of the crop
    noise: float  # grey levels
    smear: float  # share of the previous frame that the camera's noise reduction keeps
    codec: str  # none | mjpeg | h264
    quality: int  # mjpeg: 40..95; h264: CRF
    flicker: float
    flicker_hz: float


def draw_camera(rng: np.random.Generator) -> Camera:
    """A webcam: mostly 30 fps, sometimes 15-25 as in dim light, or 60. Its codec is MJPEG, H.264 or none."""
    fps = float(rng.choice([30, 29.97, 25, 24, 20, 15, 60], p=[0.5, 0.1, 0.15, 0.07, 0.06, 0.06, 0.06]))
    codec = str(rng.choice(["none", "mjpeg", "h264"], p=[0.3, 0.25, 0.45]))
    return Camera(
        fps=fps,
        dropped=float(rng.choice([0, 0.02, 0.08], p=[0.75, 0.15, 0.1])),
        resolution=log_uniform(rng, 0.6, 1.8),
        noise=log_uniform(rng, 0.6, 6.0),
        smear=float(rng.choice([0.0, rng.uniform(0.1, 0.45)], p=[0.75, 0.25])),
        codec=codec,
        quality=int(rng.integers(45, 96)) if codec == "mjpeg" else int(rng.integers(18, 33)),
        flicker=float(rng.choice([0.0, rng.uniform(0.002, 0.02)], p=[0.7, 0.3])),
        flicker_hz=float(rng.uniform(0.5, 12)),
    )


def draw_times(rng: np.random.Generator, camera: Camera, duration_s: float) -> NDArray[np.float64]:
    """Stamps of the camera: jittered by a millisecond or two, with some dropped frames, never two in a row."""
    t = np.arange(0, duration_s, 1 / camera.fps) + rng.uniform(0, 1 / camera.fps)
    t = np.concatenate([[0.0], t + np.clip(rng.normal(0, 0.0015, len(t)), -0.004, 0.004), [duration_s]])
    keep = rng.random(len(t)) >= camera.dropped
    keep[1:] |= ~keep[:-1]
    keep[[0, -1]] = True
    t = np.sort(t[keep])
    return t[np.concatenate([[True], np.diff(t) > 1e-3])]


def draw_light(rng: np.random.Generator, t: NDArray[np.float64], camera: Camera) -> Curve:
    """Gain, offset and tilts float32[F, 4], as in `script.Script`."""
    light = np.tile(np.array([1.0, 0, 0, 0], np.float32), (len(t), 1))
    sway = wander(rng, t, 0.01, 0.5)
    light[:, 0] += sway + camera.flicker * np.sin(2 * np.pi * camera.flicker_hz * t + rng.uniform(0, 6.3))
    if rng.random() < 0.15:  # an exposure step or a lamp, within one to ten frames
        at, over = rng.uniform(0, t[-1]), rng.uniform(0.02, 0.35)
        step = min_jerk((t - at) / over)
        light[:, 0] *= 1 + rng.normal(0, 0.2) * step
        light[:, 1] += rng.normal(0, 8) * step
    if rng.random() < 0.15:  # the light moves over the face, like a screen or a shadow
        light[:, 2] += wander(rng, t, 0.08, 1.5)
        light[:, 3] += wander(rng, t, 0.08, 1.5)
    return light.astype(np.float32)
