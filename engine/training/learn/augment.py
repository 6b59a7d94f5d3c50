"""Varies the clips of a pool behind the motion stem: the geometry of other faces and the motion of other clips.

A network that sees some hundred backgrounds again and again memorises them. On films of its training it found half as
many micro-expressions again as on others. So each drawn clip gets other proportions and another liveliness of the face.
Some clips also get the motion of a second clip on top, since motions add up.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.mesnet import grid_side
from engine.spec import ModelSpec
from engine.training.pools.stemmed import join_stem, split_stem, squashed, unsquashed
from engine.training.pools.truth import ABSENT, MICRO, UNKNOWN


def another_face(rng: np.random.Generator, spec: ModelSpec) -> tuple[NDArray[np.float32], float]:
    """Draws another face. [2, 3], as for `affine_grid`, makes it slightly wider or higher, shifted and turned. The
    second value is how much livelier it is."""
    turn, shift = rng.normal(0, 0.04), rng.normal(0, 0.5, 2) * 2 / grid_side(spec)
    wide, high = np.exp(rng.normal(0, 0.05, 2))
    c, s = np.cos(turn), np.sin(turn)
    theta = np.array([[c * wide, -s * high, shift[0]], [s * wide, c * high, shift[1]]], np.float32)
    return theta, float(np.exp(rng.uniform(-0.25, 0.25)))


def distorted(rows: Tensor, theta: Tensor, gain: Tensor, spec: ModelSpec) -> Tensor:
    """Stem rows [N, T, features] as other faces would give them. `another_face` draws `theta` [N, 2, 3] and `gain`
    [N]."""
    clips, frames, _ = rows.shape
    local, affine = split_stem(rows, spec)
    side, lags = local.shape[-1], len(spec.lags)
    flat = local.reshape(clips, -1, side, side)
    grid = F.affine_grid(theta, [clips, 1, side, side], align_corners=False)
    local = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).reshape(local.shape)
    each = gain.repeat_interleave(frames)[:, None]
    motion = squashed(unsquashed(local[:, : 2 * lags]) * each[..., None, None])
    local = torch.cat([motion, local[:, 2 * lags :]], dim=1)
    return join_stem(local, squashed(unsquashed(affine) * each)).reshape(rows.shape)


def overlaid(rows: Tensor, over: Tensor, share: Tensor, spec: ModelSpec) -> Tensor:
    """Clips [N, T, features] with `share` [N] of the motion of others added. The texture of the first clips stays."""
    (local, affine), (other, other_affine) = split_stem(rows, spec), split_stem(over, spec)
    lags, each = len(spec.lags), share.repeat_interleave(rows.shape[1])[:, None]
    more = each[..., None, None] * unsquashed(other[:, : 2 * lags])
    motion = squashed(unsquashed(local[:, : 2 * lags]) + more)
    affine = squashed(unsquashed(affine) + each * unsquashed(other_affine))
    return join_stem(torch.cat([motion, local[:, 2 * lags :]], dim=1), affine).reshape(rows.shape)


def shiver(sizes: Tensor, seed: int, spec: ModelSpec, memories: Tensor | None = None) -> Tensor:
    """The error that a worse picture adds to the measured motion over each lag, [N, T, L, 2, G, G] crop px.

    Every cell is off by `sizes` [N] px (rms). Neighbours are off alike, since their windows overlap. The share
    `memories` [N] of an error stays in the next frame. An encoder's error stays, a sensor's noise does not.
    """
    history, frames, side = max(spec.lags), spec.clip_frames, grid_side(spec)
    chance = torch.Generator(sizes.device).manual_seed(seed)
    shape = (len(sizes), (history + frames) * 2, side, side)
    err = F.avg_pool2d(torch.randn(shape, generator=chance, device=sizes.device), 3, stride=1, padding=1)
    err = (err * 3 * sizes[:, None, None, None]).reshape(len(sizes), -1, 2, side, side)
    if memories is not None:
        memory = memories[:, None, None, None]
        for k in range(1, err.shape[1]):
            err[:, k] = memory * err[:, k - 1] + (1 - memory * memory).sqrt() * err[:, k]
    return torch.stack([err[:, history:] - err[:, history - lag : -lag] for lag in spec.lags], dim=2)


def true_of_both(truth: NDArray[np.float32], theirs: NDArray[np.float32], share: float) -> NDArray[np.float32] | None:
    """The truth, [M, 9], when `share` of a second clip's motion is added to a first clip. Returns None when two
    micro-expressions would meet."""
    micros = theirs[theirs[:, 0] == MICRO]
    mine = truth[truth[:, 0] == MICRO]
    if any(a[3] > b[1] and a[1] < b[3] for a in mine for b in micros):
        return None
    more = theirs[theirs[:, 0] != ABSENT].copy()
    more[more[:, 0] == MICRO, 4] *= share
    if (truth[:, 0] == UNKNOWN).any():
        more = more[more[:, 0] != UNKNOWN]
    return with_rows(truth, more)


def with_rows(truth: NDArray[np.float32], more: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Truth [M, 9] with more rows [9] in the places of absent ones, as many as fit."""
    free = np.flatnonzero(truth[:, 0] == ABSENT)[: len(more)]
    out = truth.copy()
    if len(free):
        out[free] = more[: len(free)]
    return out
