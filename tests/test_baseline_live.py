"""The baseline in its place: in the score stage, between the network's heads and the tracker's threshold."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from engine.spec import CLASSES, HEAD_FIELDS, ModelSpec
from stream.decide.baseline import CALIBRATING_S, DECIDES_S, BaselineLaw, Conditions, KnownBaseline, State
from stream.decide.emission import Emitter, OfflineEdge
from stream.decide.odds import log_odds, probability
from stream.decide.operating_point import ProbabilityMap
from stream.decide.policy import Policy
from stream.decide.stage import ScoreStage
from stream.decide.tracker_config import TrackerConfig
from stream.faces.condition import Condition
from stream.faces.stage import FaceStage
from stream.types import FaceGap, FaceHop, Hop, Phase, Quality

SPEC = ModelSpec()
LAW = BaselineLaw(gain=1.0, usual=-5.0)
QUALITY = Quality(180, 0, 0, 0.4, 110)


@dataclass
class Script:
    """In place of the network: a level everywhere, MEs (onset in s, log-odds) in clips that have seen their ends."""

    level: float
    mes: list[tuple[float, float]] = field(default_factory=list)
    spec: ModelSpec = SPEC
    floor: float = 0.1
    newest: int = 0

    def heads(self, new: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {face: self._rows() for face in new}

    def forget(self, face: int) -> None:
        pass

    def _rows(self) -> np.ndarray:
        now_s = self.newest / SPEC.fps
        spans = [(s, s + 0.4, self.level) for s in np.arange(now_s - 2, now_s, 0.2)]
        spans += [(s, s + 0.4, odds) for s, odds in self.mes if now_s - 1.6 < s and s + 0.4 <= now_s]
        rows = np.zeros((len(spans), HEAD_FIELDS), np.float32)
        for row, (onset_s, offset_s, odds) in zip(rows, spans, strict=True):
            frames = np.array([onset_s, (onset_s + offset_s) / 2, offset_s]) * SPEC.fps
            row[:3] = frames - self.newest + SPEC.clip_frames - 1
            row[3] = probability(odds)
            row[3 + len(CLASSES) - 1] = 1 - row[3]
            row[9] = 1
        return rows


def run(script: Script, seconds: float, stage: ScoreStage, quality: Quality = QUALITY) -> tuple[list, list]:
    """Hops of one face for so long; all events and the whole trace."""
    events, trace = [], []
    end = script.newest + round(seconds * SPEC.fps)
    while script.newest + SPEC.hop_frames <= end:
        script.newest += SPEC.hop_frames
        crops = np.zeros((SPEC.hop_frames, 128, 128), np.uint8)
        scored = stage.step(Hop((FaceHop(1, 0, script.newest, crops, quality),), 0.0, 30.0))
        events += scored.events
        trace += scored.trace
    return events, trace


def stage_of(
    script: Script,
    threshold: float = 0.5,
    law: BaselineLaw | None = LAW,
    known: KnownBaseline | None = None,
    curve: ProbabilityMap | None = None,
) -> ScoreStage:
    policy = Policy(TrackerConfig().at(threshold), probability=curve, law=law, known=known)
    return ScoreStage(script, Emitter("test", OfflineEdge()), policy)  # type: ignore[arg-type]


def test_a_face_is_calibrating_at_first_and_decided_by_everybodys_threshold():
    """An ME of the first five seconds is told as ever; then the level counts, though it may not be kept yet."""
    script = Script(-4.0, mes=[(4.0, 2.0)])
    stage = stage_of(script)
    events, trace = run(script, DECIDES_S, stage)
    assert [e.phase for e in events if e.phase is Phase.END] == [Phase.END]
    assert {point.threshold for point in trace} == {0.5}
    _, trace = run(script, CALIBRATING_S - 1 - DECIDES_S, stage)
    assert stage.calibrating == {1}
    assert log_odds(trace[-1].threshold) == pytest.approx(1.0, abs=0.1)
    _, trace = run(script, 3, stage)
    assert stage.calibrating == frozenset()
    assert log_odds(trace[-1].threshold) == pytest.approx(1.0, abs=0.1), "its threshold, not everybody's, is traced"


@pytest.mark.parametrize(("level", "told"), [(-5.0, 4), (-3.5, 0)])
def test_the_same_score_is_told_on_a_quiet_face_and_not_on_a_noisy_one(level, told):
    """Four movements of log-odds 1: above everybody's threshold, below that of a face that is noisier by 1.5."""
    script = Script(level, mes=[(20.0 + 3 * i, 1.0) for i in range(4)])
    events, _ = run(script, 34, stage_of(script))
    assert sum(e.phase is Phase.END for e in events) == told


def test_the_noisy_face_still_has_its_clear_mes_told_however_many_there_are():
    """One every two seconds from the first second on: none of them is learnt away."""
    script = Script(-4.5, mes=[(1.0 + 2 * i, 3.0) for i in range(30)])
    events, trace = run(script, 62, stage_of(script))
    assert sum(e.phase is Phase.END for e in events) == 30
    assert log_odds(trace[-1].threshold) < 1.2


def test_without_a_law_nothing_is_calibrated_or_moved():
    script = Script(-2.0)
    stage = stage_of(script, law=None)
    _, trace = run(script, 15, stage)
    assert stage.calibrating == frozenset()
    assert {point.threshold for point in trace} == {0.5}


def test_a_known_baseline_decides_from_the_first_hop():
    script = Script(-3.0)
    stage = stage_of(script, known=KnownBaseline(-3.0, 0.3, 60, Conditions(110, 180, 30)))
    _, trace = run(script, 2, stage)
    assert stage.calibrating == frozenset()
    assert log_odds(trace[0].threshold) == pytest.approx(2.0, abs=0.1)


def test_another_light_starts_it_anew():
    script = Script(-3.0)
    stage = stage_of(script)
    run(script, 20, stage)
    assert stage.calibrating == frozenset()
    run(script, 3, stage, Quality(180, 0, 0, 0.4, 40))
    assert stage.calibrating == {1}


def test_a_face_that_is_gone_for_good_takes_its_baseline_along():
    script = Script(-3.0)
    stage = stage_of(script)
    run(script, 20, stage)
    gap = FaceGap(1, script.newest / SPEC.fps, "lost", final=True)
    stage.step(Hop((FaceHop(1, 0, script.newest, np.zeros((0, 128, 128), np.uint8), QUALITY, gap),), 0.0, 30.0))
    assert stage.calibrating == frozenset()
    run(script, 2, stage)
    assert stage.calibrating == {1}


def test_an_event_says_how_often_such_a_one_is_right_on_such_a_face():
    """On a noisier face the same score is right less often: the map is asked about the score less the shift."""
    said = {}
    for level in (-5.0, -4.0):
        script = Script(level, mes=[(20.0, 2.0)])
        stage = stage_of(script, curve=ProbabilityMap((-7.0, 7.0), (-8.0, 6.0)))
        events, _ = run(script, 24, stage)
        (said[level],) = (e.probability for e in events if e.phase is Phase.END)
    assert log_odds(said[-5.0]) == pytest.approx(1.0, abs=0.15)
    assert log_odds(said[-4.0]) == pytest.approx(0.0, abs=0.2)


def test_the_status_calls_the_face_calibrating():
    stage = FaceStage.__new__(FaceStage)  # the states alone: no faces are looked for

    class _Followed:
        lost, condition = None, Condition()

    stage._followed = {1: _Followed(), 2: _Followed()}  # type: ignore[dict-item]
    assert [(s.face_id, s.state) for s in stage.states({2})] == [(1, "watching"), (2, "calibrating")]
    assert State.CALIBRATING == "calibrating"
