"""One disturbance at a time, with everything else held still, for a table of false alarms per nuisance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.training.generator.camera import Camera, draw_times
from engine.training.generator.curves import min_jerk, wander
from engine.training.generator.scenes import ACTED, draw_script
from engine.training.generator.script import Label, Script, still_script

CALM = Camera(fps=30, dropped=0, resolution=1, noise=1.5, smear=0, codec="h264", quality=23, flicker=0, flicker_hz=1)
HEAD = ("yaw", "pitch")
SELDOM_S = 10.0
"""A film in which the nuisance happens less often than this is drawn again."""


def lone_nuisance(rng: np.random.Generator, nuisance: str, duration_s: float) -> Script:
    """An ME-free script in which only `nuisance` (of NUISANCES) happens, with a good camera in steady light."""
    if nuisance in ACTED:
        script = draw_script(rng, duration_s, micros=0, only=nuisance)
        while len(script.labels) < duration_s / SELDOM_S:
            script = draw_script(rng, duration_s, micros=0, only=nuisance)
        return _calmed(script, rng, keep_head=nuisance == "head")
    script = _calmed(draw_script(rng, duration_s, micros=0, only="none"), rng, keep_head=False)
    return OTHERS[nuisance](script, rng)


def _calmed(script: Script, rng: np.random.Generator, keep_head: bool) -> Script:
    """The same events by a good camera. The curves are drawn at its own stamps."""
    t = draw_times(rng, CALM, float(script.time_s[-1]))
    calm = still_script(t, CALM)
    calm.labels = script.labels
    for name, curve in script.actions.items():
        if not name.startswith("gaze"):
            calm.actions[name] = np.interp(t, script.time_s, curve).astype(np.float32)
    for i in range(4):
        calm.pose[:, i] = np.interp(t, script.time_s, script.pose[:, i])
    if not keep_head:
        calm.pose = calm.pose * np.float32(0.5)
        for name in HEAD:
            calm.actions[name] = calm.actions[name] * np.float32(0.5)
    calm.light[:, 1:] = 0
    return calm


def _gaze(script: Script, rng: np.random.Generator) -> Script:
    """Saccades with pauses of 0.2 to 3 s, up to the edges of a screen."""
    t, now, at = script.time_s, np.zeros(2), 0.5
    x, y = np.zeros(len(t)), np.zeros(len(t))
    while at < t[-1]:
        to = np.clip(rng.normal(0, [4.5, 2.0]), -9, 9)
        length = float(rng.uniform(0.03, 0.08))
        step = min_jerk((t - at) / length)
        x, y = x + (to[0] - now[0]) * step, y + (to[1] - now[1]) * step
        script.labels.append(Label("gaze", at, at + length / 2, at + length))
        now, at = to, at + float(rng.exponential(rng.choice([0.4, 1.5]))) + 0.2
    script.add("gaze_x", x.astype(np.float32))
    script.add("gaze_y", y.astype(np.float32))
    return script


def step_exposure(script: Script, rng: np.random.Generator) -> Script:
    """Auto-exposure and lamps: about every 2 s the picture becomes lighter or darker within one to ten frames."""
    t, at = script.time_s, 1.0
    while at < t[-1]:
        over = float(rng.uniform(0.02, 0.35))
        to = float(np.clip(rng.normal(1, 0.2), 0.6, 1.4))
        step = min_jerk((t - at) / over)
        script.light[:, 0] = script.light[:, 0] * (1 - step) + to * step
        script.light[:, 1] += rng.normal(0, 4) * min_jerk((t - at) / over)
        script.labels.append(Label("exposure", at, at + over / 2, at + over))
        at += 1.0 + float(rng.exponential(1.0))
    script.light[:, 1] = np.clip(script.light[:, 1], -25, 25)
    return script


def _flicker(script: Script, rng: np.random.Generator) -> Script:
    """Lamps that beat with the shutter, and light from a screen that moves over the face."""
    t = script.time_s
    for hz in rng.uniform(0.5, 12, 3):
        script.light[:, 0] += float(rng.uniform(0.003, 0.02)) * np.sin(2 * np.pi * hz * t + rng.uniform(0, 6.3))
    for i in (2, 3):
        script.light[:, i] += wander(rng, t, 0.06, 1.5)
    script.labels.append(Label("exposure", 0, float(t[-1]) / 2, float(t[-1])))
    return script


def _poor_picture(script: Script, rng: np.random.Generator) -> Script:
    """Dim light: strong noise, the camera's own smearing against it, coarse compression, dropped frames."""
    script.camera = replace(CALM, noise=7.0, smear=0.35, quality=int(rng.integers(30, 34)))
    keep = rng.random(len(script.time_s)) >= 0.05
    keep[[0, -1]] = True
    keep[1:] |= ~keep[:-1]
    script.time_s, script.pose, script.light = script.time_s[keep], script.pose[keep], script.light[keep]
    script.actions = {name: curve[keep] for name, curve in script.actions.items()}
    script.light[:, 0] *= 0.55
    script.labels.append(Label("noise", 0, float(script.time_s[-1]) / 2, float(script.time_s[-1])))
    return script


OTHERS: dict[str, Callable[[Script, np.random.Generator], Script]] = {
    "gaze": _gaze,
    "exposure": step_exposure,
    "flicker": _flicker,
    "noise": _poor_picture,
}
NUISANCES = (*ACTED, *OTHERS)
