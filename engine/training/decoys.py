"""Movements that differ from micro-expressions in nothing but their course.

A network to which only micro-expressions are always new, and all else is a pool that it has seen before, may learn
that what it does not know by heart is a micro-expression. So the same places of a face are also moved in the same
directions by a course that no micro-expression has: it stays, it is slow, it comes again and again; and heads turn.
"""

import numpy as np

from engine.training.curves import min_jerk, raised_cosine, ramp, there_and_back
from engine.training.script import Label, Script, add_head, add_movement

SHORTEST_S = 0.9
"""What stays or is slow lasts at least that long: micro-expressions end within 0.73 s."""


def add_decoy(s: Script, rng: np.random.Generator, onset_s: float) -> Label:
    """One movement that begins at `onset_s` and is no micro-expression: `macro`, or `head` for a turn or a nod."""
    course = rng.choice(["stays", "slow", "again", "head"], p=[0.35, 0.2, 0.2, 0.25])
    if course == "head":
        add_head(s, rng, onset_s)
        return s.labels.pop()
    size = float(np.exp(rng.uniform(np.log(0.7), np.log(8.0))))
    ease = (min_jerk, raised_cosine, ramp)[int(rng.integers(3))]
    if course == "again":
        curve, at = np.zeros(len(s.time_s), np.float32), onset_s
        end_s = onset_s + float(rng.uniform(SHORTEST_S, 2.5))
        offset_s = onset_s
        while offset_s < end_s:
            length = float(rng.uniform(0.2, 0.5))
            bump = there_and_back(s.time_s, at, at + length * float(rng.uniform(0.3, 0.6)), at + length, ease=ease)
            curve = curve + float(rng.uniform(0.3, 1.0)) * bump
            offset_s = at + length
            at += length * float(rng.uniform(0.7, 1.0))  # no rest in between: no row of micro-expressions
    else:
        rise, fall = (
            (float(rng.uniform(0.08, 0.5)), float(rng.uniform(0.1, 0.8)))
            if course == "stays"
            else (float(rng.uniform(0.3, 1.1)), float(rng.uniform(0.6, 1.1)))
        )
        hold = max(0.0, SHORTEST_S - rise - fall) + (float(rng.exponential(0.7)) if course == "stays" else 0.0)
        rest = float(rng.choice([0.0, rng.uniform(0, 0.6)]))
        offset_s = onset_s + rise + hold + fall
        curve = there_and_back(s.time_s, onset_s, onset_s + rise, offset_s, hold, rest, ease)
    add_movement(s, rng, size * curve)
    return Label("macro", onset_s, (onset_s + offset_s) / 2, offset_s, size)
