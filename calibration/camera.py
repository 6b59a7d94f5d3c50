"""Measures a camera: rate, light, flicker, noise, compression, and size and steadiness of the face."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.look import Look
from stream.faces.align import FACE_EDGES
from stream.faces.template import RIGID, TEMPLATE

_EDGES = [TEMPLATE[int(np.flatnonzero(edge == RIGID)[0]), :2] for edge in FACE_EDGES]
FACE_CROP_PX = float(np.hypot(*(_EDGES[1] - _EDGES[0])))
"""Width of the template's face in px of the crop. The field's sizes refer to a face of 256 px."""
MAINS_HZ = {"50 Hz": 100.0, "60 Hz": 120.0}
"""Lamps flicker at twice the mains frequency. Sampling shifts the frequency that a camera sees."""
SLOWEST_HZ = 1.0
NEAR_HZ = 0.35
"""A peak this close to the expected flicker of the mains counts as that flicker."""


@dataclass(frozen=True, slots=True)
class Flicker:
    """Pulsing light. It is seen at `hz`, with an amplitude `share` of the mean brightness. `mains` names the likely
    cause."""

    hz: float
    share: float
    mains: str | None


@dataclass(frozen=True, slots=True)
class Measures:
    """The measurements. Times are in ms, `noise` in grey levels, landmarks and MEs in px on a 256-px face.

    `slow_share`: missing share of the nominal rate. `dim_slows`: correlation of frame interval and darkness.
    """

    seconds: float
    fps: float
    nominal_fps: float | None
    interval_ms: float
    jitter_ms: float
    missing: float
    slow_share: float
    dim_slows: float
    light: float
    blur: float
    flicker: Flicker
    face_px: float
    noise: float
    blockiness: float
    landmark_jitter_px: float


def measure(seen: Look) -> Measures:
    """Measures everything except the smallest visible ME (see `calibration.visible`)."""
    time_s = np.array(seen.time_s)
    steps_s = np.diff(time_s)
    interval_s = float(np.median(steps_s))
    fps = (len(time_s) - 1) / float(time_s[-1] - time_s[0])
    bright = np.array([band.mean() for band in seen.bands])
    nominal = seen.info.nominal_fps
    face_px = float(np.median([q.face_px for q in seen.quality]))
    blocks = [b for b in seen.blocks if math.isfinite(b)]
    return Measures(
        seconds=float(time_s[-1] - time_s[0]),
        fps=fps,
        nominal_fps=nominal,
        interval_ms=1000 * interval_s,
        jitter_ms=1000 * 1.4826 * float(np.median(np.abs(steps_s - interval_s))),
        missing=float((steps_s > 1.6 * interval_s).mean()),
        slow_share=0.0 if not nominal else max(0.0, 1 - fps / nominal),
        dim_slows=_correlation(steps_s, -bright[1:]),
        light=float(np.median([q.light for q in seen.quality])),
        blur=float(np.median([q.blur for q in seen.quality])),
        flicker=flicker(time_s, bright, fps),
        face_px=face_px,
        noise=noise(np.stack(seen.crops)),
        blockiness=float(np.median(blocks)) if blocks else math.nan,
        landmark_jitter_px=landmark_jitter_px(np.stack(seen.rigid), face_px),
    )


def noise(crops: NDArray[np.uint8]) -> float:
    """Temporal noise in grey levels: the median over px of second differences in time, so that motion has no influence.

    The input is uint8[n, S, S], n >= 3. The lowest measurable value is the quantisation of uint8, some 0.3.
    """
    starts = np.linspace(0, len(crops) - 3, min(len(crops) - 2, 60)).astype(int)
    triples = [crops[k : k + 3].astype(np.float32) for k in starts]
    second = np.stack([t[0] - 2 * t[1] + t[2] for t in triples])
    per_px = np.sqrt((second * second).mean(axis=0) / 6)
    return float(np.median(per_px))


def landmark_jitter_px(rigid: NDArray[np.float32], face_px: float) -> float:
    """How far landmarks on bone jitter from frame to frame, px on a 256-px face: float32[n, k, 2] in px of the image.

    It takes the median of second differences in time, since the head itself moves smoothly.
    """
    second = rigid[:-2] - 2 * rigid[1:-1] + rigid[2:]
    return float(1.4826 * np.median(np.abs(second)) / math.sqrt(6) * 256 / face_px)


def flicker(time_s: NDArray[np.float64], bright: NDArray[np.float64], fps: float) -> Flicker:
    """The strongest pulse of the whole picture's brightness, and whether the mains' flicker would appear there.

    It is a least-squares periodogram (Lomb 1976) from SLOWEST_HZ to half the rate, without drift. A lamp is a sharp
    line in it, and movement before the camera is a slope. So the level of nearby frequencies is subtracted.
    """
    t = time_s - time_s[0]
    slow = np.array([np.mean(bright[np.abs(t - at) <= 0.75]) for at in t])
    x = (bright - slow) / max(float(bright.mean()), 1.0)
    hz = np.arange(SLOWEST_HZ, fps / 2, 0.25 / max(float(t[-1]), 1.0))
    if len(hz) == 0:
        return Flicker(0.0, 0.0, None)
    waves = np.exp(-2j * np.pi * hz[:, None] * t)
    amplitude = 2 * np.abs(waves @ x) / len(x)
    near = [float(np.median(amplitude[np.abs(hz - at) <= 1.5])) for at in hz]
    amplitude = np.maximum(amplitude - 2 * np.array(near), 0)
    best = int(np.argmax(amplitude))
    found = [name for name, lamp in MAINS_HZ.items() if abs(alias_hz(lamp, fps) - hz[best]) <= NEAR_HZ]
    return Flicker(float(hz[best]), float(amplitude[best]), found[0] if found else None)


def alias_hz(true_hz: float, fps: float) -> float:
    """The frequency at which a camera of `fps` sees a pulse of `true_hz`."""
    return abs(true_hz - fps * round(true_hz / fps))


def _correlation(a: NDArray, b: NDArray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and a.std() > 1e-9 and b.std() > 1e-9 else 0.0
