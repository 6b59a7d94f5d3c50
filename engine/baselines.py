"""Compare simpler spotters with MESNet by the same rule: `python -m engine.baselines --bench DIR --out DIR`.

- `blendshapes`: what a user would build from MediaPipe. An ME is an expression whose score changes faster than a
  threshold and returns within the length of an ME. Blinks and gaze are left out.
- `flow`: optical-flow peak spotting as in the literature (He et al. 2020, Yu et al. 2021). Regions of interest are
  measured against the nose, band-passed and searched for peaks. The flow is Farneback's, on aligned crops, filtered
  forward and backward over the whole video.
- `chance`: intervals of one length at random times.

Each spotter gets its best threshold (or rate) on the tuning split. `--evaluation FILE` adds MESNet's row. The file is
the evaluation.json that `engine.evaluate` wrote for the same bench.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.datasets.truth import TruthVideo, load_truth
from engine.evaluation import metrics
from engine.evaluation.baseline_signals import BLINK, GAZE, NEUTRAL, REGIONS, Signals, signals_of
from engine.evaluation.events import Said, judged
from engine.evaluation.matching import VideoResult
from stream.errors import UserError

GRID_FPS = 30.0
MIN_S, MAX_S = 0.1, 0.8
"""An interval outside this range is no ME. The tracker uses the same limits."""
LENGTH_S = 0.42
"""Length of the interval around a peak, and of a random one. It overlaps MEs of 300 to 550 ms enough in 94 to 100 %."""
BAND_HZ = (0.8, 6.0)
APART_S = 0.4
SLOPE_S = 0.1
"""The rate of a blendshape is measured over this time."""
THRESHOLDS = 60
RATES_PER_MINUTE = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
ROUNDS = 50
"""Chance is averaged over so many draws."""
Array = NDArray[np.float64]
Spot = tuple[float, float, float, float]
"""Onset, apex, offset in s; score."""
Spotter = Callable[[Signals], list[Spot]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Alarms are false alarms per minute of ME-free video."""

    name: str
    threshold: float
    tp: float
    fp: float
    fn: float
    f1: float
    f1_from_1_5_px: float
    recall: float
    precision: float
    alarms_per_minute: float
    recall_at_10_per_hour: float


def on_grid(time_s: Array, values: Array) -> tuple[Array, Array]:
    """Columns resampled to GRID_FPS; NaNs bridged."""
    grid = np.arange(time_s[0], time_s[-1], 1 / GRID_FPS)
    out = np.zeros((len(grid), values.shape[1]))
    for i, column in enumerate(values.T):
        known = np.isfinite(column)
        if known.any():
            out[:, i] = np.interp(grid, time_s[known], column[known])
    return grid, out


def blendshape_spots(signals: Signals, threshold: float) -> list[Spot]:
    """Stretches in which some expression changes faster than `threshold` per second, with the pause at an apex
    bridged."""
    kept = [i for i in range(signals.blendshapes.shape[1]) if i not in (NEUTRAL, *BLINK, *GAZE)]
    t, scores = on_grid(signals.time_s, signals.blendshapes[:, kept].astype(float))
    steps = max(1, round(SLOPE_S * GRID_FPS))
    rate = np.zeros(len(t))
    if len(t) > steps:
        rate[steps:] = np.abs(scores[steps:] - scores[:-steps]).max(1) / SLOPE_S
    spots = []
    for begin, end in _stretches(rate >= threshold, bridge=round(0.13 * GRID_FPS)):
        onset, offset = float(t[begin]) - SLOPE_S, float(t[end])
        if MIN_S <= offset - onset <= MAX_S:
            spots.append((onset, (onset + offset) / 2, offset, float(rate[begin : end + 1].max())))
    return spots


def flow_spots(signals: Signals) -> list[Spot]:
    """Peaks of the band-passed motion of the region that moves most against the nose, with scores in px of the crop."""
    from scipy.signal import butter, filtfilt, find_peaks

    names = list(REGIONS)
    nose = names.index("nose")
    against = np.delete(signals.moved - signals.moved[:, nose : nose + 1], nose, axis=1)
    t, path = on_grid(signals.time_s, np.cumsum(np.nan_to_num(against), axis=0).reshape(len(against), -1).astype(float))
    if len(t) < 30:
        return []
    b, a = butter(2, np.array(BAND_HZ) / (GRID_FPS / 2), "band")
    swing = filtfilt(b, a, path, axis=0).reshape(len(t), -1, 2)
    size = np.hypot(swing[..., 0], swing[..., 1]).max(1)
    peaks, about = find_peaks(size, distance=max(1, round(APART_S * GRID_FPS)), prominence=1e-3)
    half = LENGTH_S / 2
    ranked = zip(t[peaks].tolist(), about["prominences"].tolist(), strict=True)
    return [(apex - half, apex, apex + half, score) for apex, score in ranked]


def random_spots(duration_s: float, per_minute: float, rng: np.random.Generator) -> list[Spot]:
    """`per_minute` intervals of LENGTH_S a minute, at random times and with random scores."""
    count = rng.poisson(per_minute * duration_s / 60)
    onsets = rng.uniform(0, max(duration_s - LENGTH_S, 0.01), count)
    return [(float(o), float(o) + LENGTH_S / 2, float(o) + LENGTH_S, float(rng.random())) for o in onsets]


def result_of(truth: TruthVideo, spots: Sequence[Spot]) -> VideoResult:
    """Spots as the judge wants them."""
    events = [Said("end", str(i), *spot) for i, spot in enumerate(spots)]
    return judged(truth, events).result


@dataclass(frozen=True, slots=True)
class Split:
    """The videos of one split with their signals."""

    truths: tuple[TruthVideo, ...]
    signals: tuple[Signals, ...]

    def results(self, spotter: Spotter) -> list[VideoResult]:
        """All videos judged."""
        return [result_of(t, spotter(s)) for t, s in zip(self.truths, self.signals, strict=True)]


def blendshapes_row(tune: Split, test: Split) -> Row:
    """The row of `blendshapes`. Its intervals depend on the threshold, so each threshold is a run of its own."""
    peaks = [score for s in tune.signals for *_, score in blendshape_spots(s, 0.05)] or [1.0]
    tried = np.unique(np.quantile(peaks, np.linspace(0.02, 0.999, THRESHOLDS)) * 0.7)

    def at(split: Split, threshold: float) -> list[VideoResult]:
        return split.results(lambda s: blendshape_spots(s, threshold))

    best = max(tried, key=lambda threshold: metrics.count(at(tune, float(threshold))).f1)
    swept = max((_recall_at(at(test, float(x))) for x in tried), default=0.0)
    return _row("blendshape derivative", float(best), at(test, float(best)), -np.inf, swept)


def flow_row(tune: Split, test: Split) -> Row:
    """One sweep over the peaks' prominence."""
    best, found = metrics.best_threshold(tune.results(flow_spots)), test.results(flow_spots)
    return _row("optical-flow peaks", best, found, best, _recall_at(found))


def chance_row(tune: Split, test: Split) -> Row:
    """Mean over ROUNDS draws at the rate that is best on the tuning split."""

    def draws(split: Split, per_minute: float) -> list[list[VideoResult]]:
        rngs = [np.random.default_rng([round_, int(10 * per_minute)]) for round_ in range(ROUNDS)]
        return [[result_of(t, random_spots(t.duration_s, per_minute, rng)) for t in split.truths] for rng in rngs]

    def mean_f1(per_minute: float) -> float:
        return float(np.mean([metrics.count(found).f1 for found in draws(tune, per_minute)]))

    best = max(RATES_PER_MINUTE, key=mean_f1)
    rows = [_row("chance", best, found, -np.inf, _recall_at(found)) for found in draws(test, best)]
    values = {key: float(np.mean([asdict(r)[key] for r in rows])) for key in asdict(rows[0]) if key != "name"}
    return Row("chance", **values)


def _recall_at(found: list[VideoResult]) -> float:
    """The best recall at no more than 10 false alarms per hour of ME-free video."""
    return metrics.recall_at_rate(found, 10.0, metrics.me_free(found))


def _row(name: str, threshold: float, found: list[VideoResult], cut: float, recall_at: float) -> Row:
    counts, large = metrics.count(found, cut), metrics.count_asked(found, metrics.from_size(1.5), cut)
    alarms = metrics.false_alarms_per_hour(metrics.me_free(found), cut) / 60
    rule = (counts.tp, counts.fp, counts.fn, counts.f1)
    return Row(name, threshold, *rule, large.f1, counts.recall, counts.precision, alarms, recall_at)


def mesnet_row(path: Path) -> Row:
    """MESNet's figures from `evaluation.json`. Raises UserError."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rule, large = report["rule"], report["from_size"]["1.5"]
        threshold = float(np.mean(list(report["threshold"]["of"].values())))
        alarms = float(report["false_alarms"]["me_free"]["per_hour"]) / 60
        recall_at = float(report["recall_at"]["10/h"])
        tp, fp, fn, f1, recall, precision = (float(rule[k]) for k in ("tp", "fp", "fn", "f1", "recall", "precision"))
        return Row("MESNet", threshold, tp, fp, fn, f1, float(large["f1"]), recall, precision, alarms, recall_at)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--evaluation {path}: not what engine.evaluate writes on a bench ({error!r})", 2) from None


def table(rows: Sequence[Row], note: str) -> str:
    """The rows in Markdown."""
    columns = ("spotter", "F1", "F1 from 1.5 px", "recall", "precision", "TP / FP / FN", "false alarms a minute",
               "recall at 10 per h")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for r in sorted(rows, key=lambda r: -r.f1):
        rates = f"{r.f1:.3f} | {r.f1_from_1_5_px:.3f} | {r.recall:.3f} | {r.precision:.3f}"
        counts = f"{r.tp:.0f} / {r.fp:.0f} / {r.fn:.0f}"
        lines.append(f"| {r.name} | {rates} | {counts} | {r.alarms_per_minute:.2f} | {r.recall_at_10_per_hour:.3f} |")
    return f"{note}\n\n" + "\n".join(lines) + "\n"


def _stretches(on: NDArray[np.bool_], bridge: int) -> list[tuple[int, int]]:
    """First and last index of every run of True. Runs at most `bridge` apart count as one."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(on).tolist():
        if runs and i - runs[-1][1] <= bridge + 1:
            runs[-1] = runs[-1][0], i
        else:
            runs.append((i, i))
    return runs


def _signals(work: tuple[Path, Path, Path | None]) -> Signals:
    video, kept, face_model = work
    if not kept.is_file() or (video.is_file() and video.stat().st_mtime > kept.stat().st_mtime):
        signals_of(video, face_model).save(kept)
    return Signals.load(kept)


def load_split(folder: Path, split: str, out: Path, workers: int, face_model: Path | None) -> Split:
    """Truth and signals of a bench's split. The signals are computed once and kept in `out`. Raises UserError."""
    from rich.progress import track

    truths = tuple(t for t in load_truth(folder / "truth.json") if t.split == split)
    if not truths:
        raise UserError(f'{folder} has no video of split "{split}"; build it: python -m engine.bench_data', 2)
    kept = out / "signals"
    kept.mkdir(parents=True, exist_ok=True)
    work = [(folder / t.file, kept / f"{Path(t.file).stem}.npz", face_model) for t in truths]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        signals = tuple(track(pool.imap(_signals, work), f"{split} videos", total=len(work)))
    return Split(truths, signals)


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.baselines`: writes the table to baselines.md and baselines.json in --out."""
    parser = argparse.ArgumentParser(prog="python -m engine.baselines", description=main.__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="what python -m engine.bench_data built")
    parser.add_argument("--tune", type=Path, help="where the tuning split is, if not in --bench")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, metavar="FILE", help="evaluation.json of MESNet on the same bench")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    options = parser.parse_args(arguments)
    try:
        ours = [mesnet_row(options.evaluation)] if options.evaluation else []
        tune, test = (
            load_split(folder, split, options.out, options.workers, options.face_model)
            for folder, split in ((options.tune or options.bench, "tune"), (options.bench, "test"))
        )
        rows = [*ours, *(row(tune, test) for row in (flow_row, blendshapes_row, chance_row))]
        minutes = sum(t.duration_s for t in test.truths) / 60
        mes = sum(i.kind == "micro" for t in test.truths for i in t.intervals)
        note = f"{len(test.truths)} videos, {minutes:.1f} min, {mes} MEs; tuned on {len(tune.truths)} others."
        text = table(rows, note)
        (options.out / "baselines.md").write_text(text, encoding="utf-8")
        (options.out / "baselines.json").write_text(
            json.dumps([asdict(r) for r in rows], indent=1) + "\n", encoding="utf-8"
        )
    except UserError as error:
        print(f"baselines: {error}", file=sys.stderr)
        return error.code
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
