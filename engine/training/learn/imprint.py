"""Micro-expressions put into pooled clips behind the motion stem: never the same one twice, at next to no cost.

A pool stores what the stem says of a clip, and a clip costs a hundred training steps to make; so a network sees each
of its micro-expressions many times and learns them by heart. Small motions add up: what the stem measures of a face
that moves by a + b is what it measures of a, plus b as far as the skin's texture shows it. So the displacement that a
micro-expression adds between a frame and its lagged frames is added to the stored motion, scaled by the confidence of
each cell, and the face's affine motion is fitted and subtracted anew, by the stem's own rule.

The same law draws them as in made-up clips (`happenings.add_micro`), but a part of them is moved elsewhere: to any
place of the face, wider or narrower, in directions that no action unit has, since nobody has listed all that
micro-expressions do, and a network that knows a list finds nothing else. So that new movement is not by itself a
micro-expression, decoys come with them (`engine.training.generator.decoys`). A clip may also be played backwards,
which is exact: the motion from now to then is minus the motion from then to now.
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
"""Share of the imprinted micro-expressions that are of no named action and no named place."""
DECOYS = 0.4
"""Probability of each decoy that a clip may get."""
APART = 5.0
"""Frames: an imprinted micro-expression keeps that far from any other."""
STILL = Camera(fps=30, dropped=0, resolution=1, noise=0, smear=0, codec="none", quality=90, flicker=0, flicker_hz=1)


def elsewhere(script: Script, label: Label, actor: Actor, rng: np.random.Generator) -> Label:
    """Give the course of the script's one micro-expression to one to three pushes that lie side by side and go nearly
    one way, mirrored or not; its label with the regions of the new place."""
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
    """Stem rows [N, n, features] played backwards: [N, n - max lag, features]; row k stands for frame
    n - 1 - max lag - k.

    The motion over a lag at a frame is minus the motion that the mirrored pair of frames had; gradients and
    residual are those of the pair.
    """
    clips, length, _ = rows.shape
    lags, count = len(spec.lags), length - max(spec.lags)
    local, affine = split_stem(rows, spec)
    local = local.reshape(clips, length, -1, lags, *local.shape[2:])
    affine = affine.reshape(clips, length, lags, -1)
    at = torch.arange(count - 1, -1, -1, device=rows.device)
    # what comes `lag` before a frame came `lag` after it
    out = torch.stack([local[:, :, :, i][:, at + lag] for i, lag in enumerate(spec.lags)], dim=3)
    turned = torch.stack([-affine[:, :, i][:, at + lag] for i, lag in enumerate(spec.lags)], dim=2)
    out[:, :, :2] *= -1
    flat = join_stem(out.reshape(clips * count, -1, *local.shape[4:]), turned.reshape(clips * count, -1))
    return flat.reshape(clips, count, -1)


class Movement(NamedTuple):
    """What moves, K maps: `courses` float32[K, T, L], how far each went over each lag; `cells` float32[K, 2, G, G], a
    unit of it as the stem's windows see it, crop px. `wanted`: how visible it is to be (0: as large as it is); `apex`:
    its frame; `row`: of the clip's truth, -1 where it has none. See `engine.training.learn.relative`."""

    courses: NDArray[np.float32]
    cells: NDArray[np.float32]
    wanted: float = 0.0
    apex: float = 0.0
    row: int = -1


class Imprinter:
    """Draws micro-expressions and decoys of the actors in `paths`, for clips of stem rows (see `imprinted`).

    `visible`: from and to how visible they are amid the clip's own motion; None: of their usual size in px.
    """

    def __init__(self, paths: Sequence[Path], spec: ModelSpec, visible: tuple[float, float] | None = None) -> None:
        self.paths, self.spec, self.visible = list(paths), spec, visible
        self.weights = cell_weights(MotionStem(spec))

    def movement(
        self, rng: np.random.Generator, onset: float, frames: int, decoy: bool = False
    ) -> tuple[Label | None, Movement]:
        """A micro-expression, or a decoy, that begins at frame `onset` of a clip: its label, if it has one, in s from
        the clip's first frame, and what moves."""
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
        if not parts:  # all of it is over before the clip begins
            side = grid_side(self.spec)
            return np.zeros((0, len(script.time_s)), np.float32), np.zeros((0, 2, side, side), np.float32)
        curves, fields, _ = zip(*parts, strict=True)
        # a map says where a pixel comes from, motion where it goes
        moved = -np.stack(fields).transpose(0, 3, 1, 2)
        return np.stack(curves).astype(np.float32), self.weights @ moved @ self.weights.T

    def draw(
        self, truth: NDArray[np.float32], rng: np.random.Generator, most: int = 2
    ) -> tuple[list[Movement], NDArray[np.float32]]:
        """0 to `most` more micro-expressions and as many decoys for a clip whose truth is [M, 9] (frames of the clip);
        and its truth with them."""
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
    """The movements of N clips as one table: courses [N, K, T, L] and cells [N, K, 2, G, G], zeros where a clip has
    fewer than K maps."""
    counts = [sum(len(m.courses) for m in one) for one in moving]
    courses = torch.zeros(len(moving), max(counts), spec.clip_frames, len(spec.lags))
    cells = torch.zeros(len(moving), max(counts), 2, grid_side(spec), grid_side(spec))
    for i, one in enumerate(moving):
        if one:
            courses[i, : counts[i]] = torch.as_tensor(np.concatenate([m.courses for m in one]))
            cells[i, : counts[i]] = torch.as_tensor(np.concatenate([m.cells for m in one]))
    return courses, cells


def moved_by(courses: Tensor, cells: Tensor) -> Tensor:
    """Movements (see `together`) as the motion over each lag, [N, T, L, 2, G, G] crop px."""
    return torch.einsum("nktl,nkcgh->ntlcgh", courses, cells)


def imprinted(rows: Tensor, motion: Tensor, stem: MotionStem, spec: ModelSpec, errors: Tensor | None = None) -> Tensor:
    """Stem rows [N, T, features] with motion [N, T, L, 2, G, G], crop px, added: as the stem would say, nearly.

    `errors` [N, T, L, 2, G, G]: of the measurement, whatever the skin lets be seen.
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
    # the affine fit is robust, so not quite idempotent: what nothing was added to stays as it was
    return torch.where(none[:, None, None], rows, moved.reshape(rows.shape))


def reversed_truth(truth: NDArray[np.float32], last: int) -> NDArray[np.float32]:
    """Truth rows of a sequence whose frame `last` is the first of the reversed one."""
    out = truth.copy()
    real = out[:, 0] < ABSENT
    out[real, 1:4] = last - truth[real][:, [3, 2, 1]]
    return out
