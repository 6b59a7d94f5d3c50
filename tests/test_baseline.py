"""A face's baseline: hops in, a local threshold out. Every stretch of time is written down as data."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.decide.baseline import (
    CALIBRATING_S,
    DECIDES_S,
    ONGOING_S,
    Baseline,
    BaselineLaw,
    Conditions,
    KnownBaseline,
    State,
)
from stream.decide.odds import HIGHEST, LOWEST, log_odds, probability

HOP_S = 4 / 30
LAW = BaselineLaw(gain=1.0, usual=-5.0, lowest=-1.0, highest=3.0, ongoing=0.0)
ROOM = Conditions(light=110, face_px=180, fps=30)


def feed(baseline: Baseline, odds: Iterator[float] | list[float], where: Conditions = ROOM, at_s: float = 0.0) -> float:
    """Hops of these log-odds, one after another from `at_s`; returns the time after the last."""
    for value in odds:
        baseline.update(at_s, probability(value), where)
        at_s += HOP_S
    return at_s


def hops(seconds: float, level: float, spread: float = 0.4, seed: int = 0) -> list[float]:
    """A quiet face: so many seconds of noise about a level."""
    return list(np.random.default_rng(seed).normal(level, spread, round(seconds / HOP_S)))


def with_mes(quiet: list[float], every_s: float, peak: float = 2.5, length_s: float = 0.7) -> list[float]:
    """The same with an ME, as long as its candidates see it, every so often."""
    out = list(quiet)
    for i in range(len(out)):
        if (i * HOP_S) % every_s < length_s:
            out[i] = peak
    return out


def test_it_calibrates_for_ten_seconds_the_first_five_with_everybodys_threshold():
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(DECIDES_S - 2 * HOP_S, -3.0))
    assert baseline.state is State.CALIBRATING
    assert baseline.threshold(0.6) == 0.6, "what hardly anything has been seen of must not decide"
    now_s = feed(baseline, hops(4 * HOP_S, -3.0), at_s=now_s)
    assert baseline.state is State.CALIBRATING
    assert log_odds(baseline.threshold(0.6)) == pytest.approx(log_odds(0.6) + 2.0, abs=0.3)
    now_s = feed(baseline, hops(CALIBRATING_S - now_s - 2 * HOP_S, -3.0), at_s=now_s)
    assert baseline.state is State.CALIBRATING
    feed(baseline, hops(4 * HOP_S, -3.0), at_s=now_s)
    assert baseline.state is State.WATCHING
    assert baseline.threshold(0.6) > 0.6


@pytest.mark.parametrize(
    ("level", "shift"), [(-5.0, 0.0), (-4.0, 1.0), (-3.0, 2.0), (-5.5, -0.5), (-8.0, -1.0), (1.0, 3.0)]
)
def test_the_threshold_moves_by_the_law(level, shift):
    """Up on a noisy face, down on a quiet one, never further than the law allows."""
    baseline = Baseline(LAW)
    feed(baseline, hops(40, level, spread=0.2))
    assert baseline.shift == pytest.approx(shift, abs=0.12)
    assert log_odds(baseline.threshold(0.6)) == pytest.approx(log_odds(0.6) + shift, abs=0.12)


@pytest.mark.parametrize("every_s", [5.0, 2.0, 1.5])
def test_many_mes_while_calibrating_blind_nobody(every_s):
    """Even with an ME every 1.5 s from the very first second, the threshold stays what it is without any."""
    without, among = Baseline(LAW), Baseline(LAW)
    quiet = hops(30, -4.5)
    feed(without, quiet)
    feed(among, with_mes(quiet, every_s))
    assert among.threshold(0.6) == pytest.approx(without.threshold(0.6), abs=0.03)
    assert among.threshold(0.6) < probability(2.5), "the next such ME would be missed"


def test_mes_too_faint_to_be_held_back_do_not_move_the_median_far():
    """Below `ongoing` they are learnt, but fill less than half of the time."""
    without, among = Baseline(LAW), Baseline(LAW)
    quiet = hops(60, -5.0)
    feed(without, quiet)
    feed(among, with_mes(quiet, 2.0, peak=-0.5))
    assert among.shift - without.shift < 0.5


def test_what_lasts_longer_than_an_me_is_no_me():
    """A camera whose noise keeps the score high is learnt: else it would alarm for ever."""
    baseline = Baseline(LAW)
    feed(baseline, [1.0] * round(60 / HOP_S))
    assert baseline.shift == LAW.highest


def test_frozen_while_something_goes_on():
    """Nothing of a movement as long as an ME gets in; the quiet around it does."""
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(30, -5.0))
    before = baseline.level, baseline.seconds
    now_s = feed(baseline, [3.0] * int(ONGOING_S / HOP_S), at_s=now_s)
    assert (baseline.level, baseline.seconds) == before
    feed(baseline, [-5.0], at_s=now_s)
    assert baseline.seconds > before[1]


def test_it_drifts():
    """A face that becomes livelier gets a higher threshold within minutes, not at once."""
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(120, -5.0, seed=1))
    now_s = feed(baseline, hops(10, -3.0, seed=2), at_s=now_s)
    assert baseline.shift < 0.3
    feed(baseline, hops(120, -3.0, seed=3), at_s=now_s)
    assert baseline.shift == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Conditions(light=60, face_px=180, fps=30),
        Conditions(light=170, face_px=180, fps=30),
        Conditions(light=110, face_px=90, fps=30),
        Conditions(light=110, face_px=180, fps=15),
    ],
    ids=["lamp off", "lamp on", "another seat", "slower camera"],
)
def test_it_restarts_when_camera_or_light_changes(elsewhere):
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(30, -3.0))
    assert baseline.shift > 1
    now_s = feed(baseline, hops(1.5, -3.0), elsewhere, now_s)
    assert baseline.state is State.CALIBRATING
    assert baseline.shift == 0
    feed(baseline, hops(12, -4.0), elsewhere, now_s)
    assert baseline.state is State.WATCHING
    assert baseline.shift == pytest.approx(1.0, abs=0.2)


def test_a_flash_or_a_sunset_is_no_change():
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(30, -4.0))
    now_s = feed(baseline, hops(0.6, -4.0), Conditions(200, 180, 30), now_s)
    for light in np.linspace(110, 50, 200):
        baseline.update(now_s, probability(-4.0), Conditions(float(light), 180, 30))
        now_s += HOP_S
    assert baseline.state is State.WATCHING


def test_a_gap_counts_for_nothing():
    """Minutes in which the face was not seen are not minutes of baseline; the clock may even start anew."""
    baseline = Baseline(LAW)
    now_s = feed(baseline, hops(5, -4.0))
    seen_s = baseline.seconds
    baseline.update(now_s + 600, probability(-4.0), ROOM)
    baseline.update(3.0, probability(-4.0), ROOM)
    assert baseline.seconds == seen_s
    assert baseline.state is State.CALIBRATING


def test_a_known_baseline_counts_at_once_where_it_fits():
    known = KnownBaseline(level=-3.0, spread=0.5, seconds=60, conditions=ROOM)
    baseline = Baseline(LAW, known)
    assert baseline.state is State.WATCHING
    assert baseline.shift == pytest.approx(2.0, abs=0.05)
    assert baseline.spread == pytest.approx(0.5, abs=0.1)
    feed(baseline, hops(1.5, -3.0), Conditions(light=40, face_px=180, fps=30))
    assert baseline.state is State.CALIBRATING, "it was measured in another light"


@pytest.mark.parametrize("bad", [{"level": math.nan}, {"spread": -1.0}, {"seconds": 0.0}])
def test_a_known_baseline_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="no baseline"):
        KnownBaseline(**{"level": -4.0, "spread": 0.5, "seconds": 60.0, "conditions": ROOM, **bad})


def test_memory_does_not_grow():
    """An hour of the worst case (always ongoing) holds no more than an ME's worth of hops."""
    baseline = Baseline(LAW)
    feed(baseline, [2.0] * round(3600 / HOP_S))
    assert len(baseline._held) <= ONGOING_S / HOP_S + 1


steps = st.lists(
    st.tuples(
        st.floats(-5, 30) | st.sampled_from([0.0, HOP_S]),
        st.floats(0, 1),
        st.floats(0, 255),
        st.floats(0, 2000),
        st.none() | st.floats(1, 120),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_whatever_comes_the_shift_stays_within_the_law_and_repeats(story):
    """Any scores, clocks and conditions: no error, the law's limits hold, and the same story gives the same end."""

    def told() -> Baseline:
        baseline, now_s = Baseline(LAW), 0.0
        for step_s, score, light, face_px, fps in story:
            now_s += step_s
            baseline.update(now_s, score, Conditions(light, face_px, fps))
            assert LAW.lowest <= baseline.shift <= LAW.highest
            assert baseline.shift == 0 or baseline.state is State.WATCHING
            assert 0 < baseline.threshold(0.5) < 1
            assert baseline.level is None or LOWEST <= baseline.level <= HIGHEST
        return baseline

    one, two = told(), told()
    assert (one.level, one.spread, one.seconds, one.state) == (two.level, two.spread, two.seconds, two.state)


@settings(max_examples=60, deadline=None)
@given(st.floats(-7, -1), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_the_median_is_found_to_a_bin(level, spread, seed):
    """Against numpy's own median of the same hops, while nothing is forgotten or held back yet."""
    values = hops(12, level, spread, seed)
    baseline = Baseline(BaselineLaw(ongoing=HIGHEST + 1))
    feed(baseline, values)
    assert baseline.level == pytest.approx(
        float(np.median(np.clip(values[1:], LOWEST, HIGHEST))), abs=0.3 * spread + 0.15
    )
