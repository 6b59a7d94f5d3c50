"""The shipped clip itself: small, as a webcam makes it, loopable, with what its truth promises."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from engine.datasets.truth import load_truth
from engine.evaluation.baseline_signals import REGIONS, signals_of

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parent.parent / "stream" / "demo"


@pytest.fixture(scope="module")
def truth():
    (video,) = load_truth(DEMO / "truth.json")
    return video


@pytest.fixture(scope="module")
def frames():
    """(time in s, grey picture) of every frame."""
    with av.open(str(DEMO / "demo.mp4")) as file:
        return [(f.time, f.to_ndarray(format="gray").astype(np.float32)) for f in file.decode(video=0)]


def test_the_clip_is_small_and_as_a_webcam_makes_it(truth, frames):
    assert (DEMO / truth.file).stat().st_size < 1_000_000
    assert frames[0][1].shape == (480, 640)
    times = np.array([t for t, _ in frames])
    assert np.allclose(np.diff(times), 1 / 30, atol=1e-3)
    assert times[-1] + 1 / 30 == pytest.approx(truth.duration_s, abs=1e-3)
    assert 12 <= truth.duration_s <= 15


def test_the_clip_ends_as_it_begins(frames):
    """Looped, its last frame goes over into its first as any frame does into the next."""
    steps = [float(abs(b - a).mean()) for (_, a), (_, b) in itertools.pairwise(frames)]
    assert abs(frames[-1][1] - frames[0][1]).mean() < max(steps)


def test_its_truth_has_four_clear_micro_expressions_well_apart(truth):
    found = [i for i in truth.intervals if i.kind == "micro"]
    assert len(found) == 4
    assert found[0].onset_s >= 3
    assert all(2.5 <= i.amplitude_px <= 4 for i in found)
    assert all(0.3 <= i.offset_s - i.onset_s <= 0.5 for i in found)
    assert all(b.onset_s - a.offset_s > 1.5 for a, b in itertools.pairwise(found))
    assert {i.kind for i in truth.intervals} == {"micro", "blink", "macro"}, "what it must not fire on is there too"


PARTS = {"brows": ("brow_right", "brow_left", "glabella"), "mouth": ("mouth_right", "mouth_left", "lips", "chin")}


def test_the_face_moves_when_and_where_its_truth_says_so(truth):
    """In the live path's own crops, against the nose: from onset to apex most where the truth names it."""
    seen = signals_of(DEMO / "demo.mp4")
    names = list(REGIONS)
    path = np.cumsum(seen.moved - seen.moved[:, [names.index("nose")]], axis=0)

    def moved_px(onset_s: float, apex_s: float) -> dict[str, float]:
        way = np.hypot(*(path[round(apex_s * 30)] - path[round(onset_s * 30)]).T)
        return dict(zip(names, way.tolist(), strict=True))

    assert max(moved_px(2.6, 2.85).values()) < 0.1, "nothing happens here"
    for interval in (i for i in truth.intervals if i.kind == "micro"):
        moved = moved_px(interval.onset_s, interval.apex_s)
        assert max(moved.values()) > 0.15
        assert max(moved, key=moved.__getitem__) in PARTS[interval.regions[0]]
