"""Judges a network on pooled sequences by the live program's own decisions: clips every hop, decode, tracker."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mesnet import MESNet
from engine.spec import ModelSpec
from engine.training.pools.pool import LENGTH, Pool
from engine.training.pools.stemmed import features_of
from engine.training.pools.truth import MICRO
from stream.decide.decider import Decided, Decider
from stream.decide.tracker_config import TrackerConfig
from stream.types import Phase

SWEEP = TrackerConfig().at(0.1)
"""Low enough that one run gives the result at every threshold of interest (see `stream.decide.tracker`)."""
TAIL = 12
"""A micro-expression that ends within this many frames of the sequence's end can't be decided in time."""


@dataclass(frozen=True, slots=True)
class Spotted:
    """An `end` event of sequence `index`. Times are in frames of the sequence."""

    index: int
    onset: float
    offset: float
    score: float


@dataclass(frozen=True, slots=True)
class Truth:
    """A micro-expression of sequence `index`, in frames of the sequence. `weight` is as in
    `engine.training.pools.truth`."""

    index: int
    onset: float
    offset: float
    weight: float


class Online:
    """Runs a network over sequences of features as the live program runs it over faces."""

    def __init__(self, net: MESNet, device: str = "cpu") -> None:
        self.net, self.device, self.spec = net, device, net.spec

    @torch.no_grad()
    def spot(self, index: int, rows: Tensor) -> list[Spotted]:
        """All `end` events of one sequence of stem rows [LENGTH, features]."""
        feats = features_of(self.net, rows.to(self.device)[None])[0]
        heads, fps = self.net.heads(*clips_of(feats, self.spec)).cpu().numpy(), self.spec.fps
        decided = decide_sequence(heads, len(feats), self.spec, SWEEP)
        ends = [event for one in decided for event in one.events if event.phase is Phase.END]
        return [Spotted(index, e.onset_s * fps, e.offset_s * fps, e.score) for e in ends if e.offset_s is not None]


def decide_sequence(
    heads: NDArray[np.float32], frames: int, spec: ModelSpec, config: TrackerConfig
) -> Iterator[Decided]:
    """The live decisions on a sequence of that many frames. The heads float32[H, P, HEAD_FIELDS] are those of its
    hops."""
    decider = Decider(spec, config)
    for k, clip in enumerate(heads):
        yield decider.step(clip, (k + 1) * spec.hop_frames - 1)
    yield decider.cut((frames - 1) / spec.fps, "end")


def clips_of(feats: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Features [n, C] of a sequence -> the clips that end at every hop [H, T, C], valid float32[H, T]."""
    padded = torch.cat([feats.new_zeros(spec.clip_frames, feats.shape[1]), feats])
    ends = torch.arange(spec.hop_frames, len(feats) + 1, spec.hop_frames, device=feats.device)
    at = ends[:, None] + torch.arange(spec.clip_frames, device=feats.device)
    return padded[at], (at >= spec.clip_frames).float()


def judge(online: Online, pool: Pool, limit: int = 400) -> dict[str, float]:
    """The network's `figures` on the first `limit` sequences of a pool."""
    spotted: list[Spotted] = []
    truth: list[Truth] = []
    count = min(len(pool), limit)
    for index in range(count):
        rows, table = pool[index]
        spotted += online.spot(index, torch.as_tensor(np.array(rows)))
        truth += [Truth(index, float(r[1]), float(r[3]), float(r[4])) for r in table[table[:, 0] == MICRO]]
    return figures(spotted, truth, count * LENGTH / online.spec.fps / 60)


def figures(spotted: list[Spotted], truth: list[Truth], minutes: float) -> dict[str, float]:
    """Best F1 over thresholds (all sizes, and from 1.5 px on a 256-px face), and recall at one false alarm a minute.

    A micro-expression at the end of a sequence is not required. Detections of it are not false alarms either.
    """
    whole = [t for t in truth if t.onset >= 0 and t.offset <= LENGTH - TAIL]
    cut = [t for t in truth if t not in whole]
    hits = matches(spotted, whole)
    found = [(s.score, whole[hit]) for s, hit in zip(spotted, hits, strict=True) if hit is not None]
    alarms = [s for s, hit in zip(spotted, hits, strict=True) if hit is None and not any(_shared(s, t) for t in cut)]
    hit_scores, alarm_scores = np.array([score for score, _ in found]), np.array([s.score for s in alarms])
    large_scores = np.array([score for score, t in found if t.weight >= 1])
    large = sum(t.weight >= 1 for t in whole)

    def f1(threshold: float, scores: NDArray[np.float64], wanted: int) -> float:
        tp, fp = (scores >= threshold).sum(), (alarm_scores >= threshold).sum()
        return float(2 * tp / max(tp + fp + wanted, 1))

    said = [s.score for s in spotted] or [0.5]
    thresholds = np.unique(np.quantile(said, np.linspace(0, 1, 60)))
    best = max(thresholds, key=lambda t: f1(t, hit_scores, len(whole)))
    quiet = next((t for t in thresholds if (alarm_scores >= t).sum() <= minutes), np.inf)
    return {
        "f1": f1(best, hit_scores, len(whole)),
        "f1_large": max(f1(t, large_scores, large) for t in thresholds),
        "threshold": float(best),
        "alarms_per_min": float((alarm_scores >= best).sum() / minutes),
        "recall": float((hit_scores >= best).sum() / max(len(whole), 1)),
        "recall_at_1_per_min": float((hit_scores >= quiet).sum() / max(len(whole), 1)),
        "recall_large_at_1_per_min": float((large_scores >= quiet).sum() / max(large, 1)),
    }


def matches(spotted: list[Spotted], truth: list[Truth]) -> list[int | None]:
    """Index of the truth that each event hits at IoU >= 0.5, one to one, best scores first."""
    free: dict[int, list[int]] = {}
    for i, t in enumerate(truth):
        free.setdefault(t.index, []).append(i)
    hits: list[int | None] = [None] * len(spotted)
    for k in sorted(range(len(spotted)), key=lambda k: -spotted[k].score):
        here = free.get(spotted[k].index, [])
        near = [(_shared(spotted[k], truth[i]), i) for i in here]
        overlap, i = max(near, default=(0.0, -1))
        if overlap >= 0.5:
            hits[k] = i
            here.remove(i)
    return hits


def _shared(s: Spotted, t: Truth) -> float:
    """IoU, 0 in different sequences."""
    shared = min(s.offset, t.offset) - max(s.onset, t.onset) if s.index == t.index else 0.0
    return max(shared, 0.0) / (max(s.offset, t.offset) - min(s.onset, t.onset))
