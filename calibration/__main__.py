"""Learn what a score means for this person and this camera: `mestream calibrate COMMAND`.

    baseline --camera N | --source FILE     measure one person's noise floor; give it to --calibration of the program
    camera --camera N | --source FILE       is this set-up fit to see micro-expressions, and what to change
    threshold --false-alarms-per-hour N     the threshold that gives that rate, and how sure that is
    probability                             what a score means as a probability
    int8                                    ranges for INT8 from real crops, and what INT8 costs

Every command takes --json (one object on standard output), --out FILE (the same as a file) and --plot FILE (a picture).
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from calibration.answer import Answer
from engine.errors import EngineError
from engine.extras import pip_install, require
from engine.model import DEFAULT_DIRECTORY
from engine.paths import Named, clash, model_files
from stream.decide.policy import BESIDE_WEIGHTS
from stream.errors import UserError
from stream.paths import source_path

PICTURES = (".png", ".svg", ".pdf")
SUMMARIES = {
    "baseline": "Measure one person's noise floor; give the file to --calibration of the program.",
    "camera": "Is this set-up fit to see micro-expressions, and what to change.",
    "threshold": "The threshold that gives a rate of false alarms, and how sure that is.",
    "probability": "What a score means as a probability.",
    "int8": "Ranges for INT8 from real crops, and what INT8 costs.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Exit code: 0 done, 1 failed, 2 wrong usage. Errors are one line on stderr."""
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        if why := clash(_writes(options), _reads(options)):
            raise UserError(why, 2)
        _check(options)
        answer = _command(options.command)(options)
        if options.plot:
            answer.draw(options.plot)
        if options.out:
            _write(options.out, answer.record)
        print(json.dumps(answer.record) if options.json else answer.text)
    except (UserError, EngineError) as error:
        print(f"calibration: {' '.join(str(error).split())}", file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 1
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises errors that would otherwise appear only after the measurement."""
    for path in (options.out, options.plot):
        if path is not None and not path.resolve().parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.resolve().parent}; make it first", 2)
    if options.plot:
        require("train", "--plot", "matplotlib")
        if options.plot.suffix.lower() not in PICTURES:
            raise UserError(f"--plot {options.plot}: not one of {', '.join(PICTURES)}; name such a file", 2)
    if options.command in ("camera", "int8", "probability") or (
        options.command == "threshold" and (options.pool or options.bench)
    ):
        require("train", options.command, "torch", "onnx", "scipy")


def _command(name: str) -> Callable[[argparse.Namespace], Answer]:
    from calibration import commands

    return {
        "baseline": commands.baseline,
        "camera": commands.camera,
        "threshold": commands.threshold,
        "probability": commands.probability,
        "int8": commands.int8,
    }[name]


def _writes(options: argparse.Namespace) -> Iterator[Named]:
    yield "--out", options.out
    yield "--out", options.out and _part(options.out)
    yield "--plot", options.plot


def _reads(options: argparse.Namespace) -> Iterator[Named]:
    """The files that the command reads. `threshold` with data and `int8` only write the file next to the weights."""
    home = options.model or DEFAULT_DIRECTORY
    yield from model_files(home)
    fits = options.command == "threshold" and (options.pool or options.bench)
    if not fits and options.command != "int8":
        yield "--model", home / BESIDE_WEIGHTS
    given = vars(options)
    yield "--source", source_path(given.get("source"))
    yield "--face-model", given.get("face_model")
    for folder in (*given.get("pool", ()), *given.get("data", ())):
        yield "--pool" if folder in given["pool"] else "--data", folder
    if bench := given.get("bench"):
        yield "--bench", bench


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    part = _part(path)
    try:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see mestream calibrate --help)", 2)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="mestream calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def command(name: str, needs: str = "") -> argparse.ArgumentParser:
        extra = f"{needs}--plot needs: {pip_install('train')}"
        return commands.add_parser(name, description=SUMMARIES[name], epilog=extra, allow_abbrev=False)

    for name, seconds, needs in (("baseline", 30.0, ""), ("camera", 15.0, "The command and ")):
        looks = command(name, needs)
        which = looks.add_mutually_exclusive_group(required=True)
        which.add_argument("--camera", metavar="CAMERA", help="camera by index, name or path")
        which.add_argument("--source", metavar="FILE|URL", help="video file or stream instead")
        looks.add_argument(
            "--seconds", type=_positive, default=seconds, metavar="S", help=f"how long to look (default {seconds:g})"
        )
        looks.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
        _common(looks)
    for name, needs in (("threshold", "--pool, --bench and "), ("probability", "The command and ")):
        fits = command(name, needs)
        fits.add_argument("--pool", type=Path, nargs="+", default=[], metavar="DIR", help="pools of tuning people")
        fits.add_argument("--bench", type=Path, metavar="DIR", help="bench whose tuning videos are to be run")
        if name == "threshold":
            fits.add_argument("--false-alarms-per-hour", type=_positive, metavar="N", help="the rate wanted")
        _common(fits)
    int8 = command("int8", "The command and ")
    int8.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR", help="pools to take ranges from")
    int8.add_argument("--pool", type=Path, nargs="+", default=[], metavar="DIR", help="tuning pools to judge F1 on")
    int8.add_argument("--clips", type=_count, default=64, metavar="N", help="sequences to observe (default 64)")
    int8.add_argument("--sequences", type=_count, default=400, metavar="N", help="sequences to judge (default 400)")
    _common(int8)
    return parser.parse_args(arguments)


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", type=Path, metavar="DIR", help="weights other than the shipped ones")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the JSON object to a file")
    command.add_argument("--plot", type=Path, metavar="FILE", help="write a picture (PNG, SVG or PDF)")


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
