"""The smallest micro-expression that a set-up can show, from the motion noise of its own crops.

The network sees displacements measured in windows of the crop (`engine.mesnet.MotionStem`). They are not zero while
nobody moves. Sensor noise, compression and errors of the aligner move them. A movement counts as visible when it moves
a window by more than VISIBLE times that noise. REACH is the share of a movement that the stem measures. A window
averages over its own size, and the stem takes part of the movement for motion of the whole face.
"""

import numpy as np
from numpy.typing import NDArray

from calibration.camera import FACE_CROP_PX
from calibration.look import Look
from engine.spec import ModelSpec
from stream.errors import UserError

VISIBLE = 4.0
"""In standard deviations of the noise. With some 100 windows and 30 frames a second, a single window exceeds this by
chance about once in ten seconds. A movement does so in several windows and frames."""
REACH = 0.55
"""Peak displacement in a window as a share of the movement's own: the median over injected ones at brows and mouths."""
LAG = 1
"""Index into ModelSpec.lags: 0.2 s, the time from onset to apex."""
HOLE_S = 0.2
"""A longer time without the face is not interpolated."""
QUIET_FRAMES = 15
TRUSTED = 0.5
"""Windows with lower confidence have too little texture to measure motion."""


def displacements_px(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each window of the stem moved within 0.2 s, float64[n, G, G] in px of the crop. It is nan without
    texture.

    The input is uint8[history + n, S, S] on the model's time grid.
    """
    u, v, trusted = _motion(crops)
    return np.where(trusted, np.hypot(u, v), np.nan)


def motion_noise_px(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Noise of that displacement per window and axis, float64[G, G], standard deviations. It is nan without texture.

    It is a median over QUIET_FRAMES at a time, in the quietest quarter of the time. So nobody needs to hold still for
    long.
    """
    u, v, trusted = _motion(crops)
    parts = np.array_split(np.arange(len(u)), max(1, len(u) // QUIET_FRAMES))
    power = np.stack([np.median(np.abs(u[p]), axis=0) ** 2 + np.median(np.abs(v[p]), axis=0) ** 2 for p in parts])
    return np.where(trusted, 1.4826 * np.sqrt(np.quantile(power, 0.25, axis=0) / 2), np.nan)


def _motion(crops: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray[np.bool_]]:
    """Displacement x and y float64[n, G, G], and the windows that show texture bool[G, G]."""
    import torch

    from engine.mesnet import STEM_CHANNELS, MotionStem
    from engine.training.pools.pool import through_stem
    from engine.training.pools.stemmed import split_stem, unsquashed

    spec = ModelSpec()
    torch.set_num_threads(1)
    local, _ = split_stem(torch.as_tensor(through_stem(MotionStem(spec), crops, spec)), spec)
    maps = local.unflatten(1, (STEM_CHANNELS, len(spec.lags)))[:, :, LAG]
    u, v = unsquashed(maps[:, :2]).numpy().swapaxes(0, 1)
    confidence = (maps[:, 2] * maps[:, 3]).numpy()
    return u, v, np.median(confidence, axis=0) >= TRUSTED


def on_grid(seen: Look) -> NDArray[np.uint8]:
    """The crops of the longest time without a gap, on the model's time grid, uint8[n, S, S].

    Raises UserError when it is too short to measure motion, as it is below 1 / HOLE_S frames a second.
    """
    from engine.training.generator.render import on_grid as resampled

    time_s, spec = np.array(seen.face_s), ModelSpec()
    holes = np.flatnonzero(np.diff(time_s) > HOLE_S) + 1
    part = max(np.split(np.arange(len(time_s)), holes), key=len)
    at_s = time_s[part] - time_s[part[0]]
    needed_s = (max(spec.lags) + QUIET_FRAMES) / spec.fps
    if at_s[-1] < needed_s:
        raise UserError(
            f"{seen.info.name}: a face was seen without a hole for {at_s[-1]:.1f} s; {needed_s:.1f} s are needed. "
            "Give a steadier or faster camera, or more light"
        )
    return resampled(np.stack([seen.crops[k] for k in part]), at_s, spec.fps, int(at_s[-1] * spec.fps) + 1)


def visible_px(noise_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest visible movement per window, px on a 256-px face. It is nan without texture."""
    return VISIBLE * noise_px / REACH * 256 / FACE_CROP_PX


def smallest_px(noise_px: NDArray[np.float64]) -> float:
    """The smallest visible movement of the face as a whole: in half of the windows with texture. It is inf without
    texture."""
    return float(np.nanmedian(visible_px(noise_px))) if np.isfinite(noise_px).any() else float("inf")
