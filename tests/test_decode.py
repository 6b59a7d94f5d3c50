"""Promises of engine.decode: what of the network's output becomes a proposal, and how proposals lie in time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decode import FLOOR, NMS_IOU, Proposal, decode, temporal_iou
from engine.spec import HEAD_FIELDS

T = 64


def row(onset: float, apex: float, offset: float, micro: float, blink: float = 0.0) -> np.ndarray:
    rest = 1 - micro - blink
    return np.array([onset, apex, offset, micro, blink, 0, 0, 0, rest, 0.7, 0.1, 0.1, 0.1], np.float32)


def test_frames_count_back_from_the_newest_crop() -> None:
    (p,) = decode(np.stack([row(40, 47, 66, 0.9)]), T)
    assert (p.start_frame, p.apex_frame, p.end_frame) == (-23, -16, 3)
    assert p.score == pytest.approx(0.9)
    assert p.kinds == pytest.approx((0.9, 0, 0, 0, 0))
    assert p.regions == pytest.approx((0.7, 0.1, 0.1, 0.1))


def test_below_the_floor_nothing_is_proposed() -> None:
    assert decode(np.stack([row(40, 47, 55, FLOOR - 0.01)]), T) == []
    assert len(decode(np.stack([row(40, 47, 55, FLOOR + 0.01)]), T)) == 1


def test_of_two_that_overlap_the_better_stays_whatever_their_order() -> None:
    rows = np.stack([row(40, 45, 54, 0.6), row(41, 46, 55, 0.8), row(10, 15, 24, 0.3)])
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        assert [round(p.score, 3) for p in decode(rows[order], T)] == [0.8, 0.3]


def test_what_a_nuisance_looks_like_travels_with_the_proposal() -> None:
    (p,) = decode(np.stack([row(40, 45, 54, 0.2, blink=0.7)]), T)
    assert p.kinds[1] == pytest.approx(0.7)
    assert p.score == pytest.approx(0.2)


def test_iou_counts_both_ends() -> None:
    assert temporal_iou(0, 9, np.array([0.0, 5.0, 10.0]), np.array([9.0, 14.0, 19.0])) == pytest.approx([1, 5 / 15, 0])


rows_of_heads = st.lists(
    st.tuples(*[st.floats(-40, 110, width=32)] * 3, st.floats(0, 1, width=32), st.floats(0, 1, width=32)), max_size=40
)


@given(rows_of_heads)
def test_whatever_the_network_says_order_holds_and_no_two_overlap(said: list[tuple[float, ...]]) -> None:
    rows = np.array([row(a, b, c, m, (1 - m) * k) for a, b, c, m, k in said], np.float32).reshape(-1, HEAD_FIELDS)
    proposals = decode(rows, T)
    assert all(p.start_frame <= p.apex_frame <= p.end_frame for p in proposals)
    assert [p.score for p in proposals] == sorted((p.score for p in proposals), reverse=True)
    for i, p in enumerate(proposals):
        for q in proposals[i + 1 :]:
            assert temporal_iou(p.start_frame, p.end_frame, np.array(q.start_frame), np.array(q.end_frame)) <= NMS_IOU
    # nothing probable is lost: what is not proposed is covered by something at least as probable
    assert bool(proposals) == bool((rows[:, 3] >= FLOOR).any())


def test_wrong_shapes_and_orders_are_named() -> None:
    with pytest.raises(ValueError, match="heads must be"):
        decode(np.zeros((4, 5), np.float32), T)
    with pytest.raises(ValueError, match="out of order"):
        Proposal(0, -1, 2, 0.5, (0.5, 0, 0, 0, 0), (1, 0, 0, 0))
    with pytest.raises(ValueError, match="kinds and regions"):
        Proposal(0, 1, 2, 0.5, (0.5,), (1, 0, 0, 0))
