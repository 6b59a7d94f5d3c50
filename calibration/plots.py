"""Plots the results of the commands into a file. Its ending names the format (PNG, SVG, PDF)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calibration.probability import FittedProbability
from calibration.visible import visible_px
from stream.decide.operating_point import OperatingPoint
from stream.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calibration.int8 import Choice, Histogram
    from calibration.look import Look
    from calibration.verdicts import Verdict

LINE, MARK, FAINT = "#30507a", "#d1495b", "#b8c0cc"


def rates(table: Sequence[dict[str, Any]], point: OperatingPoint, path: Path) -> None:
    """False alarms per hour and their bound, and recall where known, over the threshold."""
    rows = sorted(table, key=lambda r: r["threshold"])
    at = [r["threshold"] for r in rows]
    figure, axes = panel(1, 6.4, 4.2)
    left = axes[0]
    left.fill_between(at, [max(r["false_alarms_per_hour"], 0.1) for r in rows], [r["upper_bound"] for r in rows],
                      color=FAINT, alpha=0.6, label="up to the 95 % bound")  # fmt: skip
    left.plot(at, [max(r["false_alarms_per_hour"], 0.1) for r in rows], "o-", color=LINE, label="measured")
    left.plot(point.threshold, max(point.false_alarms_per_hour, 0.1), "D", color=MARK, ms=9, label="operating point")
    left.set(yscale="log", xlabel="threshold", ylabel="false alarms per hour", title=f"{point.hours:.2f} h without MEs")
    if all("recall" in r for r in rows):
        right = left.twinx()
        right.plot(at, [r["recall"] for r in rows], "s--", color="#2a9d5c", label="recall")
        right.set(ylabel="recall", ylim=(0, 1))
        right.legend(loc="lower left", frameon=False)
    left.legend(loc="upper right", frameon=False)
    save(figure, path)


def reliability(found: FittedProbability, path: Path) -> None:
    """Reliability diagram before and after."""
    figure, axes = panel(2, 8.4, 4.2)
    for axis, bins, title in (
        (axes[0], found.bins_before, f"score, ECE {found.ece_before:.3f}"),
        (axes[1], found.bins_after, f"{found.method}, held out, ECE {found.ece_after:.3f}"),
    ):
        axis.plot([0, 1], [0, 1], ":", color="#888")
        axis.plot([p for p, *_ in bins], [s for _, s, _ in bins], "o-", color=LINE)
        for p, share, n in bins:
            axis.annotate(str(n), (p, share), textcoords="offset points", xytext=(4, -10), fontsize=7, color="#667")
        axis.set(xlabel="said", ylabel="share that was right", xlim=(0, 1), ylim=(0, 1), title=title)
    save(figure, path)


def baseline(trace: Sequence[tuple[float, float, float]], level: float, path: Path) -> None:
    """Hop scores of one face over time, with the level that they settle on."""
    at, odds, levels = zip(*trace, strict=True) if trace else ((0.0,), (level,), (level,))
    figure, axes = panel(1, 8.4, 3.4)
    axes[0].plot([t - at[0] for t in at], odds, ".", color=FAINT, label="hops")
    axes[0].plot([t - at[0] for t in at], levels, color=LINE, label="level so far")
    axes[0].axhline(level, color=MARK, ls=":", label=f"level {level:.2f}")
    axes[0].set(xlabel="s", ylabel="log-odds of the score")
    axes[0].legend(frameon=False)
    save(figure, path)


def camera(seen: "Look", judged: "Sequence[Verdict]", crop: NDArray, motion: NDArray, path: Path) -> None:
    """The verdicts, the rate, the light over time, and the smallest visible movement at each place of the face."""
    figure, axes = panel(2, 10.5, 7.5, rows=2)
    colours = {"good": "#2a9d5c", "fair": "#e0a01f", "bad": MARK}
    axes[0].axis("off")
    for row, v in enumerate(judged):
        y = 1 - (row + 0.5) / len(judged)
        axes[0].text(0.0, y, v.item, va="center", fontsize=9, weight="bold")
        axes[0].text(0.3, y, v.grade, va="center", fontsize=9, color=colours[v.grade], weight="bold")
        axes[0].text(0.42, y, v.says, va="center", fontsize=8)
    at = np.array(seen.time_s) - seen.time_s[0]
    axes[1].plot(at[1:], 1000 * np.diff(at), ".", ms=3, color=LINE)
    axes[1].set(xlabel="s", ylabel="ms from frame to frame", title="frame intervals")
    axes[1].set_ylim(0, 1300 * float(np.diff(at).max()))
    axes[2].plot(at, [float(b.mean()) for b in seen.bands], color=LINE, lw=0.8)
    axes[2].set(xlabel="s", ylabel="mean grey level", title="brightness of the picture")
    axes[3].imshow(crop, cmap="gray", extent=(0, 1, 0, 1), vmin=0, vmax=255)
    shown = axes[3].imshow(visible_px(motion), extent=(0, 1, 0, 1), alpha=0.5, cmap="viridis_r", vmin=0, vmax=4)
    axes[3].axis("off")
    axes[3].set_title("smallest movement, px on a 256-px face")
    figure.colorbar(shown, ax=axes[3])
    save(figure, path)


def ranges(seen: "Mapping[str, Histogram]", chosen: "Choice", path: Path) -> None:
    """Per layer the distribution of |activation| and the ranges that were tried."""
    from calibration.int8 import WAYS

    columns = 4
    figure, axes = panel(columns, 3 * columns, 2.1 * -(-len(seen) // columns), rows=-(-len(seen) // columns))
    for axis, (name, h) in zip(axes, seen.items(), strict=False):
        at = (np.arange(len(h.counts)) + 0.5) * h.top / len(h.counts)
        axis.plot(at, np.maximum(h.counts, 0.5), color=LINE, lw=0.8)
        for (way, range_of), style in zip(WAYS.items(), (":", "--", "-"), strict=True):
            axis.axvline(range_of(h), color=MARK, ls=style, lw=1, label=way)
        left = "" if chosen.ranges[name] is not None else " (floating point)"
        axis.set(yscale="log", title=name + left)
        axis.title.set_fontsize(8)
    axes[0].legend(fontsize=7, frameon=False)
    for axis in axes[len(seen) :]:
        axis.axis("off")
    save(figure, path)


def panel(columns: int, width: float, height: float, rows: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure of so many axes, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def save(figure: "Figure", path: Path) -> None:
    """Raises UserError with the file's name when it can't be written."""
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: {error}; name a .png, .svg or .pdf file") from None
