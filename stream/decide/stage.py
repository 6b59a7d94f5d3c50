"""Second step of the pipeline: it takes a hop and returns events. A plain object without thread, queue or clock, owned
by one thread.

The score thread calls it live, and a loop calls it offline. There is no other implementation.
"""

from dataclasses import dataclass, field

from engine.scorer import Scorer
from stream.decide.baseline import Baseline, Conditions, State
from stream.decide.decider import Decided, Decider, Step
from stream.decide.emission import Emitter
from stream.decide.odds import log_odds
from stream.decide.policy import Policy
from stream.types import Event, FaceGap, FaceHop, Hop, TracePoint


@dataclass(frozen=True, slots=True)
class Scored:
    """The result of a hop: events, one trace point per face, and the steps of each face's tracker."""

    events: list[Event] = field(default_factory=list)
    trace: list[TracePoint] = field(default_factory=list)
    steps: list[tuple[int, Step]] = field(default_factory=list)


class ScoreStage:
    """Scores the faces of a hop as one batch and decides for each. Owned by one thread.

    `calibrating`: faces whose baseline is still being measured. Other threads may read it.
    """

    def __init__(self, scorer: Scorer[int], emitter: Emitter, policy: Policy) -> None:
        self.policy = policy
        self.calibrating: frozenset[int] = frozenset()
        self._scorer = scorer
        self._emitter = emitter
        self._deciders: dict[int, Decider] = {}

    @property
    def runtime(self) -> str:
        """The runtime that runs the network."""
        return self._scorer.runtime.name

    def baseline(self, face_id: int) -> Baseline | None:
        """Returns the baseline of a watched face, or None if it has none."""
        return self._deciders[face_id].baseline if face_id in self._deciders else None

    def change_scorer(self, scorer: Scorer[int], hop: Hop) -> Scored:
        """Go on with a scorer that knows nothing of the past, so what is open is closed. `hop`: the one that failed."""
        self._scorer = scorer
        scored = Scored()
        for face in hop.faces:
            if decider := self._deciders.get(face.face_id):
                seen_s = (face.newest - len(face.crops)) / scorer.spec.fps
                self._tell(face, decider.cut(seen_s, "runtime_lost"), hop, scored)
        return scored

    def step(self, hop: Hop) -> Scored:
        """Score the batch, decide, and close what a gap cuts off."""
        fresh = {face.face_id: face.crops for face in hop.faces if len(face.crops)}
        heads = self._scorer.heads(fresh) if fresh else {}
        scored = Scored()
        for face in hop.faces:
            if face.face_id in heads:
                decider = self._decider(face.face_id)
                conditions = Conditions(face.quality.light, face.quality.face_px, hop.fps)
                decided = decider.step(heads[face.face_id], face.newest, face.first, conditions)
                self._tell(face, decided, hop, scored)
            if face.gap is not None:
                self._close(face, face.gap, hop, scored)
        known = ((face_id, decider.baseline) for face_id, decider in self._deciders.items())
        self.calibrating = frozenset(i for i, b in known if b is not None and b.state is State.CALIBRATING)
        return scored

    def _decider(self, face_id: int) -> Decider:
        if face_id not in self._deciders:
            policy, scorer = self.policy, self._scorer
            self._deciders[face_id] = Decider(scorer.spec, policy.tracker, policy.new_baseline(), scorer.floor)
        return self._deciders[face_id]

    def _close(self, face: FaceHop, gap: FaceGap, hop: Hop, scored: Scored) -> None:
        self._scorer.forget(face.face_id)
        decider = self._deciders.get(face.face_id)
        if decider is not None and face.newest >= 0:
            # the stretch ends with the newest crop; the gap may have been noticed much later
            seen_s = face.newest / self._scorer.spec.fps
            self._tell(face, decider.cut(seen_s, gap.reason), hop, scored)
        if gap.final:
            self._deciders.pop(face.face_id, None)

    def _tell(self, face: FaceHop, decided: Decided, hop: Hop, scored: Scored) -> None:
        """Add the result of a face's step to that of the hop."""
        now_s, shift, curve = decided.step.now_s, decided.step.shift, self.policy.probability
        scored.steps.append((face.face_id, decided.step))
        if (settled := decided.settled) is not None:
            point = TracePoint(face.face_id, settled.time_s, settled.score, settled.level, settled.threshold)
            scored.trace.append(point)
        for event in decided.events:
            right = None if curve is None else curve(log_odds(event.score) - shift)
            scored.events.append(
                self._emitter.event(face.face_id, event, now_s, hop.captured_s, face.quality, hop.fps, right)
            )
