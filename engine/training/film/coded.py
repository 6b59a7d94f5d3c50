"""The same films before and after a webcam's H.264, so that training on one can use what the other shows.

`python -m engine.training.film --coded N ...` makes four pools in OUT: `fine`, and the same films at three qualities in
`coded-0` to `coded-2`. An encoder drops a part of small movements and adds its own errors. A teacher that sees the
original film still sees the whole movement (`engine.train --teacher`).

A film is rendered once and cropped by its true pose. `engine.training.film.aligned` follows each film by the landmark
networks instead. This gives four sequences for the price of one.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.spec import CLASSES, ModelSpec
from engine.training.film.aligned import picture_px
from engine.training.film.encode import webcam, write_video
from engine.training.film.film import Film, Image, draw_setting, portrait_of
from engine.training.film.injection import read_frames
from engine.training.generator.actors import actors_of, kept_actor
from engine.training.generator.curves import log_uniform
from engine.training.generator.render import on_grid
from engine.training.generator.scenes import draw_script, enliven
from engine.training.generator.script import Script
from engine.training.pools.pool import LENGTH, SHARD, Sequence, make_missing, prepare, store
from stream.errors import UserError
from stream.faces.align import Matrix, extract

CRFS = ((17, 21), (21, 25), (25, 31))
"""From, and below, of each coded version."""
SIZES = (0.42, 1.1)
"""Range of a picture's width as a share of `film_pool.PICTURE_PX`: faces of 46 to 214 px."""
LIVELY = 0.2
"""Share of films with a person whose face never rests."""
MICROS = 3
"""The most micro-expressions of a film. It is more than `scenes.draw_script` draws by itself. An encoder reacts to
filmed movements only, not to those imprinted behind the stem."""
JITTER_PX = 0.03
"""What an aligner errs by, rms."""
BLOCK_PX = 16
"""Side of macroblocks. Each version cuts off a random part of one, so that their places on the face vary."""


def make_sequences(index: int, seed: int, actors: list[Path], data: Path, spec: ModelSpec) -> list[Sequence]:
    """Film `index` of the pools with this `seed`: the original, then each quality. Raises UserError."""
    rng = np.random.default_rng([seed, index])
    frames = LENGTH + max(spec.lags)
    actor = kept_actor(actors[int(rng.integers(len(actors)))])
    script = draw_script(rng, frames / spec.fps, micros=int(rng.integers(MICROS + 1)))
    if rng.random() < LIVELY:
        enliven(script, rng)
    setting = draw_setting(rng, *picture_px(log_uniform(rng, *SIZES)))
    film = Film(script, actor, portrait_of(actor, data), setting, rng)
    images = list(film)
    matrices = [np.column_stack([m[:, :2], m[:, 2] + rng.normal(0, JITTER_PX, 2)]) for m in film.crop_matrices()]
    versions = [_cropped(images, matrices, script, spec, frames)]
    for crfs in CRFS:
        x, y = (2 * int(a) for a in rng.integers(0, BLOCK_PX // 2, 2))
        back = recorded([np.ascontiguousarray(image[y:, x:]) for image in images], script, int(rng.integers(*crfs)))
        moved = [np.column_stack([m[:, :2], m @ (x, y, 1)]) for m in matrices]
        versions.append(_cropped(back, moved, script, spec, frames))
    labels = [label for label in script.labels if label.kind in CLASSES]
    return [Sequence(crops, labels) for crops in versions]


def recorded(images: list[Image], script: Script, crf: int) -> list[Image]:
    """The pictures at the script's times after a webcam's H.264, in the same number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        from_zero = script.time_s - script.time_s[0]  # a player leaves out frames with earlier stamps
        write_video(path, images, from_zero, webcam(crf))
        return [frame.image for frame in read_frames(str(path))]


def _cropped(
    images: list[Image], matrices: list[Matrix], script: Script, spec: ModelSpec, frames: int
) -> NDArray[np.uint8]:
    crops = [extract(image, matrix) for image, matrix in zip(images, matrices, strict=True)]
    return on_grid(np.stack(crops), script.time_s, spec.fps, frames)


@dataclass(frozen=True, slots=True)
class Order:
    """Shards as a worker is to make them."""

    seed: int
    actors: list[Path]
    data: Path
    folders: list[Path]


def _make_shard(job: tuple[int, Order]) -> None:
    number, order = job
    torch.set_num_threads(1)
    spec = ModelSpec()
    indices = range(number * SHARD, (number + 1) * SHARD)
    made = [make_sequences(i, order.seed, order.actors, order.data, spec) for i in indices]
    for folder, version in zip(order.folders, zip(*made, strict=True), strict=True):
        store(folder, number, list(version), spec)


def make(options: argparse.Namespace) -> None:
    """Makes the missing shards. Raises UserError."""
    if options.actors is None:
        raise UserError("--coded needs --actors: the folder that python -m engine.training.generator.actors wrote", 2)
    if options.small or options.lively or options.unsteady:
        raise UserError("--coded draws sizes and people by itself; leave out --small, --lively and --unsteady", 2)
    actors, spec = actors_of(options.actors, options.split), ModelSpec()
    fine, *coded = folders = [options.out / name for name in ("fine", *(f"coded-{k}" for k in range(len(CRFS))))]
    prepare(fine, spec)
    for folder in coded:
        prepare(folder, spec, before=f"../{fine.name}")
    seed = options.seed + {"train": 11, "tune": 1_000_011}[options.split]
    order = Order(seed, actors, options.data, folders)
    make_missing(_make_shard, order, coded[-1], options.coded, options.workers, "films")
