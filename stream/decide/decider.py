"""Turns one face's scores into intervals. This is the only loop from heads to decisions:

    heads -> proposals -> intervals in stream time -> baseline (this face's threshold) -> tracker -> events

Live and offline runs, evaluation, training runs, the fits of `calibration` and the benchmarks all call it. It uses no
clock, thread or queue.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.decode import FLOOR, Proposal, decode, score_covering
from engine.spec import ModelSpec
from stream.decide.baseline import Baseline, Conditions
from stream.decide.tracker import IntervalTracker
from stream.decide.tracker_config import TrackerConfig
from stream.types import ScoredInterval, TrackerEvent

EVER = -(2**31)
"""As `first` of a step: the face has no earlier gap, so nothing is cut off there."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a tracker gets at `now_s`: intervals, or the `reason` of a cut.

    `shift`: what the face's baseline adds to the log-odds of the threshold at that moment.
    """

    now_s: float
    intervals: tuple[ScoredInterval, ...] = ()
    reason: str | None = None
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """The result for the time that has just settled: `time_s` on the source's clock, `latency_s` before the newest
    crop.

    `score`: that of the best interval at that time, 0 without one. `level`: that of the best candidate, however small.
    `threshold`: what a score must reach on this face now.
    """

    time_s: float
    score: float
    level: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of one step. `settled` is None at a cut, and until the decider has seen as much as the
    latency takes.
    """

    step: Step
    events: tuple[TrackerEvent, ...]
    settled: Settled | None = None


class Decider:
    """Decides for one face. Without a `baseline` it uses the default threshold.

    `floor`: candidates below this score are not proposed; the scorer has the value (`Scorer.floor`).
    """

    def __init__(
        self, spec: ModelSpec, config: TrackerConfig, baseline: Baseline | None = None, floor: float = FLOOR
    ) -> None:
        self.config = config
        self.baseline = baseline
        self._spec = spec
        self._floor = floor
        self._tracker = IntervalTracker(config)
        self._shift = 0.0

    def step(
        self, heads: NDArray[np.float32], newest: int, first: int = EVER, conditions: Conditions | None = None
    ) -> Decided:
        """Take the heads float32[P, HEAD_FIELDS] of the clip whose last crop has grid index `newest`.

        `first`: grid index of the face's first crop since its last gap; intervals are cut off before it. `conditions`:
        those of the baseline; only needed with a baseline.
        """
        spec, latency_s = self._spec, self.config.latency_s
        now_s, settled_s = newest / spec.fps, newest / spec.fps - latency_s
        proposals = decode(heads, spec.clip_frames, self._floor)
        seen = [p for p in proposals if newest + p.apex_frame >= first]
        intervals = tuple(in_stream_time(p, first, newest, spec.fps) for p in seen)
        settled = None
        if settled_s >= max(first, 0) / spec.fps:
            level = score_covering(heads, spec.clip_frames, -latency_s * spec.fps)
            if self.baseline is not None and conditions is not None:
                self.baseline.update(now_s, level, conditions)
                self._shift = self.baseline.shift
            threshold = self.config.shifted(self._shift).threshold
            settled = Settled(settled_s, score_at(intervals, settled_s), level, threshold)
        return self._take(Step(now_s, intervals, shift=self._shift), settled)

    def cut(self, now_s: float, reason: str) -> Decided:
        """Close what is open, because nothing is known about the face from `now_s` on."""
        return self._take(Step(now_s, reason=reason, shift=self._shift))

    @property
    def shift(self) -> float:
        """What the baseline adds to the log-odds of the threshold now."""
        return self._shift

    def _take(self, step: Step, settled: Settled | None = None) -> Decided:
        return Decided(step, tuple(take(self._tracker, self.config, step)), settled)


def take(tracker: IntervalTracker, config: TrackerConfig, step: Step) -> list[TrackerEvent]:
    """Give a tracker one step. The step's shift moves the thresholds of `config`."""
    tracker.config = config.shifted(step.shift)
    if step.reason is None:
        return tracker.update(list(step.intervals), step.now_s)
    return tracker.flush(step.now_s, step.reason)


def replay(steps: Iterable[Step], config: TrackerConfig) -> Iterator[tuple[Step, TrackerEvent]]:
    """Yields each recorded step of a face with every event that it causes under these settings."""
    tracker = IntervalTracker(config)
    return ((step, event) for step in steps for event in take(tracker, config, step))


def in_stream_time(proposal: Proposal, first: int, newest: int, fps: int) -> ScoredInterval:
    """Converts a proposal relative to grid index `newest` to seconds on the source's clock, cut off at the last gap.

    `first`: the first grid index since the gap; the apex is after it.
    """
    frames = (proposal.start_frame, proposal.apex_frame, proposal.end_frame)
    onset_s, apex_s, offset_s = (max(first, newest + frame) / fps for frame in frames)
    return ScoredInterval(onset_s, apex_s, offset_s, proposal.score, proposal.kinds, proposal.regions)


def score_at(intervals: Iterable[ScoredInterval], moment_s: float) -> float:
    """Returns one point of the score trace: the highest score of an interval that covers `moment_s`, or 0
    if none does.
    """
    return max((i.score for i in intervals if i.onset_s <= moment_s <= i.offset_s), default=0.0)
