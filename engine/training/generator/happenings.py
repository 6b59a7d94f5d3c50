"""The events of a clip, one function each: it draws the event, adds it to a script and returns its label.

Timing and size follow published annotation statistics. Micro-expressions last 200-550 ms with the apex at ~43 % of the
way. Blinks last 333-733 ms, and about half of them are partial. Macro-expressions last 0.75 s and more.
"""

import numpy as np
from numpy.typing import NDArray

from engine.spec import REGIONS
from engine.training.generator.curves import Curve, log_uniform, min_jerk, raised_cosine, ramp, there_and_back
from engine.training.generator.repertoire import (
    MACRO_SHAPES,
    ME_UNITS,
    MIRROR,
    PAIRS,
    PUSH_AT,
    SPEECH_SHAPES,
    UNIT_REGION,
)
from engine.training.generator.script import Label, Push, Script


def add_micro(s: Script, rng: np.random.Generator, onset_s: float, amplitude_px: float) -> Label:
    """One micro-expression of one to three units, often one-sided. A quarter of them are pushes of no named action."""
    total = (
        float(np.clip(rng.normal(0.42, 0.10), 0.17, 0.62)) if rng.random() < 0.85 else float(rng.uniform(0.45, 0.73))
    )
    offset_s = onset_s + total
    apex_s = onset_s + total * float(np.clip(rng.normal(0.43, 0.1), 0.2, 0.7))
    rest = float(rng.choice([0.0, rng.uniform(0, 0.25)]))
    hold = float(rng.choice([0.0, rng.uniform(0, 0.3)])) * (offset_s - apex_s)
    # Nobody knows the one true course of a micro-expression, so the network must not memorise ours.
    ease = (min_jerk, raised_cosine, ramp)[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
    curve = amplitude_px * there_and_back(s.time_s, onset_s, apex_s, offset_s, hold, rest, ease)
    regions = add_movement(s, rng, curve)
    return Label("micro", onset_s, apex_s, offset_s, amplitude_px, tuple((regions / regions.sum()).tolist()))


def add_movement(s: Script, rng: np.random.Generator, curve: Curve) -> NDArray[np.float64]:
    """Gives a course (px on a 256-px face) to one to three units or, now and then, to a push of no named action.
    Returns its weight per region."""
    return _push(s, rng, curve) if rng.random() < 0.25 else _act(s, rng, curve)


def _push(s: Script, rng: np.random.Generator, curve: Curve) -> NDArray[np.float64]:
    """One push, or two mirrored ones. Returns the movement's weight per region."""
    regions = np.zeros(len(REGIONS))
    landmark, region = PUSH_AT[rng.integers(len(PUSH_AT))]
    on_both_sides = rng.random() < 0.4
    push = Push(landmark, float(rng.uniform(0.05, 0.16)), float(rng.uniform(-np.pi, np.pi)))
    s.pushes.append((push, curve))
    if on_both_sides:
        other = Push(MIRROR[landmark], push.radius, np.pi - push.angle)
        s.pushes.append((other, curve * float(rng.uniform(0.5, 1.1))))
    regions[region] = 1.0
    return regions


def _act(s: Script, rng: np.random.Generator, curve: Curve) -> NDArray[np.float64]:
    """One to three action units, on one side or both. Returns the movement's weight per region."""
    regions = np.zeros(len(REGIONS))
    names, counts = list(ME_UNITS), np.array(list(ME_UNITS.values()), float)
    units = {str(rng.choice(names, p=counts / counts.sum()))}
    if rng.random() < 0.4:
        partner = [p for p in PAIRS if units & set(p)]
        if partner:
            units |= set(partner[rng.integers(len(partner))])
        else:
            units.add(str(rng.choice(names, p=counts / counts.sum())))
    side = rng.choice(["both", "L", "R"], p=[0.5, 0.25, 0.25])
    for i, unit in enumerate(sorted(units)):
        gain = 1.0 if i == 0 else float(rng.uniform(0.4, 1.0))
        left, right = (
            gain * float(rng.uniform(0.75, 1.0) if side in ("both", here) else rng.choice([0.0, 0.15])) for here in "LR"
        )
        s.add_sides(unit, left, right, curve)
        regions[UNIT_REGION[unit]] += gain
    return regions


def add_blink(s: Script, rng: np.random.Generator, onset_s: float) -> None:
    """A full or partial blink. It closes in 80-150 ms and opens more slowly; brow and cheek move slightly with it."""
    total = float(np.clip(rng.normal(0.45, 0.12), 0.2, 0.75))
    apex_s, offset_s = onset_s + total * float(rng.uniform(0.22, 0.45)), onset_s + total
    depth = float(rng.uniform(0.75, 1.0)) if rng.random() < 0.5 else float(rng.uniform(0.1, 0.75))
    hold = float(rng.choice([0.0, rng.uniform(0, 0.25)])) * (offset_s - apex_s)
    curve = there_and_back(s.time_s, onset_s, apex_s, offset_s, hold)
    for side in ("L", "R"):
        s.add(f"blink_{side}", depth * float(rng.uniform(0.9, 1.0)) * curve)
    if rng.random() < 0.5:
        for unit, most in (("4", 0.9), ("6", 0.9), ("2", -0.7), ("9", 0.5)):
            size = float(rng.uniform(0, most)) if most > 0 else float(rng.uniform(most, 0))
            s.add_sides(unit, size * depth, size * depth, curve)
    s.labels.append(Label("blink", onset_s, apex_s, offset_s))


def add_macro(s: Script, rng: np.random.Generator, onset_s: float) -> None:
    """An ordinary expression: longer than a micro-expression, mostly larger, mostly on both sides."""
    rise, fall = float(rng.uniform(0.2, 0.8)), float(rng.uniform(0.25, 1.2))
    hold = float(rng.exponential(0.7)) + max(0.0, 0.8 - rise - fall)
    apex_s, offset_s = onset_s + rise, onset_s + rise + hold + fall
    curve = there_and_back(s.time_s, onset_s, apex_s, offset_s, hold)
    if rng.random() < 0.45:  # faint and local, like a micro-expression that stays
        units = rng.choice(list(ME_UNITS), size=rng.integers(1, 3), replace=False)
        size = log_uniform(rng, 0.8, 7)
        for unit in units:
            left, right = (size * float(rng.choice([0.1, 1.0], p=[0.2, 0.8])) for _ in "LR")
            s.add_sides(str(unit), left, right, curve)
    else:
        size = log_uniform(rng, 0.1, 1)
        for name in sorted(set(rng.choice(MACRO_SHAPES, size=rng.integers(1, 4)).tolist())):
            for action in ("smile_L", "smile_R") if name == "smile" else (name,):
                s.add(action, size * float(rng.uniform(0.5, 1)) * curve)
    s.labels.append(Label("macro", onset_s, apex_s, offset_s))


def add_speech(s: Script, rng: np.random.Generator, onset_s: float, offset_s: float) -> None:
    """Syllables at 3-7 a second. In each, the jaw opens and the lips take two shapes."""
    t, loud = s.time_s, float(rng.uniform(0.08, 0.6))
    at = onset_s
    while at < offset_s:
        length = float(rng.uniform(0.14, 0.33))
        open_ = there_and_back(t, at - length * 0.2, at + length * 0.45, at + length * 1.2)
        s.add("jaw_open", loud * float(rng.uniform(0.1, 1)) * open_)
        for name in rng.choice(SPEECH_SHAPES, size=2, replace=False):
            lips = there_and_back(
                t,
                at - length * float(rng.uniform(0.1, 0.5)),
                at + length * 0.4,
                at + length * float(rng.uniform(1, 1.5)),
            )
            s.add(str(name), loud * float(rng.uniform(0, 0.9)) * lips)
        at += length
    s.labels.append(Label("speech", onset_s, (onset_s + offset_s) / 2, offset_s))


def add_head(s: Script, rng: np.random.Generator, onset_s: float) -> None:
    """A nod, a shake or a turn, with or without return."""
    duration = float(rng.uniform(0.3, 1.4))
    t = s.time_s
    back = rng.random() < 0.6
    turn = (
        there_and_back(t, onset_s, onset_s + duration / 2, onset_s + duration)
        if back
        else min_jerk((t - onset_s) / duration)
    )
    yaw, pitch = rng.normal(0, 5), rng.normal(0, 4)
    s.add("yaw", yaw * turn)
    s.add("pitch", pitch * turn)
    s.pose = s.pose + np.stack(
        [yaw * 2.2 * turn, pitch * 2.2 * turn, rng.normal(0, 2) * turn, rng.normal(0, 0.01) * turn], axis=1
    ).astype(np.float32)
    s.labels.append(Label("head", onset_s, onset_s + duration / 2, onset_s + duration))


def look(s: Script, rng: np.random.Generator, onset_s: float) -> None:
    """Saccades from `onset_s` on, by a quick eye or a slow one."""
    t = s.time_s
    gaze = np.zeros((len(t), 2), np.float32)
    at = onset_s
    while at < t[-1]:
        step = min_jerk((t - at) / rng.uniform(0.03, 0.08))[:, None] * (rng.normal(0, [0.45, 0.25]) - gaze[-1])
        gaze = gaze + step.astype(np.float32)
        at += float(rng.exponential(rng.choice([0.4, 1.5])))
    s.add("gaze_x", 10 * np.clip(gaze[:, 0], -1, 1))
    s.add("gaze_y", 7 * np.clip(gaze[:, 1], -1, 1))
