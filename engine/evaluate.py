"""Judge the spotter: `mestream evaluate`. It takes one of three inputs and writes one report.

    --truth truth.json --events DIR          events that `mestream --offline --events` wrote
    --bench DIR                              a folder of videos with truth.json, run through the live path
    --dataset samm-lv --root DIR             a licensed data set, run through the live path, leave-one-subject-out

The report is `report.md`, `report.html` and `evaluation.json` in --out.
"""

import argparse
import multiprocessing
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import track

from engine.datasets import LOADERS, PUBLISHED, DatasetError, Video, loso
from engine.datasets.truth import TruthInterval, TruthVideo, load_truth
from engine.errors import EngineError
from engine.evaluation import live
from engine.evaluation.events import Judged, events_of, judged
from engine.evaluation.figures import Decided, at_threshold, figures
from engine.evaluation.protocol import PROTOCOLS, At, decide
from engine.evaluation.report import headline, write_report
from engine.extras import pip_install, require
from engine.model import DEFAULT_DIRECTORY, load_model
from engine.paths import Named, clash, model_files
from stream.config import Config
from stream.decide.policy import policy_of
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError

FLOOR = TrackerConfig().floor_score
"""The lowest threshold of a sweep. A higher threshold only filters the same decisions (`stream.decide.tracker`)."""
FRAMES_FPS = 60.0
"""Image folders are thinned to this rate before the live path resamples them to the model's time grid."""


@dataclass(frozen=True, slots=True)
class Task:
    """One video to run through the live path with one set of weights."""

    name: str
    run: Callable[[], live.Recording]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Exit code: 0 done, 1 failed, 2 wrong usage. Errors are one line on stderr."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parse(given)
        require("train", "the report", "matplotlib")  # check now rather than after hours of video
        command = shlex.join(["mestream", "evaluate", *given])
        evaluate(options, command)
    except (UserError, DatasetError, EngineError) as error:
        print(f"evaluate: {' '.join(str(error).split())}", file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 1
    return 0


def evaluate(options: argparse.Namespace, command: str) -> None:
    """Gathers truth and events, chooses thresholds and writes the report."""
    if why := clash(_writes(options.out), _reads(options)):
        raise UserError(why, 2)
    if options.truth:
        videos, at, title = _from_events(options)
    elif options.bench:
        videos, at, title = _from_bench(options)
    else:
        videos, at, title = _from_dataset(options)
    protocol = _protocol(options, videos)
    decided = decide(videos, protocol, _threshold(options), FLOOR, at)
    if not decided.final:
        raise UserError('no video is to be judged: truth.json has none of split "test"')
    if options.only:
        decided = _only(decided, *options.only)
        title += f", only {options.only[0]}={','.join(options.only[1])}"
    result = figures(decided, options.rounds)
    write_report(options.out, title, command, decided, result)
    print(f"{headline(result)}; report in {options.out / 'report.html'}")


def _writes(out: Path) -> Iterator[Named]:
    for name in ("report.md", "report.html", "evaluation.json"):
        yield "--out", out / name


def _reads(options: argparse.Namespace) -> Iterator[Named]:
    yield "--truth", options.truth
    for path in options.events or ():
        yield "--events", None if path.is_dir() else path  # in a folder, only *.jsonl files are read
    yield "--bench", options.bench and options.bench / "truth.json"
    yield from model_files(options.model or DEFAULT_DIRECTORY)
    yield "--face-model", options.face_model
    yield "--recordings", options.recordings


def _only(decided: Decided, tag: str, values: list[str]) -> Decided:
    """The judged videos whose `tag` has one of `values`. The thresholds stay those of all videos."""
    known = {j.result.tags[tag] for j in decided.final if tag in j.result.tags}
    if unknown := [v for v in values if v not in known]:
        there = f"there are {', '.join(sorted(known))}" if known else f"none has a tag {tag}"
        raise UserError(f"--only {tag}={','.join(values)}: no judged video is {', '.join(unknown)}; {there}")
    swept, final = (
        tuple(j for j in videos if j.result.tags.get(tag) in values) for videos in (decided.swept, decided.final)
    )
    return replace(decided, swept=swept, final=final)


def _from_events(options: argparse.Namespace) -> tuple[list[Judged], At, str]:
    truth = load_truth(options.truth)
    events = events_of(truth, options.events)
    return [judged(t, events[t.file]) for t in truth], at_threshold, f"Events on {options.truth.parent.resolve().name}"


def _from_bench(options: argparse.Namespace) -> tuple[list[Judged], At, str]:
    truth = load_truth(options.bench / "truth.json")
    if options.protocol == "fixed":
        # a fixed protocol chooses nothing on the other splits, so they need not run
        truth = [t for t in truth if t.split == "test"]
    lost = [t.file for t in truth if not (options.bench / t.file).is_file()]
    if lost:
        raise UserError(f"{options.bench} lacks {', '.join(lost[:5])}, named in truth.json; build the bench again")
    config = _config(options, options.model)
    tasks = [Task(t.file, partial(live.record_file, options.bench / t.file, config)) for t in truth]
    return *_run(truth, tasks, options), f"Bench {options.bench.resolve().name}"


def _from_dataset(options: argparse.Namespace) -> tuple[list[Judged], At, str]:
    videos = LOADERS[options.dataset](options.root)
    if not videos:
        raise UserError(f"{options.root} holds no video of {options.dataset}; is it another folder?")
    _complete(options.dataset, videos)
    people = [fold.subject for fold in loso(videos)]
    weights = _trained(videos, options) if options.train else dict.fromkeys(people, options.model)
    truth, tasks = [], []
    for video in videos:
        known = _truth_of(video)
        truth.append(known)
        config = _config(options, weights[video.subject])
        tasks.append(Task(known.file, partial(live.record_video, video, config, FRAMES_FPS)))
    found, at = _run(truth, tasks, options)
    noted = [replace(j, notes=v.notes) for j, v in zip(found, videos, strict=True)]
    return noted, _keep_notes(at), f"{options.dataset}, {options.protocol or 'loso'}"


def _run(truth: Sequence[TruthVideo], tasks: Sequence[Task], options: argparse.Namespace) -> tuple[list[Judged], At]:
    """Records what has not been recorded yet and judges it at the floor. The second result judges at any threshold by
    replay."""
    kept = options.recordings or options.out / "recordings"
    if options.recordings:
        recordings = {t.name: live.Recording.load(live.recording_path(kept, t.name)) for t in tasks}
    else:
        recordings = {}
        for task, recording in _recorded(tasks, options.jobs):
            recording.save(live.recording_path(kept, task.name))
            recordings[task.name] = recording
    of = {t.file: t for t in truth}

    baselines = options.threshold is None  # like the live program, take a given threshold literally

    def at(video: Judged, threshold: float) -> Judged:
        config = TrackerConfig().at(threshold)
        recording = recordings[video.result.name]
        return judged(of[video.result.name], recording.replay(config, baselines), recording.trace(config.latency_s))

    floor = TrackerConfig().at(FLOOR)
    return [judged(t, recordings[t.file].replay(floor, baselines)) for t in truth], at


def _recorded(tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, live.Recording]]:
    console = Console(stderr=True)
    if jobs == 1:
        for task in track(tasks, "live path", console=console):
            yield task, task.run()
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(task.run) for task in tasks]
        for task, done in track(list(zip(tasks, running, strict=True)), "live path", console=console):
            yield task, done.result()


def _keep_notes(at: At) -> At:
    def noted(video: Judged, threshold: float) -> Judged:
        return replace(at(video, threshold), notes=video.notes)

    return noted


def _truth_of(video: Video) -> TruthVideo:
    """A data set's video in seconds. A video without frames is one frame long."""
    return TruthVideo(
        file=f"{video.subject}/{video.name}",
        subject=video.subject,
        fps=video.fps,
        duration_s=video.duration_s or 1 / video.fps,
        intervals=tuple(
            TruthInterval(
                i.onset / video.fps, None if i.apex is None else i.apex / video.fps, i.offset / video.fps, i.kind
            )
            for i in video.intervals
        ),
    )


def _complete(name: str, videos: Sequence[Video]) -> None:
    """Warns when the copy of the data set is not the published one, since its figures can't be compared."""
    count = [sum(i.kind == kind for v in videos for i in v.intervals) for kind in ("micro", "macro")]
    found = (len(videos), *count)
    if name in PUBLISHED and found != PUBLISHED[name]:
        words = ["{} videos, {} micro- and {} macro-expressions".format(*n) for n in (found, PUBLISHED[name])]
        print(f"evaluate: this copy of {name} has {words[0]}; published are {words[1]}", file=sys.stderr)


def _config(options: argparse.Namespace, model: Path | None) -> Config:
    return Config(
        offline=True,
        model=model,
        runtime=options.runtime,
        face_model=options.face_model,
        max_faces=options.max_faces,
    )


def _trained(videos: list[Video], options: argparse.Namespace) -> dict[str, Path]:
    require("train", "--train", "torch")
    from engine.evaluation.folds import train_folds

    return train_folds(videos, options)


def _threshold(options: argparse.Namespace) -> float:
    """The threshold for protocol `fixed`: the given one, none for recorded events (judged as emitted), or the model's
    own."""
    if options.threshold is not None:
        return float(options.threshold)
    if options.truth:
        return 0.0
    return policy_of(_config(options, options.model), load_model(options.model), "").tracker.threshold


def _protocol(options: argparse.Namespace, videos: Sequence[Judged]) -> str:
    if options.protocol:
        if options.protocol == "split" and not any(v.split == "tune" for v in videos):
            raise UserError('--protocol split: no video of split "tune" to choose a threshold on', 2)
        if options.protocol == "loso" and len({v.result.subject for v in videos}) < 2:
            raise UserError("--protocol loso: one person alone leaves nobody to choose a threshold on", 2)
        return str(options.protocol)
    if options.dataset:
        return "loso"
    return "split" if any(v.split == "tune" for v in videos) else "fixed"


def _tagged(text: str) -> tuple[str, list[str]]:
    tag, _, values = text.partition("=")
    if not tag or not all(values.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not TAG=VALUE or TAG=VALUE,VALUE")
    return tag, values.split(",")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see mestream evaluate --help)", 2)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="mestream evaluate",
        description=f"{__doc__}\nNeeds: {pip_install('train')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_inputs(parser)
    _add_settings(parser)
    options = parser.parse_args(arguments)
    _check(parser, options)
    return options


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    """What is judged, and where the report goes."""
    add = parser.add_argument
    add("--truth", type=Path, metavar="FILE", help="truth.json of the videos that --events are of")
    add("--events", type=Path, nargs="+", metavar="PATH", help="files or folders of events (NAME.jsonl for NAME.mp4)")
    add("--bench", type=Path, metavar="DIR", help="videos and their truth.json")
    add(
        "--dataset", choices=tuple(LOADERS), help="casme2 is CAS(ME)^2, casme3 is CAS(ME)^3 part A, smic is SMIC-E-long"
    )
    add("--root", type=Path, metavar="DIR", help="where the data set lies")
    add(
        "--only",
        type=_tagged,
        metavar="TAG=A,B",
        help="judge only videos whose tag in truth.json is one of these, as in part=portraits,mixed",
    )
    add("--out", type=Path, required=True, metavar="DIR", help="where the report goes")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """How it is judged, and what runs it."""
    add = parser.add_argument
    add("--protocol", choices=PROTOCOLS, help="how the threshold is chosen (default: by what there is)")
    add(
        "--threshold",
        type=float,
        metavar="P",
        help="judge at this one (default of fixed: the model's own; of events: as emitted)",
    )
    add("--train", action="store_true", help="with --dataset: train a network per person, without that person")
    add("--train-pool", type=Path, nargs="+", default=[], metavar="DIR", help="further pools to train on with --train")
    add("--train-options", default="", metavar="TEXT", help="further options of engine.train, as one string")
    add("--model", type=Path, metavar="DIR", help="weights other than the shipped ones")
    add("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if it is not to be looked for")
    add("--runtime", default="auto", help="auto, tensorrt, cuda or onnx (default auto)")
    add("--max-faces", type=int, default=1, metavar="N", help="faces to follow at most (default 1)")
    add("--recordings", type=Path, metavar="DIR", help="replay what an earlier run recorded, without the network")
    add("--jobs", type=int, default=1, metavar="N", help="videos at the same time (default 1)")
    add("--rounds", type=int, default=1000, metavar="N", help="rounds of the bootstrap over people (default 1000)")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Raises UserError if the options contradict each other. A given threshold selects protocol `fixed`."""
    inputs = [name for name in ("truth", "bench", "dataset") if getattr(options, name)]
    if len(inputs) != 1:
        parser.error("give one of --truth with --events, --bench, --dataset with --root")
    for name, needs in (("truth", "events"), ("events", "truth"), ("dataset", "root"), ("train", "dataset")):
        if getattr(options, name) and not getattr(options, needs):
            parser.error(f"--{name} needs --{needs}")
    if options.only and options.dataset:
        parser.error("--only is for --bench and --truth: a data set's videos have no tags")
    if options.threshold is not None:
        if options.protocol in ("split", "loso"):
            parser.error(f"--threshold {options.threshold:g} and --protocol {options.protocol}: one of them chooses")
        if not FLOOR <= options.threshold < 1:
            parser.error(f"--threshold {options.threshold:g} is not from {FLOOR:g} to 1")
        options.protocol = "fixed"
    if options.jobs < 1 or options.rounds < 1 or options.max_faces < 1:
        parser.error("--jobs, --rounds and --max-faces must be at least 1")


if __name__ == "__main__":
    sys.exit(main())
