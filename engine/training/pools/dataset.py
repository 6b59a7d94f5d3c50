"""Turns a licensed data set into pools: frames through the live path's own aligner and grid, annotations as truth.

    python -m engine.training.pools.dataset --dataset samm-lv --root DIR --out DIR

Each person has one pool, `OUT/<subject>`. Every fold of a leave-one-subject-out run then takes the same pools but one.
Most sets don't annotate blinks, speech and head motion. Outside MEs, a sequence only teaches what is *not* an ME
(`UNKNOWN`).
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.datasets import LOADERS, DatasetError, Interval, Video
from engine.datasets.video import natural
from engine.spec import REGIONS, ModelSpec
from engine.training.generator.repertoire import UNIT_REGION
from engine.training.generator.script import Label
from engine.training.pools import pool
from engine.training.pools.pool import LENGTH, SHARD, prepare, store
from stream.errors import UserError
from stream.faces.finder import Faces
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate
from stream.faces.stage import FaceStage
from stream.types import Frame, Hop

FRAMES_FPS = 60.0
"""As in `engine.evaluate`, so that training and judging see frames aligned alike."""
TUNE_SHARE = 5
"""One in so many of the other people is held out to choose a fold's weights."""
APEX_SHARE = 0.43
"""Mean place of the apex between onset and offset in the published annotations. It replaces an unknown apex."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Crops uint8[n, S, S] of one face without a gap. The first crop is at grid index `first`."""

    first: int
    crops: NDArray[np.uint8]


def stretches(video: Video, landmarker: Landmarker, spec: ModelSpec) -> list[Stretch]:
    """The first face of a video through the live path, cut at every gap."""
    stage = FaceStage(Faces(landmarker, max_faces=1), spec, 1)
    found: list[tuple[int, list[NDArray[np.uint8]]]] = []
    for hop in _hops(stage, video):
        for face in hop.faces:
            if len(face.crops):
                first = face.newest - len(face.crops) + 1
                joined = found and found[-1][0] + sum(map(len, found[-1][1])) == first
                if not joined:
                    found.append((first, []))
                found[-1][1].append(face.crops)
    return [Stretch(first, np.concatenate(crops)) for first, crops in found]


def _hops(stage: FaceStage, video: Video) -> Iterator[Hop]:
    for number, time_s, image in video.read(FRAMES_FPS):
        yield from stage.step(Frame(number, time_s, image), captured_s=0.0)
    yield from stage.end(captured_s=0.0)


def windows(stretch: Stretch, labels: Sequence[Label], spec: ModelSpec) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(grid index of the first crop, crops uint8[history + LENGTH, S, S]). The windows cover the stretch, with one
    more around each ME."""
    size = max(spec.lags) + LENGTH
    last = len(stretch.crops) - size
    if last < 0:
        return
    starts = {*range(0, last, LENGTH), last}
    for label in labels:
        middle = round((label.onset_s + label.offset_s) / 2 * spec.fps) - stretch.first
        if label.kind == "micro" and 0 <= middle < len(stretch.crops):
            starts.add(min(max(middle - size // 2, 0), last))
    for start in sorted(starts):
        yield stretch.first + start, stretch.crops[start : start + size]


def label_of(interval: Interval, fps: float) -> Label:
    """An annotation as a label for training. Its size is unknown, so it has full weight."""
    onset_s, offset_s = interval.onset / fps, interval.offset / fps
    apex_s = onset_s + APEX_SHARE * (offset_s - onset_s) if interval.apex is None else interval.apex / fps
    return Label(interval.kind, onset_s, apex_s, offset_s, 1.5, region_shares(interval.action_units))


def region_shares(action_units: str) -> tuple[float, ...]:
    """Share per entry of REGIONS from the action units, such as `4(B/C)+7B` or `L12`. Without any, all are 0 (not
    required)."""
    found = [UNIT_REGION[u] for u in re.findall(r"\d+", action_units) if u in UNIT_REGION]
    return tuple(found.count(r) / len(found) if found else 0.0 for r in range(len(REGIONS)))


def make_pool(videos: Sequence[Video], folder: Path, landmarker: Landmarker, spec: ModelSpec) -> int:
    """Writes all sequences of one person's videos as shards in `folder`. Returns their number."""
    count, number = 0, 0
    made: list[pool.Sequence] = []
    prepare(folder, spec)
    for video in videos:
        labels = [label_of(i, video.fps) for i in video.intervals]
        for stretch in stretches(video, landmarker, spec):
            for first, crops in windows(stretch, labels, spec):
                begin_s = first / spec.fps
                shifted = [_shifted(label, begin_s) for label in labels]
                made.append(pool.Sequence(crops, [*shifted, Label("unknown", 0, 0, 0)]))
                count += 1
                if len(made) == SHARD:
                    store(folder, number, made, spec)
                    made, number = [], number + 1
    if made:
        store(folder, number, made, spec)
    (folder / "complete").touch()
    return count


def _shifted(label: Label, begin_s: float) -> Label:
    onset_s, apex_s, offset_s = label.onset_s - begin_s, label.apex_s - begin_s, label.offset_s - begin_s
    return replace(label, onset_s=onset_s, apex_s=apex_s, offset_s=offset_s)


def make_pools(videos: Sequence[Video], out: Path, face_model: Path | None) -> dict[str, Path]:
    """Makes the pools that are incomplete, one per person. Returns the folders of people with at least one sequence."""
    from rich.progress import track

    spec, landmarker = ModelSpec(), Landmarker(locate(face_model))
    people = sorted({v.subject for v in videos}, key=natural)
    for subject in track(people, "people of the data set"):
        if not (out / subject / "complete").is_file():
            make_pool([v for v in videos if v.subject == subject], out / subject, landmarker, spec)
    return {s: out / s for s in people if any((out / s).glob("??????.npy"))}


def split(subject: str, people: Sequence[str]) -> tuple[list[str], list[str]]:
    """(people to train on, people to tune on), both without `subject` (which may be empty).

    Raises UserError when there are too few people for both.
    """
    others = [s for s in people if s != subject]
    tune = others[TUNE_SHARE - 1 :: TUNE_SHARE] or others[-1:]
    train = [s for s in others if s not in tune]
    if not train:
        raise UserError(f"--train without {subject}: {len(others)} other people are too few; at least 2 are needed")
    return train, tune


def pools_of(
    dataset: str, root: Path, out: Path, leave_out: str, face_model: Path | None = None
) -> tuple[list[Path], list[Path]]:
    """Pools to train and to tune on: everybody in a data set except `leave_out` (empty: nobody).

    Raises UserError and DatasetError.
    """
    videos = LOADERS[dataset](root)
    if leave_out and leave_out not in {v.subject for v in videos}:
        people = ", ".join(sorted({v.subject for v in videos}, key=natural))
        raise UserError(f"--leave-out {leave_out}: no such person in {dataset}; there are {people}", 2)
    pools = make_pools(videos, out, face_model)
    train, tune = split(leave_out, list(pools))
    return [pools[s] for s in train], [pools[s] for s in tune]


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.pools.dataset`."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.pools.dataset", description=main.__doc__)
    parser.add_argument("--dataset", choices=tuple(LOADERS), required=True)
    parser.add_argument("--root", type=Path, required=True, help="where the data set lies")
    parser.add_argument("--out", type=Path, required=True, help="where the pools go, one folder per person")
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    options = parser.parse_args(arguments)
    try:
        pools = make_pools(LOADERS[options.dataset](options.root), options.out, options.face_model)
    except (UserError, DatasetError) as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    print(f"{len(pools)} people in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
