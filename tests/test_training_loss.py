"""What the network is asked for, by tables small enough to be worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.mesnet import RawHeads
from engine.training.learn.loss import (
    candidate_loss,
    distance,
    frame_loss,
    iou,
    proposal_loss,
    teacher_loss,
    total_loss,
    visible,
)
from engine.training.pools.truth import ABSENT, BLINK, HEAD, MACRO, MICRO, NONE, SPEECH, UNKNOWN

T = 64
LN2 = math.log(2)


def table(*rows):
    """One clip's truth [1, M, 9] from (kind, onset, offset[, weight]); apex in the middle, all of it in the brows."""
    full = [[k, a, (a + b) / 2, b, *(w or [1.0]), 1, 0, 0, 0] for k, a, b, *w in rows]
    return torch.tensor([*full, [ABSENT, -1e3, -1e3, -1e3, 0, 0, 0, 0, 0]])[None]


def raw_heads(clips, times=None):
    """Indifferent outputs for candidates [P, 2]: every logit 0."""
    clips = torch.tensor(clips, dtype=torch.float32)[None]
    p = clips.shape[1]
    times = torch.zeros(1, p, 3) if times is None else torch.tensor(times)[None]
    zeros = [torch.zeros(1, *shape, requires_grad=True) for shape in ((p,), (p, 6), (p, 4), (5, T))]
    return RawHeads(zeros[0], clips, zeros[1], times, zeros[2], zeros[3])


def pull(loss, logits):
    """How the loss would move the logits, a step downhill: > 0 up."""
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    return -gradient[0]


intervals = st.tuples(st.integers(-20, 80), st.integers(0, 40)).map(lambda a: (float(a[0]), float(a[0] + a[1])))


@settings(max_examples=60, deadline=None)
@given(st.lists(intervals, min_size=1, max_size=5), st.lists(intervals, min_size=1, max_size=5))
def test_overlap_is_shared_time_over_spanned_time(a, b):
    got = iou(torch.tensor(a), torch.tensor(b))
    for i, (a0, a1) in enumerate(a):
        for j, (b0, b1) in enumerate(b):
            mine, other = (set(range(int(x[0]), int(x[1]))) for x in (a[i], b[j]))  # unit steps of whole frames
            wanted = len(mine & other) / max(len(mine | other), 1e-3)
            assert got[i, j] == pytest.approx(wanted, abs=1e-6), (a0, a1, b0, b1)


def test_a_cut_interval_counts_when_enough_of_it_is_seen():
    truth = table(
        (MICRO, 10, 20),
        (MICRO, -4, 6),
        (MICRO, -6, 4),
        (MICRO, 57, 67),
        (MICRO, 60, 70),
        (MICRO, -14, 6),
        (MICRO, -14, 5),
    )
    seen = visible(truth, torch.ones(1, T))[0]
    # whole; 6 of 10 frames; 4 (fewer than 5); 6 of 10; 3; 6 of 20 (under 40 %); 5 of 19; padding
    assert seen.tolist() == [True, True, False, True, False, False, False, False]


def test_what_lies_before_a_face_was_found_is_not_asked_for():
    valid = torch.ones(1, T)
    valid[:, :30] = 0
    assert visible(table((MICRO, 10, 20), (MICRO, 22, 33), (MICRO, 24, 36)), valid)[0, :3].tolist() == [
        False,
        False,
        True,
    ]
    raw, truth = raw_heads([[10, 20]]), table((MICRO, 10, 20))
    losses = total_loss(raw, truth, valid, raw.clips[0])
    assert losses["crn"] == losses["cpn"] == 0  # neither wanted nor forbidden
    assert total_loss(raw, truth, torch.ones(1, T), raw.clips[0])["cpn"] > 0


def test_anchors_are_given_to_micro_expressions():
    """IoU from 0.5 up, or the best of an ME (above 0.2); 0.3 to 0.5 is neither; the rest is background."""
    anchors = [
        [10, 20], [12, 22], [15, 25], [8, 30], [40, 50],  # 1, 0.67, 0.33, 0.45 and 0 of the first ME
        [60, 76], [61, 80],  # 0.375 of the second, the best there is; 0.25
        [84, 104],  # 0.15 of the third
    ]  # fmt: skip
    truth = table((MICRO, 10, 20), (MICRO, 60, 66), (MICRO, 84, 87), (SPEECH, 40, 50))
    raw = raw_heads(anchors)
    asked = torch.tensor([[True, True, True, False, False]])
    got = pull(proposal_loss(raw, truth, asked, raw.clips[0])["cpn"], raw.objectness)
    assert torch.sign(got).tolist() == [1, 1, 0, 0, -1, 1, -1, -1]


def test_an_interval_that_is_not_asked_for_is_not_forbidden_either():
    raw, truth = raw_heads([[-8, 4], [30, 40]]), table((MICRO, -20, 4))
    losses = total_loss(raw, truth, torch.ones(1, T), raw.clips[0])
    assert torch.sign(pull(losses["cpn"], raw.objectness)).tolist() == [0, -1]
    assert torch.count_nonzero(pull(losses["crn"], raw.classes)[0]) == 0


def test_faint_ones_weigh_less():
    pulls = []
    for weight in (1.0, 0.25):
        raw, truth = raw_heads([[10, 20]], [[12.0, 15, 20]]), table((MICRO, 10, 20, weight))
        losses = total_loss(raw, truth, torch.ones(1, T), raw.clips[0])
        of_objectness, of_class = pull(losses["cpn"], raw.objectness)[0], pull(losses["crn"], raw.classes)[0, MICRO]
        pulls.append(torch.stack([of_objectness, of_class, losses["crn_times"], losses["regions"]]).detach())
    torch.testing.assert_close(pulls[1], pulls[0] / 4)
    assert (pulls[0] > 0).all()


def test_what_a_candidate_is():
    """ME by IoU 0.5, blink by IoU 0.4, the longer ones where they cover 60 %; the ME and then the blink prevail."""
    cases = [
        ([10, 20], MICRO), ([13, 23], MICRO), ([15, 25], NONE), ([40, 50], SPEECH), ([44.5, 54.5], NONE),
        ([46, 52], SPEECH), ([60, 70], HEAD), ([80, 90], BLINK), ([76, 88], BLINK), ([100, 110], MACRO),
        ([120, 130], NONE),
    ]  # fmt: skip
    truth = table(
        (MICRO, 10, 20), (SPEECH, 30, 50), (HEAD, 55, 75), (MACRO, 75, 95), (BLINK, 80, 90), (MACRO, 98, 140 - 28)
    )
    raw = raw_heads([c for c, _ in cases])
    got = pull(candidate_loss(raw, truth, truth[..., 0] == MICRO)["crn"], raw.classes)
    assert got.argmax(dim=1).tolist() == [kind for _, kind in cases]
    assert (got.max(dim=1).values > 0).all()


def test_between_right_and_wrong_nothing_is_asked():
    """IoU of 0.35 to 0.5 with an ME."""
    raw, truth = raw_heads([[14, 24], [16, 26]]), table((MICRO, 10, 20))
    got = pull(candidate_loss(raw, truth, truth[..., 0] == MICRO)["crn"], raw.classes)
    assert got[0].abs().max() == 0  # 6 / 14
    assert got[1].argmax() == NONE  # 4 / 16


def test_where_little_is_annotated_only_no_micro_is_taught():
    """An UNKNOWN row: whatever else a candidate is, it is no ME; and an annotated ME is one."""
    truth = table((UNKNOWN, 0, 0), (MICRO, 10, 20), (SPEECH, 30, 60))
    raw = raw_heads([[10, 20], [35, 45]])
    got = pull(candidate_loss(raw, truth, truth[..., 0] == MICRO)["crn"], raw.classes)
    assert got[0].argmax() == MICRO
    assert got[1, MICRO] < 0
    torch.testing.assert_close(got[1, 1:], got[1, 1:].mean().expand(5))


def test_distance_is_a_share_of_the_interval():
    wanted = torch.tensor([[[10.0, 14, 20]]])
    for off, cost in ((0, 0), (1, 0.05), (2, 0.15)):  # 0.5 x^2 / 0.1 up to x = 0.1, then x - 0.05
        assert distance(wanted + torch.tensor([off, 0.0, 0]), wanted) == pytest.approx(cost, abs=1e-6)
    assert distance(wanted - 1, wanted) == pytest.approx(0.15)


def test_only_true_micro_expressions_teach_times():
    truth = table((MICRO, 10, 20))
    raw = raw_heads([[10, 20], [40, 50]], [[10.0, 15, 20], [0, 0, 0]])
    assert total_loss(raw, truth, torch.ones(1, T), raw.clips[0])["crn_times"] == 0
    raw = raw_heads([[10, 20]], [[11.0, 15, 20]])
    losses = total_loss(raw, truth, torch.ones(1, T), raw.clips[0])
    assert losses["crn_times"] == pytest.approx(0.05 / 8)  # at least 8 candidates share the blame
    assert losses["regions"].item() == pytest.approx(0.2 * math.log(4) / 8)


@pytest.mark.parametrize(
    ("rows", "valid", "wanted"),
    [
        # ln 2 a frame; inside an ME 3 times that, by its weight; doubled; four other kinds at half
        ([(MICRO, 1, 2, 0.5)], [1, 1, 1, 1], 2 * 5 / 4 + 4 / 2),
        ([(MICRO, 1, 2, 0.5), (UNKNOWN, 0, 0)], [1, 1, 1, 1], 2 * 5 / 4),
        ([(MICRO, 1, 2, 0.5)], [0, 1, 1, 1], 2 * 4 / 3 + 4 / 2),
        ([(BLINK, 1, 2)], [1, 1, 1, 1], 2 + 4 / 2),
    ],
)
def test_each_frame_is_asked_for_what_goes_on_in_it(rows, valid, wanted):
    loss = frame_loss(torch.zeros(1, 5, 4), table(*rows), torch.tensor([valid], dtype=torch.float32))
    assert loss == pytest.approx(wanted * LN2)


def test_a_frame_is_pulled_to_its_kind():
    logits = torch.zeros(1, 5, 6, requires_grad=True)
    loss = frame_loss(logits, table((MACRO, 2, 3), (MICRO, 5, 9)), torch.ones(1, 6))
    up = pull(loss, logits) > 0
    assert up.nonzero().tolist() == [[MICRO, 5], [MACRO, 2], [MACRO, 3]]


def test_a_teacher_who_says_the_same_teaches_nothing_and_another_draws_the_network_to_itself():
    same, wants = raw_heads([[10, 20], [30, 50]]), raw_heads([[10, 20], [30, 50]])
    valid = torch.ones(1, T)
    assert all(float(loss.detach()) == pytest.approx(0, abs=1e-6) for loss in teacher_loss(same, wants, valid).values())
    with torch.no_grad():
        wants.objectness[0, 0], wants.objectness[0, 1] = 3, -3
        wants.classes[0, 0, MICRO] = 4
        wants.frames[0, MICRO, 12] = 2
    losses = teacher_loss(same, wants, valid)
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    pulled = pull(losses["taught_cpn"], same.objectness)
    assert pulled[0] > 0 > pulled[1]
    pulled = pull(losses["taught_crn"], same.classes)
    assert pulled[0, MICRO] > 0 > pulled[0, BLINK]
    assert (pulled[1].abs() < 1e-6).all(), "of the other candidate both say the same"
    pulled = pull(losses["taught_frames"], same.frames)
    assert pulled[MICRO, 12] > 0
    assert pulled.count_nonzero() == 1


def test_a_teacher_is_not_asked_about_frames_before_a_face_was_found():
    mine, wants = raw_heads([[10, 20]]), raw_heads([[10, 20]])
    with torch.no_grad():
        wants.frames[0, MICRO, 5] = 2
    valid = torch.ones(1, T)
    valid[0, :8] = 0
    assert float(teacher_loss(mine, wants, valid)["taught_frames"].detach()) == pytest.approx(0, abs=1e-6)
