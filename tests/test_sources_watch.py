"""What a live source's frames and silence mean: each fault is told once, and no frame is handed out while it lasts."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.sources.watch import BLACK_AFTER_S, FROZEN_AFTER_S, Look, Patience, SourceWatch, State, look_at

FRAME_S = 1 / 30
VGA = (640, 480)


def looks(seconds: float, start_s: float = 0.0, **what: object) -> list[Look]:
    """Frames at 30 fps, every one different unless told otherwise."""
    times = [start_s + i * FRAME_S for i in range(round(seconds / FRAME_S))]
    return [Look(**{"time_s": t, "digest": i, "bright": 1.0, "size_px": VGA, **what}) for i, t in enumerate(times)]  # type: ignore[arg-type]


def watch(frames: list[Look]) -> tuple[list[tuple[float, str]], list[float]]:
    """Gaps as (time, reason), and the times of the frames that were handed out."""
    watching, gaps, shown = SourceWatch(), [], []
    for look in frames:
        verdict = watching.see(look)
        if verdict.gap:
            gaps.append((look.time_s, verdict.gap))
        if verdict.usable:
            shown.append(look.time_s)
    return gaps, shown


def test_a_good_source_has_no_gap() -> None:
    frames = looks(10)
    assert watch(frames) == ([], [look.time_s for look in frames])


@pytest.mark.parametrize(
    ("what", "reason", "after_s"),
    [({"digest": 7}, "frozen", FROZEN_AFTER_S), ({"bright": 0.0}, "black", BLACK_AFTER_S)],
)
def test_frozen_and_black_are_told_once_and_withheld(what: dict[str, object], reason: str, after_s: float) -> None:
    """Told after their time, once; handed out again from the first live frame on; told again when it happens again."""
    frames = looks(1) + looks(6, 1, **what) + looks(1, 7) + looks(6, 8, **what)
    gaps, shown = watch(frames)
    assert [gap for _, gap in gaps] == [reason, reason]
    assert gaps[0][0] == pytest.approx(1 + after_s, abs=2 * FRAME_S)
    assert gaps[1][0] == pytest.approx(8 + after_s, abs=2 * FRAME_S)
    assert not [t for t in shown if gaps[0][0] <= t < 7 - 1e-9]
    assert sum(7 - 1e-9 <= t < 8 - 1e-9 for t in shown) == 30


def test_a_still_image_is_black_before_it_is_frozen() -> None:
    assert [gap for _, gap in watch(looks(5, digest=7, bright=0.0))[0]] == ["black"]


@pytest.mark.parametrize("what", [{"digest": 7}, {"bright": 0.0}])
def test_a_pause_does_not_make_a_frozen_or_black_image_good(what: dict[str, object]) -> None:
    """Still the same after 3 s of silence: nothing new is told, and nothing is handed out."""
    gaps, shown = watch(looks(4, **what) + looks(1, 7, **what))
    assert len(gaps) == 1
    assert max(shown) < 3


def test_duplicated_frames_are_not_frozen() -> None:
    """A driver that shows each image of a 15 fps camera twice is a slow camera, not a frozen one."""
    frames = [Look(i * FRAME_S, i // 2, 1.0, VGA) for i in range(300)]
    assert watch(frames)[0] == []


def test_a_size_that_changes_is_a_gap_and_on_it_goes() -> None:
    frames = looks(1) + looks(1, 1, size_px=(320, 240))
    gaps, shown = watch(frames)
    assert [gap for _, gap in gaps] == ["resolution_changed"]
    assert len(shown) == len(frames)


def test_sleep_and_clock_jumps_are_a_gap() -> None:
    """A machine that slept: the monotonic clock stood still, the wall clock did not."""
    gaps, shown = watch(looks(1) + looks(1, 1, offset_s=3600.0))
    assert gaps == [(pytest.approx(1.0), "clock_jump")]
    assert len(shown) == 60


def test_silence_is_told_while_it_lasts_and_only_once() -> None:
    watching = SourceWatch()
    assert watching.silence(100.0) is None, "nothing has come yet, nothing can be missing"
    watching.see(Look(0.0, 1, 1.0, VGA))
    assert [watching.silence(t) for t in (0.5, 1.0, 1.1, 5.0)] == [None, None, "stalled", None]
    verdict = watching.see(Look(6.0, 2, 1.0, VGA))
    assert (verdict.gap, verdict.usable) == (None, True)


def test_a_pause_that_nobody_saw_is_told_by_the_next_frame() -> None:
    watching = SourceWatch()
    watching.see(Look(0.0, 1, 1.0, VGA))
    assert watching.see(Look(1.5, 1, 1.0, VGA)).gap == "stalled"


def test_a_lost_connection_is_told_once_until_a_frame_comes() -> None:
    watching = SourceWatch()
    watching.see(Look(0.0, 1, 1.0, VGA))
    assert [watching.lost(), watching.lost(), watching.silence(9.0)] == ["reconnecting", None, None]
    assert watching.see(Look(10.0, 2, 1.0, VGA)).gap is None
    assert watching.lost() == "reconnecting"


STEPS = st.one_of(
    st.tuples(
        st.just("see"),
        st.floats(0.001, 3.0),
        st.integers(0, 2),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([VGA, (1, 1)]),
    ),
    st.tuples(st.just("silence"), st.floats(0.001, 3.0)),
    st.tuples(st.just("lost"), st.floats(0.001, 3.0)),
)


@given(st.lists(STEPS, max_size=60))
def test_whatever_happens_no_hole_is_silent(steps: list[tuple]) -> None:
    """Between two frames that are handed out and are more than 1 s apart, or of different sizes, there was a gap;
    a gap names its state; no state is told twice without a frame or another state between."""
    watching, now_s = SourceWatch(), 0.0
    told: list[tuple[str, float, object]] = []
    for kind, step_s, *what in steps:
        now_s += step_s
        if kind == "see":
            digest, bright, size = what
            verdict = watching.see(Look(now_s, digest, bright, size))
            if verdict.gap:
                told.append(("gap", now_s, verdict.gap))
            if verdict.usable:
                assert watching.state is State.LIVE
                told.append(("frame", now_s, size))
            else:
                assert watching.state in (State.BLACK, State.FROZEN)
        elif reason := watching.silence(now_s) if kind == "silence" else watching.lost():
            assert reason == watching.state
            told.append(("gap", now_s, reason))
    for (kind, at_s, what), (next_kind, next_s, next_what) in pairwise(told):
        if kind == next_kind == "frame":
            assert next_s - at_s <= 1.0
            assert what == next_what
        if kind == next_kind == "gap":
            assert what != next_what


def test_looks_of_images() -> None:
    """Equal images look equal, sensor noise doesn't; a covered lens with its noise is black, a dim face is not."""
    rng = np.random.default_rng(3)
    face = rng.integers(25, 90, (480, 640, 3), np.uint8)
    assert look_at(0, face) == look_at(0, face.copy())
    assert look_at(0, face).digest != look_at(0, rng.integers(25, 90, (480, 640, 3), np.uint8)).digest
    assert look_at(0, face).size_px == VGA
    covered = rng.integers(0, 12, (480, 640, 3), np.uint8)
    assert [gap for _, gap in watch([look_at(i * 0.1, covered + i % 2) for i in range(20)])[0]] == ["black"]
    assert watch([look_at(i * 0.1, face // 2 + i % 2) for i in range(20)])[0] == []
    assert look_at(0, np.zeros((1, 1, 3), np.uint8)).size_px == (1, 1)


@given(st.integers(0, 10_000), st.floats(0, 200))
def test_patience_doubles_up_to_the_most_and_ends(attempt: int, down_s: float) -> None:
    pause_s = Patience().pause_s(attempt, down_s)
    if down_s >= 60:
        assert pause_s is None
    else:
        assert pause_s is not None
        assert pause_s == min(0.5 * 2 ** min(attempt, 4), 8.0, 60 - down_s)
