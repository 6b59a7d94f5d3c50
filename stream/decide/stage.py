"""Second step of the pipeline: hop in, events out. A plain object without thread, queue or clock; one thread owns it.

Live, the score thread calls it; offline, a loop. There is no other implementation.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engine.decode import Proposal, decode, score_covering
from engine.scorer import Scorer
from stream.decide.baseline import Baseline, Conditions, State
from stream.decide.emission import Emitter
from stream.decide.odds import log_odds
from stream.decide.tracker import IntervalTracker
from stream.decide.tracker_config import TrackerConfig
from stream.faces.stage import FaceHop, Hop
from stream.types import Event, FaceGap, ScoredInterval, TrackerEvent


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
