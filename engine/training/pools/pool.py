"""A pool of made-up clips on disk, already through the motion stem, for training and tuning the network.

    python -m engine.training.pools.pool --actors DIR --out DIR --sequences 6000 --split train --workers 2

A clip takes a hundred times as long to make as a training step on it, and the stem learns nothing. So clips are made
once, in shards. A trainer can read them while more are being made. Sequence i depends only on the seed and i, not on
the workers.

A shard is two files. `NNNNNN.npy` float16[B, LENGTH, 15 * 256 + 18] is the stem's output: local motion, then affine.
`NNNNNN.truth.npy` float32[B, ROWS, 9] has rows as in `engine.training.pools.truth`, in frames of the sequence.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.generator.actors import actors_of, kept_actor
from engine.training.generator.mocap import recorded_script, takes
from engine.training.generator.render import on_grid, render
from engine.training.generator.scenes import Change, draw_script, enliven
from engine.training.generator.script import Label, Script
from engine.training.pools.truth import ABSENT, TRUTH_COLUMNS, label_row
from stream.errors import UserError

LENGTH = 128
"""Frames of a sequence without the stem's history. Training cuts clips out of it."""
ROWS = 24
SHARD = 16

What = TypeVar("What")
Draw = Callable[[np.random.Generator, float], Script]
"""Draws the script of a sequence of that many seconds."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """Crops on the time grid, uint8[history + LENGTH, S, S], and their labels (seconds from the first crop)."""

    crops: NDArray[np.uint8]
    labels: list[Label]


def make_sequence(
    index: int,
    seed: int,
    actors: list[Path],
    spec: ModelSpec,
    device: str = "cpu",
    length: int = LENGTH,
    change: Change | None = None,
    draw: Draw = draw_script,
) -> Sequence:
    """Sequence `index` of the pool with this `seed`. `change` alters the drawn script."""
    rng = np.random.default_rng([seed, index])
    actor = kept_actor(actors[int(rng.integers(len(actors)))])
    frames = length + max(spec.lags)
    script = draw(rng, frames / spec.fps)
    if change is not None:
        change(script, rng)
    return Sequence(on_grid(render(script, actor, rng, device), script.time_s, spec.fps, frames), script.labels)


def truth_rows(labels: list[Label], spec: ModelSpec) -> NDArray[np.float32]:
    """Labels as the loss takes them, float32[ROWS, 9]. Faint micro-expressions weigh less, down to a quarter."""
    rows = np.full((ROWS, TRUTH_COLUMNS), 0, np.float32)
    rows[:, 0], rows[:, 1:4] = ABSENT, -1e3
    for row, label in zip(rows, sorted(labels, key=lambda a: a.kind != "micro"), strict=False):
        row[:] = label_row(label, spec.fps)
        row[1:4] -= max(spec.lags)
    return rows


@torch.no_grad()
def through_stem(stem: MotionStem, crops: NDArray[np.uint8], spec: ModelSpec, batch: int = 32) -> NDArray[np.float16]:
    """Crops uint8[history + n, S, S] -> the stem's output float16[n, features], one row per crop with a full
    history."""
    history = max(spec.lags)
    device = stem.filters.device
    frames = torch.as_tensor(crops, device=device)
    out = []
    for at in range(history, len(frames), batch):
        now = torch.arange(at, min(at + batch, len(frames)), device=device)
        local, affine = stem(torch.stack([frames[now]] + [frames[now - lag] for lag in spec.lags], dim=1))
        out.append(torch.cat([local.flatten(1), affine], dim=1).half().cpu().numpy())
    return np.concatenate(out)


def write_shard(folder: Path, number: int, stemmed: list[NDArray[np.float16]], rows: list[NDArray[np.float32]]) -> None:
    """Writes the truth first, then the data by an atomic rename. A reader that sees the data also finds the truth."""
    np.save(folder / f"{number:06d}.truth.npy", np.stack(rows))
    part = folder / f"{number:06d}.part"
    with part.open("wb") as file:
        np.save(file, np.stack(stemmed))
    part.rename(folder / f"{number:06d}.npy")


def store(folder: Path, number: int, made: list[Sequence], spec: ModelSpec, device: str = "cpu") -> None:
    """Sequences as shard `number` of a pool."""
    stem = MotionStem(spec).to(device)
    stemmed = [through_stem(stem, m.crops, spec) for m in made]
    write_shard(folder, number, stemmed, [truth_rows(m.labels, spec) for m in made])


@dataclass(frozen=True, slots=True)
class Order:
    """Shards for a worker to make: `size` sequences of `length` frames each, as `make_sequence` makes them."""

    seed: int
    actors: list[Path]
    folder: Path
    device: str = "cpu"
    size: int = SHARD
    length: int = LENGTH
    change: Change | None = None
    draw: Draw = draw_script


def make_shard(job: tuple[int, Order]) -> None:
    """Shard `number` of an order."""
    number, order = job
    torch.set_num_threads(1)
    spec = ModelSpec()
    indices = range(number * order.size, (number + 1) * order.size)
    o = order
    made = [make_sequence(i, o.seed, o.actors, spec, o.device, o.length, o.change, o.draw) for i in indices]
    store(order.folder, number, made, spec, order.device)


def fingerprint(spec: ModelSpec) -> str:
    """Changes when the stem's output changes. A pool made by another stem is refused."""
    crops = np.random.default_rng(0).integers(0, 255, (max(spec.lags) + 1, spec.crop_px, spec.crop_px), np.uint8)
    out = through_stem(MotionStem(spec), crops, spec).astype(np.float32)
    return hashlib.sha256(np.round(out, 1).tobytes()).hexdigest()[:16]


class Pool:
    """The shards that one or more folders hold now. `refresh` looks again.

    The truth stays in memory. Data is read on request and then stays on `device`, in memory or mapped. `shares`: how
    often each folder is drawn, in any unit. Without it, every sequence is drawn equally often.
    """

    def __init__(
        self, folders: list[Path], spec: ModelSpec, device: str = "cpu", shares: list[float] | None = None
    ) -> None:
        self.folders, self.spec, self.device, self.shares = folders, spec, device, shares
        self._truth: dict[Shard, NDArray[np.float32]] = {}
        self._homes = [folder.resolve() for folder in folders]  # resolves a/../fine
        self._data: dict[tuple[Path, int], Tensor] = {}
        abouts = [_about(folder, spec) for folder in folders]
        self._before = [f / a["before"] if "before" in a else f for f, a in zip(folders, abouts, strict=True)]
        self.refresh()

    def __reduce__(self) -> tuple[type["Pool"], tuple[list[Path], ModelSpec, str, list[float] | None]]:
        """A worker reads the folders itself, on the CPU."""
        return Pool, (self.folders, self.spec, "cpu", self.shares)

    def before(self) -> "Pool":
        """The same sequences, in the same places, as they were before an encoder. A folder without such a version
        stands for itself. Raises UserError."""
        pool = Pool(self._before, self.spec, self.device)
        pool._data = self._data  # the common source of several pools is in memory only once
        return pool

    def refresh(self) -> None:
        """Take in shards that were finished since."""
        for number, folder in enumerate(self.folders):
            for path in sorted(folder.glob("??????.npy")):
                shard = Shard(number, int(path.stem))
                if shard not in self._truth:
                    self._truth[shard] = np.load(path.with_suffix(".truth.npy"))
        self._list = list(self._truth)
        sizes = np.array([len(self._truth[shard]) for shard in self._list], int)
        self._ends = np.cumsum(sizes)
        if self.shares is not None:
            of = np.array([shard.folder for shard in self._list], int)
            held = np.bincount(of, sizes, len(self.folders))
            self._chances = np.cumsum(np.array(self.shares)[of] * sizes / held[of])

    def __len__(self) -> int:
        """Sequences."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Stem's output [LENGTH, features] and truth [ROWS, 9] of one sequence."""
        shard, at = self._place(index)
        return self._shard(shard)[at].cpu().numpy(), self._truth[shard][at]

    def piece(self, rng: np.random.Generator, length: int) -> tuple[tuple[int, ...], NDArray[np.float32]]:
        """Any `length` frames of any sequence. Returns their place (see `rows`), and their truth [ROWS, 9] in frames
        of the piece."""
        shard, at = self._place(self._any(rng))
        first = int(rng.integers(0, LENGTH - length + 1))
        truth = self._truth[shard][at].copy()
        truth[:, 1:4] -= first
        return (*shard, at, first), truth

    def rows(self, pieces: Tensor, length: int) -> Tensor:
        """Stem's output float32[N, length, features] of pieces int64[N, 4]: folder, shard, sequence, first frame."""
        places = pieces.tolist()
        return torch.stack([self._shard(Shard(f, n))[at, first : first + length] for f, n, at, first in places]).float()

    def _any(self, rng: np.random.Generator) -> int:
        """A sequence's index."""
        if self.shares is None:
            return int(rng.integers(len(self)))
        shard = int(np.searchsorted(self._chances, rng.random() * self._chances[-1], side="right"))
        return int(rng.integers(self._ends[shard - 1] if shard else 0, self._ends[shard]))

    def _place(self, index: int) -> tuple["Shard", int]:
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self._list[shard], index - (int(self._ends[shard - 1]) if shard else 0)

    def _shard(self, shard: "Shard") -> Tensor:
        folder, number = key = self._homes[shard.folder], shard.number
        if key not in self._data:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
                data = np.load(folder / f"{number:06d}.npy", mmap_mode="r")
                self._data[key] = torch.from_numpy(data).to(self.device)
        return self._data[key]


class Shard(NamedTuple):
    """One shard of a pool: the folder's place in the pool's list, and the shard's number in the folder.

    The pair names the same shard in every process, however many shards each of them has found so far."""

    folder: int
    number: int


def _about(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """The pool.json of a folder. Raises UserError if the folder holds no pool, or one that another stem made."""
    again = f"python -m engine.training.pools.pool --actors DIR --out {folder}"
    try:
        about = json.loads((folder / "pool.json").read_text())
        stem = about["stem"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} holds no pool; make one: {again}", 2) from None
    if stem != fingerprint(spec):
        raise UserError(f"{folder} was made by another motion stem; make it again: {again}", 2)
    return dict(about)


def prepare(folder: Path, spec: ModelSpec, before: str | None = None) -> None:
    """Makes the folder and records the stem of its shards in it.

    `before` is the folder, relative to this one, with the same sequences before an encoder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"stem": fingerprint(spec), "length": LENGTH, **({"before": before} if before else {})}
    (folder / "pool.json").write_text(json.dumps(about) + "\n")


def missing_shards(folder: Path, sequences: int) -> list[int]:
    """Numbers of the shards that are missing for `sequences` sequences."""
    wanted = range((sequences + SHARD - 1) // SHARD)
    return [n for n in wanted if not (folder / f"{n:06d}.npy").exists()]


def make_missing(
    make: Callable[[tuple[int, What]], None], order: What, folder: Path, sequences: int, workers: int, title: str
) -> None:
    """Call `make((number, order))` for each of the `missing_shards`, in `workers` processes, under a progress bar.

    `title` is what the bar shows. The first error that a worker raises ends the work and is raised here."""
    from rich.progress import Progress

    jobs = [(n, order) for n in missing_shards(folder, sequences)]
    wanted = -(-sequences // SHARD)
    with Progress() as progress, multiprocessing.get_context("spawn").Pool(workers) as pool:
        bar = progress.add_task(title, total=wanted * SHARD, completed=(wanted - len(jobs)) * SHARD)
        for _ in pool.imap_unordered(make, jobs):
            progress.advance(bar, SHARD)


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.pools.pool`: makes the missing shards."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.pools.pool", description=main.__doc__)
    parser.add_argument(
        "--actors", type=Path, required=True, help="folder that python -m engine.training.generator.actors wrote"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "tune", "test"), default="train")
    parser.add_argument("--sequences", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lively", action="store_true", help="of people whose faces never rest")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--clean", action="store_true", help="without MEs: for clips that are mixed by region")
    kind.add_argument("--mocap", type=Path, metavar="DIR", help="without MEs, moved by recorded facial motion in DIR")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    draw: Draw = partial(draw_script, micros=0) if options.clean else draw_script
    try:
        actors = actors_of(options.actors, options.split)
        if options.mocap:
            takes(options.mocap, options.split)  # refuse before any worker starts
            draw = partial(recorded_script, folder=options.mocap, split=options.split)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    prepare(options.out, ModelSpec())
    seed = options.seed + {"train": 0, "tune": 1_000_003, "test": 2_000_003}[options.split]
    order = Order(seed, actors, options.out, options.device, SHARD, LENGTH, enliven if options.lively else None, draw)
    make_missing(make_shard, order, options.out, options.sequences, options.workers, f"{options.split} sequences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
