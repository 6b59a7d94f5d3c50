"""The films of a bench (`engine.bench_data`) with tag `codec` = `none`, remade in one way per row, then spotted in.

Every row has the same MEs, through the live path at the operating point, so rows are paired.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engine.datasets.truth import TruthVideo, load_truth
from engine.evaluation.events import judged
from engine.evaluation.live import record_file
from engine.evaluation.matching import VideoResult
from engine.evaluation.metrics import count, count_asked, from_size
from engine.model import load_model
from engine.training.film.encode import FINE, Encoder, write_video
from engine.training.film.injection import read_frames
from stream.config import Config
from stream.decide.policy import policy_of
from stream.errors import UserError
from stream.types import Frame

LARGE_PX = 1.5


def as_it_is(f: Frame) -> NDArray[np.uint8]:
    """A frame's own picture."""
    return f.image


@dataclass(frozen=True, slots=True)
class Change:
    """`picture` changes a frame's uint8[H, W, 3]. `fps`: only the first frame of every 1 / fps s is kept."""

    picture: Callable[[Frame], NDArray[np.uint8]] = as_it_is
    fps: float | None = None
    encoder: Encoder = FINE


def add_films_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bench", type=Path, required=True, help="what engine.bench_data made")
    parser.add_argument("--split", choices=("tune", "test"), help="of the bench; default: both")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_films_arguments(parser)
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")


def without_codec(bench: Path, split: str | None) -> list[TruthVideo]:
    """The films of a bench (or of one split) whose camera had no codec. Raises UserError if there are none."""
    films = [v for v in load_truth(bench / "truth.json") if v.tags.get("codec") == "none"]
    films = [v for v in films if split in (None, v.split)]
    if not films:
        raise UserError(f"--bench {bench}: no film without a codec in it; build a larger one")
    return films


def judge(args: argparse.Namespace, column: str, changes: Mapping[str, Change | None]) -> dict[str, Any]:
    """Makes one row per change, with its name under `column`. None is the bench's own file. Prints the conditions."""
    config = Config(offline=True, model=args.model, max_faces=1)
    tracker = policy_of(config, load_model(args.model), "").tracker
    films = without_codec(args.bench, args.split)
    results: dict[str, list[VideoResult]] = {name: [] for name in changes}
    bits = dict.fromkeys(changes, 0)
    with tempfile.TemporaryDirectory() as folder:
        for film in track(films, "films"):
            for name, path in versions(args.bench / film.file, changes, Path(folder)):
                bits[name] += path.stat().st_size * 8
                emitted = record_file(path, config).replay(tracker, baselines=True)
                results[name].append(judged(film, emitted).result)
    seconds = sum(film.duration_s for film in films)
    rows = [{column: name, "kbit_s": round(bits[name] / seconds / 1000), **_row(results[name])} for name in changes]
    print(f"{len(films)} films, {seconds / 60:.1f} min, threshold {tracker.threshold:.4f}")
    return {"films": len(films), "minutes": seconds / 60, "threshold": tracker.threshold, "rows": rows}


def versions(film: Path, changes: Mapping[str, Change | None], folder: Path) -> Iterator[tuple[str, Path]]:
    """A film after each change, by name. Each file exists until the next is requested. None gives the film itself."""
    frames = list(read_frames(str(film)))
    for name, change in changes.items():
        yield name, film if change is None else remade(change, frames, folder)


def remade(change: Change, frames: list[Frame], folder: Path) -> Path:
    """Writes a film's frames after a change to a file in `folder`."""
    path = folder / f"film{change.encoder.ending}"
    kept = frames if change.fps is None else _first_of_each(frames, change.fps)
    write_video(path, (change.picture(f) for f in kept), np.array([f.time_s for f in kept]), change.encoder)
    return path


def _first_of_each(frames: list[Frame], fps: float) -> list[Frame]:
    ticks = [int(f.time_s * fps) for f in frames]
    return [f for f, tick, before in zip(frames, ticks, [-1, *ticks], strict=False) if tick != before]


def told(row: dict[str, Any]) -> str:
    """What was found, in words."""
    return (
        "found {found} of {mes}, from 1.5 px {large_found} of {large} | false alarms {false_alarms} | F1 {f1:.3f}"
    ).format(**row)


def _row(results: list[VideoResult]) -> dict[str, Any]:
    whole, large = count(results), count_asked(results, from_size(LARGE_PX))
    return {
        "found": whole.tp,
        "mes": whole.tp + whole.fn,
        "large_found": large.tp,
        "large": large.tp + large.fn,
        "false_alarms": whole.fp,
        "f1": round(whole.f1, 3),
    }
