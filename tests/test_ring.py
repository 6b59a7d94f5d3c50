"""The ring puts crops of any rate on the model's time grid by their stamps, and never bridges a gap."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.faces.ring import MAX_GAP_S, FaceRing
from stream.types import CROP_PX, FaceCrop, Quality

QUALITY = Quality(face_px=100, yaw_deg=0, pitch_deg=0, blur=0, light=120)
ROWS = np.arange(CROP_PX, dtype=np.float64)[:, None] * np.ones(CROP_PX)


def crop(time_s: float, image: np.ndarray | None = None) -> FaceCrop:
    image = np.zeros((CROP_PX, CROP_PX), np.uint8) if image is None else image
    return FaceCrop(1, time_s, image, QUALITY, np.eye(2, 3))


def moving(time_s: float) -> np.ndarray:
    """A soft edge that crosses the crop at 20 px/s: what is right at any moment is known in closed form."""
    return np.rint(127.5 + 100 * np.tanh((ROWS - 40 - 20 * time_s) / 12)).astype(np.uint8)


def flat(value: float) -> np.ndarray:
    return np.full((CROP_PX, CROP_PX), round(value), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("fps", [12, 15, 24, 25, 30000 / 1001, 30, 60, 90, 120, 200])
@pytest.mark.parametrize("phase_s", [0.0, 0.011])
@pytest.mark.parametrize("jitter_s", [0.0, 0.004])
def test_a_moving_pattern_is_resampled_to_where_it_was_at_the_grid_moment(fps, phase_s, jitter_s):
    """Error against the closed form below 1.5 grey levels; half a frame off (0.33 px) would be 2.8 levels."""
    ring, rng = FaceRing(), np.random.default_rng(0)
    filled: list[int] = []
    for number in range(round(1.5 * fps)):
        time_s = 10 + phase_s + number / fps + jitter_s * rng.uniform(-0.5, 0.5)
        pushed = ring.push(crop(time_s, moving(time_s - 10)))
        for index in pushed.filled:
            error = ring.frames(range(index, index + 1))[0].astype(int) - moving(ring.time_s(index) - 10)
            assert np.abs(error).max() <= 1.5, (index, np.abs(error).max())
        filled += pushed.filled
    assert filled == list(range(filled[0], filled[0] + len(filled))), "the grid has a hole"
    assert len(filled) >= 41  # 1.5 s of 30 fps, less the ends


def test_stamps_rounded_to_a_millisecond_are_copied_not_mixed():
    """A 30 fps file whose container counts in ms passes through bit by bit, and without delay."""
    ring, rng = FaceRing(), np.random.default_rng(1)
    for index in range(60):
        image = rng.integers(0, 256, (CROP_PX, CROP_PX), dtype=np.uint8)
        pushed = ring.push(crop(round(index / 30, 3), image))
        assert pushed.filled == range(index, index + 1)
        np.testing.assert_array_equal(ring.newest_frames(1)[0], image)


@pytest.mark.parametrize(("fps", "falls_to"), [(120, 0.65), (200, 0.5)])
def test_fast_sources_are_averaged_so_that_noise_falls(fps, falls_to):
    ring, rng = FaceRing(), np.random.default_rng(2)
    for number in range(fps):
        ring.push(crop(0.003 + number / fps, np.clip(rng.normal(128, 10, (CROP_PX, CROP_PX)), 0, 255).astype(np.uint8)))
    assert ring.newest_frames(20).std() < 10 * falls_to


def test_a_gap_restarts_and_is_said():
    ring = FaceRing()
    for number in range(30):
        assert not ring.push(crop(number / 30)).restarted
    assert len(ring) == 30
    pushed = ring.push(crop(29 / 30 + MAX_GAP_S + 0.01))
    assert pushed.restarted
    assert len(ring) <= 1


def test_three_frames_at_15_fps_are_still_bridged_by_time():
    """Two frames lost at 15 fps: the grid frames between lie on the straight line, at their own moments."""
    ring = FaceRing()
    ring.push(crop(0.0, flat(0)))
    pushed = ring.push(crop(0.2, flat(240)))
    assert pushed.filled == range(1, 7)
    assert [int(frame[0, 0]) for frame in ring.newest_frames(6)] == [40, 80, 120, 160, 200, 240]


def test_an_explicit_gap_forgets_what_was():
    ring = FaceRing()
    ring.push(crop(0.0, flat(0)))
    ring.gap()
    assert ring.newest is None
    pushed = ring.push(crop(0.05, flat(200)))
    assert list(pushed.filled) == []
    assert list(ring.push(crop(0.07, flat(200))).filled) == [2]
    assert ring.newest_frames(9).min() == 200, "something from before the gap was mixed in"


def test_frames_that_are_not_held_are_refused():
    ring = FaceRing(capacity_frames=8)
    for number in range(20):
        ring.push(crop(number / 30))
    assert len(ring) == 8
    assert ring.frames(range(12, 20)).shape == (8, CROP_PX, CROP_PX)
    for outside in (range(11, 13), range(19, 21)):
        with pytest.raises(IndexError, match="not in 12"):
            ring.frames(outside)


def test_a_rate_that_changes_mid_stream_leaves_no_hole():
    """120 fps, then 20, then 200: the ring changes its way of resampling without losing or repeating a grid frame."""
    ring, time_s, filled = FaceRing(), 0.0, []
    for fps, count in ((120, 60), (20, 10), (200, 100), (30, 15)):
        for _ in range(count):
            time_s += 1 / fps
            filled += ring.push(crop(time_s, moving(time_s))).filled
            if filled:
                error = ring.newest_frames(1)[0].astype(int) - moving(ring.time_s(filled[-1]))
                assert np.abs(error).max() <= 3
    assert filled == list(range(filled[0], filled[-1] + 1))


intervals = st.lists(st.floats(0.0, 0.5) | st.sampled_from([1 / 200, 1 / 120, 1 / 60, 1 / 30, 0.2]), max_size=60)


@settings(max_examples=150, deadline=None)
@given(start_s=st.floats(0, 1e6), steps=intervals, gaps=st.sets(st.integers(0, 59)), capacity=st.integers(2, 40))
def test_whatever_the_stamps_the_grid_is_monotone_bounded_and_unbridged(start_s, steps, gaps, capacity):
    """Indices only grow, without holes inside a stretch; no stretch spans a gap; never more than `capacity` held;
    and no frame holds anything but the grey levels of the crops of its own stretch."""
    ring, time_s, newest, stretch = FaceRing(capacity_frames=capacity), start_s, -math.inf, 0
    levels: list[int] = []
    last_s = None
    for number, step_s in enumerate(steps):
        time_s += step_s
        if number in gaps:
            ring.gap()
            last_s, levels = None, []
        gap_expected = last_s is not None and time_s - last_s > ring.max_gap_s
        stretch += gap_expected or number in gaps
        level = stretch * 37 % 256
        pushed = ring.push(crop(time_s, flat(level)))
        assert pushed.restarted == gap_expected
        if gap_expected:
            levels = []
        levels.append(level)
        if pushed.filled:
            assert pushed.filled[0] > newest
            if len(ring) > len(pushed.filled):
                assert pushed.filled[0] == newest + 1
            newest = pushed.filled[-1]
            # a moment is published only when it has been reached
            assert ring.time_s(newest) <= time_s + 0.0011
        assert len(ring) <= capacity
        assert set(np.unique(ring.newest_frames(capacity)[:, 0, 0])) <= set(levels)
        if last_s is None or time_s > last_s:
            last_s = time_s
