"""Movements that differ from micro-expressions only in their course.

If only micro-expressions are new and everything else comes from a known pool, a network may learn the wrong rule. It
may take everything that it has not memorised for a micro-expression. So decoys move the same places of a face in the
same directions, but by a course that no micro-expression has. They stay, are slow, or repeat. Heads also turn, mouths
speak, and eyes look elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from engine.training.generator.curves import Curve, Ease, log_uniform, min_jerk, raised_cosine, ramp, there_and_back
from engine.training.generator.happenings import add_head, add_movement, add_speech, look
from engine.training.generator.script import Label, Script

SHORTEST_S = 0.9
"""Decoys that stay or are slow last at least this long. Micro-expressions end within 0.73 s."""


def add_decoy(s: Script, rng: np.random.Generator, onset_s: float) -> Label | None:
    """Adds one movement that begins at `onset_s` and is no micro-expression. Returns `macro`, `head` for a turn or a
    nod, `speech`, or None for a look elsewhere, which has no class of its own."""
    course = str(rng.choice(["stays", "slow", "again", "head", "speech", "gaze"], p=[0.25, 0.15, 0.15, 0.2, 0.15, 0.1]))
    if course == "head":
        add_head(s, rng, onset_s)
        return s.labels.pop()
    if course == "speech":
        add_speech(s, rng, onset_s, onset_s + float(rng.uniform(0.2, 2.5)))
        return s.labels.pop()
    if course == "gaze":
        look(s, rng, onset_s)
        return None
    size = log_uniform(rng, 0.7, 8.0)
    ease = (min_jerk, raised_cosine, ramp)[int(rng.integers(3))]
    if course == "again":
        curve, offset_s = _again(s.time_s, rng, onset_s, ease)
    else:
        curve, offset_s = _once(s.time_s, rng, onset_s, ease, stays=course == "stays")
    add_movement(s, rng, size * curve)
    return Label("macro", onset_s, (onset_s + offset_s) / 2, offset_s, size)


def _again(t: NDArray[np.float64], rng: np.random.Generator, onset_s: float, ease: Ease) -> tuple[Curve, float]:
    """Back and forth without rest, since rests would make a row of micro-expressions. Also returns its end."""
    curve, at, offset_s = np.zeros(len(t), np.float32), onset_s, onset_s
    end_s = onset_s + float(rng.uniform(SHORTEST_S, 2.5))
    while offset_s < end_s:
        length = float(rng.uniform(0.2, 0.5))
        bump = there_and_back(t, at, at + length * float(rng.uniform(0.3, 0.6)), at + length, ease=ease)
        curve = curve + float(rng.uniform(0.3, 1.0)) * bump
        offset_s = at + length
        at += length * float(rng.uniform(0.7, 1.0))
    return curve, offset_s


def _once(
    t: NDArray[np.float64], rng: np.random.Generator, onset_s: float, ease: Ease, stays: bool
) -> tuple[Curve, float]:
    """Goes quickly and returns only after a while, or goes and returns slowly. Also returns its end."""
    rises, falls = ((0.08, 0.5), (0.1, 0.8)) if stays else ((0.3, 1.1), (0.6, 1.1))
    rise, fall = float(rng.uniform(*rises)), float(rng.uniform(*falls))
    hold = max(0.0, SHORTEST_S - rise - fall) + (float(rng.exponential(0.7)) if stays else 0.0)
    rest = float(rng.choice([0.0, rng.uniform(0, 0.6)]))
    offset_s = onset_s + rise + hold + fall
    return there_and_back(t, onset_s, onset_s + rise, offset_s, hold, rest, ease), offset_s
