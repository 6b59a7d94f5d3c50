"""The parts of `engine.bench_data`'s bench: video files with known micro-expressions.

The tag `part` names the part. `portraits`: films of people in neither training nor tuning (`actors.split_of`), with MEs
of 0.5 to 5 px among all other movements. `nuisance`: ME-free films of a single disturbance (tag `nuisance`). `mixed`:
ME-free films of all disturbances. `talk`: films driven by recorded facial motion (`generator.mocap`), half of them with
MEs. `video`: real video of unseen people (`film.people`) with injected MEs. `untouched`: the same video, only encoded
again. Every ME has its visibility (`film.visibility`). The tag `way` says how its MEs were made (`injection.WAYS`). See
docs/bench.md.
"""

import csv
import json
import multiprocessing
import sys
import zlib
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.datasets.truth import TruthVideo, save_truth
from engine.spec import ModelSpec
from engine.training.film.encode import write_film
from engine.training.film.film import Film, Injection, draw_setting, portrait_of
from engine.training.film.injection import WAYS, follow, injected, movement, read_frames
from engine.training.film.people import BY_HAND, THE_SAME, files_of, person_of
from engine.training.film.truth import truth_of
from engine.training.film.visibility import clean_crops, visibilities
from engine.training.generator.actors import build_actor, build_all, kept_actor, portraits, split_of
from engine.training.generator.camera import Camera
from engine.training.generator.mocap import recorded_script
from engine.training.generator.nuisances import NUISANCES, lone_nuisance
from engine.training.generator.scenes import draw_script
from engine.training.generator.script import Label, Script, still_script
from stream.errors import UserError
from stream.faces.align import face_width_px
from stream.faces.landmarks import Landmarker

VERSION = 3
DRAWS = 1
"""Part of every seed. Versions 2 and 3 draw the same as version 1. Version 3 has more parts and people."""
SIZES_PX = (0.5, 0.8, 1.1, 1.5, 2.0, 3.0, 5.0)
FILM_S, ALONE_S, MIXED_S, SHORTEST_S = 12.0, 25.0, 45.0, 6.0
ONSETS_S = ((2.0, 3.6), (5.4, 6.9), (8.8, 10.4))
"""Times at which a film's MEs begin. They are far from the film's ends and from each other, so any rule can separate
them."""
MINUTES = 24.0
COUNTS = {
    "test": {"portraits": 36, "nuisance": 2, "mixed": 4, "talk": 16, "video": 4},
    "tune": {"portraits": 16, "nuisance": 1, "mixed": 2, "talk": 16, "video": 4},
}
"""Numbers at MINUTES: films; films per nuisance; films; films; versions of every video, half of them per way. People
with many videos get fewer versions."""
WIDTHS_PX = (80, 120)
"""Limits between the values of the tag `face`. The model card requires 120 px."""
REST_S = 0.7
"""The least time between two MEs in real video."""


@dataclass(frozen=True, slots=True)
class Job:
    """One video to make. `subject` is an actor's file or a video of a person. `what` is the nuisance or way, by the
    part.

    `duration_s` is the length of a film. A real video keeps its own length.
    """

    part: str
    split: str
    number: int
    subject: str
    what: str = ""
    duration_s: float = FILM_S

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        subject = Path(self.subject).stem
        return "_".join(filter(None, (self.split, self.part, self.what, subject, f"{self.number:02d}")))


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of the data, the bench and the actors, and the landmark networks."""

    data: Path
    out: Path
    actors: Path
    face_model: Path


def plan(split: str, actors: list[str], videos: list[str], minutes: float) -> list[Job]:
    """Every video of a split. `actors` are files of the people's pictures, `videos` are real ones, both of this
    split."""
    share = minutes / MINUTES
    counts = {part: max(1, round(n * share)) for part, n in COUNTS[split].items()}
    # A film is shorter when it would exceed its share.
    alone_s, mixed_s = (
        max(SHORTEST_S, length_s * min(1.0, COUNTS[split][part] * share))
        for part, length_s in (("nuisance", ALONE_S), ("mixed", MIXED_S))
    )
    shuffled = np.random.default_rng(DRAWS).permutation(actors).tolist()

    def person(k: int) -> str:
        return str(shuffled[k % len(shuffled)])

    jobs = [Job("portraits", split, k, person(k), WAYS[k % 2]) for k in range(counts["portraits"])]
    for i, nuisance in enumerate(NUISANCES):
        jobs += [Job("nuisance", split, k, person(7 * i + k), nuisance, alone_s) for k in range(counts["nuisance"])]
    jobs += [Job("mixed", split, k, person(3 + 5 * k), "", mixed_s) for k in range(counts["mixed"])]
    jobs += [Job("talk", split, k, person(11 + 3 * k), ("", *WAYS)[k % 4 % 3]) for k in range(counts["talk"])]
    people = [person_of(video) for video in videos]
    for i, (video, who) in enumerate(zip(videos, people, strict=True)):
        versions = max(1, counts["video"] // people.count(who))
        jobs += [Job("video", split, k, video, WAYS[(i + k) % 2]) for k in range(versions)]
        jobs.append(Job("untouched", split, 0, video))
    return jobs


def make(job: Job, folders: Folders, seed: int) -> TruthVideo | None:
    """Writes one video and returns its truth. Returns None when its face can't be found."""
    rng = np.random.default_rng([DRAWS, seed, zlib.crc32(job.name.encode())])
    if job.part in ("video", "untouched"):
        return _real(job, folders, rng)
    if not (folders.actors / job.subject).is_file():
        return None
    actor = kept_actor(folders.actors / job.subject)
    made: list[tuple[Injection, Label]] = []
    tags: dict[str, str] = {}
    if job.part == "nuisance":
        script, tags = lone_nuisance(rng, job.what, job.duration_s), {"nuisance": job.what}
    elif job.part == "mixed":
        script = _without_pause(rng, job.duration_s)
    elif job.part == "talk":
        script = recorded_script(rng, job.duration_s, folders.data / "mocap", job.split)
    else:
        script = draw_script(rng, job.duration_s, micros=0)
    if job.what in WAYS:
        tags["way"] = job.what
        sizes = np.roll(SIZES_PX, -3 * job.number)[: len(ONSETS_S)]
        made = [
            movement(job.what, script, actor, rng, float(rng.uniform(*span)), float(size))
            for span, size in zip(ONSETS_S, sizes, strict=True)
        ]
        script.labels += [label for _, label in made]
        _uncover(script)
    setting, portrait = draw_setting(rng), portrait_of(actor, folders.data)
    if made:
        clean = Film(script, actor, portrait, setting, deepcopy(rng))
        _tell_visibility(script, made, clean_crops(clean, clean.crop_matrices()), actor.crop_px(1.0))
    film = Film(script, actor, portrait, setting, rng, [injection for injection, _ in made])
    file = write_film(folders.out / job.name, film, script.time_s, script.camera).name
    tags |= {"part": job.part, "codec": script.camera.codec, "fps": f"{script.camera.fps:g}"}
    tags["face"] = _width(setting.face_px)
    return truth_of(script, file, actor.identity, job.split, tags | _person(actor.identity, folders.data))


def _real(job: Job, folders: Folders, rng: np.random.Generator) -> TruthVideo | None:
    path, landmarker = folders.data / "video" / job.subject, _landmarker(folders.face_model)
    take = follow(str(path), landmarker)
    if take is None:
        return None
    subject = f"video:{person_of(job.subject)}"
    actor = build_actor(take.first, take.points, subject, job.subject)
    fps = (len(take.time_s) - 1) / float(take.time_s[-1] - take.time_s[0])
    finest, coarsest = (18, 25) if job.subject in (*BY_HAND, *THE_SAME) else (20, 31)
    camera = Camera(fps, 0, 1, 0, 0, "h264", int(rng.integers(finest, coarsest)), 0, 0)
    script = still_script(take.time_s, camera)
    made: list[tuple[Injection, Label]] = []
    at = float(take.time_s[0] + rng.uniform(0.6, 1.0)) if job.part == "video" else np.inf
    while at + 0.9 < take.time_s[-1]:
        injection, label = movement(job.what, script, actor, rng, at, float(rng.choice(SIZES_PX[1:])))
        if take.seen(label.onset_s - 0.2, label.offset_s + 0.2):
            made.append((injection, label))
            script.labels.append(label)
            at = label.offset_s + REST_S + float(rng.exponential(0.8))
        else:
            at += 0.3
    if made:
        crops = clean_crops((frame.image for frame in read_frames(str(path))), take.matrices)
        _tell_visibility(script, made, crops, actor.crop_px(1.0))
    frames = injected(str(path), take, [injection for injection, _ in made], actor.crop_px)
    file = write_film(folders.out / job.name, frames, take.time_s, camera).name
    tags = {"part": job.part, "fps": f"{fps:.3g}", "face": _width(face_width_px(take.points))}
    if job.what:
        tags["way"] = job.what
    return truth_of(script, file, subject, job.split, tags)


def _tell_visibility(
    script: Script, made: list[tuple[Injection, Label]], crops: NDArray[np.uint8], crop_px: float
) -> None:
    """Adds to the labels of injected movements their visibility against the motion in `crops`, which lack the
    injections."""
    movements = [(injection, label.apex_s) for injection, label in made]
    for (_, label), seen in zip(made, visibilities(crops, script.time_s, movements, crop_px, ModelSpec()), strict=True):
        script.labels[script.labels.index(label)] = replace(label, visibility=seen)


def _width(face_px: float) -> str:
    """Width of a face in the picture, cheek to cheek, as a tag."""
    return next((f"below {px} px" for px in WIDTHS_PX if face_px < px), f"from {WIDTHS_PX[-1]} px")


def _without_pause(rng: np.random.Generator, duration_s: float) -> Script:
    """A long script with everything except MEs: the first draw in which people neither sit still nor stay silent."""
    while True:
        script = draw_script(rng, duration_s, micros=0)
        if {"blink", "macro", "speech"} <= {label.kind for label in script.labels}:
            return script


def _uncover(script: Script) -> None:
    """Keeps the face uncovered during an ME, since nobody could see a covered one."""
    if script.occluder is not None:
        begin, end = script.occluder
        if any(a.kind == "micro" and a.onset_s < end + 0.2 and a.offset_s > begin - 0.2 for a in script.labels):
            script.occluder = None


def _person(identity: str, data: Path) -> dict[str, str]:
    """Sex, ethnicity (both self-reported) and age group of a London portrait."""
    table = data / "portraits" / "london" / "info.csv"
    number = identity.partition(":")[2]
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["face_id"] == number:
                age = row["face_age"]
                group = "unknown" if not age.replace(".", "").isdigit() else "under 30" if float(age) < 30 else "30 up"
                return {"sex": row["face_gender"], "ethnicity": row["face_eth"], "age": group}
    return {}


@cache
def _landmarker(face_model: Path) -> Landmarker:
    return Landmarker(face_model)


def _made(work: tuple[Job, Folders, int]) -> tuple[Job, TruthVideo | None]:
    import torch

    torch.set_num_threads(1)
    return work[0], make(*work)


def people(data: Path, split: str) -> dict[str, tuple[str, Path]]:
    """The split's pictures by their actors' files: identity and picture. Raises UserError if there are none."""
    mine = [(identity, path) for identity, path in portraits(data) if split_of(identity) == split]
    if not mine:
        raise UserError(f"--data {data}: no portrait of the {split} split in portraits/london", 2)
    return {f"{identity.partition(':')[0]}_{path.stem}.npz": (identity, path) for identity, path in mine}


def build(folders: Folders, splits: tuple[str, ...], minutes: float, seed: int, workers: int) -> list[TruthVideo]:
    """Builds the whole bench with its truth.json and bench.json. Raises UserError."""
    from rich.progress import track

    folders.out.mkdir(parents=True, exist_ok=True)
    folders.actors.mkdir(parents=True, exist_ok=True)
    who = {split: people(folders.data, split) for split in splits}
    jobs = [j for split in splits for j in plan(split, list(who[split]), files_of(folders.data, split), minutes)]
    needed = sorted({(job.split, job.subject) for job in jobs if job.subject in who[job.split]})
    missing = [who[split][file] for split, file in needed if not (folders.actors / file).is_file()]
    build_all(track(missing, "actors"), folders.data, folders.actors, folders.face_model)
    work = [(job, folders, seed) for job in jobs]
    (folders.out / "bench.json").unlink(missing_ok=True)  # written last: without it the bench is incomplete
    videos: list[TruthVideo] = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for job, truth in track(pool.imap(_made, work), "videos", total=len(work)):
            if truth is None:
                print(f"{job.subject}: no face found, left out", file=sys.stderr)
            else:
                videos.append(truth)
                save_truth(folders.out / "truth.json", videos)
    about = {"bench": VERSION, "seed": seed, "minutes": minutes, "parts": parts(videos)}
    (folders.out / "bench.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return videos


def parts(videos: list[TruthVideo]) -> dict[str, dict[str, float]]:
    """The amount of videos, minutes and MEs per split and part."""
    out: dict[str, dict[str, float]] = {}
    for v in videos:
        row = out.setdefault(f"{v.split} {v.tags['part']}", {"videos": 0, "minutes": 0.0, "mes": 0})
        row["videos"] += 1
        row["minutes"] = round(row["minutes"] + v.duration_s / 60, 3)
        row["mes"] += sum(i.kind == "micro" for i in v.intervals)
    return out
