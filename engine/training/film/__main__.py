"""`python -m engine.training.film`: the demo clip, or training sequences through the real aligner."""

import argparse
import sys
from pathlib import Path

from engine.training.film import aligned, coded, demo
from stream.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.film`: the demo clip, or training sequences through the real aligner."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.film", description=main.__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--demo", action="store_true", help="the clip that is shipped, with its truth")
    what.add_argument("--real-aligner", type=int, metavar="N", help="N training sequences, as shards of a pool")
    what.add_argument("--coded", type=int, metavar="N", help="N films before a webcam's H.264 and after it: four pools")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--unsteady", action="store_true", help="N sequences by a camera whose exposure steps")
    kind.add_argument("--lively", action="store_true", help="N sequences of people whose faces never rest")
    parser.add_argument("--small", action="store_true", help="N sequences of small pictures in a webcam's H.264")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds portraits/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--actors", type=Path, help="folder that python -m engine.training.generator.actors wrote")
    parser.add_argument("--split", choices=("train", "tune"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--face-model", type=Path, help="face_landmarker.task, if it is not to be fetched")
    options = parser.parse_args(arguments)
    try:
        if options.demo:
            demo.make(options.data, options.out, options.face_model)
        elif options.coded is not None:
            coded.make(options)
        else:
            aligned.make(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
