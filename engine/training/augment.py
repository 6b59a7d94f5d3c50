"""Other faces' geometry and other faces' motion for clips of a pool, behind the motion stem.

A network that sees some hundred backgrounds again and again learns them by heart: on films that it had trained on it
found half as many micro-expressions again as on others. So each time a clip is drawn the face in it gets other
proportions and another liveliness, and now and then the motion of a second clip on top: motions add up.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.spec import ModelSpec
from engine.training.loss import ABSENT, MICRO, UNKNOWN
from engine.training.stemmed import join_stem, split_stem, squashed, unsquashed


def distorted(rows: Tensor, rng: np.random.Generator, spec: ModelSpec) -> Tensor:
    """Stem rows [T, features] of a face a little wider or higher, shifted, turned, and more or less lively."""
    local, affine = split_stem(rows, spec)
    side, lags = local.shape[-1], len(spec.lags)
    turn, shift = rng.normal(0, 0.04), rng.normal(0, 0.5, 2) * 2 / side
    wide, high = np.exp(rng.normal(0, 0.05, 2))
    c, s = np.cos(turn), np.sin(turn)
    theta = torch.tensor([[[c * wide, -s * high, shift[0]], [s * wide, c * high, shift[1]]]], dtype=torch.float32)
    grid = F.affine_grid(theta, [1, 1, side, side], align_corners=False)
    flat = F.grid_sample(local.reshape(1, -1, side, side), grid, padding_mode="border", align_corners=False)
    local = flat.reshape(local.shape).clone()
    gain = float(np.exp(rng.uniform(-0.25, 0.25)))
    local[:, : 2 * lags] = squashed(unsquashed(local[:, : 2 * lags]) * gain)
    return join_stem(local, squashed(unsquashed(affine) * gain))


def overlaid(
    rows: Tensor, truth: NDArray[np.float32], over: Tensor, theirs: NDArray[np.float32], share: float, spec: ModelSpec
) -> tuple[Tensor, NDArray[np.float32]]:
    """A clip [T, features] with `share` of the motion of another added, and what is true of both, [M, 9] each.

    The first one's texture is kept. Where two micro-expressions would meet, the first clip stays as it was.
    """
    micros = theirs[theirs[:, 0] == MICRO]
    mine = truth[truth[:, 0] == MICRO]
    if any(a[3] > b[1] and a[1] < b[3] for a in mine for b in micros):
        return rows, truth
    (local, affine), (other, other_affine) = split_stem(rows, spec), split_stem(over, spec)
    lags = len(spec.lags)
    local = local.clone()
    local[:, : 2 * lags] = squashed(unsquashed(local[:, : 2 * lags]) + share * unsquashed(other[:, : 2 * lags]))
    affine = squashed(unsquashed(affine) + share * unsquashed(other_affine))
    more = theirs[theirs[:, 0] != ABSENT].copy()
    more[more[:, 0] == MICRO, 4] *= share
    if (truth[:, 0] == UNKNOWN).any():
        more = more[more[:, 0] != UNKNOWN]
    return join_stem(local, affine), with_rows(truth, more)


def with_rows(truth: NDArray[np.float32], more: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Truth [M, 9] with more rows [9] in the places of absent ones, as many as there is room for."""
    free = np.flatnonzero(truth[:, 0] == ABSENT)[: len(more)]
    out = truth.copy()
    out[free] = more[: len(free)]
    return out
