"""The smallest micro-expression that a set-up can show: from the motion noise of its own crops.

The network sees displacements measured in windows of the crop (`engine.mesnet.MotionStem`). While nobody moves, they
are not zero: sensor noise, compression and what the aligner leaves move them. A movement is taken to be visible where
it moves a window by more than VISIBLE times that noise. REACH is what the stem makes of a movement: a window averages
over its own size, and part of the movement is taken for motion of the whole face.
"""

import numpy as np
from numpy.typing import NDArray

from calibration.camera import FACE_CROP_PX
from calibration.look import Look
from engine.spec import ModelSpec
from stream.errors import UserError

VISIBLE = 4.0
"""In the noise's standard deviations: with some 100 windows and 30 frames a second, a lone one passes this by chance
about once in ten seconds; a movement does so in several windows and frames."""
REACH = 0.55
"""Peak displacement in a window, as a share of the movement's own peak (see the test that injects known movements)."""
LAG = 1
"""Index into ModelSpec.lags: 0.2 s, the time from onset to apex."""
HOLE_S = 0.2
"""Over so long a time without the face nothing is interpolated."""
TRUSTED = 0.5
"""Windows with less confidence than this show no texture to measure motion by."""


def motion_noise_px(crops: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Noise of the displacement per window of the stem, float64[G, G], in px of the crop; nan without texture.

    uint8[n, S, S] on the model's time grid. By the median over time: what moved for less than half of it has no say.
    """
    try:
        import torch

        from engine.mesnet import STEM_CHANNELS, MotionStem
        from engine.training.pool import through_stem
    except ImportError:
        raise UserError("measuring what can be seen needs torch; run: pip install mestream[train]", 2) from None
    spec = ModelSpec()
    torch.set_num_threads(1)
    rows = through_stem(MotionStem(spec), crops, spec).astype(np.float64)
    lags, side = len(spec.lags), spec.crop_px // MotionStem.grid_px
    maps = rows[:, : STEM_CHANNELS * lags * side * side].reshape(-1, STEM_CHANNELS, lags, side, side)[:, :, LAG]
    u, v = (np.sign(m) * np.expm1(np.abs(m)) / 10 for m in (maps[:, 0], maps[:, 1]))  # undo the stem's asinh(10 u)
    sigma = 1.4826 * np.sqrt((np.median(np.abs(u), axis=0) ** 2 + np.median(np.abs(v), axis=0) ** 2) / 2)
    trusted = np.median(maps[:, 2] * maps[:, 3], axis=0) >= TRUSTED
    return np.where(trusted, sigma, np.nan)


def on_grid(seen: Look) -> NDArray[np.uint8]:
    """The crops of the longest time without a hole, on the model's time grid, uint8[n, S, S]."""
    from engine.training.render import on_grid as resampled

    time_s, spec = np.array(seen.face_s), ModelSpec()
    holes = np.flatnonzero(np.diff(time_s) > HOLE_S) + 1
    part = max(np.split(np.arange(len(time_s)), holes), key=len)
    at_s = time_s[part] - time_s[part[0]]
    return resampled(np.stack([seen.crops[k] for k in part]), at_s, spec.fps, int(at_s[-1] * spec.fps) + 1)


def visible_px(noise_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest visible movement per window, px on a 256-px face; nan without texture."""
    return VISIBLE * noise_px / REACH * 256 / FACE_CROP_PX


def smallest_px(noise_px: NDArray[np.float64]) -> float:
    """The same for the face as a whole: of half of what has texture; inf where nothing has."""
    return float(np.nanmedian(visible_px(noise_px))) if np.isfinite(noise_px).any() else float("inf")
