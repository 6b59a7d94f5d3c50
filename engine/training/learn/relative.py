"""Gives imprints the drawn visibility against the face's own motion, and decides which of them a network must find.

A micro-expression of 2 px is plain on a face that sits still, and a speaking mouth hides it. So its size is drawn
relative to the clip's motion in the same cells within half a second. `engine.training.film.visibility` has the measure.
A network need not find one that is hardly visible.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mesnet import grid_side
from engine.spec import REGIONS, STREAMS, ModelSpec
from engine.training.learn.imprint import Movement
from engine.training.pools.stemmed import split_stem, unsquashed
from engine.training.pools.truth import ABSENT, BLINK, MICRO, NONE, SPEECH

LAG, NEAR, PLACE, FLOOR_PX = 1, 15, 0.5, 0.02
"""The lag, the frames to either side of the apex, the share of the peak from which a cell counts, and the motion of
the stillest possible face, crop px."""
SIZE_PX = (0.1, 2.8)
"""Range of the movement of imprints, crop px: 0.25 to 7 px on a 256-px face."""
ASKED, FULL = 0.4, 1.0
"""A movement below the first visibility is not required. From the second on it has full weight."""
MINE, HARDLY = 0.6, 0.25
"""A stream must find a movement if it sees the first share of its peak. Below the second share it ignores the
movement."""
WINDOWS = {
    # Rows and columns of the motion grid in which each stream must find movements.
    "brows_r": (slice(0, 6), slice(0, 8)), "brows_l": (slice(0, 6), slice(8, 16)), "eyes": (slice(4, 9), slice(2, 14)),
    "cheeks": (slice(6, 12), slice(1, 15)), "mouth_r": (slice(9, 16), slice(1, 8)),
    "mouth_l": (slice(9, 16), slice(8, 15)),
}  # fmt: skip
MIRROR = [1, 0, 2, 3, 5, 4]
"""The stream on the other side of each of STREAMS."""
_VETO = np.array([[name in parts for name in STREAMS.values()] for parts in (("eyes",), ("mouth", "cheeks"))])
"""Streams that blinks belong to, and streams that speech belongs to."""


class Imprints(NamedTuple):
    """Imprints of N clips. `owner` int64[N, K]: which of the clip's J movements each map belongs to. `wanted`
    float32[N, J]: its visibility (0: its size stays). `apex` float32[N, J], frames. `row` int64[N, J] of the clip's
    truth, or -1."""

    owner: Tensor
    wanted: Tensor
    apex: Tensor
    row: Tensor


def imprints(moving: Sequence[Sequence[Movement]]) -> Imprints:
    """The tables that go with `imprint.together`. Each has at least one column."""
    most = max(1, *(len(one) for one in moving))
    maps = max(0, *(sum(len(m.courses) for m in one) for one in moving))
    owner = torch.zeros(len(moving), maps, dtype=torch.long)
    wanted, apex = torch.zeros(len(moving), most), torch.zeros(len(moving), most)
    row = torch.full((len(moving), most), -1)
    for i, one in enumerate(moving):
        index = np.repeat(np.arange(len(one)), [len(m.courses) for m in one])
        owner[i, : len(index)] = torch.as_tensor(index)
        for j, m in enumerate(one):
            wanted[i, j], apex[i, j], row[i, j] = m.wanted, m.apex, m.row
    return Imprints(owner, wanted, apex, row)


def scaled(clips: Tensor, courses: Tensor, cells: Tensor, tables: Imprints, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Courses [N, K, T, L], scaled so that movements are as visible as wanted in clips [N, T, features]. Also
    returns the reached visibility, [N, J]."""
    owner, wanted, apex, _ = tables
    side, lags, frames = grid_side(spec), len(spec.lags), clips.shape[1]
    local, _ = split_stem(clips, spec)
    own = torch.hypot(unsquashed(local[:, LAG]), unsquashed(local[:, lags + LAG])).reshape(-1, frames, side * side)
    which = (owner[..., None] == torch.arange(wanted.shape[1], device=owner.device)).float()  # [N, K, J]
    added = torch.einsum("nkt,nkj,nkcp->njtcp", courses[..., LAG], which, cells.flatten(3))
    length = added.square().sum(dim=3).sqrt()  # [N, J, T, cells]
    most = length.amax(dim=2)
    peak = most.amax(dim=2)
    place = most >= PLACE * peak[..., None].clamp(min=1e-6)
    time = torch.arange(frames, device=clips.device)
    near = (time - apex[..., None]).abs() <= NEAR  # [N, J, T]
    theirs = (own[:, None] * near[..., None] * place[:, :, None]).amax(dim=(2, 3)).clamp(min=FLOOR_PX)
    size = torch.where(wanted > 0, (wanted * theirs).clamp(*SIZE_PX), peak)
    scale = torch.where((wanted > 0) & (peak > 1e-4), size / peak.clamp(min=1e-4), 1.0)
    return courses * scale.gather(1, owner)[..., None, None], scale * peak / theirs


def weighed(truth: Tensor, visibility: Tensor, tables: Imprints) -> Tensor:
    """Truth [N, M, 9], with the weights of imprints set by their visibility. Weight 0 means that it is not required."""
    _, wanted, _, row = tables
    weight = ((visibility - ASKED) / (FULL - ASKED)).clamp(0, 1) * 0.75 + 0.25
    weight = torch.where(visibility < ASKED, 0.0, weight)
    n, j = torch.nonzero((row >= 0) & (wanted > 0), as_tuple=True)
    out = truth.clone()
    out[n, row[n, j], 4] = weight[n, j]
    return out


def seen_by(truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each stream sees of each row of the truth [M, 9] -> [M, V]. A micro-expression counts by its regions,
    on both sides. The eyes see a blink, mouth and cheeks see speech, and all streams see anything else."""
    shares = np.ones((len(truth), len(STREAMS)), np.float32)
    region = [REGIONS.index(name) for name in STREAMS.values()]
    of = truth[:, 5:9] / np.maximum(truth[:, 5:9].max(axis=1, keepdims=True), 1e-6)
    shares[truth[:, 0] == MICRO] = of[truth[:, 0] == MICRO][:, region]
    for kind, streams in zip((BLINK, SPEECH), _VETO, strict=True):
        shares[truth[:, 0] == kind] = streams
    return shares


def seen_of(movement: Movement) -> NDArray[np.float32]:
    """How much each stream sees of a movement at its peak, as a share of the peak, [V]."""
    if not len(movement.courses):
        return np.ones(len(STREAMS), np.float32)
    at = np.abs(movement.courses[..., LAG]).sum(0).argmax()
    length = np.hypot(*np.einsum("k,kcgh->cgh", movement.courses[:, at, LAG], movement.cells))
    most = max(float(length.max()), 1e-6)
    return np.array([length[WINDOWS[name]].max() / most for name in STREAMS], np.float32)


def per_stream(truth: Tensor, seen: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Truth [N, M, 9] and valid [N, T] for each stream, [N * V, M, 9] and [N * V, T]. `seen` is [N, M, V].

    A row that a stream sees in part keeps its kind with weight 0: finding it is neither required nor wrong.
    """
    n, rows, streams = seen.shape
    out = truth[:, None].repeat(1, streams, 1, 1)
    mine = seen.transpose(1, 2)  # [N, V, M]
    real = out[..., 0] < NONE
    out[..., 0] = torch.where(real & (mine < HARDLY), float(ABSENT), out[..., 0])
    out[..., 4] = torch.where(real & (mine < MINE), 0.0, out[..., 4])
    return out.reshape(n * streams, rows, -1), valid.repeat_interleave(streams, dim=0)
