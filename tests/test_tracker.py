"""The interval tracker: whole stories scripted as data, every state x sign, and the protocol's invariants."""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.spec import KINDS, REGIONS
from stream.decide.intervals import iou
from stream.decide.tracker import IntervalTracker, Sign, State, _Hop, _Track
from stream.decide.tracker_config import TrackerConfig
from stream.types import Phase, ScoredInterval, TrackerEvent

HOP_S = 4 / 30
CLIP_S = 64 / 30
BROWS = (1.0, 0.0, 0.0, 0.0)


def proposal(onset_s, offset_s, score=0.9, kind="micro", apex_s=None, kind_score=None):
    """A proposal whose `kind` is as sure as `kind_score` says (else as `score`)."""
    kinds = dict.fromkeys(KINDS, 0.0) | {"micro": score}
    kinds[kind] = score if kind_score is None else kind_score
    apex_s = onset_s + 0.43 * (offset_s - onset_s) if apex_s is None else apex_s
    return ScoredInterval(onset_s, apex_s, offset_s, score, tuple(kinds.values()), BROWS)


@dataclass(frozen=True)
class Movement:
    """A true movement, and how the network sees it: late, truncated at first, then whole until it leaves the clip."""

    onset_s: float
    offset_s: float
    score: float = 0.9
    kind: str = "micro"
    seen_after_s: float = 0.12
    known_after_s: float = 0.0

    def seen_at(self, now_s):
        if not self.onset_s + self.seen_after_s <= now_s <= self.onset_s + CLIP_S:
            return None
        kind = self.kind if now_s >= self.onset_s + self.known_after_s else "micro"
        score = self.score if kind == "micro" else 0.05
        if now_s < self.offset_s:  # truncated: the offset is a guess in the near future
            return proposal(
                self.onset_s + 0.02, max(now_s + 0.15, self.onset_s + 0.3), score, kind, kind_score=self.score
            )
        return proposal(self.onset_s, self.offset_s, score, kind, kind_score=self.score)


def play(movements, until_s=6.0, config=None, gaps=(), phase_s=0.0):
    """Run a whole story; returns [(now_s, event)]. `gaps`: [(from_s, to_s)] without input, flushed at their start."""
    tracker, said, cut = IntervalTracker(config), [], False
    for i in range(int(until_s / HOP_S)):
        now_s = i * HOP_S + phase_s
        gap = next((g for g in gaps if g[0] <= now_s < g[1]), None)
        if gap:
            said += [(now_s, e) for e in tracker.flush(now_s, "gap")] if not cut else []
            cut = True
            continue
        cut = False
        alive = [m for m in movements if not any(m.onset_s < g[1] <= now_s for g in gaps)]  # the ring restarts
        seen = [p for m in alive if (p := m.seen_at(now_s)) is not None]
        said += [(now_s, e) for e in tracker.update(seen, now_s)]
    return said + [(until_s, e) for e in tracker.flush(until_s, "end_of_stream")]


def phases(said):
    return [e.phase.value for _, e in said]


def outline(said):
    return [phase for phase in phases(said) if phase != "update"]


def ends(said):
    return [e for _, e in said if e.phase is Phase.END]


# ---- whole stories


@pytest.mark.parametrize("length_s", [0.2, 0.3, 0.5, 0.7])
def test_an_me_is_started_early_and_ended_once_with_its_interval(length_s):
    delays = []
    for phase_s in (0.0, 0.03, 0.06, 0.09, 0.12):
        said = play([Movement(2.0, 2.0 + length_s)], phase_s=phase_s)
        assert phases(said)[0] == "start"
        assert phases(said).count("end") == 1
        assert set(phases(said)[1:-1]) <= {"update"}
        (end,) = ends(said)
        assert abs(end.onset_s - 2.0) < 0.03
        assert abs(end.offset_s - 2.0 - length_s) < 0.03
        assert end.score == pytest.approx(0.9)
        delays.append((said[0][0] - 2.0, said[-1][0] - 2.0 - length_s))
    starts, finals = (sorted(d) for d in zip(*delays, strict=True))
    assert starts[2] <= 0.35
    assert finals[2] <= 0.5


def test_a_movement_that_turns_out_a_blink_is_taken_back_with_the_reason():
    said = play([Movement(2.0, 2.4, kind="blink", known_after_s=0.35)])
    assert outline(said) == ["start", "retract"]
    assert said[-1][1].suppressed == "blink"


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_nuisance_known_from_the_start_is_never_spoken_of(kind):
    assert play([Movement(2.0, 2.4, kind=kind)]) == []


def test_another_proposal_over_the_same_time_can_veto():
    """The kinds of overlapping proposals count, not only those of the track's own."""
    tracker, said = IntervalTracker(), []
    for i in range(15):
        now_s = 2.0 + i * HOP_S
        said += tracker.update([proposal(1.8, 2.2, 0.4), proposal(1.7, 2.5, 0.05, "head", kind_score=0.9)], now_s)
    assert not [e for e in said if e.phase is Phase.END]


def test_a_macro_that_keeps_growing_is_retracted_before_it_is_over():
    said = play([Movement(2.0, 4.0)])
    assert phases(said)[0] == "start"
    assert phases(said)[-1] == "retract"
    assert not ends(said)
    now_s, last = said[-1]
    assert last.suppressed == "macro"
    assert now_s < 3.1


def test_two_mes_close_together_stay_two():
    said = play([Movement(2.0, 2.3), Movement(2.7, 3.1)])
    assert [round(e.onset_s, 1) for e in ends(said)] == [2.0, 2.7]


def test_a_gap_in_the_middle_retracts_and_what_follows_is_new():
    said = play([Movement(2.0, 2.5), Movement(4.0, 4.4)], gaps=[(2.3, 3.0)])
    assert outline(said)[:2] == ["start", "retract"]
    assert next(e for _, e in said if e.phase is Phase.RETRACT).suppressed == "gap"
    assert [e.key for e in ends(said)] == [1]


def test_a_gap_after_the_offset_ends_what_has_enough_votes():
    said = play([Movement(2.0, 2.3)], gaps=[(2.6, 6.0)])
    assert phases(said)[-1] == "end"


def test_the_end_of_the_stream_closes_everything():
    said = play([Movement(2.0, 2.5)], until_s=2.4)
    assert outline(said) == ["start", "retract"]
    assert said[-1][1].suppressed == "end_of_stream"


def test_one_flash_is_not_enough_for_an_end():
    tracker = IntervalTracker()
    said = tracker.update([proposal(1.0, 1.3)], 1.4)
    for i in range(1, 10):
        said += tracker.update([], 1.4 + i * HOP_S)
    assert [e.phase for e in said] == [Phase.START, Phase.RETRACT]
    assert said[-1].suppressed == "faded"


def test_touching_intervals_are_clipped_so_that_ends_never_overlap():
    tracker, said = IntervalTracker(), []
    for i in range(12):
        now_s = 2.0 + i * HOP_S
        said += tracker.update(
            [proposal(1.5, 1.93), proposal(1.88, 2.3)] if now_s > 2.3 else [proposal(1.5, 1.93)], now_s
        )
    first, second = [e for e in said if e.phase is Phase.END]
    assert first.offset_s <= second.onset_s


def test_of_two_readings_of_one_movement_the_stronger_is_said():
    """Two proposals that overlap too little to be one track, too much to be two MEs."""
    tracker, said = IntervalTracker(), []
    for i in range(12):
        said += tracker.update([proposal(1.0, 1.4, 0.7), proposal(1.22, 1.7, 0.9)], 1.75 + i * HOP_S)
    (end,) = [e for e in said if e.phase is Phase.END]
    assert (end.onset_s, end.offset_s) == pytest.approx((1.22, 1.7))
    (taken_back,) = [e for e in said if e.phase is Phase.RETRACT]
    assert taken_back.suppressed == "duplicate"


def test_what_is_left_of_an_interval_that_leaves_the_clip_is_not_started_anew():
    """As the onset leaves the clip, networks propose the rest of a movement, and with confidence."""
    tracker, said = IntervalTracker(), []
    for i in range(8):
        said += tracker.update([proposal(1.0, 1.42)], 1.45 + i * HOP_S)
    for i, onset_s in enumerate((1.1, 1.2, 1.25)):
        said += tracker.update([proposal(onset_s, 1.6, 0.7)], 3.05 + i * HOP_S)
    assert [e.phase for e in said].count(Phase.START) == 1


def test_what_a_gap_cut_does_not_swallow_what_follows():
    tracker = IntervalTracker()
    said = tracker.update([proposal(2.0, 2.6)], 2.3) + tracker.flush(2.3, "gap")
    for i in range(6):
        said += tracker.update([proposal(2.35, 2.65)], 2.7 + i * HOP_S)
    assert [e.phase for e in said] == [Phase.START, Phase.RETRACT, Phase.START, Phase.END]


def test_what_was_said_before_a_gap_is_not_said_again_after_it():
    tracker, said = IntervalTracker(), []
    for i in range(5):
        said += tracker.update([proposal(1.0, 1.4)], 1.4 + i * HOP_S)
    said += tracker.flush(2.0, "gap")
    for i in range(5):
        said += tracker.update([proposal(1.0, 1.4)], 2.1 + i * HOP_S)
    assert [e.phase for e in said].count(Phase.END) == 1
    assert [e.phase for e in said].count(Phase.START) == 1


def test_a_proposal_that_slides_along_for_ever_is_given_up():
    tracker, config, said = IntervalTracker(), TrackerConfig(), []
    for i in range(40):
        now_s = 1.0 + i * HOP_S
        said += [(now_s, e) for e in tracker.update([proposal(now_s - 0.3, now_s + 0.1)], now_s)]
    first = next(now_s for now_s, e in said if e.phase is Phase.RETRACT)
    assert first - said[0][0] <= config.max_s + config.latency_s + config.vote_s + 2 * HOP_S
    assert not ends(said)


def test_a_started_interval_that_nobody_proposes_any_more_fades_at_once():
    """Long before its offset, which was guessed into the future, could have been judged."""
    tracker, said = IntervalTracker(), []
    for i in range(6):
        now_s = 1.3 + i * HOP_S
        said += [(now_s, e) for e in tracker.update([proposal(1.0, 1.9)] if i == 0 else [], now_s)]
    assert outline(said) == ["start", "retract"]
    assert said[-1][1].suppressed == "faded"
    assert said[-1][0] <= 1.3 + TrackerConfig().fade_s + HOP_S


def test_memory_is_bounded_over_minutes_of_noise():
    """Every hop founds a track; only those of the last seconds are kept."""
    tracker, most = IntervalTracker(), 0
    for i in range(600):
        now_s = 1.0 + i * HOP_S
        tracker.update([proposal(now_s - 0.13, now_s - 0.01, 0.2), proposal(now_s - 1.9, now_s - 1.8, 0.3)], now_s)
        most = max(most, len(tracker._tracks))
    assert most <= 2 * (TrackerConfig().memory_s / HOP_S + 10)


def test_time_must_not_go_back_without_a_flush():
    tracker = IntervalTracker()
    tracker.update([], 5.0)
    with pytest.raises(ValueError, match="flush before a clock jump"):
        tracker.update([], 4.0)
    tracker.flush(5.0, "clock_jump")
    tracker.update([proposal(0.5, 0.9)], 1.0)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_network_gone_mad_is_an_error(score):
    with pytest.raises(ValueError, match="not finite"):
        IntervalTracker().update([replace(proposal(0.5, 0.9), score=score)], 1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 1.5},
        {"threshold": 0.05},
        {"start_threshold": 0.1},
        {"min_s": 0.9},
        {"score_votes": 0},
        {"vote_s": 0.1},
        {"fade_s": 0.0},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        TrackerConfig(**bad)


def test_at_moves_start_and_hold_with_the_threshold():
    low, same = TrackerConfig().at(0.2), TrackerConfig().at(0.5)
    assert low.hold_threshold < low.start_threshold < low.threshold < same.start_threshold
    assert same.start_threshold == pytest.approx(TrackerConfig().start_threshold)


# ---- the transition table: every state x sign, and every state x {high, low, gap, end of stream}

SIGNS = {
    (State.WATCHED, Sign.HIGH): ([Phase.START], State.STARTED),
    (State.WATCHED, Sign.HOLD): ([], State.WATCHED),
    (State.WATCHED, Sign.LOW): ([], State.WATCHED),
    (State.WATCHED, Sign.ACCEPT): ([Phase.START, Phase.END], State.CLOSED),
    (State.WATCHED, Sign.REFUSE): ([], State.CLOSED),
    (State.STARTED, Sign.HIGH): ([], State.STARTED),
    (State.STARTED, Sign.HOLD): ([], State.STARTED),
    (State.STARTED, Sign.LOW): ([Phase.RETRACT], State.WATCHED),
    (State.STARTED, Sign.ACCEPT): ([Phase.END], State.CLOSED),
    (State.STARTED, Sign.REFUSE): ([Phase.RETRACT], State.CLOSED),
    **{(State.CLOSED, sign): ([], State.CLOSED) for sign in Sign},
}


@pytest.mark.parametrize(("state", "sign"), list(itertools.product(State, Sign)))
def test_transition_table(state, sign):
    where = proposal(1.0, 1.4)
    track = _Track(1.4, state, [_Hop(1.4, where, where.kinds)], key=0, said=(1.0, where.apex_s, 1.4))
    said = IntervalTracker()._step(track, sign, "blink", 1.5)
    assert ([e.phase for e in said], track.state) == SIGNS[state, sign]


HIGH, LOW = [proposal(1.0, 1.4, 0.9)], [proposal(1.0, 1.4, 0.15)]
REACHED = {
    State.WATCHED: [(LOW, 1.3), (LOW, 1.45)],
    State.STARTED: [(HIGH, 1.3), (HIGH, 1.45)],
    State.CLOSED: [(HIGH, 1.3), (HIGH, 1.45), (HIGH, 1.58), (HIGH, 1.71)],
}
WHOLE = {
    (State.WATCHED, "high"): ["start"],
    (State.WATCHED, "low"): [],
    (State.WATCHED, "gap"): [],
    (State.WATCHED, "end"): [],
    (State.STARTED, "high"): [],
    (State.STARTED, "low"): [],
    (State.STARTED, "gap"): ["retract"],
    (State.STARTED, "end"): ["retract"],
    **{(State.CLOSED, sign): [] for sign in ("high", "low", "gap", "end")},
}


@pytest.mark.parametrize(("state", "sign"), WHOLE)
def test_each_state_meets_high_low_gap_and_end(state, sign):
    """Through the front door: the state is reached by input, then one more input of each sort."""
    tracker = IntervalTracker()
    for seen, now_s in REACHED[state]:
        tracker.update(seen, now_s)
    now_s += 0.1
    match sign:
        case "high" | "low":
            said = tracker.update(HIGH if sign == "high" else LOW, now_s)
        case "gap" | "end":
            said = tracker.flush(now_s, sign)
    assert [e.phase.value for e in said] == WHOLE[state, sign]


@pytest.mark.parametrize("last", ["gap", "end"])
def test_a_started_interval_with_two_whole_votes_ends_at_a_flush(last):
    tracker = IntervalTracker()
    for now_s in (1.3, 1.45, 1.58):
        tracker.update(HIGH, now_s)
    assert [e.phase for e in tracker.flush(1.6, last)] == [Phase.END]


# ---- invariants

scores = st.floats(0, 1).map(lambda x: round(x, 3))


@st.composite
def hops(draw):
    """What one hop may bring: the age of each proposal's offset, its length, its scores."""
    n = draw(st.integers(0, 4))
    return [
        (
            draw(st.floats(-0.5, 2.2)),
            draw(st.floats(0, 1.5)),
            draw(st.floats(0, 1)),
            draw(scores),
            draw(st.tuples(scores, scores, scores, scores)),
        )
        for _ in range(n)
    ]


def intervals_of(hop, now_s):
    made = []
    for age_s, length_s, where, score, others in hop:
        offset_s = now_s - age_s
        onset_s = offset_s - length_s
        apex_s = min(max(onset_s + where * length_s, onset_s), offset_s)
        made.append(ScoredInterval(onset_s, apex_s, offset_s, score, (score, *others), (0.25,) * len(REGIONS)))
    return made


def check_protocol(said: list[TrackerEvent]):
    """start -> update* -> (end | retract), nothing after; keys count up; times finite and in order; ends apart."""
    open_, closed, newest = set(), set(), -1
    for e in said:
        times = [t for t in (e.onset_s, e.apex_s, e.offset_s) if t is not None]
        assert all(map(math.isfinite, times))
        assert times == sorted(times)
        assert (e.suppressed is not None) == (e.phase is Phase.RETRACT)
        match e.phase:
            case Phase.START:
                assert e.key == newest + 1
                newest = e.key
                open_.add(e.key)
            case Phase.UPDATE:
                assert e.key in open_
            case Phase.END | Phase.RETRACT:
                assert e.key in open_
                assert e.key not in closed
                open_.remove(e.key)
                closed.add(e.key)
    final = sorted((e for e in said if e.phase is Phase.END), key=lambda e: e.onset_s)
    for a, b in itertools.pairwise(final):
        assert a.offset_s <= b.onset_s + 1e-9
    return open_


class TrackerMachine(RuleBasedStateMachine):
    """Any input keeps the protocol, twice the same, in bounded memory."""

    @initialize(threshold=st.sampled_from([0.1, 0.3, 0.5, 0.8]))
    def begin(self, threshold):
        config = TrackerConfig().at(threshold)
        self.config, self.tracker, self.twin = config, IntervalTracker(config), IntervalTracker(config)
        self.now_s, self.said, self.flushed = 3.0, [], True

    @rule(hop=hops(), late_s=st.sampled_from([0.0, 0.01, 0.4]))
    def update(self, hop, late_s):
        self.now_s += HOP_S + late_s
        seen = intervals_of(hop, self.now_s)
        events = self.tracker.update(seen, self.now_s)
        assert events == self.twin.update(list(reversed(seen)), self.now_s) or len(seen) != len(set(seen))
        assert all(e.offset_s <= self.now_s - self.config.latency_s + 1e-5 for e in events if e.phase is Phase.END)
        self.said += events
        self.flushed = False

    @rule()
    def flush(self):
        events = self.tracker.flush(self.now_s, "gap")
        assert events == self.twin.flush(self.now_s, "gap")
        assert all(e.offset_s <= self.now_s + 1e-5 for e in events if e.phase is Phase.END)
        self.said += events
        self.flushed = True

    @invariant()
    def protocol_holds(self):
        open_ = check_protocol(self.said)
        assert not (self.flushed and open_)
        for e in self.said:
            if e.phase is Phase.END:
                assert self.config.min_s - 1e-6 <= e.offset_s - e.onset_s <= self.config.max_s + 1e-6
                assert e.score >= self.config.threshold

    @invariant()
    def memory_is_bounded(self):
        live_s = self.config.max_s + self.config.latency_s + self.config.vote_s + self.config.memory_s
        assert len(self.tracker._tracks) <= 4 * (live_s / HOP_S + 2)
        assert all(len(t.hops) <= self.config.vote_s / HOP_S * 4 for t in self.tracker._tracks)


TrackerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTrackerMachine = TrackerMachine.TestCase


movements = st.builds(
    lambda onset_s, length_s, score, kind, known_after_s: Movement(
        onset_s, onset_s + length_s, score, kind, known_after_s=known_after_s
    ),
    st.floats(2.0, 4.5),
    st.floats(0.1, 1.2),
    st.floats(0.1, 1.0),
    st.sampled_from(["micro", "micro", "micro", "blink"]),
    st.floats(0.0, 0.6),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(movements, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_sweep_over_one_low_run_equals_a_run_at_each_threshold(story, random):
    """What makes post hoc sweeps sound: the verdict is blind to the threshold, which only filters.

    Movements overlap, their proposals jitter and fail at times; a gap cuts the story.
    """
    seen = []
    for i in range(45):
        now_s = i * HOP_S
        found = [p for m in story if (p := m.seen_at(now_s)) is not None and random.random() < 0.85]
        moved = [(p, random.gauss(0, 0.05), random.uniform(0.7, 1.0)) for p in found]
        kept = [
            proposal(p.onset_s + by, p.offset_s + by, p.score * f, "blink", kind_score=p.kinds[1]) for p, by, f in moved
        ]
        seen.append((now_s, kept))

    def run(at):
        tracker, said = IntervalTracker(TrackerConfig().at(at)), []
        for i, (now_s, found) in enumerate(seen):
            said += tracker.update(found, now_s)
            said += tracker.flush(now_s, "gap") if i == 30 else []
        said += tracker.flush(now_s, "end_of_stream")
        check_protocol(said)
        return [replace(e, key=0) for e in said if e.phase is Phase.END]

    swept = run(0.1)
    for threshold in (0.3, 0.6, 0.85):
        assert run(threshold) == [e for e in swept if e.score >= threshold]


def test_iou_of_intervals():
    assert iou(proposal(0, 1), proposal(0.5, 1.5)) == pytest.approx(1 / 3)
    assert iou(proposal(0, 1), proposal(1, 2)) == 0
    assert iou(proposal(1, 1), proposal(1, 1)) == 0
