"""Puts new micro-expressions into pooled clips behind the motion stem, at almost no cost.

A pool stores the output of the stem for a clip, and a clip costs a hundred training steps to make. So a network sees
each of its micro-expressions many times and memorises them. Small motions add up. For a face that moves by a + b, the
stem measures its result for a, plus b as far as the skin's texture shows it. So the displacement that a
micro-expression adds between a frame and its lagged frames is added to the stored motion. It is scaled by the
confidence of each cell. Then the face's affine motion is fitted and subtracted again, by the stem's own rule.

The micro-expressions follow the law of made-up clips (`happenings.add_micro`), but some of them are moved elsewhere.
They may lie anywhere on the face, be wider or narrower, and go in directions of no action unit. Nobody has listed all
that micro-expressions do, and a network that learns a list finds nothing else. Decoys come with them
(`engine.training.generator.decoys`), so that new movement alone is no sign of a micro-expression. A clip may also be
played backwards. This is exact: the motion from now to then is minus the motion from then to now.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mesnet import MotionStem, grid_side
from engine.spec import REGIONS, ModelSpec
from engine.training.generator.actors import Actor, kept_actor
from engine.training.generator.camera import Camera
from engine.training.generator.curves import log_uniform
from engine.training.generator.decoys import add_decoy
from engine.training.generator.happenings import add_micro
from engine.training.generator.render import parts_of
from engine.training.generator.repertoire import MIRROR, PUSH_AT
from engine.training.generator.scenes import usual_amplitude
from engine.training.generator.script import Label, Push, Script, still_script
from engine.training.learn.augment import with_rows
from engine.training.pools.stemmed import cell_weights, join_stem, split_stem, squashed, unsquashed
from engine.training.pools.truth import ABSENT, MICRO, label_row

ELSEWHERE = 0.3
"""Share of the imprinted micro-expressions that belong to no known action or place."""
DECOYS = 0.4
"""Probability of each decoy that a clip may get."""
APART = 5.0
"""An imprinted micro-expression is at least this many frames away from any other."""
STILL = Camera(fps=30, dropped=0, resolution=1, noise=0, smear=0, codec="none", quality=90, flicker=0, flicker_hz=1)


def elsewhere(script: Script, label: Label, actor: Actor, rng: np.random.Generator) -> Label:
    """Moves the script's one micro-expression: one to three pushes take over its course. They lie side by side and
    go in nearly one direction, mirrored or not. Returns its label with the regions of the new place."""
    course = max((*script.actions.values(), *(c for _, c in script.pushes)), key=lambda c: float(np.abs(c).max()))
    course = course * (label.amplitude_px / max(float(np.abs(course).max()), 1e-6))
    script.actions, script.pushes = {}, []
    places = np.array([[place, MIRROR[place]] for place, _ in PUSH_AT])
    points = actor.points[:, :2] / actor.face_width_px
    far = np.linalg.norm(points[:, None, None] - points[places], axis=-1)  # [landmarks, places, halves]
    near_any = np.flatnonzero(far.min(axis=(1, 2)) < 0.15)
    first = int(rng.choice(near_any))
    beside = near_any[np.linalg.norm(points[near_any] - points[first], axis=1) < 0.2]
    angle, both = float(rng.uniform(-np.pi, np.pi)), rng.random() < 0.4
    more = rng.choice(beside, int(rng.integers(0, 3)))
    for place in (first, *more):
        push = Push(int(place), float(rng.uniform(0.05, 0.25)), angle + float(rng.normal(0, 0.4)))
        script.pushes.append((push, course * float(rng.uniform(0.8, 1.2)) / (1 + 0.6 * len(more))))
        if both:
            named = int(far[place].min(axis=1).argmin())
            half = int(far[place, named].argmin())
            other = Push(int(places[named, 1 - half]), push.radius, np.pi - push.angle)
            script.pushes.append((other, script.pushes[-1][1]))
    region = PUSH_AT[int(far[first].min(axis=1).argmin())][1]
    return replace(label, regions=tuple(float(i == region) for i in range(len(REGIONS))))


def reversed_rows(rows: Tensor, spec: ModelSpec) -> Tensor:
    """Stem rows [N, n, features] played backwards: [N, n - max lag, features]. Row k stands for frame n - 1 - max lag -
    k.

    The motion over a lag at a frame is minus the motion of the mirrored pair of frames. Gradients and residual are
    those of the pair.
    """
    clips, length, _ = rows.shape
    lags, count = len(spec.lags), length - max(spec.lags)
    local, affine = split_stem(rows, spec)
    local = local.reshape(clips, length, -1, lags, *local.shape[2:])
    affine = affine.reshape(clips, length, lags, -1)
    at = torch.arange(count - 1, -1, -1, device=rows.device)
    # Frames before and after the lag swap places.
    out = torch.stack([local[:, :, :, i][:, at + lag] for i, lag in enumerate(spec.lags)], dim=3)
    turned = torch.stack([-affine[:, :, i][:, at + lag] for i, lag in enumerate(spec.lags)], dim=2)
    out[:, :, :2] *= -1
    flat = join_stem(out.reshape(clips * count, -1, *local.shape[4:]), turned.reshape(clips * count, -1))
    return flat.reshape(clips, count, -1)


class Movement(NamedTuple):
    """A movement of K maps. `courses` float32[K, T, L]: how far each map went over each lag. `cells` float32[K, 2,
    G, G]: a unit of it as the stem's windows see it, crop px. `wanted`: its visibility (0: its size stays). `apex`:
    its frame. `row`: its row in the clip's truth, or -1 without one. See `engine.training.learn.relative`."""

    courses: NDArray[np.float32]
    cells: NDArray[np.float32]
    wanted: float = 0.0
    apex: float = 0.0
    row: int = -1


class Imprinter:
    """Draws micro-expressions and decoys of the actors in `paths`, for clips of stem rows (see `imprinted`).

    `visible` is the range of their visibility against the clip's own motion. With None they have their usual size in
    px.
    """

    def __init__(self, paths: Sequence[Path], spec: ModelSpec, visible: tuple[float, float] | None = None) -> None:
        self.paths, self.spec, self.visible = list(paths), spec, visible
        self.weights = cell_weights(MotionStem(spec))

    def movement(
        self, rng: np.random.Generator, onset: float, frames: int, decoy: bool = False
    ) -> tuple[Label | None, Movement]:
        """A micro-expression or decoy that begins at frame `onset` of a clip. Returns its label, if any, in s from
        the clip's first frame, and the movement."""
        history, fps = max(self.spec.lags), self.spec.fps
        time_s = np.arange(-history, frames) / fps
        script = still_script(time_s, STILL)
        actor = kept_actor(self.paths[int(rng.integers(len(self.paths)))])
        label: Label | None
        if decoy:
            label = add_decoy(script, rng, onset / fps)
        else:
            label = add_micro(script, rng, onset / fps, usual_amplitude(rng))
        if label is not None and label.kind in ("micro", "macro") and rng.random() < ELSEWHERE:
            label = elsewhere(script, label, actor, rng)
        curves, cells = self._parts(script, actor, rng)
        now = curves[:, history:]
        gone = [now - curves[:, history - lag : len(time_s) - lag] for lag in self.spec.lags]
        return label, Movement(np.stack(gone, axis=2), cells)

    def _parts(
        self, script: Script, actor: Actor, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        parts = list(parts_of(script, actor, rng))
        if not parts:  # it ends before the clip begins
            side = grid_side(self.spec)
            return np.zeros((0, len(script.time_s)), np.float32), np.zeros((0, 2, side, side), np.float32)
        curves, fields, _ = zip(*parts, strict=True)
        # A map says where a pixel comes from; motion says where it goes.
        moved = -np.stack(fields).transpose(0, 3, 1, 2)
        return np.stack(curves).astype(np.float32), self.weights @ moved @ self.weights.T

    def draw(
        self, truth: NDArray[np.float32], rng: np.random.Generator, most: int = 2
    ) -> tuple[list[Movement], NDArray[np.float32]]:
        """Draws 0 to `most` more micro-expressions and as many decoys for a clip with truth [M, 9] (frames of the
        clip). Returns them and the extended truth."""
        frames = self.spec.clip_frames
        moving: list[Movement] = []
        added: list[NDArray[np.float32]] = []
        free = np.flatnonzero(truth[:, 0] == ABSENT)
        for decoy in [False] * int(rng.integers(0, most + 1)) + [True] * int(rng.binomial(most, DECOYS)):
            earliest = -30 if decoy else -8
            label, more = self.movement(rng, float(rng.uniform(earliest, frames - 5)), frames, decoy)
            if label is not None:
                row = label_row(label, self.spec.fps)
                others = [r for r in (*truth, *added) if r[0] == row[0] == MICRO]
                if len(added) == len(free) or any(row[3] + APART >= r[1] and row[1] <= r[3] + APART for r in others):
                    continue
                added.append(row)
                if self.visible is not None and row[0] == MICRO:
                    wanted = log_uniform(rng, *self.visible)
                    more = more._replace(wanted=wanted, apex=float(row[2]), row=int(free[len(added) - 1]))
            moving.append(more)
        return moving, with_rows(truth, added)


def together(moving: Sequence[Sequence[Movement]], spec: ModelSpec) -> tuple[Tensor, Tensor]:
    """The movements of N clips as one table: courses [N, K, T, L] and cells [N, K, 2, G, G]. Clips with fewer than K
    maps have zeros."""
    counts = [sum(len(m.courses) for m in one) for one in moving]
    courses = torch.zeros(len(moving), max(counts), spec.clip_frames, len(spec.lags))
    cells = torch.zeros(len(moving), max(counts), 2, grid_side(spec), grid_side(spec))
    for i, one in enumerate(moving):
        if one:
            courses[i, : counts[i]] = torch.as_tensor(np.concatenate([m.courses for m in one]))
            cells[i, : counts[i]] = torch.as_tensor(np.concatenate([m.cells for m in one]))
    return courses, cells


def moved_by(courses: Tensor, cells: Tensor) -> Tensor:
    """The motion of movements (see `together`) over each lag, [N, T, L, 2, G, G] crop px."""
    return torch.einsum("nktl,nkcgh->ntlcgh", courses, cells)


def imprinted(rows: Tensor, motion: Tensor, stem: MotionStem, spec: ModelSpec, errors: Tensor | None = None) -> Tensor:
    """Stem rows [N, T, features] with motion [N, T, L, 2, G, G], crop px, added. The result is close to the stem's own
    output.

    `errors` [N, T, L, 2, G, G] are errors of the measurement. The skin's texture does not scale them.
    """
    local, affine = split_stem(rows, spec)
    lags = len(spec.lags)
    none = ~motion.flatten(1).any(dim=1)
    motion = motion.flatten(0, 1)
    u, v, cx, cy, residual = local.split(lags, dim=1)
    u, v, before = unsquashed(u), unsquashed(v), unsquashed(affine).reshape(len(local), lags, 3, 2)
    common = torch.einsum("bg,tlbc->tlcg", stem.basis, before).reshape(len(local), lags, 2, *u.shape[2:])
    u, v = u + common[:, :, 0] + cx * motion[:, :, 0], v + common[:, :, 1] + cy * motion[:, :, 1]
    if errors is not None:
        none &= ~errors.flatten(1).any(dim=1)
        errors = errors.flatten(0, 1)
        u, v = u + errors[:, :, 0], v + errors[:, :, 1]
    u, v, after = stem.without_affine(u, v, cx * cy)
    moved = join_stem(torch.cat([squashed(u), squashed(v), cx, cy, residual], dim=1), squashed(after))
    # The affine fit is robust and so not quite idempotent. Rows without added motion stay unchanged.
    return torch.where(none[:, None, None], rows, moved.reshape(rows.shape))


def reversed_truth(truth: NDArray[np.float32], last: int) -> NDArray[np.float32]:
    """Truth rows of a reversed sequence. Its first frame was frame `last`."""
    out = truth.copy()
    real = out[:, 0] < ABSENT
    out[real, 1:4] = last - truth[real][:, [3, 2, 1]]
    return out
