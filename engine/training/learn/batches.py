"""The batches of training steps: workers draw them from small tables, and the device builds them from the pool's rows.

Drawing is numpy and takes milliseconds per clip, on all available cores. It decides which pieces of a pool are used and
how they are changed, some ten kilobytes per clip. torch then makes the changes, a whole batch at a time.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from engine.mesnet import MotionStem
from engine.training.generator.curves import log_uniform
from engine.training.learn.augment import another_face, distorted, overlaid, shiver, true_of_both
from engine.training.learn.imprint import (
    Imprinter,
    Movement,
    imprinted,
    moved_by,
    reversed_rows,
    reversed_truth,
    together,
)
from engine.training.learn.mixing import SEAM, mixed, true_of_mixed
from engine.training.learn.relative import MIRROR, Imprints, imprints, scaled, seen_by, seen_of, weighed
from engine.training.pools.pool import Pool

SECOND = 0.5
"""Share of clips that get another clip's motion on top."""
MIXED = 0.5
"""Share of clips whose lower half comes from another clip, when clips are mixed. Fewer clips then get motion on top."""
BACKWARDS = 1 / 3
"""Share of pieces that are played backwards."""
NOISE_PX = (0.004, 0.04)
"""Error of a noisier camera, rms. See `augment.shiver`."""
MEMORY = 0.9
"""The largest share of an encoder's error that stays in the next frame."""
YOUNG = 0.1
"""Share of clips with a hidden beginning, as if the face had just been found."""


class Changes(NamedTuple):
    """The changes to the pieces of a batch. Each of the N + M pieces gets another face's geometry and liveliness.

    `backwards` int64[R]: pieces that are played backwards. `theta` float32[N + M, 2, 3] and `gain` float32[N + M]: see
    `augment.distorted`. `under` int64[M] and `share` float32[M]: which clip each of the M extra pieces goes onto, and
    how much of it. `seam` float32[M]: the row below which it replaces that clip (see `mixing.mixed`), or inf. `noise`
    and `memory` float32[N]: see `augment.shiver`, drawn by `noise_seed`. `courses` [N, K, T, L] and `cells` [N, K, 2,
    G, G]: what is imprinted, see `imprint.together`. `owner`, `wanted`, `apex`, `row`: see `relative.Imprints`.
    """

    backwards: Tensor
    theta: Tensor
    gain: Tensor
    under: Tensor
    share: Tensor
    seam: Tensor
    noise: Tensor
    memory: Tensor
    noise_seed: Tensor
    courses: Tensor
    cells: Tensor
    owner: Tensor
    wanted: Tensor
    apex: Tensor
    row: Tensor


class Batch(NamedTuple):
    """`pieces` int64[N + M, 4], see `Pool.rows`: first those of the N clips, then those that go onto some of them.
    `truth` float32[N, ROWS, 9] in frames of the clip. `seen` float32[N, ROWS, V]: how much each stream sees of it.
    `valid` float32[N, T]. `mirror`: the whole batch is mirrored. `coded`: the errors are an encoder's and not a
    noisier camera's; see the `errors` of `imprint.imprinted`."""

    pieces: Tensor
    truth: Tensor
    seen: Tensor
    valid: Tensor
    mirror: bool
    coded: bool
    changes: Changes | None


class Draws(Dataset[Batch]):
    """Draws batch `step` of the run with this `seed`. The batch depends on these two and the pool, not on the worker.

    `imprinter` varies the clips and puts movements into them; None leaves them unchanged. `errors_px` is the range of
    an encoder's error in every place, rms. It replaces a noisier camera in half of the clips. `mix`: clips are mixed by
    region.
    """

    def __init__(
        self,
        pool: Pool,
        seed: int,
        size: int,
        imprinter: Imprinter | None = None,
        errors_px: tuple[float, float] | None = None,
        mix: bool = False,
    ) -> None:
        self.mix = mix
        self.pool, self.seed, self.size, self.imprinter, self.errors_px = pool, seed, size, imprinter, errors_px
        self.spec, self._looked = pool.spec, 0

    def __getitem__(self, step: int) -> Batch:
        """As the class says."""
        if step // 100 != self._looked:
            self._looked = step // 100
            self.pool.refresh()
        rng = np.random.default_rng([self.seed, step])
        frames, length = self.spec.clip_frames, self.spec.clip_frames + max(self.spec.lags)
        drawn = [self.pool.piece(rng, length) for _ in range(self.size)]
        pieces, truths = [where for where, _ in drawn], [truth for _, truth in drawn]
        changes = None
        if self.imprinter is None:
            shares = [seen_by(truth) for truth in truths]
        else:
            pieces, truths, shares, changes = self._changed(pieces, truths, self.imprinter, rng)
        valid = np.ones((self.size, frames), np.float32)
        for row in np.flatnonzero(rng.random(self.size) < YOUNG):
            valid[row, : rng.integers(1, frames - 16)] = 0
        mirror = bool(rng.random() < 0.5)
        seen = torch.as_tensor(np.stack(shares))[..., MIRROR if mirror else slice(None)]
        tables = torch.tensor(pieces), torch.as_tensor(np.stack(truths)), seen, torch.as_tensor(valid)
        return Batch(*tables, mirror, self.errors_px is not None, changes)

    def _changed(
        self,
        pieces: list[tuple[int, ...]],
        truths: list[NDArray[np.float32]],
        imprinter: Imprinter,
        rng: np.random.Generator,
    ) -> tuple[list[tuple[int, ...]], list[NDArray[np.float32]], list[NDArray[np.float32]], Changes]:
        frames, history = self.spec.clip_frames, max(self.spec.lags)
        pieces, under, shares, seams = list(pieces), [], [], []
        turned = [rng.random() < BACKWARDS for _ in pieces]
        truths = [reversed_truth(t, frames - 1) if back else t for t, back in zip(truths, turned, strict=True)]
        for clip in map(int, np.flatnonzero(rng.random(self.size) < (MIXED + SECOND / 2 if self.mix else SECOND))):
            where, theirs = self.pool.piece(rng, frames + history)
            share, back = float(rng.uniform(0.5, 1.0)), rng.random() < BACKWARDS
            theirs = reversed_truth(theirs, frames - 1) if back else theirs
            both: NDArray[np.float32] | None
            if self.mix and rng.random() < MIXED / (MIXED + SECOND / 2):
                seam, both = float(rng.uniform(*SEAM)), true_of_mixed(truths[clip], theirs)
            else:
                seam, both = float("inf"), true_of_both(truths[clip], theirs, share)
            if both is None:
                continue
            truths[clip] = both
            pieces.append(where)
            turned.append(back)
            under.append(clip)
            shares.append(share)
            seams.append(seam)
        moving: list[list[Movement]] = []
        for i, truth in enumerate(truths):
            more, truths[i] = imprinter.draw(truth, rng)
            moving.append(more)
        parts = [seen_by(truth) for truth in truths]
        for part, more in zip(parts, moving, strict=True):
            for movement in (m for m in more if m.row >= 0):
                part[movement.row] = seen_of(movement)
        theta, gain = zip(*(another_face(rng, self.spec) for _ in pieces), strict=True)
        changes = Changes(
            torch.as_tensor(np.flatnonzero(turned)),
            torch.as_tensor(np.stack(theta)),
            torch.tensor(gain),
            torch.tensor(under, dtype=torch.long),
            torch.tensor(shares, dtype=torch.float32),
            torch.tensor(seams, dtype=torch.float32),
            *_worse(rng, len(moving), self.errors_px),
            torch.tensor(int(rng.integers(2**31))),
            *together(moving, self.spec),
            *imprints(moving),
        )
        return pieces, truths, parts, changes


def _worse(rng: np.random.Generator, clips: int, errors_px: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
    """`Changes.noise` and `memory`. Half of the clips get a noisier camera. A good camera is off by some 0.02 px
    (docs/alignment.md)."""
    if errors_px is None:
        noise = [log_uniform(rng, *NOISE_PX) if rng.random() < 0.5 else 0.0 for _ in range(clips)]
        memory = np.zeros(clips)
    else:
        noise = [log_uniform(rng, *errors_px) for _ in range(clips)]
        memory = rng.uniform(0, MEMORY, clips)
    return torch.tensor(noise, dtype=torch.float32), torch.as_tensor(memory, dtype=torch.float32)


@torch.no_grad()
def seen(batch: Batch, pool: Pool, stem: MotionStem) -> tuple[Tensor, Tensor]:
    """The clips of a batch, float32[N, T, features], and their truth, float32[N, ROWS, 9]. Both are on the device of
    the pool and the stem."""
    spec, truth = pool.spec, batch.truth.to(pool.device, non_blocking=True)
    rows = pool.rows(batch.pieces, spec.clip_frames + max(spec.lags))
    clips = rows[:, : spec.clip_frames]
    if batch.changes is None:
        return clips, truth
    changes = Changes(*(table.to(pool.device, non_blocking=True) for table in batch.changes))
    if len(changes.backwards):
        clips = clips.index_copy(0, changes.backwards, reversed_rows(rows[changes.backwards], spec))
    clips = distorted(clips, changes.theta, changes.gain, spec)
    count = len(batch.truth)
    clips, over = clips[:count], clips[count:]
    for some, join, how in (
        (changes.seam.isinf(), overlaid, changes.share),
        (~changes.seam.isinf(), mixed, changes.seam),
    ):
        if some.any():
            at = changes.under[some]
            clips = clips.index_copy(0, at, join(clips[at], over[some], how[some], spec))
    courses = changes.courses
    if changes.wanted.any():
        tables = Imprints(changes.owner, changes.wanted, changes.apex, changes.row)
        courses, visibility = scaled(clips, courses, changes.cells, tables, spec)
        truth = weighed(truth, visibility, tables)
    noise = shiver(changes.noise, int(batch.changes.noise_seed), spec, changes.memory if batch.coded else None)
    moved = moved_by(courses, changes.cells)
    if batch.coded:
        return imprinted(clips, moved, stem, spec, errors=noise), truth
    return imprinted(clips, moved + noise, stem, spec), truth
