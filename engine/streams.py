"""Regional streams: the (2+1)D network as parallel small streams over overlapping parts of the motion grid.

A micro-expression is local, and a face that speaks moves elsewhere at the same time. One feature for the whole face
mixes both. So each stream sees its own part only, in space and time, and proposes its own clips. A pooled context of
the whole face helps to classify a clip. The brow alone can't tell a brow ME during speech from an accent of speech.

The streams share their convolutions. Each has its own layer from the grid to its feature, and an embedding of its
place.

Axes are as in `engine.mesnet`, with V streams and W channels per stream. A frame's feature holds the V streams'
features and then the context: C = (V + 1) * W.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.spec import REGIONS, STREAMS, ModelSpec

HALF = 8
"""Side of the grid that is divided into streams: half the side of the motion grid."""
CUTS = {
    # Rows and columns of that grid. Cell k covers cell 2k of the motion grid.
    "brows_r": (slice(0, 3), slice(0, 4)),
    "brows_l": (slice(0, 3), slice(4, 8)),
    "eyes": (slice(2, 5), slice(1, 7)),
    "cheeks": (slice(3, 6), slice(1, 7)),
    "mouth_r": (slice(4, 8), slice(1, 5)),
    "mouth_l": (slice(4, 8), slice(3, 7)),
}
"""The part that each stream sees. Left and right are the person's own; the image's left is their right."""


class Streams2D(nn.Module):
    """Spatial half: motion of one frame -> features of the streams and of their context. It runs once per frame."""

    def __init__(self, spec: ModelSpec, stem_channels: int) -> None:
        super().__init__()
        lags, (first, then), width = len(spec.lags), (32, 64), spec.stream_channels
        self.enter = nn.Conv2d(stem_channels * lags, first, 3, padding=1)
        self.place = nn.Parameter(torch.zeros(first, 2 * HALF, 2 * HALF))
        self.norm1 = nn.BatchNorm2d(first)
        self.down = nn.Conv2d(first, then, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(then)
        self.mix = nn.Conv2d(then, then, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(then)
        cells = [len(range(*rows.indices(HALF))) * len(range(*cols.indices(HALF))) for rows, cols in CUTS.values()]
        self.leave = nn.ModuleList(nn.Linear(then * n, width) for n in cells)
        self.context = nn.Linear(2 * then + 6 * lags, width)

    def forward(self, local: Tensor, affine: Tensor) -> Tensor:
        """[N, 5L, G, G] and [N, 6L] -> [N, (V + 1) * W]."""
        x = F.relu(self.norm1(self.enter(local) + self.place))
        x = F.relu(self.norm2(self.down(x)))
        x = F.relu(self.norm3(self.mix(x)))
        parts = [
            leave(x[:, :, rows, cols].flatten(1)) for leave, (rows, cols) in zip(self.leave, CUTS.values(), strict=True)
        ]
        whole = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), affine], dim=1)
        return torch.cat([*parts, self.context(whole)], dim=1)


class Dilated(nn.Module):
    """Dilated residual 1D convolutions over the features of one stream. They see about a second to either side."""

    def __init__(self, width: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilations = dilations
        self.enter = nn.Conv1d(width + 1, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d, bias=False) for d in dilations)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in dilations)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """[N, W + 1, T] and the place's contribution [N, W, 1] -> [N, W, T]."""
        x = F.relu(self.enter(x) + place)
        for conv, norm in zip(self.blocks, self.norms, strict=True):
            x = x + F.relu(norm(conv(x)))
        return x


class Streams1D(nn.Module):
    """Temporal half: the same convolutions run over every stream separately, then the shared context is added."""

    def __init__(self, spec: ModelSpec, dilations: tuple[int, ...]) -> None:
        super().__init__()
        width = self.width = spec.stream_channels
        self.own, self.whole = Dilated(width, dilations), Dilated(width, dilations)
        self.place = nn.Parameter(torch.zeros(len(STREAMS), width, 1))
        self.pool = nn.Conv1d(3 * width, width, 1)

    def forward(self, feats: Tensor, valid: Tensor) -> Tensor:
        """[N, T, (V + 1) * W] and [N, T] -> [N * V, 2 * W, T]: each stream's own features, then the context."""
        n, t, streams, width = feats.shape[0], feats.shape[1], len(STREAMS), self.width
        there = valid[:, None, :, None]
        x = (feats * valid[..., None]).reshape(n, t, streams + 1, width).transpose(1, 2)  # [N, V + 1, T, W]
        x = torch.cat([x, there.expand(n, streams + 1, t, 1)], dim=3).transpose(2, 3)
        own = x[:, :streams].reshape(n * streams, width + 1, t)
        own = self.own(own, self.place.repeat(n, 1, 1))
        each = own.reshape(n, streams, width, t)
        context = self.whole(x[:, streams], torch.zeros_like(self.place[:1]))
        pooled = F.relu(self.pool(torch.cat([each.mean(dim=1), each.amax(dim=1), context], dim=1)))
        pooled = pooled[:, None].expand(n, streams, width, t).reshape(n * streams, width, t)
        return torch.cat([own, pooled], dim=1)


def shown_in() -> Tensor:
    """Which of REGIONS each stream reports on, float32[V, len(REGIONS)]."""
    return torch.tensor([[float(REGIONS[k] == name) for k in range(len(REGIONS))] for name in STREAMS.values()])
