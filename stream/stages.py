"""The two steps of the pipeline, each a plain object without thread, queue or clock.

`FaceStage` turns what a source gives into hops, `ScoreStage` hops into events. Live, a thread each calls them; offline,
a loop. There is no other implementation of either.
"""

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.decode import Proposal, decode, score_covering
from engine.scorer import Scorer
from engine.spec import ModelSpec
from stream.baseline import Baseline, Conditions, State, log_odds
from stream.condition import MIN_FPS, Condition, RateMeter
from stream.emission import Emitter
from stream.ring import FaceRing
from stream.tracker import IntervalTracker, TrackerConfig
from stream.types import Event, FaceCrop, FaceGap, Frame, Quality, ScoredInterval, SourceGap, TrackerEvent

log = logging.getLogger("stream")


class FaceFinder(Protocol):
    """`stream.face.Faces`, as far as the pipeline needs it."""

    def update(self, frame: Frame) -> list[FaceCrop | FaceGap]:
        """Faces of one frame."""

    def gap(self, time_s: float, reason: str) -> list[FaceGap]:
        """The source has a gap."""

    def close(self, time_s: float) -> list[FaceGap]:
        """The source has ended."""

    def limit(self, max_faces: int, time_s: float) -> list[FaceGap]:
        """Follow no more than that many from now on."""


@dataclass(frozen=True, slots=True)
class FaceHop:
    """What is new of one face: `crops` uint8[n, S, S], the last at grid index `newest`; then the gap, if any.

    `first`: grid index of the face's first crop since its last gap.
    """

    face_id: int
    first: int
    newest: int
    crops: NDArray[np.uint8]
    quality: Quality
    gap: FaceGap | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """What is scored as one batch. `captured_s`: monotonic time at which its newest frame was captured."""

    faces: tuple[FaceHop, ...]
    captured_s: float
    fps: float | None


@dataclass(frozen=True, slots=True)
class FaceState:
    """What is done with a face, as the status says it."""

    face_id: int
    state: str
    reason: str | None


@dataclass(slots=True)
class _Followed:
    """A face that has a number now."""

    ring: FaceRing
    condition: Condition = field(default_factory=Condition)
    quality: Quality | None = None
    scored: int = -1
    """Grid index of the newest crop that has gone into a hop."""
    lost: str | None = None
    """Why there are no crops of it just now."""


class FaceStage:
    """Frame in, hops out: faces found, crops aligned, put on the time grid, and every hop handed on as one batch.

    `hop_frames` and `max_faces` may be set from another thread at any time (overload). `on_crop` sees every crop
    (preview).
    """

    def __init__(self, faces: FaceFinder, spec: ModelSpec, max_faces: int) -> None:
        self.hop_frames = spec.hop_frames
        self.max_faces = max_faces
        self.on_crop: Callable[[FaceCrop], None] = lambda crop: None
        self.rate = RateMeter()
        self.frames = 0
        self.faces_seen = 0
        self._faces = faces
        self._limit = max_faces
        self._spec = spec
        self._followed: dict[int, _Followed] = {}
        self._last_hop = -1
        self._first_s = self._time_s = math.nan

    @property
    def media_s(self) -> float:
        """From the first to the newest frame, on the source's clock."""
        return 0.0 if math.isnan(self._first_s) else self._time_s - self._first_s

    def step(self, item: Frame | SourceGap, captured_s: float) -> list[Hop]:
        """Take the next frame or gap of the source; return what is to be scored now, in order."""
        if isinstance(item, SourceGap):
            self.rate.clear()
            log.info("the source has a gap at %.2f s: %s", item.time_s, item.reason)
            return self._cut_all(self._faces.gap(item.time_s, item.reason), captured_s)
        self._time_s = item.time_s
        if self.frames == 0:
            self._first_s = item.time_s
        self.frames += 1
        self.rate.add(item.time_s)
        hops: list[Hop] = []
        if (limit := self.max_faces) != self._limit:
            self._limit = limit
            hops += self._cut_all(self._faces.limit(limit, item.time_s), captured_s)
        for found in self._faces.update(item):
            if isinstance(found, FaceGap):
                hops += self._cut_all([found], captured_s)
            elif (gap := self._take(found)) is not None:
                hops += self._cut_all([gap], captured_s)
                if gap.reason == "frames_missing":
                    self._take(found)
        return hops + self._due(captured_s)

    def end(self, captured_s: float) -> list[Hop]:
        """The source is over: what is open is closed."""
        return self._cut_all(self._faces.close(self._time_s), captured_s)

    def states(self, calibrating: Collection[int] = ()) -> list[FaceState]:
        """Every face that has a number now; `calibrating`: those whose baseline is still being measured."""
        out = []
        for face_id, followed in self._followed.items():
            reason = followed.lost or followed.condition.reason
            watched = "calibrating" if face_id in calibrating else "watching"
            out.append(FaceState(face_id, "cannot_spot" if reason else watched, reason))
        return out

    def _take(self, crop: FaceCrop) -> FaceGap | None:
        """Put a crop on its face's grid; or return the gap that comes before it, or instead of it."""
        followed = self._follow(crop.face_id)
        self.on_crop(crop)
        before = followed.condition.reason
        reason = followed.condition.update(crop.time_s, crop.quality, self.rate.fps)
        if reason != before:
            self._tell(crop, reason)
        followed.lost, followed.quality = None, crop.quality
        if reason:
            if followed.ring.newest is None:
                return None
            followed.scored = followed.ring.newest  # what waits was no better
            return FaceGap(crop.face_id, crop.time_s, reason)
        if followed.ring.is_gap(crop.time_s):
            return FaceGap(crop.face_id, crop.time_s, "frames_missing")
        followed.ring.push(crop)
        return None

    def _follow(self, face_id: int) -> _Followed:
        if face_id not in self._followed:
            self.faces_seen += 1
            self._followed[face_id] = _Followed(FaceRing(self._spec.fps, crop_px=self._spec.crop_px))
        return self._followed[face_id]

    def _tell(self, crop: FaceCrop, reason: str | None) -> None:
        if reason is None:
            log.info("face %d: watching again at %.2f s", crop.face_id, crop.time_s)
        elif reason == "low_fps":
            fps = self.rate.fps or 0.0
            log.warning("face %d: cannot spot: low_fps (%.1f fps, %g are needed)", crop.face_id, fps, MIN_FPS)
        else:
            log.warning("face %d: cannot spot: %s", crop.face_id, reason)

    def _cut_all(self, gaps: list[FaceGap], captured_s: float) -> list[Hop]:
        """The hops that end these faces' stretches: their crops not yet scored, then the gap."""
        hops = []
        for gap in gaps:
            followed = self._follow(gap.face_id)
            if followed.quality is not None:
                hops.append(
                    Hop((self._pending(gap.face_id, followed, followed.quality, gap),), captured_s, self.rate.fps)
                )
            followed.ring.gap()
            followed.scored = -1
            if gap.reason not in ("frames_missing", followed.condition.reason):
                followed.lost = gap.reason
            if gap.final:
                del self._followed[gap.face_id]
        return hops

    def _due(self, captured_s: float) -> list[Hop]:
        """One batch of all faces whenever the grid, which is the same for all, has come `hop_frames` further.

        Until the frame rate is known the crops wait in their rings: it may turn out too low to spot anything.
        """
        if self.rate.fps is None:
            return []
        newest = max((f.ring.newest for f in self._followed.values() if f.ring.newest is not None), default=-1)
        if newest // self.hop_frames == self._last_hop // self.hop_frames:
            return []
        self._last_hop = newest
        batch = [self._pending(face_id, f, f.quality) for face_id, f in self._followed.items() if f.quality is not None]
        faces = tuple(face for face in batch if len(face.crops))
        return [Hop(faces, captured_s, self.rate.fps)] if faces else []

    def _pending(self, face_id: int, followed: _Followed, quality: Quality, gap: FaceGap | None = None) -> FaceHop:
        ring = followed.ring
        newest = -1 if ring.newest is None else ring.newest
        count = min(len(ring), newest - followed.scored)
        followed.scored = newest
        # copied, since the ring goes on while the hop waits to be scored
        return FaceHop(face_id, ring.first, newest, ring.newest_frames(count).copy(), quality, gap)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a hop came to: events, and per face the newest settled score: (face, stream time, score, its threshold)."""

    events: list[Event]
    trace: list[tuple[int, float, float, float]]


class ScoreStage:
    """Hop in, events out: scores, intervals in stream time, decisions. Owned by one thread.

    `new_tracker` and `new_baseline` make those of a new face (no baseline: the threshold is everybody's); an evaluation
    puts others there that also write down what they are given. `probability`: log-odds of a score -> how often such an
    interval is right. `calibrating`: faces whose baseline is still being measured; other threads may read it.
    """

    def __init__(self, scorer: Scorer[int], emitter: Emitter, config: TrackerConfig) -> None:
        self.config = config
        self.new_tracker: Callable[[TrackerConfig], IntervalTracker] = IntervalTracker
        self.new_baseline: Callable[[], Baseline | None] = lambda: None
        self.probability: Callable[[float], float] | None = None
        self.calibrating: frozenset[int] = frozenset()
        self._scorer = scorer
        self._emitter = emitter
        self._trackers: dict[int, IntervalTracker] = {}
        self._baselines: dict[int, Baseline] = {}

    @property
    def runtime(self) -> str:
        """What runs the network."""
        return self._scorer.runtime.name

    def change_scorer(self, scorer: Scorer[int], hop: Hop) -> list[Event]:
        """Go on with a scorer that knows nothing of the past: what is open is closed. `hop`: the one that failed."""
        self._scorer = scorer
        events: list[Event] = []
        for face in hop.faces:
            if tracker := self._trackers.get(face.face_id):
                seen_s = (face.newest - len(face.crops)) / scorer.spec.fps
                events += self._events(face, tracker.flush(seen_s, "runtime_lost"), seen_s, hop)
        return events

    def step(self, hop: Hop) -> Scored:
        """Score the batch, decide, and close what a gap cuts."""
        fresh = {face.face_id: face.crops for face in hop.faces if len(face.crops)}
        heads = self._scorer.heads(fresh) if fresh else {}
        scored = Scored([], [])
        for face in hop.faces:
            if face.face_id in heads:
                self._decide(face, heads[face.face_id], hop, scored)
            if face.gap is not None:
                scored.events.extend(self._close(face, face.gap, hop))
        self.calibrating = frozenset(i for i, b in self._baselines.items() if b.state is State.CALIBRATING)
        return scored

    def _decide(self, face: FaceHop, heads: NDArray[np.float32], hop: Hop, scored: Scored) -> None:
        spec = self._scorer.spec
        now_s, settled_s = face.newest / spec.fps, face.newest / spec.fps - self.config.latency_s
        proposals = decode(heads, spec.clip_frames, self._scorer.floor)
        seen = [proposal for proposal in proposals if face.newest + proposal.apex_frame >= face.first]
        intervals = [to_interval(proposal, face.first, face.newest, spec.fps) for proposal in seen]
        if face.face_id not in self._trackers:
            self._trackers[face.face_id] = self.new_tracker(self.config)
            if (baseline := self.new_baseline()) is not None:
                self._baselines[face.face_id] = baseline
        tracker = self._trackers[face.face_id]
        if settled_s >= face.first / spec.fps:
            if (known := self._baselines.get(face.face_id)) is not None:
                level = score_covering(heads, spec.clip_frames, -self.config.latency_s * spec.fps)
                known.update(now_s, level, Conditions(face.quality.light, face.quality.face_px, hop.fps))
                tracker.config = self.config.at(known.threshold(self.config.threshold))
            trace = (face.face_id, settled_s, score_at(intervals, settled_s), tracker.config.threshold)
            scored.trace.append(trace)
        scored.events.extend(self._events(face, tracker.update(intervals, now_s), now_s, hop))

    def _close(self, face: FaceHop, gap: FaceGap, hop: Hop) -> list[Event]:
        self._scorer.forget(face.face_id)
        tracker = self._trackers.get(face.face_id)
        if gap.final:
            self._trackers.pop(face.face_id, None)
            self._baselines.pop(face.face_id, None)
        if tracker is None or face.newest < 0:
            return []
        # what was seen ends with the newest crop; the gap may have been noticed much later
        seen_s = face.newest / self._scorer.spec.fps
        return self._events(face, tracker.flush(seen_s, gap.reason), seen_s, hop)

    def _events(self, face: FaceHop, decisions: list[TrackerEvent], now_s: float, hop: Hop) -> list[Event]:
        return [
            replace(
                self._emitter.event(face.face_id, decided, now_s, hop.captured_s, face.quality, hop.fps),
                probability=self._probability(face.face_id, decided.score),
            )
            for decided in decisions
        ]

    def _probability(self, face_id: int, score: float) -> float | None:
        """How often an interval of this score is right, on a face whose threshold is moved as this one's is."""
        if self.probability is None:
            return None
        shift = self._baselines[face_id].shift if face_id in self._baselines else 0.0
        return self.probability(log_odds(score) - shift)


def to_interval(proposal: Proposal, first: int, newest: int, fps: int) -> ScoredInterval:
    """A proposal relative to grid index `newest` -> seconds on the source's clock, not reaching back over a gap.

    `first`: the first grid index since the gap; the apex lies behind it.
    """
    frames = (proposal.start_frame, proposal.apex_frame, proposal.end_frame)
    onset_s, apex_s, offset_s = (max(first, newest + frame) / fps for frame in frames)
    return ScoredInterval(onset_s, apex_s, offset_s, proposal.score, proposal.kinds, proposal.regions)


def score_at(intervals: list[ScoredInterval], moment_s: float) -> float:
    """The highest score of an interval that covers `moment_s`; 0 if none does: one point of the score trace."""
    return max((i.score for i in intervals if i.onset_s <= moment_s <= i.offset_s), default=0.0)
