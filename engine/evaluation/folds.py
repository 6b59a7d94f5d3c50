"""Leave-one-subject-out with training: one network per person, without that person in its training or tuning pools."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from engine.datasets import Video, loso
from engine.training.pools.dataset import make_pools, split
from stream.errors import UserError


def train_folds(videos: Sequence[Video], options: argparse.Namespace) -> dict[str, Path]:
    """Directory of weights per person. Missing ones are trained, and a killed run continues.

    Pools per person are in `--out`/pools, weights in `--out`/folds. `--train-pool` adds made-up clips to every fold.
    """
    pools = make_pools(videos, options.out / "pools", options.face_model)
    return {fold.subject: _fold(fold.subject, pools, options) for fold in loso(videos)}


def _fold(subject: str, pools: dict[str, Path], options: argparse.Namespace) -> Path:
    from engine.train import main as train_main

    out: Path = options.out / "folds" / subject
    if not (out / "mesnet_1d.onnx").is_file():
        train, tune = split(subject, list(pools))
        arguments = ["--pool", *(str(pools[s]) for s in train), *map(str, options.train_pool)]
        arguments += ["--tune", *(str(pools[s]) for s in tune), "--out", str(out)]
        if code := train_main([*arguments, *shlex.split(options.train_options)]):
            raise UserError(f"training without {subject} failed (above)", code)
    return out
