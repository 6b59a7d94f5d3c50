"""An evaluation as Markdown, as one self-contained HTML page with plots, and as JSON."""

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from engine.evaluation import metrics, plots
from engine.evaluation.events import Judged
from engine.evaluation.figures import Decided

TRACES = 30
"""The most videos with a plotted score trace. The most informative come first."""
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2rem auto;padding:0 1rem;color:#1d2733}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}th,td{padding:.2rem .8rem;border-bottom:1px solid #dde3ea;
text-align:left;font-variant-numeric:tabular-nums}th{font-weight:600}svg{max-width:100%;height:auto}
.plots{display:flex;flex-wrap:wrap;gap:1.5rem}figure{margin:0}figcaption{font-size:.9rem;color:#556}
code{background:#f1f4f7;padding:0 .25rem}"""

Table = tuple[str, str, list[list[str]]]
"""Title, remark, and rows. The first row is the heading."""


def write_report(out: Path, title: str, command: str, decided: Decided, figures: dict[str, Any]) -> None:
    """Writes `report.md`, `report.html` and `evaluation.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tables = list(_tables(figures))
    (out / "evaluation.json").write_text(json.dumps({"command": command, **figures}, indent=1) + "\n", encoding="utf-8")
    (out / "report.md").write_text(_markdown(title, command, figures, tables), encoding="utf-8")
    (out / "report.html").write_text(_page(title, command, decided, figures, tables), encoding="utf-8")


def headline(figures: dict[str, Any]) -> str:
    """The result in one line."""
    rule, quiet = figures["rule"], figures["false_alarms"]["me_free"]
    rate = (
        "no ME-free video" if quiet["per_hour"] is None else f"{quiet['per_hour']:.3g} false alarms/h on ME-free video"
    )
    return (
        f"F1 {rule['f1']:.3f} (precision {rule['precision']:.3f}, recall {rule['recall']:.3f}; "
        f"TP {rule['tp']}, FP {rule['fp']}, FN {rule['fn']}), {rate}"
    )


def _tables(f: dict[str, Any]) -> Iterable[Table]:
    yield _headline_table(f)
    yield _alarm_table(f)
    yield _timing_table(f)
    yield from _recall_tables(f)
    for tag, groups in f["by_tag"].items():
        yield f"By {tag}", "", [_GROUP, *(_group_row(value, g) for value, g in groups.items())]
    if f["alarms_on"]:
        yield "What the false alarms lie on", "", [["", "alarms"], *([k, str(n)] for k, n in f["alarms_on"].items())]
    if f["suppressed"]:
        yield "Started and taken back", "", [["reason", "times"], *([k, str(n)] for k, n in f["suppressed"].items())]
    yield (
        "The same events by others' counting",
        "Not how this project is judged: see `engine/evaluation/counting.py`.",
        [["rule", *_COUNTS], *([f"`{rule}`", *_row(c)] for rule, c in f["others"].items())],
    )
    yield (
        "By person",
        "",
        [["person", "threshold", *_GROUP[1:]]]
        + [[s, _n(f["threshold"]["of"].get(s)), *_group_row(s, g)[1:]] for s, g in f["by_person"].items()],
    )


def _recall_tables(f: dict[str, Any]) -> Iterable[Table]:
    """Recall of MEs by their size, length, region and surroundings."""
    if f["from_size"]:
        yield (
            "MEs from a size on",
            "On a 256-px face; smaller ones and what fits them are left out.",
            [["size", *_COUNTS], *([f">= {px} px", *_row(c)] for px, c in f["from_size"].items())],
        )
    if f["visible"]:
        yield _visible_table(f)
    for name, title in (
        ("by_visibility", "Recall by visibility"),
        ("by_size", "Recall by size, px on a 256-px face"),
        ("by_length", "Recall by length, s"),
    ):
        if f[name]:
            yield title, "", [_RECALL, *([plots.interval(r), *_recall_row(r)] for r in f[name])]
    for name, title in (("by_region", "Recall by region"), ("by_company", "Recall by what else goes on meanwhile")):
        if f[name]:
            yield (
                title,
                "An ME may stand in several rows.",
                [_RECALL, *([k, *_recall_row(r)] for k, r in f[name].items())],
            )


_COUNTS = ["TP", "FP", "FN", "precision", "recall", "F1"]
_RECALL = ["", "MEs", "recall", "95 %"]
_GROUP = ["", "videos", "minutes", "MEs", *_COUNTS, "false alarms/min"]


def _headline_table(f: dict[str, Any]) -> Table:
    rule, at = f["rule"], f["recall_at"]
    where = "ME-free video" if f["recall_at_counts"] == "me_free" else "all video (none is ME-free)"
    rows = [
        ["", "value", "95 % over people"],
        ["F1", _n(rule["f1"]), _ci(rule["f1_ci95"])],
        ["precision", _n(rule["precision"]), _ci(rule["precision_ci95"])],
        ["recall", _n(rule["recall"]), _ci(rule["recall_ci95"])],
        ["TP / FP / FN", f"{rule['tp']} / {rule['fp']} / {rule['fn']}", ""],
        [f"paper's metric: F1 at T_eval = {f['paper']['t_eval']:g}", _n(f["paper"]["f1"]), ""],
        *([f"F1 at IoU >= {iou}", _n(c["f1"]), ""] for iou, c in f["by_iou"].items()),
        ["average precision over intervals", _n(f["average_precision"]), ""],
        ["frame AP", _n(f["frame_ap"]), ""],
        ["action-start p-mAP, 0.1-1 s", _n(f["start_pmap"]), ""],
        *([f"recall at {rate} false alarms on {where}", _n(r), ""] for rate, r in at.items()),
        ["best F1 with a threshold chosen on the test videos (not a result)", _n(f["best_f1_on_test"]), ""],
    ]
    m = f["material"]
    remark = (
        f"{m['mes']} MEs in {m['videos']} videos of {m['people']} people, {m['minutes']:.1f} min; "
        f"of these {m['me_free_videos']} videos ({m['me_free_minutes']:.1f} min) without ME. "
        f"Threshold: {f['threshold']['how']}."
    )
    return "Result", remark, rows


def _visible_table(f: dict[str, Any]) -> Table:
    v = f["visible"]
    rows = [
        ["", "value", "95 % over people"],
        *([name, _n(v[key]), _ci(v[f"{key}_ci95"])] for name, key in (("visible F1", "f1"), ("recall", "recall"))),
        ["TP / FP / FN", f"{v['tp']} / {v['fp']} / {v['fn']}", ""],
        *([f"recall at {rate} false alarms", _n(r), ""] for rate, r in v["recall_at"].items()),
    ]
    remark = f"MEs of visibility {v['from']:g} and more; less visible ones, and what fits them, count neither way."
    return "Visible MEs", remark, rows


def _alarm_table(f: dict[str, Any]) -> Table:
    rows = [["on", "alarms", "minutes", "per hour", "95 % (Garwood)"]]
    for name, r in (("all video", f["false_alarms"]["all"]), ("ME-free video", f["false_alarms"]["me_free"])):
        rows.append([name, str(r["alarms"]), f"{r['minutes']:.1f}", _n(r["per_hour"]), _ci(r["per_hour_ci95"])])
    return "False alarms", "", rows


def _timing_table(f: dict[str, Any]) -> Table:
    words = {
        "onset_error_s": "onset error",
        "apex_error_s": "apex error",
        "offset_error_s": "offset error",
        "boundary_error_s": "boundary error (onset and offset)",
        "start_delay_s": "delay of `start` after the true onset",
        "end_delay_s": "delay of `end` after the true offset",
    }
    rows = [[words[k], str(t["n"]), _ms(t["median"]), _ms(t["p90"])] for k, t in f["timing"].items()]
    remark = "Of true positives; stream time, without the time that processing takes."
    return "Boundaries and delays", remark, [["ms", "n", "median", "90 %"], *rows]


def _row(c: dict[str, Any]) -> list[str]:
    return [str(c["tp"]), str(c["fp"]), str(c["fn"]), _n(c["precision"]), _n(c["recall"]), _n(c["f1"])]


def _recall_row(r: dict[str, Any]) -> list[str]:
    return [str(r["n"]), _n(r["recall"]), _ci(r["recall_ci95"])]


def _group_row(name: str, g: dict[str, Any]) -> list[str]:
    counts = _row(g) if g["mes"] else [str(g["tp"]), str(g["fp"]), str(g["fn"]), "-", "-", "-"]
    return [name, str(g["videos"]), f"{g['minutes']:.1f}", str(g["mes"]), *counts, _n(g["alarms_per_minute"])]


def _markdown(title: str, command: str, figures: dict[str, Any], tables: Sequence[Table]) -> str:
    lines = [f"# {title}", "", f"`{command}`", "", headline(figures) + ".", ""]
    for name, remark, rows in tables:
        lines += [f"## {name}", "", *([remark, ""] if remark else [])]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows[:1]]
        lines += ["|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows[1:]] + [""]
    if figures["notes"]:
        lines += ["## Notes on the annotations", "", *(f"- {note}" for note in figures["notes"]), ""]
    return "\n".join(lines)


def _page(title: str, command: str, decided: Decided, figures: dict[str, Any], tables: Sequence[Table]) -> str:
    parts = [f"<h1>{html.escape(title)}</h1><p><code>{html.escape(command)}</code></p><p>{headline(figures)}.</p>"]
    for i, (name, remark, rows) in enumerate(tables):
        parts.append(f"<h2>{html.escape(name)}</h2>" + (f"<p>{html.escape(remark)}</p>" if remark else ""))
        parts.append(_html_table(rows))
        if i == 0:
            parts.append(f'<div class="plots">{"".join(_plots(decided, figures))}</div>')
    if figures["notes"]:
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in figures["notes"])
        parts.append(f"<h2>Notes on the annotations</h2><ul>{notes}</ul>")
    parts += ["<h2>Score traces</h2><p>Above: true MEs, green found, red missed. Bars: emitted intervals, green right, "
              "orange false. Grey: other movements and nuisances.</p>", *_traces(decided)]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _html_table(rows: list[list[str]]) -> str:
    def line(row: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell).replace('`', '')}</{tag}>" for cell in row) + "</tr>"

    return "<table>" + line(rows[0], "th") + "".join(line(row, "td") for row in rows[1:]) + "</table>"


def _plots(decided: Decided, figures: dict[str, Any]) -> Iterable[str]:
    swept = [j.result for j in decided.swept]
    quiet = metrics.me_free(swept) or swept
    yield _figure(plots.precision_recall(swept, figures["rule"]), "Precision against recall")
    where = "ME-free video" if metrics.me_free(swept) else "all video"
    yield _figure(plots.alarms_recall(swept, quiet), f"Recall against false alarms per hour on {where}")
    if figures["by_size"]:
        yield _figure(plots.recall_bars(figures["by_size"], "size, px on a 256-px face"), "Recall by size")
    if figures["by_length"]:
        yield _figure(plots.recall_bars(figures["by_length"], "length, s"), "Recall by length")


def _traces(decided: Decided) -> Iterable[str]:
    def to_explain(j: Judged) -> tuple[int, str]:
        c = metrics.count([j.result])
        return -(c.fp + c.fn), j.result.name

    shown = sorted(decided.final, key=to_explain)[:TRACES]
    for j in shown:
        c = metrics.count([j.result])
        words = f"{j.result.subject}, {j.result.name}: TP {c.tp}, FP {c.fp}, FN {c.fn}"
        yield _figure(plots.trace(j, decided.thresholds.get(j.result.subject, 0.0)), words)
    if len(decided.final) > len(shown):
        yield f"<p>{len(decided.final) - len(shown)} more videos are not shown.</p>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _n(x: float | None) -> str:
    return "-" if x is None else f"{x:.3f}" if abs(x) < 10 else f"{x:.1f}"


def _ms(x: float | None) -> str:
    return "-" if x is None else f"{1000 * x:.0f}"


def _ci(pair: Sequence[float | None] | None) -> str:
    return "-" if pair is None or None in pair else f"{_n(pair[0])}-{_n(pair[1])}"
