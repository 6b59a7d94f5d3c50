"""The bench: video files with known micro-expressions. The same seed and size give the same bench.

    python -m engine.bench_data --data DIR --out DIR [--split test|tune] [--minutes N]

`engine.training.film.bench` defines its parts. See docs/bench.md.
"""

import argparse
import os
import sys
from pathlib import Path

from engine.datasets.truth import SPLITS
from engine.errors import EngineError
from engine.extras import pip_install, require
from engine.paths import clash
from stream.errors import UserError
from stream.faces.model_file import locate


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.bench_data`: build the bench."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.bench_data", description=main.__doc__, epilog=f"Needs: {pip_install('train')}"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder that holds portraits/, video/ and mocap/"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the bench goes")
    parser.add_argument("--split", choices=SPLITS, help="only this one (default: both)")
    parser.add_argument("--minutes", type=float, metavar="N", help="about how much video (default: the full size)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--actors", type=Path, metavar="DIR", help="where actors are or will be (default: OUT/actors)")
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    options = parser.parse_args(arguments)
    try:
        if options.workers < 1 or (options.minutes is not None and options.minutes <= 0):
            raise UserError(f"--minutes {options.minutes} --workers {options.workers}: both must be above 0", 2)
        require("train", "the bench", "torch", "scipy")
        from engine.training.film import bench

        actors = options.actors or options.out / "actors"
        folders = bench.Folders(options.data, options.out, actors, locate(options.face_model))
        written = [("--out", folders.out / name) for name in ("truth.json", "bench.json")]
        read = [("--data", folders.data / part) for part in ("portraits", "video")]
        if why := clash(written, [*read, ("--face-model", folders.face_model)]):
            raise UserError(why, 2)
        splits = (options.split,) if options.split else ("test", "tune")
        videos = bench.build(folders, splits, options.minutes or bench.MINUTES, options.seed, options.workers)
    except (UserError, EngineError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    for part, row in bench.parts(videos).items():
        print(f"{part}: {row['videos']:.0f} videos, {row['minutes']:.1f} min, {row['mes']:.0f} MEs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
