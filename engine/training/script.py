"""What happens in a made-up clip: facial actions, nuisances and camera as curves over time, drawn from a seed.

Pure numpy: knows no pixels. `engine.training.render` turns a script and an actor into crops.

Sizes are in px on a 256-px face (cheek to cheek), the field's usual scale; times in seconds. Timing and size follow
published annotation statistics: micro-expressions last 200-550 ms with the apex at ~43 % of the way; blinks 333-733 ms,
about half of them partial, one every 6 s; macro-expressions 0.75 s and more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.spec import REGIONS
from engine.training.camera import Camera, draw_camera, draw_light, draw_times
from engine.training.curves import Curve, log_uniform, min_jerk, raised_cosine, ramp, there_and_back, wander
from engine.training.repertoire import (
    MACRO_SHAPES,
    ME_UNITS,
    MIDLINE,
    MIRROR,
    PAIRS,
    PUSH_AT,
    SPEECH_SHAPES,
    UNIT_REGION,
)


@dataclass(frozen=True, slots=True)
class Label:
    """One interval of the truth. `kind` is an entry of engine.spec.CLASSES; `amplitude_px` on a 256-px face."""

    kind: str
    onset_s: float
    apex_s: float
    offset_s: float
    amplitude_px: float = 0.0
    regions: tuple[float, ...] = (0.0,) * len(REGIONS)


@dataclass(frozen=True, slots=True)
class Push:
    """A local displacement that is no named action: a Gaussian of `radius` face widths, along `angle` rad."""

    landmark: int
    radius: float
    angle: float


@dataclass(slots=True)
class Script:
    """Curves over `time_s[F]`, the camera's stamps. Missing channel = zero.

    `actions`: by the names of `engine.training.actors`: action units (`AU4_L`, ...) and gaze in px on a 256-px face,
    `yaw` and `pitch` in degrees, large actions and blinks as a share 0..1 of their full size. `pushes`: with a curve in
    px on a 256-px face. `pose[F, 4]`: x, y (px on a 256-px face), roll (degrees), log scale of the face in the camera's
    picture. `light[F, 4]`: gain, offset (grey levels), tilt x, tilt y. `jitter`: error of the alignment in crop px,
    white and slow. `occluder`: start and end of something that passes before the face.
    """

    time_s: NDArray[np.float64]
    camera: Camera
    pose: Curve
    light: Curve
    actions: dict[str, Curve] = field(default_factory=dict)
    pushes: list[tuple[Push, Curve]] = field(default_factory=list)
    jitter: tuple[float, float] = (0.03, 0.03)
    occluder: tuple[float, float] | None = None
    labels: list[Label] = field(default_factory=list)

    def add(self, action: str, curve: NDArray) -> None:
        """Sum `curve` into an action."""
        self.actions[action] = (self.actions.get(action, 0) + curve).astype(np.float32)

    def add_sides(self, unit: str, left: float, right: float, curve: Curve) -> None:
        """Sum an action unit into both sides, or into the one that it has."""
        if unit in MIDLINE:
            self.add(f"AU{unit}_B", max(left, right, key=abs) * curve)
            return
        for side, weight in (("L", left), ("R", right)):
            if weight:
                self.add(f"AU{unit}_{side}", weight * curve)


def still_script(time_s: ArrayLike, camera: Camera) -> Script:
    """A script in which nothing moves and the light stays, at the times given in s."""
    t = np.asarray(time_s, float)
    return Script(t, camera, pose=np.zeros((len(t), 4), np.float32), light=np.ones((len(t), 4), np.float32))


def add_micro(s: Script, rng: np.random.Generator, onset_s: float, amplitude_px: float) -> Label:
    """One micro-expression of one to three units, often one-sided; a quarter of them are pushes of no named action."""
    total = (
        float(np.clip(rng.normal(0.42, 0.10), 0.17, 0.62)) if rng.random() < 0.85 else float(rng.uniform(0.45, 0.73))
    )
    offset_s = onset_s + total
    apex_s = onset_s + total * float(np.clip(rng.normal(0.43, 0.1), 0.2, 0.7))
    rest = float(rng.choice([0.0, rng.uniform(0, 0.25)]))
    hold = float(rng.choice([0.0, rng.uniform(0, 0.3)])) * (offset_s - apex_s)
    # nobody knows the one true course of a micro-expression: do not let the network learn ours by heart
    ease = (min_jerk, raised_cosine, ramp)[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
    curve = amplitude_px * there_and_back(s.time_s, onset_s, apex_s, offset_s, hold, rest, ease)
    regions = add_movement(s, rng, curve)
    return Label("micro", onset_s, apex_s, offset_s, amplitude_px, tuple((regions / regions.sum()).tolist()))


def add_movement(s: Script, rng: np.random.Generator, curve: Curve) -> NDArray[np.float64]:
    """Give a course (px on a 256-px face) to one to three units or, now and then, to a push of no named action; its
    weight per region."""
    return _push(s, rng, curve) if rng.random() < 0.25 else _act(s, rng, curve)


def _push(s: Script, rng: np.random.Generator, curve: Curve) -> NDArray[np.float64]:
    """One push, or two that mirror each other; the movement's weight per region."""
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
    """One to three action units, on one side or both; the movement's weight per region."""
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
    """Full or partial; closes in 80-150 ms, opens slower; brow and cheek go along a little."""
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
    """Syllables at 3-7 a second: the jaw opens, the lips take two shapes for each."""
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
    """A nod, a shake or a turn: with return or without."""
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


def draw_background(s: Script, rng: np.random.Generator, still: bool) -> None:
    """What never stops: posture sway, gaze, the room's light."""
    t = s.time_s
    calm = 0.15 if still else float(rng.choice([0.2, 1.0, 2.5], p=[0.4, 0.4, 0.2]))
    s.add("yaw", wander(rng, t, 2.0 * calm, 0.5))
    s.add("pitch", wander(rng, t, 1.5 * calm, 0.5))
    sway = ((4, 0.6), (4, 0.6), (1.0, 0.5), (0.01, 0.4))
    s.pose = np.stack([wander(rng, t, size * calm, hz) for size, hz in sway], axis=1)
    s.light = draw_light(rng, t, s.camera)
    begins = float(rng.exponential(0.8))
    look(s, rng, float(t[-1]) if still else begins)
    s.jitter = (
        log_uniform(rng, 0.01, 0.12),
        log_uniform(rng, 0.01, 0.15),
    )


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


def draw_script(
    rng: np.random.Generator,
    duration_s: float,
    micros: int | None = None,
    only: str | None = None,
    amplitude: Callable[[np.random.Generator], float] | None = None,
) -> Script:
    """A whole clip. `micros`: how many micro-expressions (None: drawn, 0 to 2); one that meets another is left out.

    `only`: the single nuisance that may occur, blink, macro, speech or head; any other word means none of them.
    `amplitude`: draws a size in px on a 256-px face.
    """
    camera = draw_camera(rng)
    times = draw_times(rng, camera, duration_s)
    s = Script(times, camera, pose=np.zeros((len(times), 4), np.float32), light=np.ones((len(times), 4), np.float32))
    draw_background(s, rng, still=only not in (None, "head") or rng.random() < 0.15)
    _draw_micros(s, rng, duration_s, micros, amplitude or usual_amplitude)
    _draw_nuisances(s, rng, duration_s, only)
    return s


def usual_amplitude(rng: np.random.Generator) -> float:
    """From what hardly shows to what nobody misses, in px on a 256-px face."""
    return log_uniform(rng, 0.7, 6.0)


def _draw_micros(
    s: Script,
    rng: np.random.Generator,
    duration_s: float,
    wanted: int | None,
    amplitude: Callable[[np.random.Generator], float],
) -> None:
    count = wanted if wanted is not None else int(rng.choice([0, 1, 2], p=[0.4, 0.35, 0.25]))
    # a number that was asked for is a number of whole ones; else the clip may cut them
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
