"""What is given up when the machine can't keep up, in which order, and when it returns. Time is a list of seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.live.overload import CALM_LIMIT_S, CALM_S, OVERLOADED_S, Level, Load, Overload

FINE = Load(offered_fps=30, done_fps=30, busy=0.5)
TIGHT = Load(offered_fps=30, done_fps=30, busy=0.9)
BEHIND = Load(offered_fps=30, done_fps=20, busy=1.0)


def levels(overload: Overload, seconds: list[Load]) -> list[int]:
    return [int(overload.update(load)) for load in seconds]


@pytest.mark.parametrize(
    ("load", "then"),
    [
        (FINE, 0),
        (TIGHT, 0),  # busy, but nothing is lost
        (BEHIND, 1),
        (Load(120, 60, 1.0), 0),  # a 120 fps camera at 60: the model asks for 30
        (Load(120, 26, 1.0), 1),
        (Load(15, 15, 1.0), 0),  # all that there is
        (Load(15, 12, 1.0), 1),
        (Load(0, 0, 0.0), 0),  # no source just now
    ],
)
def test_falling_behind_what_matters_is_overload(load, then):
    assert levels(Overload(), [load] * OVERLOADED_S)[-1] == then


def test_things_are_given_up_in_the_stated_order_and_no_further():
    assert levels(Overload(), [BEHIND] * 10) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert Level.NOTHING.words == []
    assert [word.split(": ")[1] for word in Level.FACES.words] == [
        "preview off",
        "score trace off",
        "scoring every second hop only",
        "one face only",
    ]


def test_one_slow_second_is_no_overload():
    assert levels(Overload(), [BEHIND, FINE] * 20) == [0] * 40


def test_it_is_taken_back_step_by_step_when_there_is_room():
    overload = Overload()
    levels(overload, [BEHIND] * 4)
    assert levels(overload, [FINE] * 2 * CALM_S) == [2] * (CALM_S - 1) + [1] * CALM_S + [0]
    assert levels(overload, [FINE] * 5) == [0] * 5


def test_nothing_is_taken_back_while_it_is_tight():
    overload = Overload()
    levels(overload, [BEHIND] * 2)
    assert set(levels(overload, [TIGHT] * 100)) == {1}


def test_after_a_relapse_it_waits_longer():
    """A load that fits only without the preview must not switch it on and off for ever."""
    overload, changes, level = Overload(), 0, 0
    for _ in range(1000):
        now = int(overload.update(FINE if level else BEHIND))
        changes += now != level
        level = now
    assert changes <= 16  # 10, 20, 40, ... s instead of every 12 s: that would be 166


@pytest.mark.slow
@given(st.lists(st.sampled_from([FINE, TIGHT, BEHIND]), max_size=400))
def test_the_level_moves_by_one_at_most_and_always_finds_back(seconds):
    overload, last = Overload(), 0
    for load in seconds:
        level = int(overload.update(load))
        assert abs(level - last) <= 1
        last = level
    assert levels(overload, [FINE] * 4 * CALM_LIMIT_S)[-1] == 0
