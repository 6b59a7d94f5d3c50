"""Compares the events of runtimes on videos, by the program's own decisions.

The hops of a video are made once and scored by any runtime. Faces are found and aligned once per video, so only the
runtime can make two results differ.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.datasets.truth import TruthVideo, load_truth
from engine.evaluation.matching import Detection, Truth, by_score
from engine.matching import match
from engine.model import Model
from engine.runtimes import Runtime
from engine.scorer import Scorer
from stream.config import Config
from stream.decide.emission import Emitter, OfflineEdge
from stream.decide.policy import policy_of
from stream.decide.stage import ScoreStage
from stream.errors import UserError
from stream.faces.finder import Faces
from stream.faces.landmarks import Landmarker
from stream.faces.stage import FaceStage
from stream.sources import open_source
from stream.types import Event, Hop


@dataclass(frozen=True, slots=True)
class Watched:
    """A video after the face stage, hop by hop. `truths` are its MEs in frames at `fps`, or None if unknown."""

    name: str
    hops: tuple[Hop, ...]
    fps: float
    truths: tuple[Truth, ...] | None = None

    @property
    def stretches(self) -> list[NDArray[np.uint8]]:
        """Crops between gaps of all its faces, uint8[n, S, S] each."""
        out: list[NDArray[np.uint8]] = []
        open_: dict[int, list[NDArray[np.uint8]]] = {}
        for face in (face for hop in self.hops for face in hop.faces):
            open_.setdefault(face.face_id, []).append(face.crops)
            if face.gap is not None:
                out.append(np.concatenate(open_.pop(face.face_id)))
        return out


def watch(path: Path, model: Model, landmarker: Landmarker, truth: TruthVideo | None = None) -> Watched:
    """One face of a video file, as the live path sees it. Raises UserError."""
    stage, hops = FaceStage(Faces(landmarker, 1), model.spec, 1), list[Hop]()
    with closing(open_source(str(path), paced=False)) as source:
        while (item := source.read()) is not None:
            hops += stage.step(item, 0.0)
    hops += stage.end(0.0)
    if truth is None:
        return Watched(path.name, tuple(hops), model.spec.fps)
    fps = truth.fps
    known = [Truth(round(i.onset_s * fps), round(i.offset_s * fps)) for i in truth.intervals if i.kind == "micro"]
    return Watched(path.name, tuple(hops), fps, tuple(known))


def bench_videos(folder: Path) -> list[tuple[Path, TruthVideo]]:
    """The `test` videos of a folder with a truth.json. Raises UserError."""
    found = [(folder / video.file, video) for video in load_truth(folder / "truth.json") if video.split == "test"]
    if not found:
        raise UserError(f"--bench {folder}: no video of split test in its truth.json", code=2)
    return found


def ends_of(watched: Watched, runtime: Runtime, model: Model, threshold: float | None = None) -> list[Event]:
    """The `end` events of the program's own decisions on these hops, at the threshold or else the model's own point."""
    policy = policy_of(Config(source=watched.name, offline=True, threshold=threshold), model, watched.name)
    stage = ScoreStage(Scorer(runtime, model.spec), Emitter(watched.name, OfflineEdge()), policy)
    return [event for hop in watched.hops for event in stage.step(hop).events if event.phase == "end"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a runtime's `end` events with the reference's, over all videos.

    `identical`: events with the same onset and offset frame. `apart_frames`: the largest difference of an onset or
    offset in a matched pair (IoU >= 0.5, one to one). `f1`: by the truth, or by the reference for videos without truth.
    """

    ends: int
    wanted: int
    identical: int
    apart_frames: float
    f1: float


def agreement(
    videos: Sequence[Watched], found: Sequence[Sequence[Event]], wanted: Sequence[Sequence[Event]]
) -> Agreement:
    """Events per video of a runtime against the reference's."""
    identical, hits, ends, truths, apart = 0, 0, 0, 0, [0.0]
    for video, got, want in zip(videos, found, wanted, strict=True):
        ours, theirs = _detections(got, video.fps), _detections(want, video.fps)
        frames = [(d.onset, d.offset) for d in theirs]
        identical += sum((d.onset, d.offset) in frames for d in ours)
        apart += [
            max(abs(a.onset_s - b.onset_s), abs(_offset_s(a) - _offset_s(b))) * video.fps
            for a, b in _pairs(got, want, video.fps)
        ]
        known = [Truth(d.onset, d.offset) for d in theirs] if video.truths is None else video.truths
        hits += sum(t is not None for t in match(known, by_score(ours)))
        ends, truths = ends + len(ours), truths + len(known)
    f1 = 2 * hits / (ends + truths) if ends + truths else 1.0
    return Agreement(ends, sum(map(len, wanted)), identical, max(apart), f1)


def _detections(events: Iterable[Event], fps: float) -> list[Detection]:
    return [Detection(round(e.onset_s * fps), round(_offset_s(e) * fps), e.score) for e in events]


def _pairs(got: Sequence[Event], want: Sequence[Event], fps: float) -> list[tuple[Event, Event]]:
    known = [Truth(d.onset, d.offset) for d in _detections(want, fps)]
    of = match(known, _detections(got, fps))
    return [(event, want[t]) for event, t in zip(got, of, strict=True) if t is not None]


def _offset_s(event: Event) -> float:
    assert event.offset_s is not None, "an `end` has an offset"
    return event.offset_s
