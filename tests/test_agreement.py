"""Agreement of coders: figures worked by hand, and those of well-kept statistics packages."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import added, session

from stream.__main__ import main
from stream.sessions.agree import agreements, watched
from stream.sessions.agreement import Rated, Shared, compare, icc, kappa
from stream.sessions.coding import Coding, Mark, Verdict


def rated(onset, offset, face=1, units=()):
    """Frames are given, at one a second."""
    return Rated(face, float(onset), float(offset), 1.0, frozenset(units))


def test_figures_worked_by_hand():
    """20 frames. First: 2-5, 10-13. Second: 3-5, 10-13, 16-17. IoU 3/4 and 1, so two pairs of 2 and 3 events.

    Frames: both 3 + 4 = 7, only first 1, only second 2, neither 10. Agreement 17/20; by chance
    (8 * 9 + 12 * 11) / 400 = 0.51; kappa (0.85 - 0.51) / 0.49.
    ICC of onsets [2, 3], [10, 10]: between 56.25, error 0.25, raters 0.25: (56.25 - 0.25) / (56.25 + 0.25).
    """
    first, second = (rated(2, 5), rated(10, 13)), (rated(3, 5), rated(10, 13), rated(16, 17))
    found = compare("a", "b", [Shared(first, second, {1: np.arange(20)})])
    assert (found.first_events, found.second_events, found.matched) == (2, 3, 2)
    assert found.f1 == pytest.approx(0.8)
    assert found.frames == (10, 2, 1, 7)
    assert found.percent == pytest.approx(85)
    assert found.kappa == pytest.approx(0.34 / 0.49)
    assert found.icc_onset == pytest.approx(56.0 / 56.5)
    assert found.icc_offset == pytest.approx(1)
    assert (found.onset_error_s, found.offset_error_s) == (0.5, 0)


def test_an_interval_matches_once_and_only_on_its_own_face():
    """Two intervals of the second rater overlap one of the first: one pair. The same moment on another face: none."""
    halves = compare("a", "b", [Shared((rated(0, 9),), (rated(0, 7), rated(1, 9)), {})])
    assert halves.matched == 1
    apart = compare("a", "b", [Shared((rated(0, 9),), (rated(0, 9, face=2),), {})])
    assert apart.matched == 0
    crossed = Shared((rated(0, 9), rated(100, 109, face=2)), (rated(0, 9, face=2), rated(50, 59)), {})
    turned = Shared(crossed.second, crossed.first, {})
    assert [compare("a", "b", [one]).matched for one in (crossed, turned)] == [0, 0]
    assert apart.frames == (0, 10, 10, 0)


def test_action_units_are_compared_in_matched_pairs_where_both_coded_some():
    """Of three pairs the last has no units on one side. AU4: both, then only the first. AU12: only the second."""
    first = (rated(0, 9, units=(4,)), rated(20, 29, units=(4, 7)), rated(40, 49, units=(4,)))
    second = (rated(0, 9, units=(4, 12)), rated(20, 29, units=(7,)), rated(40, 49))
    counts = {u.unit: (u.both, u.only_first, u.only_second, u.neither) for u in compare("a", "b", [
        Shared(first, second, {})]).units}  # fmt: skip
    assert counts == {4: (1, 1, 0, 0), 7: (1, 0, 0, 1), 12: (0, 0, 1, 1)}


def test_nothing_to_compare_gives_no_figure():
    """Not a perfect score, nor a zero, for two empty codings of a session without a face."""
    found = compare("a", "b", [Shared((), (), {})])
    assert (found.f1, found.percent, found.kappa, found.icc_onset, found.onset_error_s) == (None,) * 5


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4))
def test_kappa_is_that_of_scikit_learn(counts):
    """For any table of frames."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    a, b = np.repeat([0, 0, 1, 1], counts), np.repeat([0, 1, 0, 1], counts)
    ours = kappa(np.array(counts).reshape(2, 2))
    if ours is None:  # no frames, or both always say the same one thing: chance agreement is 1
        assert sum(counts) in (counts[0], counts[3])
    else:
        assert ours == pytest.approx(metrics.cohen_kappa_score(a, b), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_icc_is_that_of_pingouin(seed):
    """ICC(2,1) of onsets that two coders place with a bias and noise."""
    pingouin = pytest.importorskip("pingouin", reason="pingouin is not installed")
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    times = rng.uniform(0, 10, 12)[:, None] + rng.normal(0, 0.5, (12, 2)) + [0, 0.4]
    table = pandas.DataFrame({"target": np.repeat(range(12), 2), "rater": [0, 1] * 12, "time": times.ravel()})
    theirs = pingouin.intraclass_corr(table, "target", "rater", "time").set_index("Type")["ICC"]
    assert icc(times) == pytest.approx(theirs["ICC(A,1)"], abs=1e-9)


def test_every_two_coders_and_the_machine_over_several_sessions(tmp_path):
    """Counts add up over the sessions that two raters share. What a coder rejects is not an event of theirs."""
    rejected = Mark("M1", 1, 1.0, 1.2, 1.5, Verdict.REJECTED, "blink")
    accepted = Mark("M2", 1, 4.0, 4.2, 4.5, Verdict.ACCEPTED)
    one = session(tmp_path / "one", [("M1", 1, 1.0, 1.2, 1.5), ("M2", 1, 4.0, 4.2, 4.5)],
                  [Coding("Ann", "one", (rejected, accepted)), Coding("Bo", "one", (accepted,))],
                  seen={1: (0, 10)})  # fmt: skip
    two = session(tmp_path / "two", [], [Coding("Ann", "two", (added("x", 2.0, 2.5),))], seen={1: (0, 10)})
    found = {(a.first, a.second): a for a in agreements([one, two])}
    assert list(found) == [("Ann", "Bo"), ("Ann", "(machine)"), ("Bo", "(machine)")]
    assert (found["Ann", "Bo"].sessions, found["Ann", "Bo"].f1) == (1, 1.0)
    machine = found["Ann", "(machine)"]
    assert (machine.sessions, machine.first_events, machine.second_events, machine.matched) == (2, 2, 2, 1)


def test_frames_count_only_while_the_face_was_seen(tmp_path):
    """A face that is away for 4 s is not watched meanwhile. Without a track, the whole session counts."""
    made = session(tmp_path / "s", seen={12: (0, 2), 1: (5, 6)})
    track = made.track().copy()
    track["face"] = 12  # one face, seen from 0 to 2 s and from 5 to 6 s
    track.tofile(tmp_path / "s" / "track.bin")
    frames = watched(made)
    assert list(frames) == [12]
    assert frames[12].tolist() == [*range(60), *range(150, 180)]
    bare = session(tmp_path / "bare", [("M", 3, 1.0, 1.2, 1.5)], ends_s=10.0)
    assert {face: len(f) for face, f in watched(bare).items()} == {3: 301}


def test_the_command_prints_a_table_or_json(tmp_path, capsys):
    """Both from the command line, with what a reader must know: who has not finished, who was not blind."""
    marks = (added("1", 1.0, 1.5, units=(4,)),)
    session(tmp_path / "s", [("M", 1, 1.0, 1.2, 1.5)],
            [Coding("Ann", "s", marks, blind=True, done=True), Coding("Bo 2", "s", marks)],
            seen={1: (0, 10)})  # fmt: skip
    assert main(["agree", str(tmp_path / "s"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(a["first"], a["second"], a["f1"], a["kappa"]) for a in found] == [
        ("Ann", "Bo 2", 1.0, 1.0), ("Ann", "(machine)", 1.0, 1.0), ("Bo 2", "(machine)", 1.0, 1.0)]  # fmt: skip
    assert found[0]["units"] == [{"unit": 4, "both": 1, "only_first": 0, "only_second": 0, "neither": 0}]
    assert main(["agree", str(tmp_path / "s"), str(tmp_path / "s")]) == 0
    table = capsys.readouterr().out
    assert "Ann / Bo 2" in table
    assert "100.00 %" in table
    assert "Bo 2 has not finished" in table
    assert "Ann has not finished" not in table
    assert "Ann saw the machine" not in table


def test_sessions_without_codings_are_refused_in_one_line(tmp_path, capsys):
    session(tmp_path / "s")
    assert main(["agree", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["agree", str(tmp_path)]) == 2
    assert "no session" in capsys.readouterr().err
