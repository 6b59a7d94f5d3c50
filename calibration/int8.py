"""INT8: measures activations on real crops, chooses a range for each layer, and measures the cost in F1.

Ranges belong to the places of the engine's Q/DQ pairs (`engine.precision.to_int8`): the input of every learnt
convolution. There is one symmetric range per tensor; weights have one per output channel. Three methods are measured:

- `max`: the largest |activation|.
- `percentile`: the value that 99.99 % stay below.
- `entropy`: the clipping that loses least of the distribution, by Kullback-Leibler divergence (Migacz, GTC 2017).

The method with the best F1 is kept. A layer whose quantisation costs more than MOST_LOST stays in floating point.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.mesnet import MESNet
from engine.training.learn.online import Online, clips_of, judge
from engine.training.pools.pool import Pool
from engine.training.pools.stemmed import features_of

MOST_LOST = 0.01
LEVELS = 127
BINS = 2048
PERCENTILE = 99.99


@dataclass(slots=True)
class Histogram:
    """|activation| of one layer's input: int64[BINS] from 0 to `top`, which doubles when larger values come."""

    top: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    largest: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the absolute values of an array."""
        sizes = np.abs(values).ravel()
        self.largest = max(self.largest, float(sizes.max(initial=0.0)))
        if self.largest <= 0:
            return
        self.top = self.top or self.largest
        while self.top < self.largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        self.counts += np.histogram(sizes, BINS, (0, self.top))[0]


def by_max(seen: Histogram) -> float:
    """The largest value."""
    return seen.largest


def by_percentile(seen: Histogram) -> float:
    """The value that PERCENTILE of all values stay below, to the width of a bin."""
    share = np.cumsum(seen.counts) / max(int(seen.counts.sum()), 1)
    return float((np.searchsorted(share, PERCENTILE / 100) + 1) * seen.top / BINS)


def by_entropy(seen: Histogram) -> float:
    """The range whose 128 levels keep most of the distribution's information."""
    counts = seen.counts.astype(np.float64)
    counts[0] = 0  # ReLU makes millions of exact zeros, which cost nothing at any range
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else BINS
    candidates = range(LEVELS + 1, max(last, LEVELS + 1) + 1, 4)
    best = min(candidates, key=lambda bins: _divergence(counts, bins), default=BINS)
    return float(min(best * seen.top / BINS, seen.largest))


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """KL divergence of the distribution clipped at `bins` from the same distribution in 128 levels."""
    kept = counts[:bins].copy()
    kept[-1] += counts[bins:].sum()
    level = np.arange(bins) * (LEVELS + 1) // bins
    filled = counts[:bins] > 0
    total = np.bincount(level, counts[:bins], LEVELS + 1)
    wide = np.bincount(level, filled, LEVELS + 1)
    coarse = np.where(filled, total[level] / np.maximum(wide[level], 1), 0)
    p, q = kept / max(kept.sum(), 1e-12), coarse / max(coarse.sum(), 1e-12)
    real = p > 0
    return float(np.sum(p[real] * np.log(p[real] / np.maximum(q[real], 1e-12))))


WAYS: dict[str, Callable[[Histogram], float]] = {"max": by_max, "percentile": by_percentile, "entropy": by_entropy}


def layers_of(net: MESNet) -> dict[str, nn.Module]:
    """The convolutions that INT8 quantises, by their name in the exported graph.

    The export folds a convolution into the batch norm after it and gives it that name. The batch norm scales each
    output channel. Weights quantised per output channel keep the same codes, so the unfolded layers give the same
    result.
    """
    learnt = ("spatial", "temporal", "cpn", "crn")
    return {
        f"{_folded(name)}/Conv": module
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d) and name.startswith(learnt)
    }


def _folded(name: str) -> str:
    norm_of = {"spatial.down1": "spatial.norm2", "spatial.down2": "spatial.norm3"}
    return norm_of.get(name, name.replace("temporal.blocks", "temporal.norms"))


@torch.no_grad()
def observe(net: MESNet, pool: Pool, sequences: int) -> dict[str, Histogram]:
    """The inputs of each quantised layer over that many sequences, evenly drawn from the pool."""
    seen: dict[str, Histogram] = {name: Histogram() for name in layers_of(net)}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].add(inputs[0].numpy()))
        for name, layer in layers_of(net).items()
    ]
    try:
        for index in np.linspace(0, len(pool) - 1, min(sequences, len(pool))).astype(int):
            rows = torch.as_tensor(np.array(pool[int(index)][0]))
            net.heads(*clips_of(features_of(net, rows[None])[0], net.spec))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def quantised(x: Tensor, scale: Tensor | float) -> Tensor:
    """Rounds to int8 and back like QuantizeLinear and DequantizeLinear: half to even, saturating."""
    return (x / scale).round().clamp(-LEVELS - 1, LEVELS) * scale


@contextmanager
def in_int8(net: MESNet, ranges: Mapping[str, float | None]) -> Iterator[None]:
    """Within this context, these layers of the network compute as in int8. None leaves a layer unchanged."""
    hooks, kept = [], {}
    for name, layer in layers_of(net).items():
        if (largest := ranges.get(name)) is None:
            continue
        weight = layer.weight
        assert isinstance(weight, Tensor)
        kept[layer] = weight.detach().clone()
        per_channel = weight.detach().abs().flatten(1).amax(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        weight.data = quantised(weight.detach(), torch.where(per_channel > 0, per_channel / LEVELS, 1.0)).clamp(
            -per_channel, per_channel
        )
        scale = largest / LEVELS
        hooks.append(layer.register_forward_pre_hook(lambda _, inputs, scale=scale: (quantised(inputs[0], scale),)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, weight in kept.items():
            layer.weight.data = weight


@dataclass(frozen=True, slots=True)
class Choice:
    """Ranges by layer (None: stays in floating point), the method, and the F1 of everything that was tried."""

    ranges: dict[str, float | None]
    way: str
    f1_float: float
    f1_int8: float
    tried: tuple[tuple[str, float], ...]


def choose(net: MESNet, seen: Mapping[str, Histogram], f1: Callable[[], float]) -> Choice:
    """Chooses the best method by F1. While the loss is too large, the most costly layer goes back to floating point."""
    whole = f1()
    tried = [("float", whole)]
    found: dict[str, tuple[float, dict[str, float | None]]] = {}
    for way, range_of in WAYS.items():
        ranges: dict[str, float | None] = {name: range_of(h) or None for name, h in seen.items()}
        with in_int8(net, ranges):
            found[way] = f1(), ranges
        tried.append((way, found[way][0]))
    way = max(found, key=lambda w: found[w][0])
    best, ranges = found[way]
    while best < whole - MOST_LOST and any(ranges.values()):
        without = {}
        for name in [n for n, r in ranges.items() if r is not None]:
            with in_int8(net, {**ranges, name: None}):
                without[name] = f1()
        name = max(without, key=lambda n: without[n])
        best, ranges = without[name], {**ranges, name: None}
        tried.append((f"{way}, {name} in floating point", best))
    return Choice(ranges, way, whole, best, tuple((what, round(value, 4)) for what, value in tried))


def judged_on(net: MESNet, pool: Pool, sequences: int) -> Callable[[], float]:
    """F1 of the network in its state at the call: the live decisions on that many sequences, at the best threshold."""
    return lambda: float(judge(Online(net), pool, sequences)["f1"])


def rows(seen: Mapping[str, Histogram], choice: Choice) -> Sequence[dict[str, object]]:
    """The table: every layer, its three ranges, and its chosen range."""
    return [
        {
            "layer": name,
            **{way: round(range_of(seen[name]), 4) for way, range_of in WAYS.items()},
            "kept": None if choice.ranges[name] is None else round(float(choice.ranges[name] or 0), 4),
            "precision": "float" if choice.ranges[name] is None else "int8",
        }
        for name in seen
    ]
