"""The comparison of networks by what can be seen: rates, recall and the interval of a difference."""

import numpy as np
import pytest

from engine.training.learn.visible import Asked, Outcome, difference


def outcome(scores, alarms, visibility=1.0, regions=("brows",)):
    """One movement a sequence, all as visible; `alarms`: sequence and score; one minute of clean sequences."""
    asked = tuple(Asked(i, visibility, regions, score) for i, score in enumerate(scores))
    return Outcome(asked, tuple(alarms), len(scores), 1.0)


def test_recall_is_told_at_the_threshold_that_keeps_to_the_rate():
    """At one alarm a minute the second best alarm must fall; what scores like it falls as well."""
    found = outcome([0.9, 0.5, 0.3, 0.0], [(0, 0.8), (1, 0.5), (2, 0.2)])
    assert found.recall(found.threshold(60)) == 0.25
    assert found.recall(found.threshold(120)) == 0.75
    assert found.recall(found.threshold(1e6)) == 0.75  # what nothing found stays missed
    assert found.recall(found.threshold(0)) == 0.25


def test_recall_counts_what_is_visible_there():
    found = outcome([0.9, 0.9], [], visibility=0.4)
    assert np.isnan(found.recall(0.5))
    assert found.recall(0.5, 0.25, 0.5) == 1
    assert np.isnan(found.recall(0.5, 0.25, 0.5, region="mouth"))


def test_a_difference_comes_with_what_chance_may_do():
    """One network finds all, the other half; of two that find the same, none is better."""
    alarms = [(k, 0.1) for k in range(40)]
    all_of_them, half = outcome([0.9] * 40, alarms), outcome([0.9, 0.05] * 20, alarms)
    more, low, high = difference(all_of_them, half, 60)
    assert more == 0.5
    assert 0.3 < low < more < high < 0.7
    assert difference(half, half, 60) == (0, 0, 0)
    assert difference(all_of_them, outcome([0.9] * 40, [(k, 0.95) for k in range(40)]), 60)[0] == pytest.approx(1)
