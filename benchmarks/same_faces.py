"""Pool sequences without a micro-expression (ME), changed behind the motion stem. Every other one gets an ME.

Every row of a table has the same faces and MEs. The live decisions judge (`engine.training.learn.online`).
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.export import load_network
from engine.mesnet import MESNet
from engine.model import load_model
from engine.spec import ModelSpec
from engine.training.generator.actors import actors_of
from engine.training.learn.imprint import Imprinter, imprinted, moved_by, together
from engine.training.learn.online import Online, Spotted, Truth, figures
from engine.training.pools.pool import LENGTH, Pool, label_row
from engine.training.pools.stemmed import split_stem, unsquashed
from engine.training.pools.truth import MICRO
from stream.errors import UserError

FACE = slice(3, 13)
"""Windows of the grid, along either side, that cover the face."""

Change = Callable[[int, np.random.Generator], Tensor]
"""Returns the changed stem rows [1, T, features] of the sequence with that index."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, nargs="+", required=True, help="pools of tuning people")
    parser.add_argument("--actors", type=Path, required=True, help="whose MEs are imprinted: those of the tune split")
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")


class Faces:
    """The sequences that the arguments name. Raises UserError if there are too few."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        self.net: MESNet = load_network(load_model(args.model))
        self.spec: ModelSpec = replace(self.net.spec, clip_frames=LENGTH)
        self._online, self._imprinter = Online(self.net), Imprinter(actors_of(args.actors, "tune"), self.spec)
        pool = Pool(args.pool, self.net.spec)
        drawn = (pool[index] for index in range(len(pool)))
        self.free = [torch.as_tensor(rows).float()[None] for rows, truth in drawn if not (truth[:, 0] == MICRO).any()]
        if len(self.free) < 2:
            raise UserError("--pool: fewer than two sequences without a micro-expression; give larger ones")

    def judged(self, change: Change) -> dict[str, Any]:
        """Judges all sequences after a change: `figures`, and the motion of the faces, median of `motion_px`."""
        spotted: list[Spotted] = []
        truth: list[Truth] = []
        motion = []
        for index in range(len(self.free)):
            rng = np.random.default_rng(index)
            rows = change(index, rng)
            motion.append(motion_px(rows, self.spec))
            if index % 2 == 0:
                label, movement = self._imprinter.movement(rng, float(rng.uniform(20, LENGTH - 45)), LENGTH)
                assert label is not None
                rows = imprinted(rows, moved_by(*together([[movement]], self.spec)), self.net.stem, self.spec)
                row = label_row(label, self.spec.fps)
                truth.append(Truth(index, float(row[1]), float(row[3]), float(row[4])))
            spotted += self._online.spot(index, rows[0])
        minutes = len(self.free) * LENGTH / self.spec.fps / 60
        rounded = {name: round(value, 3) for name, value in figures(spotted, truth, minutes).items()}
        typical_px = round(float(np.median(motion)), 3)
        return {"motion_px": typical_px, "mes": len(truth), "minutes": minutes} | rounded


def told(row: dict[str, Any]) -> str:
    """What was found, in words."""
    return (
        "F1 {f1:.3f}, from 1.5 px {f1_large:.3f} | recall at one alarm a minute {recall_at_1_per_min:.3f} | "
        "{mes} MEs, {minutes:.1f} min"
    ).format(**row)


def motion_px(rows: Tensor, spec: ModelSpec) -> float:
    """How far the face's windows move over the shortest lag, rms in crop px, without the common motion of the face."""
    local, _ = split_stem(rows, spec)
    lags = len(spec.lags)
    return over_face(unsquashed(local[:, [0, lags]]))


def over_face(motion: Tensor) -> float:
    """Rms of motion [n, 2, G, G] over the face's windows."""
    motion = motion[..., FACE, FACE]
    return float((motion * motion).sum(dim=1).mean().sqrt())
