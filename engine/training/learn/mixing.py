"""Mixes clips by region behind the stem, such as the mouth of a speaker under the brows of a listener.

Faces are aligned, so a row of the grid is a part of the face, and motion is local. A mixed clip is one clip above a
soft seam and another clip below it. So few real faces give many, each with or without imprints (`relative`).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mesnet import grid_side
from engine.spec import ModelSpec
from engine.training.learn.augment import with_rows
from engine.training.pools.stemmed import join_stem, split_stem, squashed, unsquashed
from engine.training.pools.truth import ABSENT, BLINK, MICRO, SPEECH, UNKNOWN

SEAM = (6.0, 10.0)
"""A seam lies between these rows of the grid: below the eyes, above the mouth."""
SOFT = 0.8
"""Rows over which one clip blends into the other, as the width of a logistic."""


def mixed(rows: Tensor, under: Tensor, seams: Tensor, spec: ModelSpec) -> Tensor:
    """Clips [N, T, features] above `seams` [N] (rows of the grid), and clips `under` below."""
    (local, affine), (other, other_affine) = split_stem(rows, spec), split_stem(under, spec)
    lags, side, each = len(spec.lags), grid_side(spec), seams.repeat_interleave(rows.shape[1])
    above = torch.sigmoid((each[:, None] - torch.arange(side, device=rows.device)) / SOFT)[:, None, :, None]
    motion = above * unsquashed(local[:, : 2 * lags]) + (1 - above) * unsquashed(other[:, : 2 * lags])
    rest = above * local[:, 2 * lags :] + (1 - above) * other[:, 2 * lags :]
    share = above.mean(dim=(1, 2, 3))[:, None]
    whole = share * unsquashed(affine) + (1 - share) * unsquashed(other_affine)
    return join_stem(torch.cat([squashed(motion), rest], dim=1), squashed(whole)).reshape(rows.shape)


def true_of_mixed(above: NDArray[np.float32], below: NDArray[np.float32]) -> NDArray[np.float32]:
    """Truth [M, 9] of a mixed clip. It has all of the upper clip except speech, and all of the lower clip except
    blinks. Micro-expressions stay only if they lie in their clip's part."""

    def mostly(rows: NDArray[np.float32], regions: slice) -> NDArray[np.bool_]:
        return (rows[:, 0] != MICRO) | (rows[:, regions].sum(axis=1) > 0.5)

    kept = above.copy()
    kept[(above[:, 0] == SPEECH) | ~mostly(above, slice(5, 7))] = 0
    kept[(above[:, 0] == SPEECH) | ~mostly(above, slice(5, 7)), 0] = ABSENT
    unknown = (above[:, 0] == UNKNOWN).any()
    there = (below[:, 0] != ABSENT) & (below[:, 0] != BLINK) & mostly(below, slice(7, 9))
    more = below[there & ~((below[:, 0] == UNKNOWN) & unknown)]
    return with_rows(kept, more)
