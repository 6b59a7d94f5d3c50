"""How much a face may move of itself before micro-expressions are lost in it: F1 over liveliness, same faces, same MEs.

On pools of tuning people (`engine.training.pool --split tune`, `film`, `footage`): their sequences without an ME are
made so many times as lively behind the motion stem, from twice on with most of another one's motion on top; then an ME
is imprinted into every other one. Judged by the live decisions (`engine.training.online`).
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.export import load_network
from engine.model import load_model
from engine.spec import ModelSpec
from engine.training.actors import actors_of
from engine.training.augment import distorted, overlaid
from engine.training.imprint import Imprinter, imprinted, moved_by, together
from engine.training.loss import MICRO
from engine.training.online import Online, Spotted, Truth, figures
from engine.training.pool import LENGTH, Pool, label_row
from engine.training.stemmed import split_stem, unsquashed
from stream.errors import UserError

ON_TOP = 0.7
"""Share of the other sequence's motion."""
AS_IT_IS = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
FACE = slice(3, 13)
"""Windows of the grid, along either side, that lie on the face."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, nargs="+", required=True, help="pools of tuning people")
    parser.add_argument("--actors", type=Path, required=True, help="whose MEs are imprinted: those of the tune split")
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0], help="how many times as lively")


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    net = load_network(load_model(args.model))
    spec = replace(net.spec, clip_frames=LENGTH)
    online, imprinter = Online(net), Imprinter(actors_of(args.actors, "tune"), spec)
    pool = Pool(args.pool, net.spec)
    drawn = (pool[index] for index in range(len(pool)))
    free = [torch.as_tensor(rows).float()[None] for rows, truth in drawn if not (truth[:, 0] == MICRO).any()]
    if len(free) < 2:
        raise UserError("--pool: fewer than two sequences without a micro-expression; give larger ones")
    rows = [_row(times, free, online, imprinter, spec) for times in args.times]
    for row in rows:
        print(
            "{times:4.1f} times as lively, {motion_px:.2f} px in 0.1 s | F1 {f1:.3f}, from 1.5 px {f1_large:.3f} | "
            "recall at one alarm a minute {recall_at_1_per_min:.3f} | {mes} MEs, {minutes:.1f} min".format(**row)
        )
    return {"rows": rows}


def _row(times: float, free: list[Tensor], online: Online, imprinter: Imprinter, spec: ModelSpec) -> dict[str, Any]:
    spotted: list[Spotted] = []
    truth: list[Truth] = []
    motion = []
    for index, rows in enumerate(free):
        rng = np.random.default_rng(index)
        other = free[(index + 1 + int(rng.integers(len(free) - 1))) % len(free)]
        rows = livelier(rows, other, times, spec)
        motion.append(motion_px(rows, spec))
        if index % 2 == 0:
            label, movement = imprinter.movement(rng, float(rng.uniform(20, LENGTH - 45)), LENGTH)
            assert label is not None
            rows = imprinted(rows, moved_by(*together([[movement]], spec)), online.net.stem, spec)
            row = label_row(label, spec.fps)
            truth.append(Truth(index, float(row[1]), float(row[3]), float(row[4])))
        spotted += online.spot(index, rows[0])
    minutes = len(free) * LENGTH / spec.fps / 60
    said = {name: round(value, 3) for name, value in figures(spotted, truth, minutes).items()}
    typical_px = round(float(np.median(motion)), 3)
    return {"times": times, "motion_px": typical_px, "mes": len(truth), "minutes": minutes} | said


def livelier(rows: Tensor, other: Tensor, times: float, spec: ModelSpec) -> Tensor:
    """Stem rows [1, T, features] of a face that moves so many times as much; from twice on, another one's on top."""
    gain = torch.tensor([times])
    rows = distorted(rows, AS_IT_IS, gain, spec)
    if times < 2:
        return rows
    return overlaid(rows, distorted(other, AS_IT_IS, gain, spec), torch.tensor([ON_TOP]), spec)


def motion_px(rows: Tensor, spec: ModelSpec) -> float:
    """How far the face's windows move over the shortest lag, rms in crop px; what all of the face does is taken out."""
    local, _ = split_stem(rows, spec)
    lags = len(spec.lags)
    motion = unsquashed(local[:, [0, lags], FACE, FACE])
    return float((motion * motion).sum(dim=1).mean().sqrt())
