"""Measures how visible a micro-expression is against the face's own motion.

Visibility is the peak of the injected motion over the peak of the face's own motion. Both are taken in the same cells
of the stem's grid, over a lag of 0.2 s, within half a second to either side of the apex. The head's motion is removed.
Below 0.5 the other movements hide a micro-expression. The motion stem measures the face's own motion on frames without
the injection.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engine.mesnet import MotionStem, grid_side
from engine.spec import ModelSpec
from engine.training.film.film import Image, Injection
from engine.training.generator.render import on_grid
from engine.training.pools.stemmed import cell_weights, split_stem, unsquashed
from stream.faces.landmarks import warp_down
from stream.types import CROP_PX

LAG_S, NEAR_S = 0.2, 0.5
PLACE = 0.5
"""A cell belongs to a movement's place if it has at least this share of the movement's peak."""
FLOOR_PX = 0.02
"""Motion that a good camera's noise alone produces. No face is stiller."""


def clean_crops(images: Iterable[Image], matrices: Iterable[NDArray[np.float64] | None]) -> NDArray[np.uint8]:
    """Aligned crops uint8[F, S, S] of frames without an injection. A frame without a found face repeats the last crop.

    `matrices`: frame px -> crop px.
    """
    crops = [np.zeros((CROP_PX, CROP_PX), np.uint8)]
    for image, matrix in zip(images, matrices, strict=True):
        if matrix is None:
            crops.append(crops[-1])
        else:
            grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
            back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
            crops.append(np.asarray(warp_down(grey, back, CROP_PX), np.uint8))
    return np.stack(crops[1:])


def visibilities(
    crops: NDArray[np.uint8],
    time_s: NDArray[np.float64],
    movements: Sequence[tuple[Injection, float]],
    crop_px: float,
    spec: ModelSpec,
) -> list[float]:
    """Visibility of each movement (injection, apex in s). All are injected into the frames whose clean crops are
    `crops`.

    `crops` is uint8[F, S, S] at `time_s` float64[F]. `crop_px`: crop px of one px on a 256-px face.
    """
    frames = max(1, round(float(time_s[-1] - time_s[0]) * spec.fps))
    own = _own_motion(on_grid(crops, time_s - time_s[0], spec.fps, frames), spec)
    weights = cell_weights(MotionStem(spec))
    at_s = time_s[0] + np.arange(frames) / spec.fps
    found = []
    for movement, apex_s in movements:
        cells = np.hypot(*(weights @ movement.field @ weights.T)) * crop_px
        place = cells >= PLACE * cells.max()
        curve = np.interp([at_s, at_s - LAG_S], time_s, movement.curve)
        near = np.abs(at_s - apex_s) <= NEAR_S
        added = float(cells.max() * np.abs(curve[0] - curve[1])[near].max(initial=0.0))
        found.append(added / max(float(own[near][:, place].max(initial=0.0)), FLOOR_PX))
    return found


@torch.no_grad()
def _own_motion(crops: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """Size of the local motion over LAG_S, float32[F, G, G] crop px. The first crop replaces earlier ones."""
    stem, lags, which = MotionStem(spec), len(spec.lags), spec.lags.index(round(LAG_S * spec.fps))
    frames, index = torch.as_tensor(crops), torch.arange(len(crops))
    side, out = grid_side(spec), np.zeros((len(crops), grid_side(spec), grid_side(spec)), np.float32)
    for some in index.split(64):
        local, affine = stem(torch.stack([frames[(some - lag).clamp(min=0)] for lag in (0, *spec.lags)], dim=1))
        motion, _ = split_stem(torch.cat([local.flatten(1), affine], dim=1), spec)
        u, v = unsquashed(motion[:, which]), unsquashed(motion[:, lags + which])
        out[some.numpy()] = torch.hypot(u, v).reshape(-1, side, side).numpy()
    return out
