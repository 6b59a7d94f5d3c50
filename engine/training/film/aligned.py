"""Training sequences through the real aligner: the live path itself decodes, follows and crops encoded films.

`python -m engine.training.film --real-aligner N ...` writes them as shards of a pool (`engine.training.pools.pool`).
They supplement other pools. A film costs some ten times as much as the same frames from the batched renderer.
"""

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from engine.spec import CLASSES, ModelSpec
from engine.training.film.encode import write_film
from engine.training.film.film import Film, Image, draw_setting, portrait_of
from engine.training.generator.actors import actors_of, kept_actor
from engine.training.generator.curves import log_uniform
from engine.training.generator.nuisances import step_exposure
from engine.training.generator.render import on_grid
from engine.training.generator.scenes import Change, draw_script, enliven
from engine.training.generator.script import Script
from engine.training.pools.pool import LENGTH, SHARD, Sequence, make_missing, prepare, store
from stream.errors import UserError
from stream.faces.finder import Faces
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate
from stream.sources import open_source
from stream.types import FaceCrop, Frame

PICTURE_PX = (480, 360)
"""Smaller than a webcam's usual 640x480. The face is 110 to 190 px wide, and the cost is two thirds."""
SMALL = (0.42, 0.8)
"""Range of a small picture's width, as a share: faces of 46 to 155 px."""
SMALL_CRF = (15, 28)
"""Range of the quality at which H.264 hides some micro-expressions of small faces and keeps others."""
TRIES = 4


def crops_of(video: Path, landmarker: Landmarker, spec: ModelSpec, frames: int) -> np.ndarray | None:
    """The live path's view of a film: crops on the grid, uint8[frames, S, S]. Returns None if the face is ever lost."""
    source, faces = open_source(str(video), paced=False), Faces(landmarker, max_faces=1)
    crops: list[FaceCrop] = []
    try:
        while (item := source.read()) is not None:
            found = faces.update(item) if isinstance(item, Frame) else []
            if not found or not all(isinstance(one, FaceCrop) for one in found):
                return None
            crops += [one for one in found if isinstance(one, FaceCrop)]
    finally:
        source.close()
    return on_grid(np.stack([c.image for c in crops]), np.array([c.time_s for c in crops]), spec.fps, frames)


def filmed(
    images: Iterable[Image], script: Script, landmarker: Landmarker, spec: ModelSpec, frames: int
) -> np.ndarray | None:
    """`crops_of` a film of these pictures by the script's camera. Each picture is uint8[H, W, 3] at one of the
    script's times."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_film(Path(folder) / "film", images, script.time_s, script.camera)
        return crops_of(path, landmarker, spec, frames)


def make_sequence(
    index: int,
    seed: int,
    actors: list[Path],
    data: Path,
    landmarker: Landmarker,
    spec: ModelSpec,
    change: Change | None = None,
    small: bool = False,
) -> Sequence:
    """Sequence `index` of the pool with this `seed`. It is like `pool.make_sequence`, but filmed. Raises UserError.

    `change` alters the drawn script. `small`: in a `small_picture`.
    """
    rng = np.random.default_rng([seed, index])
    frames = LENGTH + max(spec.lags)
    for _ in range(TRIES):
        actor = kept_actor(actors[int(rng.integers(len(actors)))])
        script = draw_script(rng, frames / spec.fps)
        if change is not None:
            change(script, rng)
        setting = draw_setting(rng, *(small_picture(script, rng) if small else PICTURE_PX))
        film = Film(script, actor, portrait_of(actor, data), setting, rng)
        crops = filmed(film, script, landmarker, spec, frames)
        if crops is not None:
            return Sequence(crops, [label for label in script.labels if label.kind in CLASSES])
    raise UserError(
        f"sequence {index} of seed {seed}: no face seen in {TRIES} films; are --actors and --data of one kind?"
    )


def small_picture(script: Script, rng: np.random.Generator) -> tuple[int, int]:
    """Gives the script a webcam that writes H.264. Returns width and height of its picture."""
    script.camera = replace(script.camera, codec="h264", quality=int(rng.integers(*SMALL_CRF)))
    return picture_px(log_uniform(rng, *SMALL))


def picture_px(share: float) -> tuple[int, int]:
    """Width and height of a picture with that share of `PICTURE_PX`. Both are even, as encoders need."""
    width, height = (2 * round(side * share / 2) for side in PICTURE_PX)
    return width, height


@cache
def kept_landmarker(face_model: Path) -> Landmarker:
    """One per process."""
    return Landmarker(face_model)


@dataclass(frozen=True, slots=True)
class Order:
    """Shards for a worker to make; see `make_sequence`."""

    seed: int
    actors: list[Path]
    data: Path
    face_model: Path
    folder: Path
    change: Change | None
    small: bool


def _make_shard(job: tuple[int, Order]) -> None:
    number, o = job
    torch.set_num_threads(1)
    spec, landmarker = ModelSpec(), kept_landmarker(o.face_model)
    indices = range(number * SHARD, (number + 1) * SHARD)
    made = [make_sequence(i, o.seed, o.actors, o.data, landmarker, spec, o.change, o.small) for i in indices]
    store(o.folder, number, made, spec)


def make(options: argparse.Namespace) -> None:
    """Makes the missing shards. Raises UserError."""
    if options.actors is None:
        raise UserError(
            "--real-aligner needs --actors: the folder that python -m engine.training.generator.actors wrote", 2
        )
    actors = actors_of(options.actors, options.split)
    face_model = locate(options.face_model)
    prepare(options.out, ModelSpec())
    seed = options.seed + {"train": 9, "tune": 1_000_009}[options.split]
    change = step_exposure if options.unsteady else enliven if options.lively else None
    order = Order(seed, actors, options.data, face_model, options.out, change, options.small)
    make_missing(_make_shard, order, options.out, options.real_aligner, options.workers, "filmed sequences")
