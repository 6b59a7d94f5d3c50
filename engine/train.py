"""Train MESNet: `python -m engine.train --data DIR --out DIR` (portraits in, a model directory out).

Makes what it needs on the way: actors from portraits, pools of clips from actors. Other pools (of
`engine.training.film.footage`, `engine.training.film.film`) are named by --pool. A run continues from its newest
checkpoint after a kill. `OUT/curves.png` shows how it goes; the model is the best on the tuning people.
"""

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.datasets import LOADERS, DatasetError
from engine.spec import ModelSpec
from engine.training.generator.actors import actors_of
from engine.training.learn.imprint import Imprinter
from engine.training.learn.trainer import Plan, Trainer, keep_memory
from engine.training.pools.dataset import pools_of
from engine.training.pools.pool import Pool
from stream.errors import UserError


@dataclass(frozen=True, slots=True)
class Recipe:
    """How many sequences are made, and how many steps of how many clips are made on them, at which learning rate."""

    sequences: int
    steps: int
    batch: int
    rate: float


RECIPES = {"small": Recipe(2400, 2400, 32, 2e-3), "full": Recipe(20_000, 30_000, 128, 3e-3)}
"""`small` fits an hour of 2 CPU cores, `full` is for a GPU."""


def make(module: str, *arguments: str) -> None:
    """Run a step that this one rests on, in its own process; its output is the user's to see."""
    if subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode:
        raise UserError(f"python -m {module} failed (above); training needs what it makes")


def prepare_pools(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Actors and pools in OUT, made where they are missing."""
    if options.dataset:
        if not options.root:
            raise UserError("--dataset needs --root DIR, where it lies", 2)
        train, tune = pools_of(options.dataset, options.root, options.out / "pools", options.leave_out)
        return train + (options.pool or []), tune
    if options.pool:
        return options.pool, options.tune
    if not options.data:
        raise UserError(
            "give --data DIR (portraits to make clips from) or --pool DIR --tune DIR (pools made before)", 2
        )
    actors, train, tune = (options.out / name for name in ("actors", "pool-train", "pool-tune"))
    if not any(actors.glob("*.npz")):
        make("engine.training.generator.actors", "--data", str(options.data), "--out", str(actors))
    count = options.sequences or RECIPES[options.recipe].sequences
    for split, folder, n in (("tune", tune, max(64, count // 25)), ("train", train, count)):
        asked = {"actors": actors, "out": folder, "split": split, "sequences": n, "device": options.device}
        make("engine.training.pools.pool", *(word for k, v in asked.items() for word in (f"--{k}", str(v))))
    return [train], [tune]


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.train`."""
    parser = argparse.ArgumentParser(prog="python -m engine.train", description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder that holds portraits/")
    parser.add_argument("--dataset", choices=tuple(LOADERS), help="a licensed data set to train on; --pool adds to it")
    parser.add_argument("--root", type=Path, help="where the data set lies")
    parser.add_argument("--leave-out", default="", metavar="PERSON", help="nobody is trained or tuned on this one")
    parser.add_argument("--pool", type=Path, nargs="+", help="pools to train on, instead of --data")
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="how often clips are of each pool, in the pools' order and any unit (default: every sequence as often)",
    )
    parser.add_argument("--tune", type=Path, nargs="+", help="pools to choose by, with --pool")
    parser.add_argument(
        "--imprint",
        type=Path,
        metavar="DIR",
        help="actors whose MEs are put into the pools' clips, anew each time (default with --data: those made)",
    )
    parser.add_argument(
        "--errors",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="an encoder makes every place of every imprinted clip err by so many crop px, rms (no more than 0.02 in a "
        "good picture)",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="WEIGHTS",
        help="mesnet.safetensors whose word counts beside the truth; it sees clips of engine.training.film --coded as "
        "they were before the encoder",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="small")
    parser.add_argument("--sequences", type=int, help="how many sequences to make (default: the recipe's)")
    parser.add_argument("--steps", type=int, help="steps of the optimiser (default: the recipe's)")
    parser.add_argument("--batch", type=int, help="clips a step (default: the recipe's)")
    parser.add_argument("--rate", type=float, help="highest learning rate (default: the recipe's)")
    parser.add_argument("--start", type=Path, help="mesnet.safetensors to go on from, else from scratch")
    parser.add_argument("--judge-every", type=int, default=1000, help="steps between two judgements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers",
        type=int,
        default=max(1, (os.cpu_count() or 1) - 1),
        help="processes that draw what the next steps see (0: none)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    try:
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"--device {options.device}: PyTorch sees no CUDA GPU here; give --device cpu", 2)
        if options.pool and not options.tune and not options.dataset:
            raise UserError("--pool needs --tune DIR, a pool of other people to choose by", 2)
        if options.errors and not 0 < options.errors[0] <= options.errors[1]:
            raise UserError("--errors FROM TO: above 0, and TO no less than FROM, such as 0.05 0.13", 2)
        if options.errors and not (options.imprint or options.data):
            raise UserError("--errors needs --imprint DIR: clips are changed together with what is put into them", 2)
        options.out.mkdir(parents=True, exist_ok=True)
        keep_memory()
        folders, others = prepare_pools(options)
        if options.shares and (len(options.shares) != len(folders) or min(options.shares) <= 0):
            raise UserError(f"--shares: a number above 0 for each of {len(folders)} pools", 2)
        train, tune = Pool(folders, ModelSpec(), options.device, options.shares), Pool(others, ModelSpec())
        recipe = RECIPES[options.recipe]
        steps, batch, rate = options.steps or recipe.steps, options.batch or recipe.batch, options.rate or recipe.rate
        errors_px = tuple(options.errors) if options.errors else None
        plan = Plan(
            steps, options.seed, options.device, batch, rate, options.start, options.workers, errors_px, options.teacher
        )
        began = time.monotonic()
        actors = options.imprint or (options.out / "actors" if options.data else None)
        imprinter = Imprinter(actors_of(actors, "train"), train.spec) if actors else None
        trainer = Trainer(options.out, train, tune, plan, imprinter)
        trainer.run(options.judge_every)
        trainer.export()
        print(f"{steps} steps in {(time.monotonic() - began) / 60:.0f} min; model in {options.out}, for --model")
    except (UserError, DatasetError) as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
