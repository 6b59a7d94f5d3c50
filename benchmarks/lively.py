"""The effect of a person's baseline on faces that never rest: false alarms and recall with and without it.

Films of tuning people, half a minute each, run through the live path at the operating point. Every third film shows a
calm person, the others show lively ones (`engine.training.generator.scenes.enliven`).
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.progress import track

from calibration.threshold import is_alarm
from engine.evaluation.events import judged
from engine.evaluation.live import record_file
from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.evaluation.metrics import pairs
from engine.model import load_model
from engine.training.film.aligned import PICTURE_PX
from engine.training.film.encode import write_film
from engine.training.film.film import Film, draw_setting, portrait_of
from engine.training.film.truth import truth_of
from engine.training.generator.actors import actors_of, kept_actor
from engine.training.generator.scenes import draw_script, enliven
from stream.config import Config
from stream.decide.baseline import CALIBRATING_S
from stream.decide.policy import policy_of

SEED = 4242
DURATION_S = 32.0
MES = 8
"""Requested per film. One that would meet another is left out."""


class Job(NamedTuple):
    """Film `number`, its sources, and the weights that judge it."""

    number: int
    actors: list[Path]
    data: Path
    model: Path | None


class Seen(NamedTuple):
    """The detections in one film, without a baseline and with one."""

    lively: bool
    without: VideoResult
    with_: VideoResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that holds portraits/")
    parser.add_argument(
        "--actors", type=Path, required=True, help="folder that python -m engine.training.generator.actors wrote"
    )
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2)


def run(args: argparse.Namespace) -> dict[str, Any]:
    actors = actors_of(args.actors, "tune")
    jobs = [Job(number, actors, args.data, args.model) for number in range(args.films)]
    with multiprocessing.get_context("spawn").Pool(args.workers) as workers:
        films = list(track(workers.imap(seen, jobs), "films", total=len(jobs)))
    rows = []
    for name, lively in (("calm", False), ("lively", True)):
        some = [f for f in films if f.lively == lively]
        for since, after_s in (("from the first second", 0.0), (f"after {CALIBRATING_S:g} s", CALIBRATING_S)):
            rows.append({"faces": name, "since": since, **row(some, after_s)})
    for each in rows:
        print("{faces:6} {since:21} {minutes:5.1f} min | found {found_without} -> {found_with} of {mes} | false alarms "
              "{false_alarms_without} -> {false_alarms_with}".format(**each))  # fmt: skip
    return {"films": len(films), "rows": rows}


def seen(job: Job) -> Seen:
    """Makes a film and runs it through the live path."""
    cv2.setNumThreads(1)
    config = Config(offline=True, model=job.model, max_faces=1)
    tracker = policy_of(config, load_model(job.model), "").tracker
    rng = np.random.default_rng([SEED, job.number])
    actor, lively = kept_actor(job.actors[job.number % len(job.actors)]), job.number % 3 > 0
    script = draw_script(rng, DURATION_S, micros=MES)
    if lively:
        enliven(script, rng)
    film = Film(script, actor, portrait_of(actor, job.data), draw_setting(rng, *PICTURE_PX), rng)
    with tempfile.TemporaryDirectory() as folder:
        path = write_film(Path(folder) / "film", film, script.time_s, script.camera)
        recording = record_file(path, config)
    truth = truth_of(script, path.name, actor.identity, "tune", {})
    return Seen(lively, *(judged(truth, recording.replay(tracker, baselines=b)).result for b in (False, True)))


def row(films: Sequence[Seen], after_s: float) -> dict[str, Any]:
    """Of what begins `after_s` or later."""
    figures: dict[str, Any] = {"minutes": round(sum(f.without.duration_s - after_s for f in films) / 60, 2)}
    figures["mes"] = sum(_late(t, f.without, after_s) for f in films for t in f.without.truths)
    for which, videos in (("without", [f.without for f in films]), ("with", [f.with_ for f in films])):
        told = [(v, d, truth) for v in videos for d, truth in pairs(v, 0.0)]
        figures[f"found_{which}"] = sum(truth is not None and _late(truth, v, after_s) for v, _, truth in told)
        figures[f"false_alarms_{which}"] = sum(is_alarm(d, v) and _late(d, v, after_s) for v, d, _ in told)
    return figures


def _late(one: Truth | Detection, video: VideoResult, after_s: float) -> bool:
    return one.onset >= round(after_s * video.fps)
