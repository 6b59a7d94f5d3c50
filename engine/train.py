"""Train MESNet: `mestream train --data DIR --out DIR` (from portraits to a model directory).

It makes what it needs on the way: actors from portraits, pools of clips from actors. --pool names other pools (of
`engine.training.film.footage`, `engine.training.film.film`). After a kill, a run continues from its newest checkpoint.
`OUT/curves.png` shows its progress. The result is the model that is best on the tuning people.
"""

import argparse
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from engine.datasets import LOADERS, DatasetError
from engine.errors import EngineError
from engine.extras import pip_install, require
from engine.paths import Named, clash, model_files
from engine.spec import SHAPES, ModelSpec
from stream.errors import UserError

RECIPES = Path(__file__).parent / "training" / "recipes"
"""Recipes of the project, one TOML file each. `--recipe NAME` finds them by name."""


def recipe_words(recipe: str, known: set[str]) -> list[str]:
    """The flags that a recipe stands for. `recipe` is a file, or the name of one in RECIPES.

    Raises UserError when the file can't be read, is not TOML, or has a key that is not in `known`.
    """
    shipped = RECIPES / f"{recipe}.toml"
    try:
        values = tomllib.loads((shipped if shipped.exists() else Path(recipe)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        why = error.strerror if isinstance(error, OSError) else error
        names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
        raise UserError(f"--recipe {recipe}: {why}; give a TOML file or one of {names}", 2) from None
    if unknown := sorted(values.keys() - known):
        raise UserError(f"--recipe {recipe}: no flag is named {unknown[0]}; keys are {', '.join(sorted(known))}", 2)
    return [
        word
        for key, value in values.items()
        if value is not False
        for word in (f"--{key}", *map(str, value if isinstance(value, list) else [] if value is True else [value]))
    ]


def make(module: str, *arguments: str) -> None:
    """Runs a required step in its own process. The user sees its output."""
    if subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode:
        raise UserError(f"python -m {module} failed (above); training needs what it makes")


def prepare_pools(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Actors and pools in OUT. Missing ones are made."""
    if options.dataset:
        if not options.root:
            raise UserError("--dataset needs --root DIR, where it lies", 2)
        from engine.training.pools.dataset import pools_of

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
    tuning = max(64, options.sequences // 25)
    for split, folder, n in (("tune", tune, tuning), ("train", train, options.sequences)):
        asked = {"actors": actors, "out": folder, "split": split, "sequences": n, "device": options.device}
        make("engine.training.pools.pool", *(word for k, v in asked.items() for word in (f"--{k}", str(v))))
    return [train], [tune]


def _writes(out: Path) -> Iterator[Named]:
    for name in ("checkpoint.pt", "curves.png", *(Path(str(path)).name for _, path in model_files(out))):
        yield "--out", out / name


def _reads(options: argparse.Namespace) -> Iterator[Named]:
    yield "--recipe", options.recipe
    yield "--start", options.start
    yield "--teacher", options.teacher
    for name in ("pool", "tune"):
        for folder in getattr(options, name) or ():
            yield f"--{name}", folder
    yield "--imprint", options.imprint
    yield "--data", options.data and options.data / "portraits"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the flags. Those of the recipe come first, so a flag on the command line overrides them."""
    parser = argparse.ArgumentParser(
        prog="mestream train",
        description="Train MESNet: portraits in, a model directory out.",
        epilog=f"Needs: {pip_install('train')}",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="folder that holds portraits/")
    add("--dataset", choices=tuple(LOADERS), help="a licensed data set to train on; --pool adds to it")
    add("--root", type=Path, metavar="DIR", help="where the data set lies")
    add("--leave-out", default="", metavar="PERSON", help="nobody is trained or tuned on this one")
    add("--pool", type=Path, nargs="+", metavar="DIR", help="pools to train on, instead of --data")
    shares = "how often clips are of each pool, in the pools' order and any unit (default: every sequence as often)"
    add("--shares", type=float, nargs="+", metavar="SHARE", help=shares)
    add("--tune", type=Path, nargs="+", metavar="DIR", help="pools to choose by, with --pool")
    imprint = "actors whose MEs are put into the pools' clips, anew each time (default with --data: those made)"
    add("--imprint", type=Path, metavar="DIR", help=imprint)
    errors = (
        "an encoder makes every place of every imprinted clip err by so many crop px, rms (no more than 0.02 in a good "
        "picture)"
    )
    add("--errors", type=float, nargs=2, metavar=("FROM", "TO"), help=errors)
    teacher = (
        "mesnet.safetensors whose word counts beside the truth; it sees clips of engine.training.film --coded as they "
        "were before the encoder"
    )
    add("--teacher", type=Path, metavar="FILE", help=teacher)
    add("--shape", choices=SHAPES, default=SHAPES[0], help="of the network, see docs/engine.md (default whole)")
    add("--mix", action="store_true", help="clips are mixed by region, with --imprint")
    visible = "how visible what is imprinted is, in place of its size in px (0.3 4: from hardly to plainly)"
    add("--visible", type=float, nargs=2, metavar=("FROM", "TO"), help=visible)
    add("--out", type=Path, required=True, metavar="DIR", help="where the model goes")
    recipe = (
        "flags from a TOML file, `steps = 5000` for --steps 5000; flags given beside it override it. Or the name of a "
        "recipe that comes with the project, such as `full`, which is for a GPU"
    )
    add("--recipe", metavar="FILE", help=recipe)
    add("--sequences", type=int, default=2400, metavar="N", help="how many sequences to make (default 2400)")
    add("--steps", type=int, default=2400, metavar="N", help="steps of the optimiser (default 2400)")
    add("--batch", type=int, default=32, metavar="N", help="clips a step (default 32)")
    add("--rate", type=float, default=2e-3, metavar="R", help="highest learning rate (default 2e-3)")
    add("--start", type=Path, metavar="FILE", help="mesnet.safetensors to go on from, else from scratch")
    add("--judge-every", type=int, default=1000, metavar="N", help="steps between two judgements")
    add("--seed", type=int, default=0, metavar="N")
    spare = max(1, (os.cpu_count() or 1) - 1)
    add("--workers", type=int, default=spare, metavar="N", help="processes that draw what the next steps see (0: none)")
    add("--device", metavar="DEVICE", help="cpu or cuda (default: cuda where there is a GPU)")
    options = parser.parse_args(arguments)
    if options.recipe:
        known = {name.replace("_", "-") for name in vars(options)} - {"recipe"}
        options = parser.parse_args([*recipe_words(options.recipe, known), *arguments])
    return options


def _check(options: argparse.Namespace) -> None:
    """Raises UserError for options that contradict each other."""
    if options.pool and not options.tune and not options.dataset:
        raise UserError("--pool needs --tune DIR, a pool of other people to choose by", 2)
    if options.errors and not 0 < options.errors[0] <= options.errors[1]:
        raise UserError("--errors FROM TO: above 0, and TO no less than FROM, such as 0.05 0.13", 2)
    if options.errors and not (options.imprint or options.data):
        raise UserError("--errors needs --imprint DIR: clips are changed together with what is put into them", 2)
    if options.visible and not 0 < options.visible[0] <= options.visible[1]:
        raise UserError("--visible FROM TO: above 0, and TO no less than FROM, such as 0.3 4", 2)
    if (options.visible or options.mix) and not (options.imprint or options.data):
        raise UserError("--visible and --mix need --imprint DIR: they are about what is put into clips", 2)


def _train(options: argparse.Namespace) -> None:
    import torch

    from engine.training.generator.actors import actors_of
    from engine.training.learn.imprint import Imprinter
    from engine.training.learn.trainer import Plan, Trainer, keep_memory
    from engine.training.pools.pool import Pool

    options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {options.device}: PyTorch sees no CUDA GPU here; give --device cpu", 2)
    options.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    folders, others = prepare_pools(options)
    if options.shares and (len(options.shares) != len(folders) or min(options.shares) <= 0):
        raise UserError(f"--shares: a number above 0 for each of {len(folders)} pools", 2)
    spec = ModelSpec.regional() if options.shape == "regional" else ModelSpec()
    train, tune = Pool(folders, spec, options.device, options.shares), Pool(others, spec)
    plan = Plan(
        options.steps,
        options.seed,
        options.device,
        options.batch,
        options.rate,
        options.start,
        options.workers,
        tuple(options.errors) if options.errors else None,
        options.teacher,
        options.mix,
    )
    began = time.monotonic()
    actors = options.imprint or (options.out / "actors" if options.data else None)
    visible = tuple(options.visible) if options.visible else None
    imprinter = Imprinter(actors_of(actors, "train"), spec, visible) if actors else None
    trainer = Trainer(options.out, train, tune, plan, imprinter)
    trainer.run(options.judge_every)
    trainer.export()
    minutes = (time.monotonic() - began) / 60
    print(f"{options.steps} steps in {minutes:.0f} min; model in {options.out}, for --model")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Exit code: 0 done, 1 failed, 2 wrong usage. Errors are one line on stderr."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        _check(options)
        if why := clash(_writes(options.out), _reads(options)):
            raise UserError(why, 2)
        require("train", "training", "torch", "onnx", "safetensors", "scipy", "matplotlib")
        _train(options)
    except (UserError, DatasetError, EngineError) as error:
        print(f"train: {error}", file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
