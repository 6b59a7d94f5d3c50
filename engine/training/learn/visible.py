"""Compares networks by visible recall at a false-alarm rate, on clean sequences.

    python -m engine.training.learn.visible --model A B --pool CLEAN ... --imprint ACTORS

The sequences of the pools hold no micro-expression (`engine.training.film.footage --clean`). Each runs twice: unchanged
for false alarms, and with two imprinted micro-expressions of known visibility. All networks get the same ones.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.datasets.truth import VISIBLE
from engine.errors import EngineError
from engine.export import load_network
from engine.mesnet import MESNet
from engine.model import load_model
from engine.spec import REGIONS, ModelSpec
from engine.training.generator.actors import actors_of
from engine.training.generator.curves import log_uniform
from engine.training.learn.imprint import Imprinter, Movement, imprinted, moved_by, together
from engine.training.learn.online import Online, Truth, matches
from engine.training.learn.relative import imprints, scaled
from engine.training.pools.pool import LENGTH, Pool
from stream.errors import UserError

ONSETS = ((8.0, 42.0), (66.0, 98.0))
"""The two movements of a sequence begin within these frames. They are apart from each other and from the ends."""
SHOWN = 0.25
"""A region is listed when it has at least this share of the movement."""
BINS = (0.25, 0.5, 1.0, 2.0, np.inf)
ROUNDS = 2000


@dataclass(frozen=True, slots=True)
class Asked:
    """An imprinted micro-expression: its sequence, visibility and regions. `score` is that of the detection, or 0."""

    index: int
    visibility: float
    regions: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a network. `alarms` are (sequence, score) of the false alarms on the clean sequences."""

    asked: tuple[Asked, ...]
    alarms: tuple[tuple[int, float], ...]
    sequences: int
    minutes: float

    def threshold(self, per_hour: float) -> float:
        """The lowest threshold that keeps false alarms within that rate."""
        budget = int(per_hour * self.minutes / 60 + 1e-9)
        scores = sorted((score for _, score in self.alarms), reverse=True)
        return float(np.nextafter(scores[budget], 1.0)) if len(scores) > budget else 0.0

    def recall(self, threshold: float, low: float = VISIBLE, high: float = np.inf, region: str = "") -> float:
        """Recall of the movements with visibility from `low` to below `high`, in `region` if given. Returns nan
        without any."""
        hits = [a.score >= max(threshold, 1e-9) for a in self.asked
                if low <= a.visibility < high and (not region or region in a.regions)]  # fmt: skip
        return float(np.mean(hits)) if hits else float("nan")


@torch.no_grad()
def outcomes(nets: Sequence[MESNet], pool: Pool, imprinter: Imprinter, seed: int) -> list[Outcome]:
    """The results of each network on the pool's sequences, all with the same movements. `imprinter` makes clips of
    LENGTH frames."""
    live = [Online(net) for net in nets]
    asked: list[list[Asked]] = [[] for _ in nets]
    alarms: list[list[tuple[int, float]]] = [[] for _ in nets]
    for index in range(len(pool)):
        rows = torch.as_tensor(np.array(pool[index][0])).float()
        moving, truth, regions = _movements(imprinter, np.random.default_rng([seed, index]), index)
        courses, cells = together([moving], imprinter.spec)
        courses, visibility = scaled(rows[None], courses, cells, imprints([moving]), imprinter.spec)
        shown = imprinted(rows[None], moved_by(courses, cells), nets[0].stem, imprinter.spec)[0]
        for k, online in enumerate(live):
            alarms[k] += [(index, s.score) for s in online.spot(index, rows)]
            spotted = online.spot(index, shown)
            found = {hit: s.score for s, hit in zip(spotted, matches(spotted, truth), strict=True) if hit is not None}
            asked[k] += [
                Asked(index, float(visibility[0, i]), where, found.get(i, 0.0)) for i, where in enumerate(regions)
            ]
    minutes = len(pool) * LENGTH / imprinter.spec.fps / 60
    return [Outcome(tuple(a), tuple(b), len(pool), minutes) for a, b in zip(asked, alarms, strict=True)]


def _movements(
    imprinter: Imprinter, rng: np.random.Generator, index: int
) -> tuple[list[Movement], list[Truth], list[tuple[str, ...]]]:
    """Two micro-expressions: what moves, when, and in which regions."""
    moving, truth, regions = [], [], []
    for span in ONSETS:
        label, movement = imprinter.movement(rng, float(rng.uniform(*span)), LENGTH)
        assert label is not None  # only decoys may lack a label
        assert imprinter.visible is not None
        fps = imprinter.spec.fps
        moving.append(movement._replace(wanted=log_uniform(rng, *imprinter.visible), apex=label.apex_s * fps))
        truth.append(Truth(index, label.onset_s * fps, label.offset_s * fps, 1.0))
        shares = zip(REGIONS, label.regions, strict=True)
        regions.append(tuple(name for name, share in shares if share >= SHOWN))
    return moving, truth, regions


def difference(one: Outcome, other: Outcome, per_hour: float) -> tuple[float, float, float]:
    """Visible recall of `one` minus that of `other` at a rate, with its 95 % interval by bootstrap over sequences.
    Each round chooses each network's threshold again."""
    rng = np.random.default_rng(0)

    def at(outcome: Outcome, times: NDArray[np.intp]) -> float:
        scores = np.array([score for _, score in outcome.alarms])
        weight = times[[i for i, _ in outcome.alarms]] if len(scores) else np.zeros(0, np.intp)
        order = np.argsort(-scores)
        over = np.flatnonzero(np.cumsum(weight[order]) > per_hour * outcome.minutes / 60)
        threshold = scores[order][over[0]] if len(over) else 0.0
        seen = [a for a in outcome.asked if a.visibility >= VISIBLE]
        count = times[[a.index for a in seen]]
        return float((count * np.array([a.score > threshold for a in seen])).sum() / max(count.sum(), 1))

    once = np.ones(one.sequences, np.intp)
    drawn = [np.bincount(rng.integers(0, len(once), len(once)), minlength=len(once)) for _ in range(ROUNDS)]
    low, high = np.quantile([at(one, times) - at(other, times) for times in drawn], [0.025, 0.975])
    return at(one, once) - at(other, once), float(low), float(high)


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.learn.visible`: prints a table with a column for each network."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.learn.visible", description=main.__doc__)
    parser.add_argument("--model", type=Path, nargs="+", required=True, metavar="DIR", help="networks to compare")
    parser.add_argument("--pool", type=Path, nargs="+", required=True, metavar="DIR", help="clean sequences")
    parser.add_argument("--imprint", type=Path, required=True, metavar="DIR", help="actors whose MEs are imprinted")
    parser.add_argument("--split", choices=("tune", "test"), default="tune", help="of the actors")
    parser.add_argument("--per-hour", type=float, nargs="+", default=[10.0, 60.0, 300.0], help="false-alarm rates")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        nets = [load_network(load_model(folder)) for folder in options.model]
        spec = ModelSpec()
        imprinter = Imprinter(actors_of(options.imprint, options.split), replace(spec, clip_frames=LENGTH), (0.3, 4.0))
        found = outcomes(nets, Pool(options.pool, spec), imprinter, options.seed)
    except (UserError, EngineError) as error:
        print(error, file=sys.stderr)
        return error.code if isinstance(error, UserError) else 1
    first = found[0]
    visible = sum(a.visibility >= VISIBLE for a in first.asked)
    print(f"{first.sequences} sequences, {first.minutes:.1f} min; {len(first.asked)} MEs, {visible} visible")
    for folder, outcome in zip(options.model, found, strict=True):
        print(f"{folder}: " + "; ".join(_line(outcome, rate) for rate in options.per_hour))
    for folder, outcome in zip(options.model[1:], found[1:], strict=True):
        for rate in options.per_hour:
            more, low, high = difference(outcome, first, rate)
            print(f"{folder} minus {options.model[0]} at {rate:g} an hour: {more:+.3f} ({low:+.3f} to {high:+.3f})")
    return 0


def _line(outcome: Outcome, per_hour: float) -> str:
    """Recall at a rate: of all visible movements, by visibility and by region."""
    at = outcome.threshold(per_hour)
    bins = ", ".join(f"{low:g}-{high:g} {outcome.recall(at, low, high):.2f}" for low, high in pairwise(BINS))
    regions = ", ".join(f"{name} {outcome.recall(at, region=name):.2f}" for name in REGIONS)
    return f"at {per_hour:g}/h visible {outcome.recall(at):.3f} ({bins}; {regions})"


if __name__ == "__main__":
    sys.exit(main())
