"""Whole clips, drawn from a seed: the number of events, the camera and the light."""

from collections.abc import Callable

import numpy as np

from engine.training.generator.camera import draw_camera, draw_light, draw_times
from engine.training.generator.curves import log_uniform, wander
from engine.training.generator.happenings import add_blink, add_head, add_macro, add_micro, add_speech, look
from engine.training.generator.repertoire import RESTLESS_SHAPES
from engine.training.generator.script import Script, still_script

ACTED = ("blink", "speech", "macro", "head")
"""The nuisances that a face or a head performs."""
Change = Callable[[Script, np.random.Generator], object]
"""Changes a drawn script, such as `enliven` or `nuisances.step_exposure`."""


def draw_script(
    rng: np.random.Generator,
    duration_s: float,
    micros: int | None = None,
    only: str | None = None,
    amplitude: Callable[[np.random.Generator], float] | None = None,
) -> Script:
    """A whole clip. `micros`: how many micro-expressions (None: drawn, 0 to 2). One that meets another is left out.

    `only`: the single nuisance that may occur, one of ACTED, or "none". `amplitude`: draws a size in px on a 256-px
    face. Raises ValueError for any other nuisance.
    """
    if only not in (None, "none", *ACTED):
        raise ValueError(f"only {only!r}: is not one of none, {', '.join(ACTED)}")
    camera = draw_camera(rng)
    times = draw_times(rng, camera, duration_s)
    s = still_script(times, camera)
    draw_background(s, rng, still=only not in (None, "head") or rng.random() < 0.15)
    _draw_micros(s, rng, duration_s, micros, amplitude or usual_amplitude)
    _draw_nuisances(s, rng, duration_s, only)
    return s


def draw_background(s: Script, rng: np.random.Generator, still: bool) -> None:
    """What never stops: posture sway, gaze, the room's light."""
    t = s.time_s
    calm = 0.15 if still else float(rng.choice([0.2, 1.0, 2.5], p=[0.4, 0.4, 0.2]))
    _sway(s, rng, calm, turn_hz=0.5, pose_hz=(0.6, 0.6, 0.5, 0.4))
    s.light = draw_light(rng, t, s.camera)
    begins = float(rng.exponential(0.8))
    look(s, rng, float(t[-1]) if still else begins)
    s.jitter = (
        log_uniform(rng, 0.01, 0.12),
        log_uniform(rng, 0.01, 0.15),
    )


def _sway(
    s: Script, rng: np.random.Generator, much: float, turn_hz: float, pose_hz: tuple[float, float, float, float]
) -> None:
    """A head that is never quite still. It turns by some 2 degrees times `much` (rms), and the pose follows."""
    t = s.time_s
    s.add("yaw", wander(rng, t, 2.0 * much, turn_hz))
    s.add("pitch", wander(rng, t, 1.5 * much, turn_hz))
    sizes = (4, 4, 1.0, 0.01)
    s.pose = s.pose + np.stack([wander(rng, t, a * much, hz) for a, hz in zip(sizes, pose_hz, strict=True)], axis=1)


def enliven(s: Script, rng: np.random.Generator) -> None:
    """A lively person's clip. Expressions vary without rest. Half of the people also move their head without rest,
    and three in five speak up to three times as loudly. Apart from speech, these additions have no label."""
    t, duration_s = s.time_s, float(s.time_s[-1])
    size = log_uniform(rng, 0.05, 0.7)
    for name in rng.choice(RESTLESS_SHAPES, size=rng.integers(3, 9), replace=False):
        hz = log_uniform(rng, 0.4, 2.5)
        if rng.random() < 0.7:
            s.add(str(name), np.abs(wander(rng, t, size * float(rng.uniform(0.3, 1)), hz)))
        else:
            s.add(str(name), wander(rng, t, size * 0.4, hz))
    if rng.random() < 0.5:
        _sway(s, rng, float(rng.uniform(0.4, 1.6)), turn_hz=1.0, pose_hz=(1.0, 1.0, 0.8, 0.6))
    if rng.random() < 0.6:
        at = float(rng.uniform(-1, 1))
        while at < duration_s:
            length = float(rng.uniform(0.6, 4))
            _speak_up(s, rng, at, min(at + length, duration_s + 1))
            at += length + float(rng.exponential(0.6)) + 0.2


def _speak_up(s: Script, rng: np.random.Generator, onset_s: float, offset_s: float) -> None:
    """Speech, one to three times as loud as usual."""
    before = dict(s.actions)
    add_speech(s, rng, onset_s, offset_s)
    louder = float(rng.uniform(1, 3))
    for name, curve in s.actions.items():
        was = before.get(name, np.zeros_like(curve))
        s.actions[name] = was + np.float32(louder) * (curve - was)


def usual_amplitude(rng: np.random.Generator) -> float:
    """From hardly visible to obvious, in px on a 256-px face."""
    return log_uniform(rng, 0.7, 6.0)


def _draw_micros(
    s: Script,
    rng: np.random.Generator,
    duration_s: float,
    wanted: int | None,
    amplitude: Callable[[np.random.Generator], float],
) -> None:
    count = wanted if wanted is not None else int(rng.choice([0, 1, 2], p=[0.4, 0.35, 0.25]))
    # A requested number counts only whole ones. Otherwise the clip's ends may cut them.
    low, high = (-0.2, duration_s - 0.15) if wanted is None else (0.4, duration_s - 1.0)
    taken: list[tuple[float, float]] = []
    for _ in range(count):
        onset = float(rng.uniform(low, high))
        if all(onset + 0.85 < a or onset > b + 0.15 for a, b in taken):
            label = add_micro(s, rng, onset, amplitude(rng))
            s.labels.append(label)
            taken.append((label.onset_s, label.offset_s))


def _draw_nuisances(s: Script, rng: np.random.Generator, duration_s: float, only: str | None) -> None:
    scale = duration_s / 4.5
    busy = rng.random() < 0.8
    if only == "blink" or (only is None and busy):
        for _ in range(rng.poisson(0.9 * scale)):
            add_blink(s, rng, float(rng.uniform(-0.3, duration_s)))
    if only == "macro" or (only is None and busy):
        for _ in range(rng.poisson(0.45 * scale)):
            add_macro(s, rng, float(rng.uniform(-1.0, duration_s)))
    if only == "speech" or (only is None and rng.random() < 0.45):
        at = float(rng.uniform(-2, 2.5))
        while at < duration_s:
            length = float(rng.uniform(0.3, 4))
            add_speech(s, rng, at, min(at + length, duration_s + 1))
            at += length + float(rng.exponential(1.5)) + 0.3
    if only == "head" or (only is None and rng.random() < 0.35):
        for _ in range(1 + rng.poisson(0.8 * scale)):
            add_head(s, rng, float(rng.uniform(-0.5, duration_s)))
    if only is None and rng.random() < 0.05:
        at = float(rng.uniform(0, duration_s))
        s.occluder = (at, at + float(rng.uniform(0.3, 1.5)))
