"""Judging a network on pooled sequences by the live program's own decisions: clips every hop, decode, tracker."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from engine.decode import decode
from engine.mesnet import MESNet
from engine.spec import ModelSpec
from engine.training.loss import MICRO
from engine.training.pool import LENGTH, Pool
from engine.training.stemmed import features_of
from stream.tracker import IntervalTracker, TrackerConfig
from stream.types import Phase, ScoredInterval

SWEEP = TrackerConfig().at(0.1)
"""Low enough that every threshold of interest can be read off one run (see `stream.tracker`)."""


@dataclass(frozen=True, slots=True)
class Spotted:
    """An `end` event of sequence `index`, times in frames of the sequence."""

    index: int
    onset: float
    offset: float
    score: float


class Online:
    """A network run over sequences of features as the live program runs it over faces."""

    def __init__(self, net: MESNet, device: str = "cpu") -> None:
        self.net, self.device, self.spec = net, device, net.spec

    @torch.no_grad()
    def spot(self, index: int, rows: Tensor) -> list[Spotted]:
        """All `end` events of one sequence of stem rows [LENGTH, features]."""
        feats = features_of(self.net, rows.to(self.device)[None])[0]
        heads = self.net.heads(*clips_of(feats, self.spec)).cpu().numpy()
        tracker, out = IntervalTracker(SWEEP), []
        for k, clip in enumerate(heads):
            now = (k + 1) * self.spec.hop_frames - 1
            scored = [_in_time(p, now, self.spec.fps) for p in decode(clip, self.spec.clip_frames)]
            out += tracker.update(scored, now / self.spec.fps)
        out += tracker.flush((len(feats) - 1) / self.spec.fps, "end")
        ends = [e for e in out if e.phase is Phase.END and e.offset_s is not None]
        return [Spotted(index, e.onset_s * self.spec.fps, e.offset_s * self.spec.fps, e.score) for e in ends]  # type: ignore[operator]


def clips_of(feats: Tensor, spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """Features [n, C] of a sequence -> the clips that end at every hop [H, T, C] and which of their frames exist [H, T]."""
    padded = torch.cat([feats.new_zeros(spec.clip_frames, feats.shape[1]), feats])
    ends = torch.arange(spec.hop_frames, len(feats) + 1, spec.hop_frames, device=feats.device)
    at = ends[:, None] + torch.arange(spec.clip_frames, device=feats.device)
    return padded[at], (at >= spec.clip_frames).float()


def _in_time(p, now: int, fps: int) -> ScoredInterval:
    at = [(now + frame) / fps for frame in (p.start_frame, p.apex_frame, p.end_frame)]
    return ScoredInterval(*at, p.score, p.kinds, p.regions)


def judge(online: Online, pool: Pool, limit: int = 400) -> dict[str, float]:
    """Best F1 over thresholds (all sizes, and from 1.5 px on a 256-px face) and recall at one false alarm a minute."""
    spotted: list[Spotted] = []
    truth: list[tuple[int, float, float, float]] = []
    count = min(len(pool), limit)
    for index in range(count):
        rows, table = pool[index]
        spotted += online.spot(index, torch.as_tensor(np.array(rows)))
        for row in table[table[:, 0] == MICRO]:
            # what the sequence cuts off can't be asked for; it still excuses what is spotted there
            truth.append((index, float(row[1]), float(row[3]), float(row[4])))
    minutes = count * LENGTH / online.spec.fps / 60
    whole = [t for t in truth if t[1] >= 0 and t[2] <= LENGTH - 12]
    cut = [t for t in truth if t not in whole]
    hits = matches(spotted, whole)
    alarms = [s for s, hit in zip(spotted, hits, strict=True) if hit is None and not _touches(s, cut)]
    scores = np.array([s.score for s in spotted])
    hit_scores = np.array([s.score for s, hit in zip(spotted, hits, strict=True) if hit is not None])
    big_scores = np.array(
        [s.score for s, hit in zip(spotted, hits, strict=True) if hit is not None and whole[hit][3] >= 1]
    )
    alarm_scores = np.array([s.score for s in alarms])
    big = sum(t[3] >= 1 for t in whole)

    def f1(threshold: float, found: np.ndarray, wanted: int) -> float:
        tp, fp = (found >= threshold).sum(), (alarm_scores >= threshold).sum()
        return float(2 * tp / max(tp + fp + wanted, 1))

    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, 60))) if len(scores) else np.array([0.5])
    best = max(thresholds, key=lambda t: f1(t, hit_scores, len(whole)))
    quiet = next((t for t in sorted(thresholds) if (alarm_scores >= t).sum() <= minutes), 1.0)
    return {
        "f1": f1(best, hit_scores, len(whole)),
        "f1_large": max(f1(t, big_scores, big) for t in thresholds),
        "threshold": float(best),
        "alarms_per_min": float((alarm_scores >= best).sum() / minutes),
        "recall": float((hit_scores >= best).sum() / max(len(whole), 1)),
        "recall_at_1_per_min": float((hit_scores >= quiet).sum() / max(len(whole), 1)),
        "recall_large_at_1_per_min": float((big_scores >= quiet).sum() / max(big, 1)),
    }


def matches(spotted: list[Spotted], truth: list[tuple[int, float, float, float]]) -> list[int | None]:
    """Index of the truth that each event hits at IoU >= 0.5, one to one, best scores first."""
    free: dict[int, list[int]] = {}
    for i, t in enumerate(truth):
        free.setdefault(t[0], []).append(i)
    hits: list[int | None] = [None] * len(spotted)
    for k in sorted(range(len(spotted)), key=lambda k: -spotted[k].score):
        s = spotted[k]
        near = [(_iou(s.onset, s.offset, *truth[i][1:3]), i) for i in free.get(s.index, [])]
        overlap, i = max(near, default=(0.0, -1))
        if overlap >= 0.5:
            hits[k] = i
            free[s.index].remove(i)
    return hits


def _iou(a0: float, a1: float, b0: float, b1: float) -> float:
    shared = min(a1, b1) - max(a0, b0)
    return max(shared, 0) / (max(a1, b1) - min(a0, b0))


def _touches(s: Spotted, intervals: Iterable[tuple[int, float, float, float]]) -> bool:
    return any(i == s.index and _iou(s.onset, s.offset, b0, b1) > 0 for i, b0, b1, _ in intervals)
