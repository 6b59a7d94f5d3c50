"""Rows of a pool (see `engine.training.pools.pool`) -> the input of the learnt half of the network."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.mesnet import STEM_CHANNELS, MESNet, MotionStem, asinh, grid_side
from engine.spec import ModelSpec
from engine.training.generator.warps import MAP_SIZE, to_samples


def split_stem(rows: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Stored rows [..., features] -> local motion [n, 5L, G, G] and affine [n, 6L], float32."""
    side, lags = grid_side(spec), len(spec.lags)
    local, affine = (
        rows.float().reshape(-1, rows.shape[-1]).split([STEM_CHANNELS * lags * side * side, 6 * lags], dim=1)
    )
    return local.reshape(-1, STEM_CHANNELS * lags, side, side), affine


def join_stem(local: Tensor, affine: Tensor) -> Tensor:
    """Undo `split_stem`: [n, 5L, G, G] and [n, 6L] -> rows [n, features]."""
    return torch.cat([local.flatten(1), affine], dim=1)


def cell_weights(stem: MotionStem) -> NDArray[np.float32]:
    """How much each column (or row) of a map counts in each of the stem's windows, [G, MAP_SIZE]."""
    px = np.arange(0, stem.side * stem.grid_px, 2, dtype=np.float32)  # where the stem takes its derivatives
    at = np.clip(to_samples(px[:, None], MAP_SIZE)[:, 0], 0, MAP_SIZE - 1)
    shown = np.clip(1 - np.abs(at[:, None] - np.arange(MAP_SIZE)), 0, None)  # linear between two samples
    across = stem.window[0, 0].sum(dim=0)
    columns = torch.as_tensor(shown.T[:, None], dtype=torch.float32)
    return F.conv1d(columns, across[None, None], stride=4, padding=2)[:, 0].T.contiguous().numpy()


def unsquashed(x: Tensor) -> Tensor:
    """Converts what the stem stores, log1p(|10 px|) with the sign, to motion in px."""
    return torch.sign(x) * torch.expm1(x.abs()) / 10


def squashed(px: Tensor) -> Tensor:
    """Undoes `unsquashed`: converts motion in px to what the stem stores."""
    return asinh(px * 10)


def mirrored(local: Tensor, affine: Tensor, lags: int) -> tuple[Tensor, Tensor]:
    """The same motion in a mirror: places and horizontal motion change sides."""
    local = local.flip(3)
    local = torch.cat([-local[:, :lags], local[:, lags:]], dim=1)
    sign = affine.new_tensor([[-1, 1], [1, -1], [-1, 1]]).repeat(lags, 1).flatten()  # rows 1, x, y; columns u, v
    return local, affine * sign


def features_of(net: MESNet, rows: Tensor, mirror: bool = False) -> Tensor:
    """Stored rows [N, T, features] -> features [N, T, C]."""
    local, affine = split_stem(rows, net.spec)
    if mirror:
        local, affine = mirrored(local, affine, len(net.spec.lags))
    local = local.contiguous(memory_format=torch.channels_last)  # a quarter less time on a CPU
    return net.spatial(local, affine).reshape(rows.shape[0], rows.shape[1], -1)
