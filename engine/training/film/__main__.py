"""`python -m engine.training.film`: the demo clip, or training sequences through the real aligner."""

import argparse
import sys
from pathlib import Path

from engine.errors import EngineError
from engine.extras import pip_install, require
from stream.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.film`: the demo clip, or training sequences through the real aligner."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.training.film", description=main.__doc__, epilog=f"Needs: {pip_install('train')}"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--demo", action="store_true", help="the clip that is shipped, with its truth")
    what.add_argument("--real-aligner", type=int, metavar="N", help="N training sequences, as shards of a pool")
    what.add_argument("--coded", type=int, metavar="N", help="N films before a webcam's H.264 and after it: four pools")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--unsteady", action="store_true", help="N sequences by a camera whose exposure steps")
    kind.add_argument("--lively", action="store_true", help="N sequences of people whose faces never rest")
    parser.add_argument("--small", action="store_true", help="N sequences of small pictures in a webcam's H.264")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder that holds portraits/")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--actors", type=Path, metavar="DIR", help="what engine.training.generator.actors wrote")
    parser.add_argument("--split", choices=("train", "tune"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    options = parser.parse_args(arguments)
    try:
        require("train", "the films", "torch", "scipy")
        from engine.training.film import aligned, coded, demo

        if options.demo:
            demo.make(options.data, options.out, options.face_model)
        elif options.coded is not None:
            coded.make(options)
        else:
            aligned.make(options)
    except (UserError, EngineError) as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
