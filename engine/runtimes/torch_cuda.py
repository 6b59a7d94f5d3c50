"""torch: rings in device memory and, on CUDA, one captured graph per batch size that every hop replays.

On CUDA a hop fills pinned buffers, replays the graph and waits once. The graph copies in, stores, gathers, runs the 2D
half, stores, gathers, runs the 1D half and copies out. A hop allocates nothing and launches no kernel separately. The
stream is the runtime's own. On the CPU the same program runs eagerly and is the reference for every runtime.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import EngineError
from engine.model import Model
from engine.rings import Rings, Step
from engine.spec import HEAD_FIELDS, ModelSpec

BATCHES = (1, 8, 64, 512)
"""Faces per captured graph. A hop is padded to the next of these sizes. Factors of 8 keep graphs few and padding cheap,
since on a GPU a hop for 8 faces costs hardly more than for 1."""
PART = BATCHES[-1]
"""A larger batch goes through the network in parts of this size, within one graph, so that activations stay small."""

Features = Callable[[Tensor], Tensor]
Heads = Callable[[Tensor, Tensor], Tensor]
HalvesFor = Callable[[int], tuple[Features, Heads]]
"""Returns the two halves, ready for up to that many faces (at most PART). It is called once per batch size."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """A `Step` as tensors, on one device."""

    crops: Tensor
    crop_write: Tensor
    crop_read: Tensor
    feature_write: Tensor
    clip_read: Tensor
    valid: Tensor

    @classmethod
    def blank(cls, spec: ModelSpec, rings: Rings, batch: int, **where: object) -> "_Inputs":
        """Buffers for `batch` faces. Every row points at scratch."""
        crops, S = batch * rings.chunk, spec.crop_px
        return cls(
            crops=torch.zeros((crops, S, S), dtype=torch.uint8, **where),  # type: ignore[call-overload]
            crop_write=torch.full((crops,), rings.crop_scratch, **where),  # type: ignore[call-overload]
            crop_read=torch.full((crops, 1 + len(spec.lags)), rings.crop_scratch, **where),  # type: ignore[call-overload]
            feature_write=torch.full((crops,), rings.feature_scratch, **where),  # type: ignore[call-overload]
            clip_read=torch.full((batch, spec.clip_frames), rings.zero_row, **where),  # type: ignore[call-overload]
            valid=torch.zeros((batch, spec.clip_frames), **where),  # type: ignore[call-overload]
        )


@dataclass(frozen=True, slots=True)
class _Hop:
    """One batch size: pinned inputs and outputs, and the graph that connects them.

    `device` and `halves` are never read again, but must stay alive. A graph knows addresses and holds no references. If
    the memory were freed, each replay would write into memory that others now own.
    """

    host: _Inputs
    device: _Inputs
    out: Tensor
    halves: tuple[Features, Heads]
    graph: "torch.cuda.CUDAGraph"


def batches(faces: int) -> list[int]:
    """Batch sizes to capture for up to `faces` faces: those of BATCHES, with the last rounded up to whole parts."""
    top = next((b for b in BATCHES if b >= faces), -(-faces // PART) * PART)
    return [*(b for b in BATCHES if b < top), top]


class TorchRuntime:
    """Rings of `faces` faces on `device`, around any two halves given as calls on tensors of that device.

    `halves_for(batch)` returns the calls for up to `batch` faces (on the CPU, for any number). On CUDA they must be
    capturable: fixed shapes, no synchronisation. With `capture` False each kernel is launched separately, as a
    comparison.
    """

    def __init__(
        self, spec: ModelSpec, halves_for: HalvesFor, faces: int, device: str, name: str, capture: bool = True
    ) -> None:
        self.spec, self.faces, self.name, self.device = spec, faces, name, torch.device(device)
        self._rings = Rings(spec, faces)
        S, C = spec.crop_px, spec.channels
        self._crops = torch.zeros((self._rings.crop_rows, S, S), dtype=torch.uint8, device=self.device)
        self._features = torch.zeros((self._rings.feature_rows, C), device=self.device)
        self._features_half, self._heads_half = halves_for(min(faces, PART))
        self._hops: dict[int, _Hop] = {}
        if self.device.type == "cuda" and capture:
            self._stream = torch.cuda.Stream(self.device)
            for batch in batches(faces):
                self._hops[batch] = self._capture(batch, *halves_for(min(batch, PART)))

    @torch.inference_mode()
    def step(self, step: Step) -> NDArray[np.float32]:
        """As `Runtime.step`."""
        if not self._hops:
            return self._eager(step)
        need = max(len(step.clip_read), -(-len(step.crops) // self._rings.chunk))
        hop = self._hops[next(b for b in self._hops if b >= need)]
        self._fill(hop.host, step)
        with torch.cuda.stream(self._stream):
            hop.graph.replay()
        self._stream.synchronize()
        return hop.out[: len(step.clip_read)].numpy().copy()

    @torch.inference_mode()
    def features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8[M, 1 + L, S, S] -> float32[M, C]."""
        return self._features_half(torch.from_numpy(crops).to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def heads(self, features: NDArray[np.float32], valid: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, T, C] and float32[N, T] -> float32[N, P, HEAD_FIELDS]."""
        on = (torch.from_numpy(a).to(self.device) for a in (features, valid))
        return self._heads_half(*on).cpu().numpy()

    def _eager(self, step: Step) -> NDArray[np.float32]:
        inputs = _Inputs(*(torch.from_numpy(getattr(step, f.name)).to(self.device) for f in fields(_Inputs)))
        if len(step.crops):
            self._store(inputs, self._features_half)
        if not len(step.clip_read):
            return np.zeros((0, self.spec.proposals, HEAD_FIELDS), np.float32)
        return torch.cat(self._score(inputs, self._heads_half)).cpu().numpy()

    def _store(self, on: _Inputs, features_half: Features) -> None:
        self._crops.index_copy_(0, on.crop_write, on.crops)
        part = PART * self._rings.chunk
        for read, write in zip(on.crop_read.split(part), on.feature_write.split(part), strict=True):
            self._features.index_copy_(0, write, features_half(self._crops[read]))

    def _score(self, on: _Inputs, heads_half: Heads) -> list[Tensor]:
        parts = zip(on.clip_read.split(PART), on.valid.split(PART), strict=True)
        return [heads_half(self._features[read], valid) for read, valid in parts]

    def _fill(self, host: _Inputs, step: Step) -> None:
        """Copies the step into pinned buffers. Unused rows read from scratch and write to it."""
        rings, blank = self._rings, {"crops": 0, "valid": 0.0}
        blank |= {"crop_write": rings.crop_scratch, "crop_read": rings.crop_scratch}
        blank |= {"feature_write": rings.feature_scratch, "clip_read": rings.zero_row}
        for field in fields(_Inputs):
            buffer, rows = getattr(host, field.name).numpy(), getattr(step, field.name)
            buffer[: len(rows)] = rows
            if field.name != "crops":  # the content of scratch does not matter
                buffer[len(rows) :] = blank[field.name]

    @torch.inference_mode()
    def _capture(self, batch: int, features_half: Features, heads_half: Heads) -> _Hop:
        host = _Inputs.blank(self.spec, self._rings, batch, pin_memory=True)
        device = _Inputs.blank(self.spec, self._rings, batch, device=self.device)
        out = torch.zeros((batch, self.spec.proposals, HEAD_FIELDS), pin_memory=True)

        def hop() -> None:
            for field in fields(_Inputs):
                getattr(device, field.name).copy_(getattr(host, field.name), non_blocking=True)
            self._store(device, features_half)
            for rows, heads in zip(out.split(PART), self._score(device, heads_half), strict=True):
                rows.copy_(heads, non_blocking=True)

        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.device)  # rings, buffers and weights were filled on another stream
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            for _ in range(3):  # libraries choose and compile kernels on first use, which capture forbids
                hop()
            self._stream.synchronize()
            with torch.cuda.graph(graph, stream=self._stream):
                hop()
            self._stream.synchronize()
        return _Hop(host, device, out, (features_half, heads_half), graph)


def torch_runtime(
    model: Model, faces: int, device: str = "cuda", precision: str = "fp32", capture: bool = True
) -> TorchRuntime:
    """MESNet itself on `device`. `precision` is fp32 (without TF32), or fp16 for learnt layers with an fp32 stem."""
    from engine.export import load_network

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError(f"no CUDA GPU for --device {device}; use --runtime onnx")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    net = load_network(model).to(device)

    def half() -> torch.autocast:
        return torch.autocast(
            torch.device(device).type, torch.float16, enabled=precision == "fp16", cache_enabled=False
        )

    def features(crops: Tensor) -> Tensor:
        local, affine = net.stem(crops)
        with half():
            return net.spatial(local, affine).float()

    def heads(feats: Tensor, valid: Tensor) -> Tensor:
        with half():  # autocast leaves box arithmetic and softmax in float32
            return net.heads(feats, valid).float()

    name = "torch" if device == "cpu" else "cuda"
    return TorchRuntime(model.spec, lambda batch: (features, heads), faces, device, name, capture)
