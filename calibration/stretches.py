"""The data of the fits: stretches of watched faces, with the true MEs, the detections and the level of the face.

They come from pools of clips of tuning people (`engine.training.pools.pool`), through the live decisions without video.
Or they come from a bench of videos (`engine.bench_data`), through the whole live path.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.model import Model
from engine.spec import CLASSES, ModelSpec
from stream.decide.baseline import BaselineLaw
from stream.decide.odds import log_odds, probability
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError
from stream.types import Phase, TrackerEvent

MICRO = CLASSES.index("micro")
TAIL = 12
"""Frames at the end of a sequence in which no decision comes any more."""
FLOOR = TrackerConfig().floor_score
APART_S = 0.5
"""A detection's level uses only hops at least this far from it."""
LEVEL_ITSELF = BaselineLaw(gain=1.0, usual=0.0, lowest=-9.0, highest=9.0)
"""Under this law the shift of a face is its level."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One video or clip at the lowest threshold.

    `levels`: the face's level (log-odds) for each detection, None while unknown. `usual`: its level over the whole
    stretch. `source`: name of its pool or bench.
    """

    result: VideoResult
    levels: tuple[float | None, ...]
    usual: float | None = None
    source: str = ""

    def under(self, law: BaselineLaw) -> VideoResult:
        """The result with scores relative to the common threshold. An `end` is emitted if its score reaches that."""
        moved = [
            replace(d, score=d.score if level is None else probability(log_odds(d.score) - law.shift(level)))
            for d, level in zip(self.result.detections, self.levels, strict=True)
        ]
        return replace(self.result, detections=tuple(moved))


def from_pools(folders: Sequence[Path], model: Model) -> list[Stretch]:
    """Every sequence of these pools. A sequence's group is its shard, since pools don't name the person.

    Sequences are too short for a live baseline, so each detection's level is the median of the hops away from it.
    """
    import torch

    from engine.export import load_network
    from engine.training.learn.online import clips_of
    from engine.training.pools.pool import SHARD, Pool
    from engine.training.pools.stemmed import features_of

    net, stretches = load_network(model), []
    for number, folder in enumerate(folders):
        pool, name = Pool([folder], model.spec), folder.resolve().name
        for index in range(len(pool)):
            rows, table = pool[index]
            with torch.no_grad():
                features = features_of(net, torch.as_tensor(np.array(rows))[None])[0]
                heads = net.heads(*clips_of(features, model.spec)).numpy()
            group = f"pool {number} shard {index // SHARD}"
            stretch = _sequence(group, index, heads, table, len(rows), model.spec)
            stretches.append(replace(stretch, source=name))
    return stretches


def _sequence(group: str, index: int, heads: NDArray, table: NDArray, frames: int, spec: ModelSpec) -> Stretch:
    from engine.training.learn.online import decide_sequence

    decided = list(decide_sequence(heads, frames, spec, TrackerConfig().at(FLOOR)))
    hops = [(one.settled.time_s, log_odds(one.settled.level)) for one in decided if one.settled is not None]
    events = [event for one in decided for event in one.events]
    micros = [Truth(round(float(r[1])), round(float(r[3]))) for r in table[table[:, 0] == MICRO]]
    # An ME that either end cuts off is not required, and its detections are no false alarms.
    whole = tuple(t for t in micros if t.onset >= 0 and t.offset <= frames - TAIL)
    cut = [t for t in micros if t not in whole]
    found = [e for e in events if e.phase is Phase.END and not any(_touches(e, t, spec.fps) for t in cut)]
    result = VideoResult(group, str(index), spec.fps, frames / spec.fps, whole, _detections(found, spec.fps))
    return Stretch(result, tuple(_level_apart(hops, e) for e in found), float(np.median([odds for _, odds in hops])))


def _touches(event: TrackerEvent, truth: Truth, fps: float) -> bool:
    return event.onset_s * fps <= truth.offset and truth.onset <= (event.offset_s or event.onset_s) * fps


def _level_apart(hops: Sequence[tuple[float, float]], event: TrackerEvent) -> float | None:
    assert event.offset_s is not None
    began_s, ended_s = event.onset_s - APART_S, event.offset_s + APART_S
    apart = [odds for at_s, odds in hops if not began_s <= at_s <= ended_s]
    return float(np.median(apart)) if apart else None


def _detections(ends: Iterable[TrackerEvent], fps: float) -> tuple[Detection, ...]:
    return tuple(Detection(round(e.onset_s * fps), round((e.offset_s or e.onset_s) * fps), e.score) for e in ends)


def from_bench(bench: Path, model: Model, split: str = "tune") -> Iterator[Stretch]:
    """Videos of a bench through the live path, one after another. Levels are those of the live baseline.

    Raises UserError if the bench has no video of the split.
    """
    from engine.datasets.truth import load_truth
    from engine.evaluation.events import judged
    from engine.evaluation.live import record_file
    from stream.config import Config

    videos = [v for v in load_truth(bench / "truth.json") if v.split == split]
    if not videos:
        raise UserError(f"{bench} has no video of split {split}; make it: python -m engine.bench_data --split {split}")
    config = Config(offline=True, model=model.directory, max_faces=1)
    for video in videos:
        recording = record_file(bench / video.file, config, LEVEL_ITSELF)
        said = [s for s in recording.replay(TrackerConfig().at(FLOOR)) if s.phase == "end"]
        level = {(face, step.now_s): step.shift for face, steps in enumerate(recording.faces) for step in steps}
        levels = (level[s.face, s.emitted_s or 0.0] for s in said)
        # A face has 0 before its level counts. No face scores even odds while nothing happens.
        last = [steps[-1].shift or None for steps in recording.faces if steps]
        usual = last[0] if last else None
        yield Stretch(judged(video, said).result, tuple(x or None for x in levels), usual, bench.resolve().name)
