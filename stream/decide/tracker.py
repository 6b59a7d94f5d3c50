"""Turns the proposals of overlapping clips into `start` / `update` / `end` / `retract`: a pure state machine per face.

The network looks at the newest clip anew on every hop, so many successive clips propose the same movement. The first
proposals are truncated and guess the offset; later ones have all of the context. A *track* gathers the proposals of one
movement. `latency_s` decides which of them vote, as in diart (Coria et al., ASRU 2021). The verdict falls `latency_s`
after the offset, and only clips that reach past the offset vote on boundaries and score.

The verdict on a track does not depend on `threshold`, which only filters the reports. So the `end` events at one
threshold are exactly those of a run at a lower one whose score reaches it. A sweep needs only one run.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from engine.spec import KINDS
from stream.decide.intervals import clipped, iou, length_s, mean, overlap_s, share
from stream.decide.tracker_config import TrackerConfig
from stream.types import Phase, ScoredInterval, TrackerEvent

EPSILON_S = 1e-6
"""Tolerance for comparing times that are sums of hops."""
SAME_OVERLAP = 0.5
"""Two intervals are one movement if they share half of the shorter one. A truncated interval lies inside
the full one."""


class State(Enum):
    """The state of a track. Only entering and leaving `STARTED` is reported."""

    WATCHED = auto()  # gathers votes, nothing reported
    STARTED = auto()  # a `start` has been reported
    CLOSED = auto()  # the verdict has fallen; absorbs late proposals of the same movement


class Sign(Enum):
    """What one hop means for a track."""

    HIGH = auto()  # believed now
    HOLD = auto()  # neither believed nor doubted
    LOW = auto()  # doubted: faded, or a nuisance
    ACCEPT = auto()  # verdict: an ME that reaches the threshold
    REFUSE = auto()  # verdict: anything else


@dataclass(frozen=True, slots=True)
class _Hop:
    """One hop of a track: its best proposal, if any, and the highest kinds of all overlapping proposals."""

    now_s: float
    interval: ScoredInterval | None
    kinds: tuple[float, ...]

    @property
    def whole(self) -> bool:
        return self.interval is not None and self.interval.offset_s <= self.now_s + EPSILON_S

    @property
    def nuisance(self) -> int:
        """Index in KINDS of the strongest kind other than an ME."""
        return max(range(1, len(KINDS)), key=self.kinds.__getitem__)


@dataclass(slots=True, eq=False)
class _Track:
    born_s: float
    state: State = State.WATCHED
    hops: list[_Hop] = field(default_factory=list)
    believed_s: float = -math.inf
    """The last time a proposal reached the hold threshold."""
    key: int = -1
    said: tuple[float, float | None, float | None] = (0.0, None, None)
    closed: ScoredInterval | None = None
    closed_s: float = math.inf
    is_micro: bool = False
    """Whether the verdict is that this is an ME, whatever its score."""

    def estimate(self) -> ScoredInterval:
        """The score-weighted mean of the voters, or the latest proposal while the movement goes on."""
        if self.closed is not None:
            return self.closed
        votes = [hop.interval for hop in self.hops if hop.interval is not None]
        whole = [hop.interval for hop in self.hops if hop.interval is not None and hop.whole]
        return mean(whole or votes[-1:])

    def voters(self) -> list[_Hop]:
        return [hop for hop in self.hops if hop.whole]


class IntervalTracker:
    """Follows the intervals of one face. It uses no clock: `now_s` is the end of the newest clip, in stream time."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_Track] = []
        self._next_key = 0
        self._now_s = -math.inf

    def update(self, intervals: list[ScoredInterval], now_s: float) -> list[TrackerEvent]:
        """Take the newest clip's proposals (after NMS) and return the resulting events.

        Raises ValueError if time goes backwards (without a `flush` in between) or a value is not finite.
        """
        if not math.isfinite(now_s) or now_s < self._now_s:
            raise ValueError(f"now_s {now_s} must be finite and not before {self._now_s}; flush before a clock jump")
        if not all(math.isfinite(v) for i in intervals for v in (i.onset_s, i.offset_s, i.score, *i.kinds, *i.regions)):
            raise ValueError(f"a proposal at {now_s} s holds a number that is not finite")
        self._now_s = now_s
        self._forget(now_s)
        self._vote(intervals, now_s)
        live = sorted((t for t in self._tracks if t.closed is None), key=self._rank)
        return [event for track in live for event in self._step(track, *self._sign(track, now_s), now_s)]

    def flush(self, now_s: float, reason: str) -> list[TrackerEvent]:
        """Close everything, because the source or the face stopped at `now_s`. Nothing is bridged.

        Tracks past their offset are judged by the votes they have. The others are retracted with `reason`.
        """
        events = []
        for track in sorted((t for t in self._tracks if t.closed is None), key=self._rank):
            seen = track.estimate().offset_s <= now_s + EPSILON_S
            sign, why = self._verdict(track) if seen and track.voters() else (Sign.REFUSE, reason)
            events += self._step(track, sign, why, now_s)
        # a track that a gap cut is forgotten; a judged one is kept, so that it is not reported twice
        self._tracks = [t for t in self._tracks if t.is_micro]
        self._now_s = -math.inf
        return events

    def _forget(self, now_s: float) -> None:
        keep_s = now_s - self.config.memory_s
        self._tracks = [t for t in self._tracks if t.closed is None or keep_s <= t.closed_s <= now_s]
        for track in self._tracks:
            recent = [hop for hop in track.hops if hop.now_s >= now_s - self.config.vote_s - EPSILON_S]
            # a track without proposals for long keeps its last ones, because they say where it was
            if any(hop.interval is not None for hop in recent):
                track.hops = recent

    def _vote(self, intervals: list[ScoredInterval], now_s: float) -> None:
        """Assign each proposal to its track, best scores first. A proposal without a track starts a new one."""
        chosen: dict[_Track, ScoredInterval] = {}
        for interval in sorted(intervals, key=lambda i: (-i.score, i.onset_s, i.offset_s)):
            if interval.offset_s < now_s - self.config.memory_s:
                continue
            same = [t for t in self._tracks if self._means(interval, t)]
            if not same and interval.score >= self.config.floor_score:
                same = [_Track(born_s=now_s, hops=[_Hop(now_s, interval, interval.kinds)])]
                self._tracks += same
            for track in sorted(same, key=lambda t: -iou(interval, t.estimate()))[:1]:
                chosen.setdefault(track, interval)
        for track in self._tracks:
            if track.closed is None:
                self._add_hop(track, chosen.get(track), intervals, now_s)

    def _means(self, interval: ScoredInterval, track: _Track) -> bool:
        """Whether a proposal belongs to the movement of this track. For a closed track: whether it would be refused as
        a duplicate.
        """
        if track.closed is not None:
            return iou(interval, track.closed) >= self.config.nms_iou
        return share(interval, track.estimate()) >= SAME_OVERLAP

    def _add_hop(self, track: _Track, own: ScoredInterval | None, all_: list[ScoredInterval], now_s: float) -> None:
        where = track.estimate()
        near = [i.kinds for i in all_ if i is own or overlap_s(i, where) >= SAME_OVERLAP * length_s(where) > 0]
        kinds = tuple(max(column) for column in zip(*near, strict=True)) if near else (0.0,) * len(KINDS)
        if track.hops and track.hops[-1].now_s == now_s:
            track.hops.pop()  # the first hop, now with the kinds of every neighbour
        track.hops.append(_Hop(now_s, own, kinds))
        if own is not None and own.score >= self.config.hold_threshold:
            track.believed_s = now_s

    def _sign(self, track: _Track, now_s: float) -> tuple[Sign, str]:
        """Returns what this hop means for a live track, and why it is doubted or refused."""
        config, where, newest = self.config, track.estimate(), track.hops[-1]
        observed_s = min(now_s, where.offset_s) - where.onset_s
        settled = now_s - where.offset_s >= config.latency_s - EPSILON_S
        old = now_s - track.born_s
        if settled and (len(track.voters()) >= config.score_votes or old >= config.latency_s):
            return self._verdict(track)
        if old > config.max_s + config.latency_s + config.vote_s:  # an offset that moves on for ever
            return Sign.REFUSE, "macro" if observed_s > config.max_s else "faded"
        if observed_s > config.max_s:
            return Sign.LOW, "macro"
        if len(track.hops) > 1 and all(self._is_nuisance(hop) for hop in track.hops[-2:]):
            return Sign.LOW, KINDS[newest.nuisance]
        if now_s - track.believed_s >= config.fade_s - EPSILON_S:
            return Sign.LOW, "faded"
        high = newest.interval is not None and newest.interval.score >= config.start_threshold
        return (Sign.HIGH if high and not self._is_nuisance(newest) else Sign.HOLD), ""

    def _is_nuisance(self, hop: _Hop) -> bool:
        return self._outweighs(hop.kinds[hop.nuisance], hop.interval.score if hop.interval else 0.0)

    def _outweighs(self, nuisance: float, score: float) -> bool:
        return nuisance >= self.config.nuisance_ratio * max(score, self.config.floor_score)

    def _verdict(self, track: _Track) -> tuple[Sign, str]:
        """Judge a settled track by its voters. Only the last line uses the threshold."""
        where, score = track.estimate(), self._score(track)
        nuisances = [self._best_votes(hop.kinds[k] for hop in track.voters()) for k in range(1, len(KINDS))]
        if self._outweighs(max(nuisances), score):
            return Sign.REFUSE, KINDS[1 + nuisances.index(max(nuisances))]
        if score < self.config.floor_score:
            return Sign.REFUSE, "faded"
        if length_s(where) > self.config.max_s:
            return Sign.REFUSE, "macro"
        rivals = [t for t in self._tracks if t is not track and (t.is_micro or t.closed is None)]
        rivals = [t for t in rivals if t.is_micro or self._score(t) > score]
        if any(iou(where, t.estimate()) >= self.config.nms_iou for t in rivals):
            return Sign.REFUSE, "duplicate"
        where = clipped(where, [t.estimate() for t in rivals if t.is_micro])
        if length_s(where) < self.config.min_s - EPSILON_S:
            return Sign.REFUSE, "too_short"
        track.is_micro, track.closed = True, replace(where, score=score)
        return (Sign.ACCEPT, "") if score >= self.config.threshold else (Sign.REFUSE, "faded")

    def _score(self, track: _Track) -> float:
        return self._best_votes(hop.interval.score for hop in track.voters() if hop.interval is not None)

    def _best_votes(self, values: Iterable[float]) -> float:
        """Returns the mean of the best `score_votes` values. Missing ones count as 0, so a single flash counts half."""
        return sum(sorted(values, reverse=True)[: self.config.score_votes]) / self.config.score_votes

    def _rank(self, track: _Track) -> tuple[float, float, float]:
        return -self._score(track), track.estimate().onset_s, track.born_s

    def _step(self, track: _Track, sign: Sign, why: str, now_s: float) -> list[TrackerEvent]:
        """The transition table."""
        match track.state, sign:
            case State.WATCHED, Sign.HIGH:
                track.state = State.STARTED
                return [self._start(track, now_s)]
            case State.WATCHED, Sign.ACCEPT:
                self._close(track, now_s)
                return [self._start(track, now_s), _event(Phase.END, track, now_s)]
            case State.WATCHED, Sign.REFUSE:
                self._close(track, now_s)
            case State.STARTED, Sign.HIGH | Sign.HOLD if self._moved(track, now_s):
                return [_event(Phase.UPDATE, track, now_s)]
            case State.STARTED, Sign.LOW:
                track.state = State.WATCHED
                return [_event(Phase.RETRACT, track, now_s, why)]
            case State.STARTED, Sign.ACCEPT:
                self._close(track, now_s)
                return [_event(Phase.END, track, now_s)]
            case State.STARTED, Sign.REFUSE:
                self._close(track, now_s)
                return [_event(Phase.RETRACT, track, now_s, why)]
        return []

    def _start(self, track: _Track, now_s: float) -> TrackerEvent:
        track.key, self._next_key = self._next_key, self._next_key + 1
        return _event(Phase.START, track, now_s)

    def _close(self, track: _Track, now_s: float) -> None:
        track.closed, track.closed_s, track.state = track.estimate(), now_s, State.CLOSED

    def _moved(self, track: _Track, now_s: float) -> bool:
        pairs = zip(track.said, _seen_times(track.estimate(), now_s), strict=True)
        return any(b is not None and (a is None or abs(a - b) >= self.config.update_s) for a, b in pairs)


def _event(phase: Phase, track: _Track, now_s: float, why: str | None = None) -> TrackerEvent:
    where = track.estimate()
    track.said = _seen_times(where, now_s)
    return TrackerEvent(phase, track.key, *track.said, where.score, where.regions, why)


def _seen_times(where: ScoredInterval, now_s: float) -> tuple[float, float | None, float | None]:
    """Returns onset, apex and offset, with None for those still in the future."""
    apex_s, offset_s = (t if t <= now_s + EPSILON_S else None for t in (where.apex_s, where.offset_s))
    return min(where.onset_s, now_s), apex_s, offset_s
