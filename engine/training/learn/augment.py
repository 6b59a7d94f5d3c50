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

from engine.mesnet import grid_side
from engine.spec import ModelSpec
from engine.training.pools.stemmed import join_stem, split_stem, squashed, unsquashed
from engine.training.pools.truth import ABSENT, MICRO, UNKNOWN


def another_face(rng: np.random.Generator, spec: ModelSpec) -> tuple[NDArray[np.float32], float]:
    """How a face is a little wider or higher, shifted, turned: [2, 3] as of `affine_grid`; and how much livelier."""
    turn, shift = rng.normal(0, 0.04), rng.normal(0, 0.5, 2) * 2 / grid_side(spec)
    wide, high = np.exp(rng.normal(0, 0.05, 2))
    c, s = np.cos(turn), np.sin(turn)
    theta = np.array([[c * wide, -s * high, shift[0]], [s * wide, c * high, shift[1]]], np.float32)
    return theta, float(np.exp(rng.uniform(-0.25, 0.25)))


def distorted(rows: Tensor, theta: Tensor, gain: Tensor, spec: ModelSpec) -> Tensor:
    """Stem rows [N, T, features] of other faces, `theta` [N, 2, 3] and `gain` [N] as `another_face` draws them."""
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
    """Clips [N, T, features] with `share` [N] of the motion of others added; the first ones' texture is kept."""
    (local, affine), (other, other_affine) = split_stem(rows, spec), split_stem(over, spec)
    lags, each = len(spec.lags), share.repeat_interleave(rows.shape[1])[:, None]
    more = each[..., None, None] * unsquashed(other[:, : 2 * lags])
    motion = squashed(unsquashed(local[:, : 2 * lags]) + more)
    affine = squashed(unsquashed(affine) + each * unsquashed(other_affine))
    return join_stem(torch.cat([motion, local[:, 2 * lags :]], dim=1), affine).reshape(rows.shape)


def shiver(sizes: Tensor, seed: int, spec: ModelSpec, memories: Tensor | None = None) -> Tensor:
    """What a worse picture adds to the motion that is measured over each lag, [N, T, L, 2, G, G] crop px.

    Every cell's place errs by `sizes` [N] px (rms), neighbours alike, since their windows overlap. `memories` [N] of an
    error are there a frame later still: of an encoder's; none of a noisy sensor's.
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
    """What is true, [M, 9], when `share` of a second clip's motion is laid over a first one; None where two
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
    """Truth [M, 9] with more rows [9] in the places of absent ones, as many as there is room for."""
    free = np.flatnonzero(truth[:, 0] == ABSENT)[: len(more)]
    out = truth.copy()
    if len(free):
        out[free] = more[: len(free)]
    return out
