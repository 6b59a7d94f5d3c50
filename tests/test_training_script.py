"""Scripts of made-up clips: the same from the same seed, true to their labels, within the ranges they state."""

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.training.generator.camera import Camera, draw_camera, draw_light, draw_times
from engine.training.generator.curves import min_jerk, raised_cosine, ramp, there_and_back, wander
from engine.training.generator.decoys import SHORTEST_S, add_decoy
from engine.training.generator.happenings import add_blink, add_head, add_macro, add_micro, add_speech
from engine.training.generator.repertoire import ME_UNITS, MIRROR, PUSH_AT, RESTLESS_SHAPES, UNIT_REGION
from engine.training.generator.scenes import draw_script, enliven
from engine.training.generator.script import Script

DURATION_S = 4.6
CAMERA = Camera(30, 0, 1, 1, 0, "none", 90, 0, 1)


def draw(seed, **how):
    return draw_script(np.random.default_rng(seed), DURATION_S, **how)


def dense(step_s=0.005):
    """An empty script with a curve point every 5 ms."""
    t = np.arange(-1, 9, step_s)
    return Script(t, CAMERA, np.zeros((len(t), 4), np.float32), np.ones((len(t), 4), np.float32))


def digest(script):
    """Everything that a script says."""
    said = repr((script.camera, script.labels, script.jitter, script.occluder, list(script.actions)))
    arrays = [script.time_s, script.pose, script.light, *script.actions.values()]
    pushes = [part for push, curve in script.pushes for part in (repr(push).encode(), curve.tobytes())]
    return hashlib.sha256(said.encode() + b"".join(a.tobytes() for a in arrays) + b"".join(pushes)).hexdigest()


def test_a_seed_is_a_script_in_every_process():
    """Sets and hashes play no part: pools are made by many workers."""
    code = "import test_training_script as t; print(*(t.digest(t.draw(seed)) for seed in range(12)))"
    here = [digest(draw(seed)) for seed in range(12)]
    assert len(set(here)) == 12
    for hash_seed in ("1", "2"):
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert done.stdout.split() == here


def test_micro_expressions_are_as_long_and_large_as_they_are_in_life():
    found = [a for seed in range(150) for a in draw(seed).labels if a.kind == "micro"]
    length = np.array([a.offset_s - a.onset_s for a in found])
    apex = np.array([a.apex_s - a.onset_s for a in found]) / length
    size = np.array([a.amplitude_px for a in found])
    assert len(found) > 80
    assert length.min() >= 0.17
    assert length.max() <= 0.73
    assert 0.35 < np.median(length) < 0.5
    assert apex.min() >= 0.2
    assert apex.max() <= 0.7
    assert 0.39 < np.median(apex) < 0.47
    assert 0.7 <= size.min() < 1.0 < 4.5 < size.max() <= 6.0


def test_two_micro_expressions_never_meet():
    for seed in range(60):
        spans = sorted((a.onset_s, a.offset_s) for a in draw(seed, micros=4).labels if a.kind == "micro")
        assert spans
        assert all(b[0] > a[1] for a, b in pairwise(spans))


def test_micro_expressions_that_were_asked_for_are_whole():
    sized = [draw(seed, micros=1, amplitude=lambda rng: 2.5).labels for seed in range(40)]
    for labels in sized:
        (one,) = (a for a in labels if a.kind == "micro")
        assert one.onset_s >= 0
        assert one.offset_s <= DURATION_S
        assert one.amplitude_px == 2.5


@pytest.mark.parametrize("only", ["blink", "macro", "speech", "head", "none"])
def test_a_single_nuisance_comes_alone(only):
    scripts = [draw(seed, micros=0, only=only) for seed in range(30)]
    assert {a.kind for s in scripts for a in s.labels} == ({only} - {"none"})
    assert all(s.occluder is None for s in scripts)
    allowed = {"yaw", "pitch", "gaze_x", "gaze_y"}
    names = {name for s in scripts for name, curve in s.actions.items() if np.abs(curve).max() > 0}
    assert bool(names - allowed) == (only in ("blink", "macro", "speech"))
    if only != "head":
        assert all(np.abs(s.actions[n]).max() == 0 for s in scripts for n in ("gaze_x", "gaze_y"))


def test_a_nuisance_that_nobody_knows_is_refused():
    """A name that is misspelt makes no clip without nuisances."""
    with pytest.raises(ValueError, match="'blinks': is not one of none, blink"):
        draw(0, micros=0, only="blinks")


@pytest.mark.parametrize("seed", range(5))
def test_a_lively_face_never_rests_and_keeps_its_micro_expressions(seed):
    """Something large is always on its way; action units, pushes and labels stay, but for speech that is added."""
    plain, lively = draw(seed), draw(seed)
    enliven(lively, np.random.default_rng(seed))
    assert lively.labels[: len(plain.labels)] == plain.labels
    assert {label.kind for label in lively.labels[len(plain.labels) :]} <= {"speech"}
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(lively.pushes, plain.pushes, strict=True))
    assert all(np.array_equal(lively.actions[n], c) for n, c in plain.actions.items() if n.startswith(("AU", "blink")))
    more = [np.abs(lively.actions[n] - plain.actions.get(n, 0)) for n in RESTLESS_SHAPES if n in lively.actions]
    assert np.quantile(np.max(more, axis=0), 0.1) > 0.005


def test_everything_happens_in_a_usual_clip():
    kinds = {a.kind for seed in range(30) for a in draw(seed).labels}
    assert kinds == {"micro", "blink", "macro", "speech", "head"}
    assert any(draw(seed).occluder for seed in range(60))


def test_stamps_rise_and_no_two_frames_in_a_row_are_dropped():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        camera = draw_camera(rng)
        t = draw_times(rng, camera, DURATION_S)
        assert -0.004 <= t[0] <= 0
        assert DURATION_S - 0.001 <= t[-1] <= DURATION_S + 1 / camera.fps + 0.004
        assert np.diff(t).min() > 1e-3
        assert np.diff(t).max() < 2 / camera.fps + 0.009  # jitter of 4 ms at either end
        if not camera.dropped:
            assert np.diff(t).max() < 1 / camera.fps + 0.009


def test_dropped_frames_are_as_frequent_as_the_camera_says():
    camera = Camera(30, 0.08, 1, 1, 0, "none", 90, 0, 1)
    t = draw_times(np.random.default_rng(0), camera, 200.0)
    assert 0.05 < 1 - len(t) / (200 * 30) < 0.09


@pytest.mark.parametrize("ease", [min_jerk, raised_cosine, ramp])
@pytest.mark.parametrize("rest", [0.0, 0.2])
def test_a_curve_peaks_at_its_apex_and_is_still_outside(ease, rest):
    t = np.arange(0, 1, 0.001)
    curve = there_and_back(t, 0.2, 0.4, 0.7, hold=0.05, rest=rest, ease=ease)
    assert curve[400] == pytest.approx(1)
    assert curve.max() <= 1 + 1e-6
    assert np.all(curve[t <= 0.2] == 0)
    np.testing.assert_allclose(curve[(t >= 0.4) & (t <= 0.45)], 1, atol=1e-6)
    np.testing.assert_allclose(curve[t > 0.7], rest, atol=1e-6)
    assert np.all(np.diff(curve[200:400]) >= 0)
    assert np.all(np.diff(curve[450:700]) <= 1e-7)


def peak_and_outside(script, label):
    """Largest amount near the apex, and outside [onset, offset] (`rest` left out: after the offset only the change)."""
    curves = [*script.actions.values(), *(curve for _, curve in script.pushes)]
    total = np.max(np.abs(curves), axis=0)
    t = script.time_s
    after = np.max(np.abs([c[t > label.offset_s + 0.01] - c[-1] for c in curves]))
    return total[np.abs(t - label.apex_s).argmin()], max(total[t < label.onset_s].max(), after), total[-1]


def test_a_micro_expression_moves_by_its_amplitude_within_its_label():
    for seed in range(60):
        script = dense()
        label = add_micro(script, np.random.default_rng(seed), 1.0, 4.0)
        peak, outside, rest = peak_and_outside(script, label)
        assert label.onset_s == 1.0
        assert 0.75 * 4 * 0.98 <= peak <= 1.1 * 4
        assert outside < 1e-5
        assert rest <= 0.25 * 1.1 * 4
        assert sum(label.regions) == pytest.approx(1)
        if script.pushes:
            assert max(label.regions) == 1


@pytest.mark.parametrize("add", [add_blink, add_macro])
def test_nuisances_stay_within_their_labels(add):
    for seed in range(30):
        script = dense()
        add(script, np.random.default_rng(seed), 0.5)
        (label,) = script.labels
        peak, outside, _ = peak_and_outside(script, label)
        assert peak > 0.05
        assert outside < 1e-5
        length = label.offset_s - label.onset_s
        assert 0.2 <= length <= 0.75 if add is add_blink else length >= 0.79


def test_speech_and_head_movements_stay_within_their_labels():
    for seed in range(20):
        rng, script = np.random.default_rng(seed), dense()
        add_speech(script, rng, 1.0, 2.5)
        jaw = script.actions["jaw_open"]
        assert jaw[(script.time_s > 1) & (script.time_s < 2.5)].max() > 0.01
        # the last syllable may end later than speech as a whole, the first begins a little before
        assert jaw[(script.time_s < 0.9) | (script.time_s > 3.0)].max() == 0
        script = dense()
        add_head(script, rng, 1.0)
        moved = np.abs(np.diff(script.pose, axis=0)).max(axis=1) > 1e-7
        when = script.time_s[1:][moved]
        assert when.min() >= 1.0
        assert when.max() <= script.labels[0].offset_s + 0.01


def test_sides_are_kept():
    script = dense()
    curve = np.ones(len(script.time_s), np.float32)
    script.add_sides("4", 1.0, 0.0, curve)
    script.add_sides("4", 0.5, 0.2, curve)
    script.add_sides("17", 0.3, -0.8, curve)
    assert {name: float(c[0]) for name, c in script.actions.items()} == pytest.approx(
        {"AU4_L": 1.5, "AU4_R": 0.2, "AU17_B": -0.8}
    )


def test_tables_belong_together():
    assert ME_UNITS.keys() == UNIT_REGION.keys()
    assert MIRROR.keys() == {landmark for landmark, _ in PUSH_AT}


def test_light_is_that_of_a_room():
    """Never dark, never burnt out; steady in most clips."""
    rng, t = np.random.default_rng(0), np.arange(0, 5, 1 / 30)
    lights = [draw_light(rng, t, CAMERA) for _ in range(100)]
    gain = np.stack([light[:, 0] for light in lights])
    assert gain.min() > 0.3
    assert gain.max() < 2
    assert np.mean(np.ptp(gain, axis=1) < 0.1) > 0.5


def test_a_random_walk_has_the_size_it_is_asked_for():
    rng, t = np.random.default_rng(0), np.arange(0, 60, 0.1)
    rms = np.sqrt(np.mean([np.mean(wander(rng, t, 3.0, 1.0) ** 2) for _ in range(200)]))
    assert rms == pytest.approx(3.0 / np.sqrt(2), rel=0.1)


@given(seed=st.integers(0, 10_000))
def test_a_decoy_has_the_places_of_a_micro_expression_and_a_course_that_none_has(seed):
    """It moves for longer than any micro-expression lasts, or moves without rest for as long; heads may nod quickly,
    mouths say a word, and eyes look elsewhere, which is of no class."""
    script = dense()
    label = add_decoy(script, np.random.default_rng(seed), 1.0)
    assert script.labels == []
    curves = [*script.actions.values(), *(curve for _, curve in script.pushes)]
    if label is None or label.kind in ("head", "speech"):
        eyes, head = {"gaze_x", "gaze_y"}, {"yaw", "pitch"}
        kind = {frozenset(eyes): None, frozenset(head): "head"}.get(frozenset(script.actions), "speech")
        assert kind == (label and label.kind)
        assert kind != "speech" or "jaw_open" in script.actions
        return
    assert label.kind == "macro"
    moved = script.time_s[np.any([np.abs(curve) > 0.02 * label.amplitude_px for curve in curves], axis=0)]
    assert label.onset_s <= moved[0] + 0.01
    assert moved[-1] - moved[0] > 0.73
    assert label.offset_s - label.onset_s >= SHORTEST_S - 1e-6
    calm = np.diff(moved).max()
    assert calm < 0.1, "a pause makes two movements of one"
