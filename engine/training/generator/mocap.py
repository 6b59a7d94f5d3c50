"""Recorded facial motion as scripts: real speech, blinks and expressions, at their own speed, on any actor's face.

A take is an `.npz` of `time_s` [T], `values` [T, K] and `names` [K]: blendshape weights by ARKit's names, or by those
of FACEGOOD's rig. Its curves drive the actor's own actions. Sizes are not copied, since each piece gets another gain.
Trackers smooth their curves. The aligner's error, the camera and its noise come from the generator.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.training.generator.camera import draw_camera, draw_times
from engine.training.generator.curves import Curve, log_uniform
from engine.training.generator.scenes import draw_background
from engine.training.generator.script import Label, Script, still_script
from stream.errors import UserError

TAKES = {
    "arkit_S07-001": "train", "arkit_S88-001": "train", "arkit_rom_3": "train", "facegood_1114_2_01": "train",
    "facegood_1114_2_02": "train", "facegood_1114_2_03": "train", "facegood_1114_2_04": "train",
    "facegood_1114_2_05": "train", "arkit_facial": "tune", "facegood_1114_3_15": "tune",
    "arkit_apfel": "test", "arkit_rom_4": "test", "facegood_1114_3_16": "test",
}  # fmt: skip
"""Split of each take."""

DRIVES: dict[str, tuple[tuple[str, float], ...]] = {
    # Action: its drivers with their weights, which are added.
    "jaw_open": (("JawOpen", 1.4), ("mouth_stretch_c", 1.2), ("mouth_chew_c", 0.5)),
    "funnel": (("MouthFunnel", 1.2), ("mouth_funnel_dl", 0.6), ("mouth_funnel_ul", 0.6), ("mouth_oh_c", 0.6)),
    "pucker": (("MouthPucker", 1.0), ("mouth_pucker_l", 0.5), ("mouth_pucker_r", 0.5), ("mouth_oo_c", 0.7)),
    "stretch": (
        ("MouthStretchLeft", 0.6), ("MouthStretchRight", 0.6), ("mouth_lipStretch_l", 0.6), ("mouth_lipStretch_r", 0.6),
    ),
    "lips_part": (
        ("MouthLowerDownLeft", 0.5), ("MouthLowerDownRight", 0.5), ("mouth_lowerLipDepress_l", 0.5),
        ("mouth_lowerLipDepress_r", 0.5),
    ),
    "press": (("MouthPressLeft", 0.5), ("MouthPressRight", 0.5), ("mouth_press_l", 0.5), ("mouth_press_r", 0.5)),
    "frown": (("MouthFrownLeft", 0.5), ("MouthFrownRight", 0.5), ("mouth_lipCornerDepress_l", 0.5)),
    "shrug": (("MouthShrugLower", 1.0), ("mouth_chinRaise_d", 1.0)),
    "sneer": (("NoseSneerLeft", 0.5), ("NoseSneerRight", 0.5), ("nose_wrinkle_l", 0.5), ("nose_wrinkle_r", 0.5)),
    "mouth_left": (("MouthLeft", 1.4), ("JawLeft", 1.0), ("mouth_sideways_l", 1.0)),
    "mouth_right": (("MouthRight", 1.4), ("JawRight", 1.0), ("mouth_sideways_r", 1.0)),
    "smile_L": (("MouthSmileLeft", 1.2), ("mouth_lipCornerPull_l", 1.0)),
    "smile_R": (("MouthSmileRight", 1.2), ("mouth_lipCornerPull_r", 1.0)),
    "dimple_L": (("MouthDimpleLeft", 1.0), ("mouth_dimple_l", 1.0)),
    "dimple_R": (("MouthDimpleRight", 1.0), ("mouth_dimple_r", 1.0)),
    "squint_L": (("EyeSquintLeft", 1.0), ("eye_lidTight_l", 1.0)),
    "squint_R": (("EyeSquintRight", 1.0), ("eye_lidTight_r", 1.0)),
    "wide_L": (("EyeWideLeft", 1.0), ("eye_upperLidRaise_l", 1.0)),
    "wide_R": (("EyeWideRight", 1.0), ("eye_upperLidRaise_r", 1.0)),
    "brow_up_L": (("BrowInnerUp", 0.5), ("BrowOuterUpLeft", 0.5), ("brow_raise_c", 0.5), ("brow_raise_l", 0.5)),
    "brow_up_R": (("BrowInnerUp", 0.5), ("BrowOuterUpRight", 0.5), ("brow_raise_c", 0.5), ("brow_raise_r", 0.5)),
    "brow_down": (("BrowDownLeft", 0.5), ("BrowDownRight", 0.5), ("brow_lower_l", 0.5), ("brow_lower_r", 0.5)),
    "blink_L": (("EyeBlinkLeft", 1.05),),
    "blink_R": (("EyeBlinkRight", 1.05),),
}  # fmt: skip
GAZE = (("gaze_x", 9.0, ("EyeLookOutLeft", "EyeLookInRight"), ("EyeLookInLeft", "EyeLookOutRight")),
        ("gaze_y", 6.0, ("EyeLookDownLeft", "EyeLookDownRight"), ("EyeLookUpLeft", "EyeLookUpRight")))  # fmt: skip
"""Channel, px at full deflection, upward drivers and downward drivers."""
SPOKEN = ("jaw_open", "funnel", "pucker", "lips_part", "stretch")
SHUT, LOUD, PAUSE_S, GAP_S = 0.25, 0.04, 0.4, 0.2
"""Shares from which a lid blinks and a mouth speaks. A shorter pause belongs to speech, and a longer gap ends a
piece."""


@dataclass(frozen=True, slots=True)
class Take:
    """Recorded curves: `actions` by the actors' names, float32[T] each at `time_s` float64[T], from 0 s on."""

    time_s: NDArray[np.float64]
    actions: dict[str, Curve]


@cache
def takes(folder: Path, split: str) -> tuple[Take, ...]:
    """The takes of a split. Raises UserError if there are none."""
    found = [folder / f"{name}.npz" for name, theirs in TAKES.items() if theirs == split]
    loaded = tuple(piece for path in found if path.is_file() for piece in _pieces(path))
    if not loaded:
        raise UserError(f"{folder} holds no recorded motion of the {split} split; is --data another folder?", 2)
    return loaded


def _pieces(path: Path) -> list[Take]:
    """A take, cut where frames lack."""
    with np.load(path) as file:
        time_s, values = file["time_s"].astype(float), file["values"].astype(np.float32)
        column = {str(name): values[:, k] for k, name in enumerate(file["names"])}
    silent = np.zeros(len(time_s), np.float32)
    actions = {
        action: np.clip(sum((w * column.get(name, silent) for name, w in drives), silent), 0, 1)
        for action, drives in DRIVES.items()
    }
    for name, px, up, down in GAZE:
        both = sum((column.get(n, silent) for n in up), silent) - sum((column.get(n, silent) for n in down), silent)
        actions[name] = (px * np.clip(both / 2, -1, 1)).astype(np.float32)
    edges = [0, *(np.flatnonzero(np.diff(time_s) > GAP_S) + 1), len(time_s)]
    parts = [slice(a, b) for a, b in pairwise(edges) if time_s[b - 1] - time_s[a] > 2]
    return [Take(time_s[p] - time_s[p][0], {name: c[p] for name, c in actions.items()}) for p in parts]


def recorded_script(rng: np.random.Generator, duration_s: float, folder: Path, split: str) -> Script:
    """A clip without micro-expressions: a piece of a take, at its own speed, with the generator's sway and light.

    A take shorter than the clip stands still before and after. Raises UserError without takes in `folder`.
    """
    found = takes(folder, split)
    lengths = np.array([take.time_s[-1] for take in found])
    take = found[int(rng.choice(len(found), p=lengths / lengths.sum()))]
    camera = draw_camera(rng)
    script = still_script(draw_times(rng, camera, duration_s), camera)
    draw_background(script, rng, still=rng.random() < 0.3)
    spare = float(take.time_s[-1]) - duration_s
    at_s = script.time_s + float(rng.uniform(min(0.0, spare), max(0.0, spare)))
    loud = log_uniform(rng, 0.5, 1.1)
    mirrored = rng.random() < 0.5
    for name, curve in take.actions.items():
        gain = 1.0 if name.startswith(("blink", "gaze")) else loud * float(rng.uniform(0.8, 1.2))
        played = (gain * np.interp(at_s, take.time_s, curve)).astype(np.float32)
        if np.ptp(played) < 0.01:
            continue
        if name.startswith("gaze"):  # replaces the drawn gaze
            script.actions[name] = -played if mirrored and name == "gaze_x" else played
        else:
            script.add(_other_side(name) if mirrored else name, np.minimum(played, 1))
    script.labels += _labels(script)
    return script


def _other_side(name: str) -> str:
    for one, other in (("_L", "_R"), ("_R", "_L"), ("_left", "_right"), ("_right", "_left")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name


def _labels(script: Script) -> list[Label]:
    """Where the lids shut and the mouth speaks."""
    t, still = script.time_s, np.zeros(len(script.time_s), np.float32)
    lids = (script.actions.get("blink_L", still) + script.actions.get("blink_R", still)) / 2
    blinks = [Label("blink", a, (a + b) / 2, b) for a, b in _spans(t, lids > SHUT, 0.1) if b - a < 1.0]
    mouth = np.stack([script.actions.get(name, still) for name in SPOKEN])
    speed = np.abs(np.gradient(mouth, t, axis=1)).sum(0) * 0.1  # change within a tenth of a second
    return blinks + [Label("speech", a, (a + b) / 2, b) for a, b in _spans(t, speed > LOUD, PAUSE_S) if b - a > 0.3]


def _spans(t: NDArray[np.float64], on: NDArray[np.bool_], join_s: float) -> list[tuple[float, float]]:
    """First and last time of each run of `on`. Runs less than `join_s` apart are joined."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]])))
    spans: list[tuple[float, float]] = []
    for first, last in zip(t[edges[::2]], t[edges[1::2] - 1], strict=True):
        if spans and first - spans[-1][1] < join_s:
            spans[-1] = spans[-1][0], float(last)
        else:
            spans.append((float(first), float(last)))
    return spans
