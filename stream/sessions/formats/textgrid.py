"""Praat TextGrid: each rater and face has a tier of intervals and one of their apexes. The first tier states the
clocks.
"""

from collections.abc import Sequence
from pathlib import Path

from stream.sessions.formats.placing import per_video
from stream.sessions.rows import VideoRows, lanes

Labelled = tuple[float, float, str]
"""Start and end in s, and the label."""


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file per video."""
    return per_video(videos, out, _text)


def _text(one: VideoRows) -> str:
    tier_rows = lanes(one.rows)
    end_s = max(one.duration_s, *(_end(r.mark.onset_s, r.mark.offset_s) for r in one.rows), 0.001)
    tiers = [_intervals("clocks", [(0.0, end_s, one.clocks)], end_s)]
    for lane, on_lane in tier_rows.items():
        spans = [(r.mark.onset_s, _end(r.mark.onset_s, r.mark.offset_s), r.label or "detected") for r in on_lane]
        tiers.append(_intervals(lane, spans, end_s))
        points: dict[float, str] = {}
        for r in on_lane:
            if r.mark.apex_s is not None:  # two points at one time would not load
                points[r.mark.apex_s] = f"{points[r.mark.apex_s]} | apex" if r.mark.apex_s in points else "apex"
        if points:
            tiers.append(_points(f"{lane} apex", points, end_s))
    head = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end_s:.6f}",
            "tiers? <exists>", f"size = {len(tiers)}", "item []:"]  # fmt: skip
    body = [line for n, tier in enumerate(tiers, 1) for line in (f"    item [{n}]:", *tier)]
    return "\n".join([*head, *body]) + "\n"


def _intervals(name: str, spans: Sequence[Labelled], end_s: float) -> list[str]:
    """Returns an interval tier, which fills all of the time. It is empty where nothing is marked."""
    filled, at_s = [], 0.0
    for start_s, stop_s, label in spans:
        if start_s > at_s:
            filled.append((at_s, start_s, ""))
        filled.append((start_s, stop_s, label))
        at_s = stop_s
    if end_s > at_s:
        filled.append((at_s, end_s, ""))
    lines = [*_head("IntervalTier", name, end_s), f"        intervals: size = {len(filled)}"]
    for n, (start_s, stop_s, label) in enumerate(filled, 1):
        lines += [f"        intervals [{n}]:", f"            xmin = {start_s:.6f}", f"            xmax = {stop_s:.6f}",
                  f"            text = {_quoted(label)}"]  # fmt: skip
    return lines


def _points(name: str, points: dict[float, str], end_s: float) -> list[str]:
    lines = [*_head("TextTier", name, end_s), f"        points: size = {len(points)}"]
    for n, (time_s, label) in enumerate(sorted(points.items()), 1):
        lines += [f"        points [{n}]:", f"            number = {time_s:.6f}",
                  f"            mark = {_quoted(label)}"]  # fmt: skip
    return lines


def _head(kind: str, name: str, end_s: float) -> list[str]:
    return [f'        class = "{kind}"', f"        name = {_quoted(name)}", "        xmin = 0",
            f"        xmax = {end_s:.6f}"]  # fmt: skip


def _end(onset_s: float, offset_s: float) -> float:
    return max(offset_s, onset_s + 0.001)  # Praat has no empty intervals


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
