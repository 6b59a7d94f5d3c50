"""How lively a face may be before micro-expressions are lost: F1 over liveliness, with the same faces and MEs.

It runs on pools of tuning people (`engine.training.pools.pool --split tune`, `film`, `footage`). Their sequences
without an ME are made several times as lively behind the motion stem. From twice on, most of another sequence's motion
is added. Then every other sequence gets an ME. The live decisions judge (`engine.training.learn.online`).
"""

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import same_faces
from engine.spec import ModelSpec
from engine.training.learn.augment import distorted, overlaid

ON_TOP = 0.7
"""Share of the other sequence's motion."""
AS_IT_IS = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    same_faces.add_arguments(parser)
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="how many times as lively")


def run(args: argparse.Namespace) -> dict[str, Any]:
    faces = same_faces.Faces(args)
    free, rows = faces.free, []
    for times in args.times:

        def change(index: int, rng: np.random.Generator, times: float = times) -> Tensor:
            other = free[(index + 1 + int(rng.integers(len(free) - 1))) % len(free)]
            return livelier(free[index], other, times, faces.spec)

        row = {"times": times, **faces.judged(change)}
        print("{times:4.1f} times as lively, {motion_px:.2f} px in 0.1 s | ".format(**row) + same_faces.told(row))
        rows.append(row)
    return {"rows": rows}


def livelier(rows: Tensor, other: Tensor, times: float, spec: ModelSpec) -> Tensor:
    """Stem rows [1, T, features] of a face that moves that many times as much. From twice on, another one's motion
    is added."""
    gain = torch.tensor([times])
    rows = distorted(rows, AS_IT_IS, gain, spec)
    if times < 2:
        return rows
    return overlaid(rows, distorted(other, AS_IT_IS, gain, spec), torch.tensor([ON_TOP]), spec)
