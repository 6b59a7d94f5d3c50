"""Pools of real video: real people's own movements, filmed again with injected micro-expressions of known truth.

    python -m engine.training.film.footage --data DIR --out DIR --split train --sequences 800 --workers 2

A sequence uses a stretch of video with a face throughout. It plays forwards or backwards, at another speed, in another
size and light, with micro-expressions warped into its frames. It is encoded as by a webcam and goes through the live
path: the decoder, the landmark networks, the aligner, the ring. The people's own movements are not annotated. Apart
from speech, such sequences only teach what is *not* a micro-expression (`UNKNOWN` in the loss).

`engine.training.film.people` separates people by split before anything else.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engine.spec import ModelSpec
from engine.training.film.aligned import filmed, kept_landmarker
from engine.training.film.film import CENTRE, Image
from engine.training.film.injection import Injection, follow, movement, read_frames, warp_frame
from engine.training.film.people import files_of, speaks
from engine.training.generator.actors import Actor, build_actor
from engine.training.generator.camera import draw_camera
from engine.training.generator.curves import log_uniform
from engine.training.generator.scenes import usual_amplitude
from engine.training.generator.script import Label, Script, still_script
from engine.training.pools.pool import LENGTH, SHARD, Sequence, make_missing, prepare, store
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SHORTEST = 20  # frames: a shorter stretch with a face is left out
FACE_PX = (50.0, 160.0)  # cheek to cheek, in the new film
KEPT_PX = 240.0  # a wider face is reduced to this width
ROOM = 1.5  # face widths on every side of the face's middle
TRIES = 8


@dataclass(frozen=True, slots=True)
class Take:
    """A stretch of a video file in which one face is seen throughout.

    `images[n]`: the frames, uint8[H, W, 3] BGR. `time_s[n]`: from the first one. `matrices[n]`: image px -> crop px.
    `actor`: made from one of the frames, for the injected displacements.
    """

    name: str
    images: list[Image]
    time_s: NDArray[np.float64]
    matrices: list[NDArray[np.float64]]
    actor: Actor


def takes_of(path: Path, name: str, landmarker: Landmarker) -> list[Take]:
    """Every stretch of a video with a visible face. Raises UserError if it can't be read."""
    whole = follow(str(path), landmarker)
    if whole is None:
        return []
    actor = build_actor(whole.first, whole.points, f"video:{name}", name)
    largest = max(_face_px(m, actor) for m in whole.matrices if m is not None)
    share = min(1.0, KEPT_PX / largest)  # the new film is smaller, and a 1080p video would fill the memory
    images = [_shrunk(frame.image, share) for frame in read_frames(str(path))]
    seen = np.array([False, *(m is not None for m in whole.matrices), False])
    edges = np.flatnonzero(np.diff(seen))
    takes = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin >= SHORTEST:
            matrices = [_of_shrunk(m, share) for m in whole.matrices[begin:end] if m is not None]
            part, matrices = _around_face(matrices, actor, images[0])
            cut = [image[part].copy() for image in images[begin:end]]
            takes.append(Take(name, cut, whole.time_s[begin:end] - whole.time_s[begin], matrices, actor))
    return takes


def _shrunk(image: Image, share: float) -> Image:
    return (
        image if share == 1 else np.asarray(cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA))
    )


def _of_shrunk(matrix: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Crop px from the px of a picture that was shrunk about its corner."""
    shift = 0.5 / share - 0.5
    return matrix @ np.array([[1 / share, 0, shift], [0, 1 / share, shift], [0, 0, 1]])


def _around_face(
    matrices: list[NDArray[np.float64]], actor: Actor, image: Image
) -> tuple[tuple[slice, slice], list[NDArray[np.float64]]]:
    """The part of the picture that contains the face, with room for detection, and the matrices for that part alone."""
    centres = np.array([np.linalg.solve(m[:, :2], CENTRE - m[:, 2]) for m in matrices])
    reach = ROOM * max(_face_px(m, actor) for m in matrices)
    low = np.maximum(np.floor(centres.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(centres.max(axis=0) + reach), image.shape[1::-1]).astype(int)
    shift = np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1]], float)
    return (slice(low[1], high[1]), slice(low[0], high[0])), [m @ shift for m in matrices]


def _face_px(matrix: NDArray[np.float64], actor: Actor) -> float:
    """Width of the face in the picture, px."""
    return float(actor.face_width_px / np.sqrt(np.linalg.det(matrix[:, :2])))


@cache
def takes(data: Path, split: str, face_model: Path) -> list[Take]:
    """Every take of the split's people. Raises UserError if there are none."""
    found: list[Take] = []
    for name in files_of(data, split):
        found += takes_of(data / "video" / name, name, kept_landmarker(face_model))
    if not found:
        raise UserError(f"--data {data}: no face in video/ of the {split} split", 2)
    return found


def make_sequence(
    index: int, seed: int, found: list[Take], landmarker: Landmarker, spec: ModelSpec, clean: bool = False
) -> Sequence:
    """Sequence `index` of the pool with this `seed`. It is like `pool.make_sequence`, but of real video. Raises
    UserError.

    `clean`: nothing is injected.
    """
    rng = np.random.default_rng([seed, index])
    frames = LENGTH + max(spec.lags)
    lengths = np.array([t.time_s[-1] for t in found])
    for _ in range(TRIES):
        take = found[int(rng.choice(len(found), p=lengths / lengths.sum()))]
        shown, time_s = _played(take, rng, frames / spec.fps)
        codec, quality = ("h264", int(rng.integers(16, 31))) if rng.random() < 0.8 else ("none", 0)
        camera = replace(draw_camera(rng), codec=codec, quality=quality)
        script = still_script(time_s, camera)
        injections = [] if clean else _micros(script, take.actor, rng, frames / spec.fps)
        kind = "speech" if speaks(take.name) else "unknown"
        script.labels.append(Label(kind, 0, time_s[-1] / 2, time_s[-1]))
        crops = filmed(_pictures(take, shown, injections, rng), script, landmarker, spec, frames)
        if crops is not None:
            return Sequence(crops, script.labels)
    raise UserError(f"sequence {index} of seed {seed}: no face seen in {TRIES} tries; is --data another video folder?")


def _played(take: Take, rng: np.random.Generator, duration_s: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which frames are shown, and when: a part of the take or all of it, held still before and after.

    Each frame is shown once, so nothing is interpolated. The take is held instead of played back and forth, since a
    movement that reverses looks like a micro-expression.
    """
    time_s = take.time_s / float(rng.choice([1.0, rng.uniform(0.75, 1.3)]))
    order = np.arange(len(time_s))
    if rng.random() < 0.4:  # backwards: a movement that usually rises fast then falls fast
        order, time_s = order[::-1], time_s[-1] - time_s[::-1]
    step = float(np.median(np.diff(time_s)))
    spare = duration_s + step - time_s[-1]
    begin_s = float(rng.uniform(min(0.0, spare), max(0.0, spare)))
    before = begin_s - step * np.arange(int(max(begin_s, 0) / step) + 1, 0, -1)
    after = time_s[-1] + begin_s + step * np.arange(1, int(max(spare - begin_s, 0) / step) + 2)
    shown = np.concatenate([np.full(len(before), order[0]), order, np.full(len(after), order[-1])])
    at = np.concatenate([before, time_s + begin_s, after])
    inside = np.flatnonzero((at >= 0) & (at <= duration_s + 2 * step))
    return shown[inside], at[inside] - at[inside[0]]


def _micros(script: Script, actor: Actor, rng: np.random.Generator, duration_s: float) -> list[Injection]:
    """Draws zero to two micro-expressions and adds them to the script's labels."""
    injections, ends_s = [], -9.0
    for onset_s in np.sort(rng.uniform(-0.2, duration_s - 0.15, rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2]))):
        if onset_s > ends_s + 0.15:
            injection, label = movement("generator", script, actor, rng, float(onset_s), usual_amplitude(rng))
            injections.append(injection)
            script.labels.append(label)
            ends_s = label.offset_s
    return injections


def _pictures(
    take: Take, shown: NDArray[np.intp], injections: list[Injection], rng: np.random.Generator
) -> Iterator[Image]:
    """The take's frames `shown`, moved by the injections, in another size and light, by a noisier camera."""
    height, width = take.images[0].shape[:2]
    share = log_uniform(rng, *FACE_PX) / _face_px(take.matrices[0], take.actor)
    size = 2 * round(width * share / 2), 2 * round(height * share / 2)
    look_up = cv2.INTER_AREA if share < 1 else cv2.INTER_CUBIC
    gain, offset = (float(rng.uniform(0.7, 1.2)), float(rng.uniform(-15, 15))) if rng.random() < 0.5 else (1.0, 0.0)
    noise = float(rng.uniform(0.5, 4.0)) if rng.random() < 0.8 else 0.0
    grain = rng.standard_normal((size[1] + 64, size[0] + 64, 1), np.float32) * noise
    for k, frame in enumerate(shown):
        image = take.images[frame]
        moving = [float(one.curve[k]) * one.field for one in injections if one.curve[k]]
        if moving:
            field = np.sum(moving, axis=0) * take.actor.crop_px(1.0)
            image = warp_frame(image, take.matrices[frame], field.astype(np.float32))
        x, y = rng.integers(0, 64, 2)
        lit = cv2.resize(image, size, interpolation=look_up).astype(np.float32) * gain + offset
        yield np.clip(np.rint(lit + grain[y : y + size[1], x : x + size[0]]), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Order:
    """Shards as a worker is to make them."""

    seed: int
    data: Path
    split: str
    face_model: Path
    folder: Path
    clean: bool


def _make_shard(job: tuple[int, Order]) -> None:
    number, o = job
    torch.set_num_threads(1)
    spec, found, landmarker = ModelSpec(), takes(o.data, o.split, o.face_model), kept_landmarker(o.face_model)
    made = [make_sequence(number * SHARD + i, o.seed, found, landmarker, spec, o.clean) for i in range(SHARD)]
    store(o.folder, number, made, spec)


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.film.footage`: makes the missing shards."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.film.footage", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds video/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "tune"), default="train")
    parser.add_argument("--sequences", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clean", action="store_true", help="nothing is injected: for clips that are mixed by region")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    options = parser.parse_args(arguments)
    seed = options.seed + {"train": 5, "tune": 1_000_005}[options.split]
    try:
        face_model = locate(options.face_model)
        files_of(options.data, options.split)  # refuse before any worker starts
        prepare(options.out, ModelSpec())
        order = Order(seed, options.data, options.split, face_model, options.out, options.clean)
        make_missing(_make_shard, order, options.out, options.sequences, options.workers, "sequences of real video")
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
