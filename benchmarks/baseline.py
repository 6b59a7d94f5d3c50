"""The effect of a face's baseline at one overall rate: false alarms and recall with and without it.

Figures are over people and cameras, on a pool of tuning people (`engine.training.pools.pool --split tune`). Each person
is judged by the law of all others. Sequences are too short for the live level, which takes a minute. So a level is the
median of the sequence's hops away from the detection. Each sequence's script is drawn again to find its camera.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.law import fit_law
from calibration.stretches import Stretch, from_pools
from calibration.threshold import alarms
from engine.evaluation.matching import VideoResult
from engine.evaluation.metrics import count
from engine.model import load_model
from engine.training.generator.actors import load_actor
from engine.training.generator.camera import Camera, draw_camera
from stream.decide.baseline import BaselineLaw
from stream.errors import UserError

TUNE_SEED = 1_000_003
"""`engine.training.pools.pool` adds this to the seed for tuning people."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A sequence and its camera. `without` and `with_` are its results, with scores relative to one threshold."""

    person: str
    camera: Camera
    without: VideoResult
    with_: VideoResult


CONDITIONS: dict[str, Callable[[Scene], bool]] = {
    "all": lambda s: True,
    "30 fps and more": lambda s: s.camera.fps > 27,
    "24 or 25 fps": lambda s: 22 < s.camera.fps <= 27,
    "15 or 20 fps": lambda s: s.camera.fps <= 22,
    "no codec": lambda s: s.camera.codec == "none",
    "weak compression": lambda s: s.camera.codec != "none" and not _strong(s.camera),
    "strong compression": lambda s: _strong(s.camera),
    "good light (noise < 2)": lambda s: s.camera.noise < 2,
    "dim light (noise >= 2)": lambda s: s.camera.noise >= 2,
}


def _strong(camera: Camera) -> bool:
    return (camera.codec == "mjpeg" and camera.quality < 70) or (camera.codec == "h264" and camera.quality > 25)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, required=True, help="pool of tuning people, made with seed 0")
    parser.add_argument("--actors", type=Path, required=True, help="the actors that it was made of")
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")
    parser.add_argument("--per-hour", type=float, default=60.0, help="overall false alarms per hour (default 60)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    scenes = _scenes(from_pools([args.pool], load_model(args.model)), args.actors)
    chosen = {}
    for way in ("without", "with_"):
        found = alarms([getattr(s, way) for s in scenes])
        try:
            chosen[way] = found.at_rate(args.per_hour).threshold
        except ValueError as error:
            raise UserError(f"--per-hour {args.per_hour:g}: {error}") from None
    people = sorted({s.person for s in scenes})
    groups = {**CONDITIONS, **{f"person {k + 1}": _is(name) for k, name in enumerate(people)}}
    rows = [_row(name, [s for s in scenes if test(s)], chosen) for name, test in groups.items()]
    for row in rows:
        print("{name:24} {minutes:5.1f} min {mes:4d} MEs | false alarms/h {fa_without:6.1f} -> {fa_with:6.1f} | recall "
              "{recall_without:.3f} -> {recall_with:.3f}".format(**row))  # fmt: skip
    spread = {
        way: _spread([r[f"fa_{way}"] for r in rows if r["name"].startswith("person")]) for way in ("without", "with")
    }
    print("false alarms per hour, standard deviation over people: {without} -> {with}".format(**spread))
    return {"rows": rows, "spread_over_people_per_hour": spread, "thresholds": chosen}


def _is(person: str) -> Callable[[Scene], bool]:
    return lambda s: s.person == person


def _scenes(stretches: Sequence[Stretch], folder: Path) -> list[Scene]:
    actors = [(p, load_actor(p)) for p in sorted(folder.glob("*.npz"))]
    tuning = [actor.identity for _, actor in actors if actor.split == "tune"]
    if not tuning:
        raise UserError(
            f"--actors {folder}: no actor of the tune split; python -m engine.training.generator.actors makes them"
        )
    drawn = []
    for index, stretch in enumerate(stretches):
        rng = np.random.default_rng([TUNE_SEED, index])
        person = tuning[int(rng.integers(len(tuning)))]
        drawn.append((person, draw_camera(rng), replace(stretch, result=replace(stretch.result, subject=person))))
    laws = {p: fit_law([s for q, _, s in drawn if q != p])[0] for p in {p for p, *_ in drawn}}
    return [Scene(p, camera, s.under(BaselineLaw()), s.under(laws[p])) for p, camera, s in drawn]


def _row(name: str, scenes: Sequence[Scene], chosen: dict[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "mes": sum(len(s.without.truths) for s in scenes)}
    row["minutes"] = round(sum(s.without.duration_s for s in scenes) / 60, 2)
    for way, name in (("without", "without"), ("with_", "with")):
        videos = [getattr(s, way) for s in scenes]
        found = alarms(videos)
        row[f"fa_{name}"] = round(found.point(chosen[way]).false_alarms_per_hour, 1) if found.hours else 0.0
        row[f"recall_{name}"] = round(count(videos, chosen[way]).recall, 3)
    return row


def _spread(rates: Sequence[float]) -> float:
    return round(float(np.std(rates)), 1) if rates else 0.0
