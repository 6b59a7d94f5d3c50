"""Promises of stream/faces/tracks.py: which face is which, as arithmetic on places."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stream.faces.landmarks import Roi
from stream.faces.tracks import Track, assign, same_face

POINTS = np.zeros((478, 3), np.float32)


def best_by_trying(cost: np.ndarray) -> tuple[int, float]:
    """(pairs, cost) of the best assignment: most pairs first, then least cost."""
    if cost.shape[0] > cost.shape[1]:
        cost = cost.T
    rows, columns = cost.shape
    tries = []
    for order in itertools.permutations(range(columns), rows):
        chosen = [cost[r, c] for r, c in enumerate(order) if np.isfinite(cost[r, c])]
        tries.append((-len(chosen), sum(chosen)))
    pairs, total = min(tries)
    return -pairs, total


costs = st.integers(0, 9).map(float) | st.just(np.inf)


@given(st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(lambda shape: arrays(float, shape, elements=costs)))
def test_assign_is_the_best_of_all_assignments(cost):
    pairs = assign(cost)
    assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == len(pairs)
    assert (len(pairs), sum(cost[r, c] for r, c in pairs)) == best_by_trying(cost)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_assign_of_nobody_is_nothing(shape):
    assert assign(np.zeros(shape)) == []


def walked(speed: float, frames: int = 20, fps: float = 25.0) -> Track:
    track = Track(1, Roi(100.0, 100.0, 150.0, 0.0), 0.0, POINTS)
    for i in range(1, frames):
        track.see(POINTS, Roi(100 + speed * i / fps, 100.0, 150.0, 0.0), i / fps)
    return track


def test_a_face_is_expected_where_its_course_takes_it_and_comes_to_rest():
    track = walked(200.0)
    end = track.roi.x
    assert track.expected(track.seen_s + 0.04).real == pytest.approx(end + 8, abs=0.5)
    assert track.expected(track.seen_s + 60).real == pytest.approx(end + 80, abs=1)


def test_what_was_not_this_face_leaves_no_trace_in_its_course():
    track, same = walked(200.0), walked(200.0)
    time_s = track.seen_s + 0.04
    track.see(POINTS, Roi(20.0, 100.0, 150.0, 0.0), time_s)
    track.lose(unsee=True)
    assert track.lost
    assert track.expected(time_s) == same.expected(time_s)


def test_a_face_cannot_come_back_across_the_room_or_at_twice_the_size():
    track = walked(0.0)
    soon = track.seen_s + 0.1
    assert track.reaches(Roi(180.0, 100.0, 150.0, 0.0), soon)
    assert not track.reaches(Roi(600.0, 100.0, 150.0, 0.0), soon)
    assert not track.reaches(Roi(100.0, 100.0, 310.0, 0.0), soon)


def test_neighbours_are_two_faces_and_one_face_found_twice_is_one():
    here = Roi(100.0, 100.0, 150.0, 0.0)
    assert same_face(here, Roi(110.0, 95.0, 140.0, 0.1))
    assert not same_face(here, Roi(200.0, 100.0, 150.0, 0.0))
