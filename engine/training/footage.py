"""Real video in the pool: what real people's faces do, as the live path's own aligner leaves it, with injected
micro-expressions of known truth.

    python -m engine.training.footage --data DIR --out DIR --split train --sequences 800 --workers 2

A clip of video is read by `stream.sources`, followed and cropped by `stream.face`, put on the grid by the live ring; an
actor built from its own frame gives the displacement fields that are injected. What the people do of themselves is not
annotated: apart from speech, such sequences only teach what is *not* a micro-expression (`UNKNOWN` in the loss).

People are kept apart by `PEOPLE`, before anything else.
"""

import argparse
import multiprocessing
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.actors import Actor, build_actor
from engine.training.pool import LENGTH, SHARD, Sequence, prepare, through_stem, truth_rows, write_shard
from engine.training.render import fields_of, on_grid
from engine.training.script import Label, Script, add_micro, draw_camera
from engine.training.warps import EXTENT_PX
from stream.errors import UserError
from stream.face import Faces
from stream.face_model import locate
from stream.landmarks import Landmarker
from stream.sources import open_source
from stream.types import FaceCrop, Frame

PEOPLE = {
    "grid/bbaf2n.mpg": "train", "grid/lbax4n.mpg": "train", "grid/lbbc2a.mpg": "train", "grid/swiz3n.mpg": "train",
    "grid/sbwe5n.mpg": "tune", "grid/id2_swwp2s.mpg": "test", "grid/lwbsza.mpg": "test",
    # asl: four people, one of them in five clips, one in four, one in two
    "asl/again.mkv": "train", "asl/help.mkv": "train", "asl/no.mkv": "train", "asl/student.mkv": "train",
    "asl/yes.mkv": "train", "asl/book.mkv": "train", "asl/learn.mkv": "train", "asl/school.mkv": "train",
    "asl/walk.mkv": "train",
    "asl/eat.mkv": "tune", "asl/night.mkv": "tune", "asl/sorry.mkv": "test",
    "pexels_wolfganglanger.mp4": "test", "single_face.mp4": "test",
}  # fmt: skip
"""Split of every person on video, by file."""
SPEAKING = "grid/"

SHORTEST = 24  # grid frames: less of a face than this is left out


@dataclass(frozen=True, slots=True)
class Take:
    """One stretch of one face: crops uint8[n, S, S] on the grid, and an actor made of its first frame."""

    name: str
    crops: NDArray[np.uint8]
    actor: Actor


def takes_of(path: Path, name: str, landmarker: Landmarker, spec: ModelSpec) -> list[Take]:
    """Follow the first face of a video through the live path; a new take after every gap."""
    source, faces = open_source(str(path), paced=False), Faces(landmarker, max_faces=1)
    takes: list[Take] = []
    crops: list[FaceCrop] = []
    first: Frame | None = None

    def finish() -> None:
        if first is not None and len(crops) >= SHORTEST:
            points = landmarker.find(first.image)
            if points:
                begin = crops[0].time_s
                time_s = np.array([c.time_s - begin for c in crops])
                count = int(time_s[-1] * spec.fps) + 1
                grid = on_grid(np.stack([c.image for c in crops]), time_s, spec.fps, count)
                takes.append(Take(name, grid, build_actor(first.image, points[0], f"video:{name}", name)))
        crops.clear()

    while (item := source.read()) is not None:
        found = faces.update(item) if isinstance(item, Frame) else faces.gap(item.time_s, item.reason)
        for one in found:
            if isinstance(one, FaceCrop):
                if not crops:
                    first = item if isinstance(item, Frame) else None
                crops.append(one)
            else:
                finish()
    finish()
    source.close()
    return takes


@cache
def takes(data: Path, split: str, face_model: Path) -> list[Take]:
    """Every take of the split's people."""
    landmarker, spec = Landmarker(face_model), ModelSpec()
    found: list[Take] = []
    for name, theirs in PEOPLE.items():
        if theirs == split and (data / "video" / name).is_file():
            found += takes_of(data / "video" / name, name, landmarker, spec)
    if not found:
        raise UserError(f"--data {data}: no face in video/ of the {split} split", 2)
    return found


def make_sequence(index: int, seed: int, found: list[Take], spec: ModelSpec) -> Sequence:
    """A stretch of a take, held still before and after where it is short, at another speed, relit, with 0 to 2 MEs.

    Held, not played to and fro: a movement that turns round looks just like a micro-expression.
    """
    rng = np.random.default_rng([seed, index])
    lengths = np.array([len(t.crops) for t in found], float)
    take = found[int(rng.choice(len(found), p=lengths / lengths.sum()))]
    frames = LENGTH + max(spec.lags)
    speed = float(rng.choice([1.0, rng.uniform(0.7, 1.3)]))
    spare = frames - len(take.crops) / speed
    begin = rng.uniform(min(0.0, spare), max(0.0, spare))
    at = ((np.arange(frames) - begin) * speed).clip(0, len(take.crops) - 1)
    if rng.random() < 0.3:  # backwards: what rises fast elsewhere falls fast here
        at = len(take.crops) - 1 - at
    low = np.floor(at).astype(int).clip(0, len(take.crops) - 2)
    share = (at - low)[:, None, None].astype(np.float32)
    crops = take.crops[low] * (1 - share) + take.crops[low + 1] * share

    duration_s = frames / spec.fps
    time_s = np.arange(frames) / spec.fps
    script = Script(
        time_s, draw_camera(rng), pose=np.zeros((frames, 4), np.float32), light=np.ones((frames, 4), np.float32)
    )
    ends = -9.0
    for onset in np.sort(rng.uniform(-0.2, duration_s - 0.15, rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2]))):
        if onset > ends + 0.15:
            label = add_micro(script, rng, float(onset), float(np.exp(rng.uniform(np.log(0.8), np.log(6)))))
            script.labels.append(label)
            ends = label.offset_s
    fields, _ = fields_of(script, take.actor, rng, "cpu")
    crops = inject(crops.astype(np.float32), fields)
    if rng.random() < 0.5:
        crops = crops * rng.uniform(0.7, 1.2) + rng.uniform(-15, 15)
    if rng.random() < 0.8:
        crops = crops + rng.normal(0, rng.uniform(0.3, 2.5), crops.shape).astype(np.float32)
    if take.name.startswith(SPEAKING):
        script.labels.append(Label("speech", 0, duration_s / 2, duration_s))
    else:
        script.labels.append(Label("unknown", 0, 0, 0))
    return Sequence(crops.round().clip(0, 255).astype(np.uint8), script.labels)


def inject(crops: NDArray[np.float32], fields: torch.Tensor) -> NDArray[np.float32]:
    """Warp crops [F, S, S] by fields [F, 2, M, M] over the extent (crop px, backward); the unmoved stay as they are."""
    frames, size = len(crops), crops.shape[1]
    inner = torch.as_tensor([[size / EXTENT_PX, 0, 0], [0, size / EXTENT_PX, 0]]).expand(frames, -1, -1)
    moved = F.grid_sample(
        fields, F.affine_grid(inner, [frames, 2, size, size], align_corners=False), align_corners=False
    ).numpy()
    y, x = np.mgrid[:size, :size].astype(np.float32)
    still = np.abs(moved).max(axis=(1, 2, 3)) == 0
    return np.stack([
        c if s else cv2.remap(c, x + m[0], y + m[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for c, m, s in zip(crops, moved, still, strict=True)
    ])  # fmt: skip


def make_shard(job: tuple[int, int, Path, str, Path, Path]) -> None:
    """One shard of the pool."""
    number, seed, data, split, face_model, folder = job
    torch.set_num_threads(1)
    spec, found = ModelSpec(), takes(data, split, face_model)
    stem = MotionStem(spec)
    made = [make_sequence(number * SHARD + i, seed, found, spec) for i in range(SHARD)]
    write_shard(
        folder, number, [through_stem(stem, m.crops, spec) for m in made], [truth_rows(m.labels, spec) for m in made]
    )


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.footage`: make the shards that are not there yet."""
    from rich.progress import track

    parser = argparse.ArgumentParser(prog="python -m engine.training.footage", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds video/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "tune"), default="train")
    parser.add_argument("--sequences", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--face-model", type=Path, help="face_landmarker.task, if it is not to be fetched")
    options = parser.parse_args(arguments)
    try:
        face_model = locate(options.face_model)
        takes(options.data, options.split, face_model)  # refuse before any worker starts
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    prepare(options.out, ModelSpec())
    seed = options.seed + {"train": 5, "tune": 1_000_005}[options.split]
    numbers = range((options.sequences + SHARD - 1) // SHARD)
    jobs = [
        (n, seed, options.data, options.split, face_model, options.out)
        for n in numbers
        if not (options.out / f"{n:06d}.npy").exists()
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers) as workers:
        for _ in track(workers.imap_unordered(make_shard, jobs), "sequences of real video", total=len(jobs)):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
