"""Micro-expressions put into pooled clips behind the motion stem: never the same one twice, at next to no cost.

A pool stores what the stem says of a clip, and a clip costs a hundred training steps to make; so a network sees each
of its micro-expressions many times and learns them by heart. Small motions add up: what the stem measures of a face
that moves by a + b is what it measures of a, plus b as far as the skin's texture shows it. So the displacement that a
micro-expression adds between a frame and its lagged frames is added to the stored motion, scaled by the confidence of
each cell, and the face's affine motion is fitted and subtracted anew, by the stem's own rule.

The same law draws them as in made-up clips (`script.add_micro`), but a part of them is moved elsewhere: to any place of
the face, wider or narrower, in directions that no action unit has, since nobody has listed all that micro-expressions
do, and a network that knows a list finds nothing else. So that new movement is not by itself a micro-expression,
decoys come with them (`engine.training.decoys`). A clip may also be played backwards, which is exact:
the motion from now to then is minus the motion from then to now.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.mesnet import MotionStem
from engine.spec import REGIONS, ModelSpec
from engine.training.actors import Actor, kept_actor
from engine.training.augment import distorted, overlaid, with_rows
from engine.training.camera import Camera
from engine.training.decoys import add_decoy
from engine.training.loss import ABSENT, MICRO
from engine.training.pool import Piece, label_row
from engine.training.render import parts_of
from engine.training.repertoire import MIRROR, PUSH_AT
from engine.training.script import Label, Push, Script, add_micro, still_script, usual_amplitude
from engine.training.stemmed import join_stem, split_stem, squashed, unsquashed
from engine.training.warps import MAP_SIZE, to_samples

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
    """A sequence of stem rows [n, features] played backwards: [n - max lag, features]; row k stands for frame
    n - 1 - max lag - k.

    The motion over a lag at a frame is minus the motion that the mirrored pair of frames had; gradients and
    residual are those of the pair.
    """
    local, affine = split_stem(rows, spec)
    lags = len(spec.lags)
    count = len(rows) - max(spec.lags)
    local = local.reshape(len(rows), -1, lags, *local.shape[2:])
    affine = affine.reshape(len(rows), lags, -1)
    at = torch.arange(count - 1, -1, -1)
    out = torch.empty(count, *local.shape[1:])
    turned = torch.empty(count, *affine.shape[1:])
    for i, lag in enumerate(spec.lags):
        pair = at + lag  # what comes `lag` before a frame came `lag` after it
        out[:, :, i], turned[:, i] = local[pair][:, :, i], -affine[pair][:, i]
    out[:, :2] *= -1
    return join_stem(out.reshape(count, -1, *local.shape[3:]), turned.reshape(count, -1))


def on_cells(field: NDArray[np.float32], stem: MotionStem) -> Tensor:
    """Backward map [88, 88, 2] -> forward displacement [2, G, G] of the stem's windows, crop px."""
    px = np.arange(0, stem.side * stem.grid_px, 2, dtype=np.float32)
    at = to_samples(px[:, None], MAP_SIZE)[:, 0]
    x, y = np.meshgrid(at, at)
    sampled = -cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image = torch.as_tensor(sampled.transpose(2, 0, 1))[:, None]
    return F.conv2d(image, stem.window[:1], stride=4, padding=2)[:, 0]


class Imprinter:
    """Adds micro-expressions of the actors in `paths` to clips of stem rows."""

    def __init__(self, paths: Sequence[Path], spec: ModelSpec) -> None:
        self.paths, self.spec, self.stem = list(paths), spec, MotionStem(spec)

    def vary(self, pieces: list[Piece], rng: np.random.Generator) -> Piece:
        """One or two pieces of a pool [T + max lag, features] with their truth [M, 9] -> a clip [T, features] and its.

        Each is given another face's geometry, every third is played backwards; the second one's motion is laid over the
        first; none to two micro-expressions are added, and none to two decoys. See `Pool.batch`.
        """
        (clip, truth), *others = [self._played(rows, theirs, rng) for rows, theirs in pieces]
        for over, theirs in others:
            clip, truth = overlaid(clip, truth, over, theirs, float(rng.uniform(0.5, 1.0)), self.spec)
        clip, truth = self.imprint(clip, truth, rng)
        return clip.half().numpy(), truth

    def _played(
        self, rows: NDArray[np.float16], truth: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[Tensor, NDArray[np.float32]]:
        history = max(self.spec.lags)
        clip = torch.as_tensor(rows.astype(np.float32))
        if rng.random() < 1 / 3:
            clip, truth = reversed_rows(clip, self.spec), reversed_truth(truth, len(rows) - 1 - history)
        else:
            clip = clip[: len(rows) - history]
        return distorted(clip, rng, self.spec), truth

    def movement(
        self, rng: np.random.Generator, onset: float, frames: int, decoy: bool = False
    ) -> tuple[Label, Tensor]:
        """A micro-expression, or a decoy, that begins at frame `onset` of a clip: its label, in s from the clip's first
        frame, and what it adds to the motion over each lag, [frames, L, 2, G, G] crop px."""
        history, fps = max(self.spec.lags), self.spec.fps
        time_s = np.arange(-history, frames) / fps
        script = still_script(time_s, STILL)
        if decoy:
            label = add_decoy(script, rng, onset / fps)
        else:
            label = add_micro(script, rng, onset / fps, usual_amplitude(rng))
        actor = kept_actor(self.paths[int(rng.integers(len(self.paths)))])
        if label.kind != "head" and rng.random() < ELSEWHERE:
            label = elsewhere(script, label, actor, rng)
        curves, cells = self._parts(script, actor, rng)
        now = curves[:, history:]
        moved = torch.stack([now - curves[:, history - lag : len(time_s) - lag] for lag in self.spec.lags], dim=2)
        return label, torch.einsum("ktl,kcgh->tlcgh", moved, cells)

    def _parts(self, script: Script, actor: Actor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        curves, fields, _ = zip(*parts_of(script, actor, rng), strict=True)
        cells = [on_cells(field, self.stem) for field in fields]
        return torch.as_tensor(np.stack(curves)).float(), torch.stack(cells)

    @torch.no_grad()
    def add(self, rows: Tensor, motion: Tensor) -> Tensor:
        """Stem rows [T, features] plus motion [T, L, 2, G, G] (crop px): rows as the stem would have said, nearly."""
        local, affine = split_stem(rows, self.spec)
        lags = len(self.spec.lags)
        u, v, cx, cy, residual = local.split(lags, dim=1)
        u, v, before = unsquashed(u), unsquashed(v), unsquashed(affine).reshape(len(rows), lags, 3, 2)
        common = torch.einsum("bg,tlbc->tlcg", self.stem.basis, before).reshape(len(rows), lags, 2, *u.shape[2:])
        u, v = u + common[:, :, 0] + cx * motion[:, :, 0], v + common[:, :, 1] + cy * motion[:, :, 1]
        u, v, after = self.stem.without_affine(u, v, cx * cy)
        return join_stem(torch.cat([squashed(u), squashed(v), cx, cy, residual], dim=1), squashed(after))

    def imprint(
        self, rows: Tensor, truth: NDArray[np.float32], rng: np.random.Generator, most: int = 2
    ) -> tuple[Tensor, NDArray[np.float32]]:
        """A clip [T, features] and its truth [M, 9] (frames of the clip) with 0 to `most` more micro-expressions and as
        many decoys."""
        frames = len(rows)
        motions: list[Tensor] = []
        added: list[NDArray[np.float32]] = []
        for _ in range(int(rng.integers(0, most + 1))):
            onset = float(rng.uniform(-8, frames - 5))
            label, more = self.movement(rng, onset, frames)
            row = label_row(label, self.spec.fps)
            taken = [r for r in (*truth, *added) if r[0] == MICRO]
            if all(row[3] + APART < r[1] or row[1] > r[3] + APART for r in taken):
                added.append(row)
                motions.append(more)
        for _ in range(int(rng.binomial(most, DECOYS))):
            label, more = self.movement(rng, float(rng.uniform(-30, frames - 5)), frames, decoy=True)
            added.append(label_row(label, self.spec.fps))
            motions.append(more)
        if not motions:
            return rows, truth
        return self.add(rows, torch.stack(motions).sum(dim=0)), with_rows(truth, added)


def reversed_truth(truth: NDArray[np.float32], last: int) -> NDArray[np.float32]:
    """Truth rows of a sequence whose frame `last` is the first of the reversed one."""
    out = truth.copy()
    real = out[:, 0] < ABSENT
    out[real, 1:4] = last - truth[real][:, [3, 2, 1]]
    return out
