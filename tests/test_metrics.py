"""The measures: against brute force, against tables worked by hand, and the edges of the rule."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluation.counting import RULES, count_as
from engine.evaluation.matching import Detection, Truth, VideoResult, by_score
from engine.evaluation.metrics import (
    Counts,
    best_threshold,
    bootstrap,
    count,
    false_alarms_per_hour,
    frame_ap,
    me_free,
    pairs,
    poisson_interval,
    recall_at_rate,
    start_ap,
    start_pmap,
    sweep,
    timing,
)
from engine.matching import iou, match


def video(truths=(), detections=(), subject="s1", name="v1", fps=30.0, duration_s=60.0, starts=()):
    return VideoResult(
        subject,
        name,
        fps,
        duration_s,
        tuple(t if isinstance(t, Truth) else Truth(*t) for t in truths),
        tuple(d if isinstance(d, Detection) else Detection(*d) for d in detections),
        starts=tuple(starts),
    )


spans = st.tuples(st.integers(0, 30), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))
scored = st.tuples(spans, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])).map(lambda p: Detection(*p[0], p[1]))
videos = st.builds(
    lambda t, d, s: video(t, d, subject=s),
    st.lists(spans.map(lambda s: Truth(*s)), max_size=4),
    st.lists(scored, max_size=5),
    st.sampled_from("abc"),
)


def brute_tp(truths, detections, min_iou=0.5):
    """Largest number of one-to-one pairs, by trying every assignment."""
    slots = [*range(len(truths)), *[None] * len(detections)]
    best = 0
    for choice in set(itertools.permutations(slots, len(detections))):
        good = [
            t is not None and iou(d.onset, d.offset, truths[t].onset, truths[t].offset) >= min_iou
            for d, t in zip(detections, choice, strict=True)
        ]
        best = max(best, sum(good))
    return best


# ---- the rule


@given(spans, spans)
def test_iou_counts_frames_with_both_ends(a, b):
    frames_a, frames_b = set(range(a[0], a[1] + 1)), set(range(b[0], b[1] + 1))
    assert iou(*a, *b) == pytest.approx(len(frames_a & frames_b) / len(frames_a | frames_b))


def test_iou_of_exactly_a_half_is_a_hit():
    assert iou(0, 9, 0, 4) == 0.5
    assert count([video([(0, 9)], [(0, 4, 0.9)])]) == Counts(1, 0, 0)
    assert count([video([(0, 9)], [(0, 3, 0.9)])]) == Counts(0, 1, 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(spans, max_size=3), st.lists(scored, max_size=4))
def test_matching_is_maximum_for_every_prefix_of_the_ranking(truths, detections):
    truths, ranked = [Truth(*t) for t in truths], by_score(detections)
    for n in range(len(ranked) + 1):
        found = [t for t in match(truths, ranked[:n]) if t is not None]
        assert len(found) == len(set(found)) == brute_tp(truths, ranked[:n])


@given(st.lists(videos, max_size=4), st.permutations(range(5)))
def test_counts_do_not_depend_on_the_order_of_detections(vs, order):
    shuffled = [video(v.truths, [v.detections[i] for i in order if i < len(v.detections)]) for v in vs]
    assert count(vs) == count(shuffled)


@settings(max_examples=60, deadline=None)
@given(st.lists(videos, max_size=4))
def test_sweep_equals_counting_afresh_at_each_threshold(vs):
    curve = sweep(vs)
    assert list(curve.thresholds) == sorted({d.score for v in vs for d in v.detections}, reverse=True)
    for k, threshold in enumerate(curve.thresholds):
        c = count(vs, threshold)
        assert (curve.tp[k], curve.fp[k]) == (c.tp, c.fp)
        assert curve.f1[k] == pytest.approx(c.f1)
        assert curve.precision[k] == pytest.approx(c.precision)
        assert curve.recall[k] == pytest.approx(c.recall)
    assert all(np.diff(curve.tp) >= 0)
    if len(curve.thresholds):
        assert count(vs, best_threshold(vs)).f1 == pytest.approx(max(curve.f1))


TABLE = [
    # truths, detections, TP, FP, FN: worked by hand
    ([], [], 0, 0, 0),
    ([(10, 24)], [], 0, 0, 1),
    ([], [(10, 24, 0.9)], 0, 1, 0),
    ([(10, 24)], [(10, 24, 0.9)], 1, 0, 0),
    ([(10, 24)], [(10, 24, 0.9), (11, 25, 0.8)], 1, 1, 0),  # one-to-one: the second is false
    ([(10, 24)], [(17, 31, 0.9)], 0, 1, 1),  # 8 of 22 frames
    ([(10, 24)], [(15, 29, 0.9)], 1, 0, 0),  # 10 of 20 frames
    ([(0, 4), (5, 9)], [(0, 9, 0.9)], 1, 0, 1),  # fits both, counts once
    # greedy gives (0, 9) to the ME it overlaps best, and then (0, 14) is lost; the maximum gives both their own
    ([(0, 9), (10, 14)], [(0, 9, 0.9), (5, 14, 0.8)], 2, 0, 0),
    ([(0, 9), (2, 9)], [(2, 9, 0.9), (0, 4, 0.8)], 2, 0, 0),
]


@pytest.mark.parametrize(("truths", "detections", "tp", "fp", "fn"), TABLE)
def test_table_of_counts(truths, detections, tp, fp, fn):
    assert count([video(truths, detections)]) == Counts(tp, fp, fn)


def test_counts_are_summed_before_one_f1_and_silent_videos_count():
    vs = [
        video([(0, 9)], [(0, 9, 0.9)]),  # alone F1 1
        video([(0, 9), (20, 29)], [(40, 49, 0.8), (60, 69, 0.8)]),  # alone F1 0
        video([], [(0, 9, 0.7)]),
        video(),
    ]
    c = count(vs)
    assert c == Counts(1, 3, 2)
    assert (c.precision, c.recall) == (1 / 4, 1 / 3)
    assert c.f1 == pytest.approx(2 / 7)


def test_ratios_with_nothing_below_the_line_are_zero():
    assert (Counts().precision, Counts().recall, Counts().f1) == (0, 0, 0)


def test_threshold_is_inclusive():
    assert count([video([(0, 9)], [(0, 9, 0.5)])], 0.5) == Counts(1, 0, 0)
    assert count([video([(0, 9)], [(0, 9, 0.5)])], 0.5001) == Counts(0, 0, 1)


@pytest.mark.parametrize("bad", [(5, 4, 0.5), (1, 4, math.nan)])
def test_what_is_no_interval_is_refused(bad):
    with pytest.raises(ValueError, match="not an interval"):
        Detection(*bad)


# ---- others' counting, by their names


def test_other_rules_on_a_table_worked_by_hand():
    """Each rule differs from ours just where its docstring says."""
    two_on_one = video([(0, 9)], [(0, 9, 0.9), (1, 10, 0.8)])
    one_on_two = video([(0, 4), (5, 9)], [(0, 9, 0.9)])
    half = video([(0, 9)], [(0, 4, 0.9)])
    # the second detection overlaps the first ME best, and that is taken
    taken = video([(0, 9), (2, 9)], [(2, 9, 0.9), (1, 9, 0.8)])
    single_frame = video([(0, 0)], [(0, 0, 0.9)])
    cases = {"two_on_one": two_on_one, "one_on_two": one_on_two, "half": half, "taken": taken, "one": single_frame}
    got = {rule: {name: count_as(rule, [v]) for name, v in cases.items()} for rule in RULES}
    greedy = {
        "two_on_one": Counts(1, 1, 0),
        "one_on_two": Counts(1, 0, 1),
        "half": Counts(1, 0, 0),
        "taken": Counts(2, 0, 0),
        "one": Counts(1, 0, 0),
    }
    assert got["best_iou_greedy"] == greedy
    assert got["dummy_for_silent"] == greedy
    strict = {"one_on_two": Counts(0, 1, 2), "half": Counts(0, 1, 1)}
    assert got["strict_greater"] == greedy | strict
    assert got["duplicates_as_tp"] == greedy | {"two_on_one": Counts(2, 0, 0), "one_on_two": Counts(1, 0, 0)}
    small = {"two_on_one": Counts(2, 0, 0), "one_on_two": Counts(2, 0, 0), "one": Counts(0, 1, 1)}
    assert got["megc2020_small"] == greedy | {"taken": Counts(4, 0, 0)} | small


def test_best_iou_greedy_loses_what_the_maximum_finds():
    v = video([(0, 9), (0, 14)], [(0, 10, 0.9), (0, 9, 0.8)])
    assert count([v]) == Counts(2, 0, 0)
    assert count_as("best_iou_greedy", [v]) == Counts(1, 1, 1)


def test_a_silent_video_gets_a_dummy_only_under_that_name():
    assert count_as("dummy_for_silent", [video([(0, 9)])]) == Counts(0, 1, 1)
    assert count_as("best_iou_greedy", [video([(0, 9)])]) == Counts(0, 0, 1)
    assert count_as("dummy_for_silent", [video([], [(0, 9, 0.2)])], threshold=0.5) == Counts(0, 1, 0)


@given(st.lists(videos, max_size=3))
def test_no_one_to_one_rule_finds_more_than_the_maximum(vs):
    ours = count(vs)
    for rule in ("best_iou_greedy", "strict_greater", "dummy_for_silent"):
        assert count_as(rule, vs).tp <= ours.tp
    assert count_as("duplicates_as_tp", vs).tp >= ours.tp


# ---- false alarms


def test_false_alarms_per_hour():
    quiet = video([], [(0, 9, 0.9), (30, 39, 0.4)], duration_s=600)
    busy = video([(0, 9)], [(0, 9, 0.9)], duration_s=600)
    assert false_alarms_per_hour([quiet], 0.5) == pytest.approx(6)
    assert false_alarms_per_hour([quiet], 0.1) == pytest.approx(12)
    assert false_alarms_per_hour([quiet, busy], 0.5) == pytest.approx(3)
    assert me_free([quiet, busy]) == [quiet]
    assert false_alarms_per_hour([], 0.5) == 0


def test_recall_at_a_false_alarm_rate():
    busy = video([(0, 9), (50, 59), (100, 109)], [(0, 9, 0.9), (50, 59, 0.5), (100, 109, 0.2)], duration_s=60)
    quiet = video([], [(0, 9, 0.8), (30, 39, 0.4), (60, 69, 0.1)], duration_s=3600)
    assert recall_at_rate([busy], 0, [quiet]) == pytest.approx(1 / 3)
    assert recall_at_rate([busy], 1, [quiet]) == pytest.approx(2 / 3)
    assert recall_at_rate([busy], 2, [quiet]) == 1
    assert recall_at_rate([quiet], 5) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(videos, max_size=3), st.lists(videos, max_size=3), st.sampled_from([0.0, 60.0, 120.0, 1000.0]))
def test_recall_at_rate_by_trying_every_threshold(vs, quiet, per_hour):
    tried = {d.score for v in (*vs, *quiet) for d in v.detections} | {2.0}
    fine = [t for t in tried if count(quiet, t).fp <= per_hour * sum(v.duration_s for v in quiet) / 3600 + 1e-9]
    assert recall_at_rate(vs, per_hour, quiet) == pytest.approx(max((count(vs, t).recall for t in fine), default=0))


@pytest.mark.parametrize(
    ("events", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39), (100, 81.36, 121.63)]
)
def test_poisson_interval_against_garwoods_table(events, low, high):
    assert poisson_interval(events) == pytest.approx((low, high), rel=1e-3, abs=1e-4)


# ---- frame AP, action starts


def naive_ap(scored_labels):
    """Sum over distinct scores of precision x gain in recall, the slow way."""
    positives = sum(label for _, label in scored_labels)
    ap, last = 0.0, 0.0
    for threshold in sorted({s for s, _ in scored_labels}, reverse=True):
        kept = [label for s, label in scored_labels if s >= threshold]
        recall = sum(kept) / positives if positives else 0.0
        ap += sum(kept) / len(kept) * (recall - last)
        last = recall
    return ap


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.lists(videos, max_size=3))
def test_frame_ap_the_slow_way(vs):
    frames = []
    for v in vs:
        for f in range(1800):
            score = max((d.score for d in v.detections if d.onset <= f <= d.offset), default=0.0)
            frames.append((score, any(t.onset <= f <= t.offset for t in v.truths)))
    assert frame_ap(vs) == pytest.approx(naive_ap(frames))


def test_frame_ap_by_hand():
    v = video([(0, 4)], [(0, 9, 0.9)], fps=10, duration_s=10)
    assert frame_ap([v]) == pytest.approx(0.5)  # 5 of the 10 frames above 0 are true
    assert frame_ap([video([(0, 4)], [(0, 4, 0.9)])]) == pytest.approx(1)
    assert frame_ap([video()]) == 0


def test_action_start_ap_by_hand():
    """Onsets at 1 and 3 s; starts emitted 0.2 s late (score .9), nowhere (.8) and 0.6 s late (.7)."""
    v = video([(30, 44), (90, 104)], starts=[(1.2, 0.9), (7.0, 0.8), (3.6, 0.7)])
    assert start_ap([v], 0.1) == 0
    assert start_ap([v], 0.2) == pytest.approx(1 / 2)
    assert start_ap([v], 0.6) == pytest.approx(1 / 2 + 2 / 3 / 2)
    assert start_pmap([v]) == pytest.approx((0 + 4 * 1 / 2 + 5 * (1 / 2 + 1 / 3)) / 10)


def test_each_onset_is_claimed_once():
    v = video([(30, 44)], starts=[(1.1, 0.9), (1.1, 0.8)])
    assert start_ap([v], 1.0) == 1
    assert start_ap([video([], starts=[(1.0, 0.9)])], 1.0) == 0


# ---- timing


def test_delays_and_boundary_errors_of_what_was_found():
    found = Detection(31, 47, 0.9, apex=36, start_s=1.25, end_s=1.8)
    lost = Detection(300, 320, 0.9, start_s=11, end_s=12)
    t = timing([video([Truth(30, 45, apex=38)], [found, lost])], 0.5)
    assert t.onset_error_s == pytest.approx([1 / 30])
    assert t.offset_error_s == pytest.approx([2 / 30])
    assert t.apex_error_s == pytest.approx([2 / 30])
    assert t.boundary_error_s == pytest.approx([1 / 30, 2 / 30])
    assert t.start_delay_s == pytest.approx([0.25])
    assert t.end_delay_s == pytest.approx([0.3])


def test_pairs_keep_each_detection_with_its_me():
    v = video([(0, 9), (20, 29)], [(20, 29, 0.6), (50, 59, 0.9), (0, 9, 0.1)])
    assert pairs(v, 0.5) == [(Detection(50, 59, 0.9), None), (Detection(20, 29, 0.6), Truth(20, 29))]


# ---- bootstrap


def test_bootstrap_resamples_people_not_videos():
    """Ten videos of one person carry no more doubt than one: the interval has no width."""
    one = [video([(0, 9)], [(0, 9, 0.9)] if i % 2 else [], name=str(i)) for i in range(10)]
    assert bootstrap(one, lambda vs: count(vs).recall, rounds=50) == (0.5, 0.5)
    people = [video([(0, 9)], [(0, 9, 0.9)] if i % 2 else [], subject=str(i)) for i in range(10)]
    low, high = bootstrap(people, lambda vs: count(vs).recall, rounds=400)
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert bootstrap(people, lambda vs: count(vs).recall, rounds=400) == (low, high)


def test_bootstrap_of_nothing_is_not_a_number():
    assert all(map(math.isnan, bootstrap([], lambda vs: 1.0)))
    assert all(map(math.isnan, bootstrap([video()], lambda vs: math.nan)))
