"""Plots of a report as SVG text. They hold no clock or random ids, so the same figures give the same bytes."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluation import metrics
from engine.evaluation.events import Judged
from engine.evaluation.figures import found_mes
from engine.evaluation.matching import VideoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOUND, MISSED, FALSE, OTHER, LINE = "#2a9d5c", "#d1495b", "#e07a1f", "#b8c0cc", "#30507a"


def precision_recall(swept: Sequence[VideoResult], operating: dict[str, Any]) -> str:
    """Precision against recall over all thresholds, with the chosen point marked."""
    curve = metrics.sweep(swept)
    figure, axes = _axes(4.6, 3.6)
    axes.step(curve.recall, curve.precision, where="post", color=LINE)
    axes.plot(operating["recall"], operating["precision"], "o", color=MISSED, label="chosen threshold")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="lower left", frameon=False)
    return _svg(figure)


def alarms_recall(swept: Sequence[VideoResult], quiet: Sequence[VideoResult]) -> str:
    """Recall against false alarms per hour on `quiet`, over all thresholds; log scale."""
    curve, alarms = metrics.sweep(swept), metrics.sweep(quiet)
    index = np.searchsorted(-alarms.thresholds, -curve.thresholds, side="right")
    per_hour = np.concatenate([[0], alarms.fp])[index] / max(metrics.hours(quiet), 1e-9)
    figure, axes = _axes(4.6, 3.6)
    least = 0.5 / max(metrics.hours(quiet), 1e-9)
    axes.step(np.maximum(per_hour, least), curve.recall, where="post", color=LINE)
    for name, rate in metrics.FA_RATES_PER_HOUR.items():
        axes.axvline(rate, color=OTHER, lw=1, zorder=0)
        axes.text(rate, 1.03, name, ha="center", fontsize=8)
    axes.set(xscale="log", xlabel="false alarms per hour", ylabel="recall", ylim=(0, 1.02))
    return _svg(figure)


def recall_bars(rows: Sequence[dict[str, Any]], xlabel: str) -> str:
    """Recall per bin with its interval and number of MEs."""
    figure, axes = _axes(4.6, 3.2)
    at = np.arange(len(rows))
    recall = np.array([r["recall"] for r in rows])
    low, high = np.array([r["recall_ci95"] for r in rows]).reshape(-1, 2).T
    error = np.maximum(0, [recall - low, high - recall])
    axes.bar(at, recall, color=LINE, yerr=error, capsize=3, ecolor="#555")
    axes.set_xticks(at, [f"{interval(r)}\nn = {r['n']}" for r in rows], fontsize=8)
    axes.set(xlabel=xlabel, ylabel="recall", ylim=(0, 1.02))
    return _svg(figure)


def interval(row: dict[str, Any]) -> str:
    """A bin in words."""
    return f"{row['from']:g}-{row['to']:g}" if row["to"] is not None else f">= {row['from']:g}"


def trace(video: Judged, threshold: float) -> str:
    """One video: score over time; true MEs above (found or missed), detections below (right or false)."""
    result = video.result
    fps = result.fps
    figure, axes = _axes(11, 1.9)
    if video.trace:
        times, scores = zip(*video.trace, strict=True)
        axes.plot(times, scores, color=LINE, lw=0.9)
    for other in video.other:
        axes.axvspan(other.onset_s, other.offset_s, color=OTHER, alpha=0.35, lw=0)
        axes.text(other.onset_s, 0.02, other.kind, fontsize=6, color="#556", clip_on=True)
    for truth, detection in found_mes(result):
        span = (truth.onset / fps, (truth.offset + 1) / fps)
        axes.axvspan(*span, ymin=0.88, ymax=1, color=FOUND if detection else MISSED, lw=0)
        axes.axvspan(*span, color=FOUND if detection else MISSED, alpha=0.12, lw=0)
    for d, hit in metrics.pairs(result, -np.inf):
        axes.plot([d.onset / fps, (d.offset + 1) / fps], [d.score] * 2, color=FOUND if hit else FALSE, lw=3)
    axes.axhline(threshold, color="#888", lw=0.8, ls=":")
    axes.set(xlim=(0, max(result.duration_s, 1 / fps)), ylim=(0, 1.12), xlabel="s", ylabel="score")
    return _svg(figure)


def _axes(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "mestream", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
