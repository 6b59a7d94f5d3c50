"""How exact motion must be before micro-expressions are lost: F1 over errors of the motion, on the same faces.

It runs on pools of tuning people. Half of their sequences without a micro-expression get one imprinted, as in
`liveliness`. Then every place of the face gets an error, whatever the skin's texture, new in every frame or lasting.
`remains` measures the errors of worse pictures. The live decisions judge (`engine.training.learn.online`).
"""

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import same_faces
from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.learn.augment import shiver
from engine.training.learn.imprint import imprinted
from stream.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    same_faces.add_arguments(parser)
    sizes = [0.0, 0.03, 0.06, 0.09, 0.12]
    parser.add_argument("--errors", type=float, nargs="+", default=sizes, help="rms, crop px of motion in 0.1 s")
    parser.add_argument("--memory", type=float, default=0.0, help="share of an error that is there a frame later, < 1")


def run(args: argparse.Namespace) -> dict[str, Any]:
    if not 0 <= args.memory < 1:
        raise UserError("--memory: a share from 0 to below 1, such as 0.65")
    faces, rows = same_faces.Faces(args), []
    for size in args.errors:

        def change(index: int, _: np.random.Generator, size: float = size) -> Tensor:
            return erring(faces.free[index], size, args.memory, index, faces.net.stem, faces.spec)

        row = {"errors_px": size, **faces.judged(change)}
        print("errs by {errors_px:.2f} px in 0.1 s | ".format(**row) + same_faces.told(row))
        rows.append(row)
    return {"rows": rows}


def erring(rows: Tensor, size: float, memory: float, seed: int, stem: MotionStem, spec: ModelSpec) -> Tensor:
    """Stem rows [1, T, features] whose motion over the shortest lag has an error of `size`, crop px, rms."""
    # A motion has the errors of both its ends, unless they are equal, in two directions.
    place = size / 2 / (1 - memory ** min(spec.lags)) ** 0.5
    errors = shiver(torch.tensor([place]), seed, spec, torch.tensor([memory]))
    return imprinted(rows, torch.zeros_like(errors), stem, spec, errors)
