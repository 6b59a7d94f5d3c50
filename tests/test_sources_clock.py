"""The rules of media time, for any sequence of time stamps."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.media_clock import LONG_GAP_S, SPLICE_S, MediaClock

PERIOD_S = 1 / 30
PTS = st.one_of(st.none(), st.floats(-1e5, 1e5, allow_nan=False))


def stamps(pts: list[float | None], start_s: float | None = 0.0) -> list[tuple[float | None, str | None]]:
    clock = MediaClock(PERIOD_S, start_s)
    return [clock.stamp(p) for p in pts]


@given(st.lists(PTS, max_size=40), st.one_of(st.none(), st.floats(-1e5, 1e5)))
def test_time_rises_and_nobody_waits_long(pts: list[float | None], start_s: float | None) -> None:
    """Whatever the stamps: times of the frames that are kept rise from 0 or later, by no more than SPLICE_S at once."""
    times = [time_s for time_s, _ in stamps(pts, start_s) if time_s is not None]
    steps = [b - a for a, b in pairwise(times)]
    assert all(0 < step <= SPLICE_S for step in steps)
    assert all(time_s >= 0 for time_s in times[:1])


@given(st.lists(st.floats(0.001, 0.9), min_size=1, max_size=40), st.floats(-1e3, 1e3))
def test_rising_stamps_are_kept_as_they_are(steps: list[float], first_s: float) -> None:
    """With nothing wrong, media time is the PTS less the first one, and there is no gap."""
    pts = [first_s]
    for step in steps:
        pts.append(pts[-1] + step)
    result = stamps(list(pts), start_s=None)
    assert [gap for _, gap in result] == [None] * len(pts)
    assert [time_s for time_s, _ in result] == pytest.approx([p - first_s for p in pts], abs=1e-9)


@given(st.lists(PTS, max_size=40))
def test_a_long_step_is_never_silent(pts: list[float | None]) -> None:
    """Wherever two kept frames are more than 1 s apart there is a gap between them."""
    kept = [(time_s, gap) for time_s, gap in stamps(pts) if time_s is not None]
    for (before_s, _), (after_s, gap) in pairwise(kept):
        if after_s - before_s > LONG_GAP_S:
            assert gap is not None


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        ([0.0, None, 0.07], [(0.0, None), (PERIOD_S, None), (0.07, None)]),
        ([None, None], [(0.0, None), (PERIOD_S, None)]),
        ([0.0, 0.1, 0.05, 0.1, 0.2], [(0.0, None), (0.1, None), (None, None), (None, None), (0.2, None)]),
        ([0.0, 3.0], [(0.0, None), (3.0, "stalled")]),
        (
            [10.0, 10.1, 2.0, 2.1],
            [(10.0, None), (10.1, None), (10.1 + PERIOD_S, "clock_jump"), (10.2 + PERIOD_S, None)],
        ),
        ([0.0, 95443.7, 95443.8], [(0.0, None), (PERIOD_S, "clock_jump"), (0.1 + PERIOD_S, None)]),
        ([7200.0, 7200.1], [(0.0, None), (0.1, None)]),
    ],
    ids=["missing", "none at all", "backwards", "pause", "spliced back", "spliced forward", "far start"],
)
def test_rules(pts: list[float | None], expected: list[tuple[float | None, str | None]]) -> None:
    for (time_s, gap), (expected_s, expected_gap) in zip(stamps(pts), expected, strict=True):
        assert gap == expected_gap
        assert time_s == (None if expected_s is None else pytest.approx(expected_s))
