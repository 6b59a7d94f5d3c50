"""When a face can't be spotted on, and why: scripted frames in, reasons out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.faces.condition import MAX_BLUR, MIN_FPS, MIN_LIGHT, Condition, RateMeter
from stream.types import Quality


def quality(light: float = 120, blur: float = 0.3) -> Quality:
    return Quality(face_px=100, yaw_deg=0, pitch_deg=0, blur=blur, light=light)


def follow(condition: Condition, *stretches: tuple[float, Quality, float | None]) -> list[str | None]:
    """Seconds of one quality and rate each, at 30 frames a second; the reason at the end of each stretch."""
    said, time_s = [], 0.0
    for length_s, seen, fps in stretches:
        for _ in range(round(length_s * 30)):
            time_s += 1 / 30
            condition.update(time_s, seen, fps)
        said.append(condition.reason)
    return said


@pytest.mark.parametrize(
    ("seen", "fps", "reason"),
    [
        (quality(), 30, None),
        (quality(), None, None),  # the rate is not known yet: innocent until proven
        (quality(), 12, None),
        (quality(), 10, "low_fps"),
        (quality(light=MIN_LIGHT / 2), 30, "too_dark"),
        (quality(blur=(1 + MAX_BLUR) / 2), 30, "blurred"),
        (quality(light=0, blur=1), 5, "low_fps"),  # the one that no lamp mends is said first
    ],
)
def test_each_trouble_has_its_reason(seen, fps, reason):
    assert follow(Condition(), (2, seen, fps)) == [reason]


def test_it_recovers():
    dark = quality(light=5)
    assert follow(Condition(), (2, quality(), 30), (2, dark, 30), (3, quality(), 30)) == [None, "too_dark", None]


def test_a_single_bad_frame_is_no_verdict():
    assert follow(Condition(), (1, quality(), 30), (1 / 30, quality(light=0), 30)) == [None, None]


def test_at_the_limit_it_does_not_flicker():
    """Just past the limit it stops; just back within the limit is not enough to go on."""
    condition = Condition()
    below, above = (1, quality(), MIN_FPS - 0.1), (1, quality(), MIN_FPS + 0.1)
    assert follow(condition, below, above, (1, quality(), 12.5)) == ["low_fps", "low_fps", None]


def test_an_unknown_rate_takes_nothing_back():
    assert follow(Condition(), (1, quality(), 8), (1, quality(), None)) == ["low_fps", "low_fps"]


@given(st.lists(st.tuples(st.floats(0, 255), st.floats(0, 1), st.none() | st.floats(0.1, 240)), max_size=50))
def test_it_says_one_of_its_words_whatever_it_is_told(seen):
    condition = Condition()
    for number, (light, blur, fps) in enumerate(seen):
        assert condition.update(number / 30, quality(light, blur), fps) in (None, "low_fps", "too_dark", "blurred")


@pytest.mark.parametrize("fps", [5, 12, 15, 24, 30000 / 1001, 60, 200])
def test_the_rate_is_measured_by_the_stamps(fps):
    meter = RateMeter()
    for number in range(round(3 * fps)):
        meter.add(7 + number / fps)
    assert meter.fps == pytest.approx(fps, rel=1e-6)


def test_a_rate_is_not_known_from_a_glance_nor_over_a_break():
    meter = RateMeter()
    for number in range(10):
        meter.add(number / 30)
    assert meter.fps is None
    for number in range(10, 20):
        meter.add(number / 30)
    assert meter.fps is not None
    meter.clear()
    meter.add(100.0)
    assert meter.fps is None


def test_it_follows_a_camera_that_halves_its_rate():
    meter, time_s = RateMeter(), 0.0
    for fps, count in ((30, 90), (15, 45)):
        for _ in range(count):
            time_s += 1 / fps
            meter.add(time_s)
    assert math.isclose(meter.fps or 0, 15, rel_tol=0.02)
