"""MESNet: a micro-expression spotting network. `engine.streams` holds the (2+1)D half of its regional shape.

After Wang, He, Li, Fu, "MESNet: A Convolutional Neural Network for Spotting Multi-Scale Micro-Expression Intervals in
Long Videos", IEEE TIP 30, 2021, doi 10.1109/TIP.2021.3064258. We keep its three modules:

1. `STCN`: (2+1)D convolution. 2D convolutions see one frame, and 1D convolutions see their features over time. Our 2D
half begins with a fixed motion stem, so it receives displacements instead of grey levels. It depends only on a frame
and its `lags`. A live program therefore runs it once per frame and keeps the feature.

2. `CPN`, clip proposal network: multi-scale candidate clips at every `stride` frames.

3. `CRN`, classification-regression network: the class of a candidate, and its onset, apex and offset.

Layer sizes, anchors and the stem are ours, since the paper's code is not public. `engine.decode` applies non-maximum
suppression to overlapping outputs.

Axes: N clips or frames, T frames of a clip, L lags, S side of a crop, G side of the motion grid, C feature channels, P
candidates of a clip, R samples of a candidate.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.spec import CLASSES, REGIONS, ModelSpec
from engine.streams import Streams1D, Streams2D, shown_in

STEM_CHANNELS = 5
"""Per lag and grid cell: motion x, motion y, confidence x, confidence y, residual."""

MOTION_FLOOR = 4.0
"""Ridge of the least squares, in (grey levels / px)^2. It is the gradient energy that webcam noise alone produces."""


def grid_side(spec: ModelSpec) -> int:
    """G: cells along a side of the motion grid."""
    return spec.crop_px // MotionStem.grid_px


class MotionStem(nn.Module):
    """Closed-form local displacement between a crop and its lagged crops (Lucas and Kanade 1981). Nothing is learnt.

    Each window solves a weighted least squares over the structure tensor. The means are removed, so that a change of
    light is not motion. Then the stem fits an affine motion of the whole face robustly over the grid and subtracts it.
    This removes the rest of head motion and alignment jitter. Grey levels are first normalised to a common mean and
    contrast.
    """

    grid_px = 8
    filters: Tensor
    window: Tensor
    basis: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.side = grid_side(spec)
        self.lags = len(spec.lags)
        # Derivatives of a Gaussian, sigma 1 px, at every second px. This is enough for structure that survives a
        # webcam.
        x = torch.arange(-3, 4, dtype=torch.float32)
        g = torch.exp(-x * x / 2)
        g = g / g.sum()
        d = x * g / (x * x * g).sum()
        smooth, dx, dy = torch.outer(g, g), torch.outer(g, d), torch.outer(d, g)
        self.register_buffer("filters", torch.stack([smooth, dx, dy])[:, None], persistent=False)
        w = torch.tensor([1.0, 2, 3, 4, 4, 3, 2, 1])  # triangular windows of 16 px, 8 px apart
        window = torch.outer(w, w) / w.sum() ** 2
        self.register_buffer("window", window.expand(9 * self.lags, 1, 8, 8).contiguous(), persistent=False)
        t = torch.linspace(-1, 1, self.side)
        basis = torch.stack(
            [torch.ones(self.side, self.side), t.expand(self.side, -1), t[:, None].expand(-1, self.side)]
        )
        self.register_buffer("basis", basis.reshape(3, -1), persistent=False)  # 1, x, y over the grid

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 1+L, S, S] grey 0..255 -> local motion [N, 5L, G, G] and the removed affine motion [N, 6L]."""
        n = crops.shape[0]
        images = crops.to(torch.float32)
        mean = images.mean(dim=(2, 3), keepdim=True)
        images = images - mean
        contrast = (images * images).mean(dim=(2, 3), keepdim=True).sqrt()
        # Scaling by contrast alone makes a change of exposure no motion. The minimum keeps pure noise from being
        # amplified.
        images = images * (37.0 / contrast.clamp(min=8.0))
        maps = F.conv2d(images.reshape(n * (1 + self.lags), 1, *crops.shape[2:]), self.filters, stride=2, padding=3)
        maps = maps.reshape(n, 1 + self.lags, 3, *maps.shape[2:])
        now, past = maps[:, :1], maps[:, 1:]
        it = now[:, :, 0] - past[:, :, 0]  # [N, L, S/2, S/2]
        ix, iy = (now[:, :, 1] + past[:, :, 1]) / 2, (now[:, :, 2] + past[:, :, 2]) / 2
        moments = torch.cat([ix, iy, it, ix * ix, ix * iy, iy * iy, ix * it, iy * it, it * it], dim=1)
        moments = F.conv2d(moments, self.window, stride=4, padding=2, groups=9 * self.lags)
        mx, my, mt, xx, xy, yy, xt, yt, tt = moments.split(self.lags, dim=1)  # each [N, L, G, G]
        xx, xy, yy = xx - mx * mx + MOTION_FLOOR, xy - mx * my, yy - my * my + MOTION_FLOOR
        xt, yt, tt = xt - mx * mt, yt - my * mt, tt - mt * mt
        det = xx * yy - xy * xy
        u, v = (xy * yt - yy * xt) / det, (xy * xt - xx * yt) / det
        residual = (tt + u * xt + v * yt).clamp(min=0.0)
        cx, cy = 1 - MOTION_FLOOR / xx, 1 - MOTION_FLOOR / yy
        u, v, affine = self.without_affine(u, v, cx * cy)
        local = torch.cat([asinh(u * 10), asinh(v * 10), cx, cy, torch.log1p(residual) / 3], dim=1)
        return local, asinh(affine * 10)

    def without_affine(self, u: Tensor, v: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Subtracts the affine motion that most of the face shares. The second pass gives more weight to what fitted
        the first.

        u, v and weight are [N, L, G, G]. Returns u and v without the motion, and its coefficients [N, 6L]: rows 1, x,
        y; columns u, v.
        """
        shape = u.shape
        u, v, weight = (a.reshape(shape[0], self.lags, -1) for a in (u, v, weight))
        coefficients = u.new_zeros(0)
        weights = weight + 1e-3
        ru, rv = u, v
        for _ in range(2):
            wb = weights[:, :, None] * self.basis  # [N, L, 3, G*G]
            normal = wb @ self.basis.T  # [N, L, 3, 3]
            right = wb @ torch.stack([u, v], dim=-1)  # [N, L, 3, 2]
            coefficients = solve3(normal, right)
            fit = self.basis.T @ coefficients  # [N, L, G*G, 2]
            ru, rv = u - fit[..., 0], v - fit[..., 1]
            weights = (weight + 1e-3) / (1 + (ru * ru + rv * rv) * 100)  # half weight at 0.1 px off the common motion
        return ru.reshape(shape), rv.reshape(shape), coefficients.reshape(shape[0], -1)


def asinh(x: Tensor) -> Tensor:
    """Linear near 0 and logarithmic far out, so that a large motion stays large but does not dominate."""
    return torch.sign(x) * torch.log1p(x.abs())


def solve3(a: Tensor, b: Tensor) -> Tensor:
    """Solves symmetric positive 3x3 systems [..., 3, 3] x = [..., 3, k] by cofactors, which export as arithmetic."""
    a00, a01, a02 = a[..., 0, 0], a[..., 0, 1], a[..., 0, 2]
    a11, a12, a22 = a[..., 1, 1], a[..., 1, 2], a[..., 2, 2]
    c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
    c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
    det = a00 * c00 + a01 * c01 + a02 * c02
    cofactors = torch.stack([c00, c01, c02, c01, c11, c12, c02, c12, c22], dim=-1).reshape(a.shape)
    return cofactors @ b / det[..., None, None]


class STCN2D(nn.Module):
    """Spatial half of the (2+1)D network: the motion of one frame -> one feature. It runs once per frame."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        lags, widths = len(spec.lags), (64, 128, 160)
        self.enter = nn.Conv2d(STEM_CHANNELS * lags, widths[0], 3, padding=1)
        # Faces are aligned, so a place is a part of the face. This tells the first layer where it is.
        self.place = nn.Parameter(torch.zeros(widths[0], grid_side(spec), grid_side(spec)))
        self.norm1 = nn.BatchNorm2d(widths[0])
        self.down1 = nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(widths[1])
        self.down2 = nn.Conv2d(widths[1], widths[2], 3, stride=2, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(widths[2])
        cells = (grid_side(spec) // 4) ** 2
        self.leave = nn.Linear(widths[2] * cells + 6 * lags, spec.channels)

    def forward(self, local: Tensor, affine: Tensor) -> Tensor:
        """[N, 5L, G, G] and [N, 6L] -> [N, C]."""
        x = F.relu(self.norm1(self.enter(local) + self.place))
        x = F.relu(self.norm2(self.down1(x)))
        x = F.relu(self.norm3(self.down2(x)))
        return self.leave(torch.cat([x.flatten(1), affine], dim=1))


class STCN1D(nn.Module):
    """Temporal half of the (2+1)D network: dilated residual 1D convolutions that see about a second to either side."""

    dilations = (1, 2, 4, 8, 16)

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        c = spec.channels
        self.enter = nn.Conv1d(c + 1, c, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv1d(c, c, 3, padding=d, dilation=d, bias=False) for d in self.dilations)
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for _ in self.dilations)

    def forward(self, feats: Tensor, valid: Tensor) -> Tensor:
        """[N, T, C] and [N, T] (1 where a frame exists) -> [N, C, T]."""
        x = torch.cat([feats * valid[..., None], valid[..., None]], dim=2).transpose(1, 2)
        x = F.relu(self.enter(x))
        for conv, norm in zip(self.blocks, self.norms, strict=True):
            x = x + F.relu(norm(conv(x)))
        return x


class CPN(nn.Module):
    """Clip proposal network: decides at every anchor centre and length whether something is there, and how to move the
    anchor."""

    centres: Tensor
    lengths: Tensor

    def __init__(self, spec: ModelSpec, channels: int) -> None:
        super().__init__()
        self.stride, self.scales = spec.stride, len(spec.anchors)
        self.conv = nn.Conv1d(channels, 3 * self.scales, 3, padding=1, stride=spec.stride)
        self.first = spec.centres.start // spec.stride
        centres = torch.tensor(spec.centres, dtype=torch.float32)
        lengths = torch.tensor(spec.anchors, dtype=torch.float32)
        self.register_buffer("centres", centres.repeat_interleave(self.scales), persistent=False)
        self.register_buffer("lengths", lengths.repeat(len(centres)), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, T] -> objectness logits [N, P] and candidate clips [N, P, 2] (start, end in frames)."""
        raw = self.conv(x)[..., self.first :]  # [N, 3*scales, centres]
        raw = raw.reshape(-1, 3, self.scales, raw.shape[2]).transpose(2, 3).flatten(2)  # [N, 3, P], P = centre * scale
        centre = self.centres + torch.tanh(raw[:, 1]) * self.lengths
        half = self.lengths * torch.exp(torch.tanh(raw[:, 2])) / 2
        return raw[:, 0], torch.stack([centre - half, centre + half], dim=-1)


class CRN(nn.Module):
    """Classification-regression network over features sampled inside each candidate, with context on either side."""

    samples = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    """Sample positions within a candidate: 0 is its start, 1 its end."""
    at: Tensor
    time: Tensor

    def __init__(self, spec: ModelSpec, channels: int, width: int = 64) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, width, 1)
        self.mix = nn.Linear(width * len(self.samples), width)
        self.classify = nn.Linear(width, len(CLASSES))
        self.regress = nn.Linear(width, 3)
        self.place = nn.Linear(width, len(REGIONS))
        self.register_buffer("at", torch.tensor(self.samples), persistent=False)
        self.register_buffer("time", torch.arange(spec.clip_frames, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, C, T] and [N, P, 2] -> class logits [N, P, 6], onset/apex/offset [N, P, 3], region logits [N, P, 4]."""
        n, p = clips.shape[0], clips.shape[1]
        start, length = clips[..., 0], clips[..., 1] - clips[..., 0]
        at = (start[..., None] + length[..., None] * self.at).reshape(n, -1)  # [N, P*R]
        weights = F.relu(1 - (at[..., None] - self.time).abs())  # linear interpolation as a matrix [N, P*R, T]
        sampled = weights @ F.relu(self.reduce(x)).transpose(1, 2)
        h = F.relu(self.mix(sampled.reshape(n, p, -1)))
        raw = torch.tanh(self.regress(h))
        onset, offset = start + raw[..., 0] * length / 2, clips[..., 1] + raw[..., 2] * length / 2
        apex = onset + (raw[..., 1] + 1) / 2 * (offset - onset)
        return self.classify(h), torch.stack([onset, apex, offset], dim=-1), self.place(h)


class RawHeads(NamedTuple):
    """Outputs before any squashing."""

    objectness: Tensor  # logits [N, P]
    clips: Tensor  # [N, P, 2] start, end of the proposed clips, frames
    classes: Tensor  # logits [N, P, len(CLASSES)]
    times: Tensor  # [N, P, 3] onset, apex, offset, frames
    regions: Tensor  # logits [N, P, len(REGIONS)]
    frames: Tensor  # logits [N, len(CLASSES) - 1, T]: the classes of each frame


class MESNet(nn.Module):
    """The three modules in sequence. `features` is the cached half. `heads` runs again at every hop.

    A regional network runs V streams. Its `raw_heads` returns the candidates of N * V, with each clip's streams in a
    row.
    """

    spatial: STCN2D | Streams2D
    temporal: STCN1D | Streams1D
    shown: Tensor

    def __init__(self, spec: ModelSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or ModelSpec()
        self.stem = MotionStem(self.spec)
        if self.spec.streams > 1:
            own = self.spec.stream_channels
            self.spatial = Streams2D(self.spec, STEM_CHANNELS)
            self.temporal = Streams1D(self.spec, STCN1D.dilations)
            self.cpn, self.crn = CPN(self.spec, own), CRN(self.spec, 2 * own, 32)
            self.register_buffer("shown", shown_in(), persistent=False)
        else:
            own = self.spec.channels
            self.spatial, self.temporal = STCN2D(self.spec), STCN1D(self.spec)
            self.cpn, self.crn = CPN(self.spec, own), CRN(self.spec, own)
        self.own = own
        # The classes of each frame are an extra task in training and not part of the exported network.
        self.framewise = nn.Conv1d(own, len(CLASSES) - 1, 1)

    def features(self, crops: Tensor) -> Tensor:
        """Crops [N, 1+L, S, S] (newest first, then `lags` frames back) -> [N, C]."""
        return self.spatial(*self.stem(crops))

    def heads(self, feats: Tensor, valid: Tensor) -> Tensor:
        """Features [N, T, C], oldest first, valid [N, T] -> float32[N, P, HEAD_FIELDS], columns as in `engine.spec`."""
        raw = self.raw_heads(feats, valid)
        p = torch.softmax(raw.classes, dim=-1)
        # CPN and CRN must agree on a micro-expression. The probability that the CPN removes goes to `none`.
        micro = p[..., :1] * torch.sigmoid(raw.objectness)[..., None]
        none = p[..., -1:] + p[..., :1] - micro
        if self.spec.streams == 1:
            regions = torch.softmax(raw.regions, dim=-1)
            return torch.cat([raw.times, micro, p[..., 1:-1], none, regions], dim=-1)
        found = torch.cat([raw.times, micro, p[..., 1:-1], none], dim=-1)
        each = (feats.shape[0], self.spec.streams, -1)
        # The region where the movement appears follows from all streams' scores for the same anchor.
        evidence = micro.reshape(each).transpose(1, 2) + 1e-6  # [N, P / V, V]
        regions = (evidence @ self.shown) / evidence.sum(dim=-1, keepdim=True)
        regions = regions[:, None].expand(-1, self.spec.streams, -1, -1).reshape(feats.shape[0], -1, len(REGIONS))
        return torch.cat([found.reshape(feats.shape[0], -1, found.shape[-1]), regions], dim=-1)

    def raw_heads(self, feats: Tensor, valid: Tensor) -> RawHeads:
        """The raw outputs that training compares with the truth. Arguments are those of `heads`."""
        x = self.temporal(feats, valid)
        own = x[:, : self.own]  # a stream proposes from its own features; the context helps to classify
        objectness, clips = self.cpn(own)
        classes, times, regions = self.crn(x, clips.detach())
        return RawHeads(objectness, clips, classes, times, regions, self.framewise(own))
