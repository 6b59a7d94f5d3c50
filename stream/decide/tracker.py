"""Overlapping clips' proposals in, `start` / `update` / `end` / `retract` out: a pure state machine per face.

Every hop the network looks at the newest clip afresh, so one movement is proposed by many successive clips: first
truncated, its offset guessed into the future, then with all of its context. A *track* gathers the proposals that mean
the same movement. Which of them vote on it is chosen by `latency_s`, as in diart (Coria et al., ASRU 2021): the verdict
falls `latency_s` after the offset, and only clips that reach past the offset vote on boundaries and score.

The verdict on a track looks at no threshold; `threshold` only filters what is said of it. So the `end` events at a
threshold are exactly those of a run at a lower one whose score reaches it, and a sweep needs one run.
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
"""Slack in comparing times that are sums of hops."""
SAME_OVERLAP = 0.5
"""Two intervals mean one movement when they share half of the shorter: a truncated one lies inside the full one."""


class State(Enum):
    """Where a track is. Only the way into and out of `STARTED` is heard outside."""

    WATCHED = auto()  # gathers votes, nothing said
    STARTED = auto()  # a `start` is out
    CLOSED = auto()  # the verdict has fallen; absorbs late proposals of the same movement


class Sign(Enum):
    """What one hop means for one track."""

    HIGH = auto()  # believed now
    HOLD = auto()  # neither believed nor doubted
    LOW = auto()  # doubted: faded, or a nuisance
    ACCEPT = auto()  # verdict: an ME that reaches the threshold
    REFUSE = auto()  # verdict: anything else


@dataclass(frozen=True, slots=True)
class _Hop:
    """One hop of a track: the proposal that stands for it, if any, and every overlapping proposal's kinds (maximum)."""

    now_s: float
    interval: ScoredInterval | None
    kinds: tuple[float, ...]

    @property
    def whole(self) -> bool:
        return self.interval is not None and self.interval.offset_s <= self.now_s + EPSILON_S

    @property
    def nuisance(self) -> int:
        """Index into KINDS of the strongest kind that is no ME."""
        return max(range(1, len(KINDS)), key=self.kinds.__getitem__)


@dataclass(slots=True, eq=False)
class _Track:
    born_s: float
    state: State = State.WATCHED
    hops: list[_Hop] = field(default_factory=list)
    believed_s: float = -math.inf
    """Last time that a proposal reached the hold threshold."""
    key: int = -1
    said: tuple[float, float | None, float | None] = (0.0, None, None)
    closed: ScoredInterval | None = None
    closed_s: float = math.inf
    is_micro: bool = False
    """Closed by the verdict that this is an ME, whatever its score."""

    def estimate(self) -> ScoredInterval:
        """Score-weighted mean of the voters; of a movement still going on, the latest proposal."""
        if self.closed is not None:
            return self.closed
        votes = [hop.interval for hop in self.hops if hop.interval is not None]
        whole = [hop.interval for hop in self.hops if hop.interval is not None and hop.whole]
        return mean(whole or votes[-1:])

    def voters(self) -> list[_Hop]:
        return [hop for hop in self.hops if hop.whole]


class IntervalTracker:
    """Follows the intervals of one face. Knows no clock: `now_s` is the end of the newest clip, stream time."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._tracks: list[_Track] = []
        self._next_key = 0
        self._now_s = -math.inf

    def update(self, intervals: list[ScoredInterval], now_s: float) -> list[TrackerEvent]:
        """Take the newest clip's proposals (after NMS) and say what follows.

        Raises ValueError when time goes backwards (without a `flush` in between) or a value is not finite.
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
        """Close everything: the source or the face stopped at `now_s`, nothing will be bridged.

        What has passed its offset is judged by the votes it has; the rest is retracted with `reason`.
        """
        events = []
        for track in sorted((t for t in self._tracks if t.closed is None), key=self._rank):
            seen = track.estimate().offset_s <= now_s + EPSILON_S
            sign, why = self._verdict(track) if seen and track.voters() else (Sign.REFUSE, reason)
            events += self._step(track, sign, why, now_s)
        # what a gap cut says nothing of what follows it; what was judged still must not be said twice
        self._tracks = [t for t in self._tracks if t.is_micro]
        self._now_s = -math.inf
        return events

    def _forget(self, now_s: float) -> None:
        keep_s = now_s - self.config.memory_s
        self._tracks = [t for t in self._tracks if t.closed is None or keep_s <= t.closed_s <= now_s]
        for track in self._tracks:
            recent = [hop for hop in track.hops if hop.now_s >= now_s - self.config.vote_s - EPSILON_S]
            # a track that nothing proposed for long keeps its last proposals: they say where it was
            if any(hop.interval is not None for hop in recent):
                track.hops = recent

    def _vote(self, intervals: list[ScoredInterval], now_s: float) -> None:
        """Give each proposal to the track it means, best scores first; found a track where it means none."""
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
        """Whether a proposal means the movement of this track; of a closed one, what would be refused as its double."""
        if track.closed is not None:
            return iou(interval, track.closed) >= self.config.nms_iou
        return share(interval, track.estimate()) >= SAME_OVERLAP

    def _add_hop(self, track: _Track, own: ScoredInterval | None, all_: list[ScoredInterval], now_s: float) -> None:
        where = track.estimate()
        near = [i.kinds for i in all_ if i is own or overlap_s(i, where) >= SAME_OVERLAP * length_s(where) > 0]
        kinds = tuple(max(column) for column in zip(*near, strict=True)) if near else (0.0,) * len(KINDS)
        if track.hops and track.hops[-1].now_s == now_s:
            track.hops.pop()  # the founding hop: now with every neighbour's kinds
        track.hops.append(_Hop(now_s, own, kinds))
        if own is not None and own.score >= self.config.hold_threshold:
            track.believed_s = now_s

    def _sign(self, track: _Track, now_s: float) -> tuple[Sign, str]:
        """What this hop means for a live track, and why when it is doubted or refused."""
        config, where, newest = self.config, track.estimate(), track.hops[-1]
        observed_s = min(now_s, where.offset_s) - where.onset_s
        settled = now_s - where.offset_s >= config.latency_s - EPSILON_S
        old = now_s - track.born_s
        if settled and (len(track.voters()) >= config.score_votes or old >= config.latency_s):
            return self._verdict(track)
        if old > config.max_s + config.latency_s + config.vote_s:  # an offset that flees for ever
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
        """Judge a settled track by its voters. Everything but the last line is blind to the threshold."""
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
        """Mean of the best `score_votes` values; missing ones count as 0, so a single flash is worth half."""
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
    """Onset, apex and offset; None for what still lies in the future."""
    apex_s, offset_s = (t if t <= now_s + EPSILON_S else None for t in (where.apex_s, where.offset_s))
    return min(where.onset_s, now_s), apex_s, offset_s
