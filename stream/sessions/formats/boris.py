"""BORIS: writes rows to paste into the events of an observation, and reads its exports of tabular events.

Pasted rows have no header: time, subject, behaviour, modifier, comment, frame. A state event has two rows: the first
starts it and the second stops it. BORIS fills in the frame.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stream.sessions.formats.placing import per_video
from stream.sessions.rows import Row, VideoRows, lanes, mark_in, rater_and_face, units_text

APEX = "apex"
PASTED = 6


@dataclass(frozen=True, slots=True)
class _Event:
    time_s: float
    subject: str
    behaviour: str
    modifier: str
    comment: str
    video: str = ""
    type: str = ""


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file per video. It has no line end after the last row, because BORIS rejects one."""
    return per_video(videos, out, lambda one: "\n".join(_lines(one)))


def _lines(one: VideoRows) -> Iterator[str]:
    for subject, rows in lanes(one.rows).items():
        for row in rows:
            mark = row.mark
            said = {"id": mark.id, "note": mark.note, "score": row.score}
            comment = json.dumps({name: value for name, value in said.items() if value}, ensure_ascii=False)
            behaviour, units = row.verdict or "detected", units_text(mark.units)
            yield "\t".join((f"{mark.onset_s:.6f}", subject, behaviour, units, comment, "NA"))
            if mark.apex_s is not None:
                yield "\t".join((f"{mark.apex_s:.6f}", subject, APEX, "", "", "NA"))
            yield "\t".join((f"{mark.offset_s:.6f}", subject, behaviour, units, "", "NA"))


def rows(path: Path) -> list[Row]:
    """Returns the intervals of pasted rows, or of an export of tabular events. Raises ValueError that names the row."""
    text = path.read_bytes().decode("utf-8-sig")
    header = text.partition("\n")[0].rstrip("\r")
    pasted = header == "" or header.count("\t") == PASTED - 1
    events = list(_pasted(text) if pasted and "Behavior" not in header else _tabular(text, header))
    found: list[Row] = []
    begun: dict[tuple[str, str, str], _Event] = {}
    apexes: dict[str, list[float]] = {}
    for event in events:
        if event.behaviour == APEX:
            apexes.setdefault(event.subject, []).append(event.time_s)
    for event in (event for event in events if event.behaviour != APEX):
        state = (event.subject, event.behaviour, event.modifier)
        if event.type == "POINT":
            found.append(_row(event, event, []))
        elif state not in begun:
            begun[state] = event
        else:
            found.append(_row(begun.pop(state), event, apexes.get(event.subject, [])))
    if begun:
        first = next(iter(begun.values()))
        raise ValueError(f"{first.behaviour} of {first.subject!r} at {first.time_s} s does not stop; stop it in BORIS")
    return found


def _row(start: _Event, stop: _Event, apexes_s: Iterable[float]) -> Row:
    rater, face = rater_and_face(start.subject)
    try:
        said = json.loads(start.comment or stop.comment)
    except ValueError:
        said = None
    said = said if isinstance(said, dict) else {"note": start.comment}
    apex_s = next((time for time in apexes_s if start.time_s <= time <= stop.time_s), None)
    try:
        mark = mark_in(str(said.get("id", "")), face, (start.time_s, apex_s, stop.time_s), start.behaviour,
                       units=start.modifier, note=str(said.get("note", "")))  # fmt: skip
    except ValueError as error:
        raise ValueError(f"{start.behaviour} at {start.time_s} s: {error}") from None
    return Row(start.video, rater or start.subject, mark)


def _pasted(text: str) -> Iterator[_Event]:
    for number, line in enumerate(text.split("\n"), 1):
        cells = line.rstrip("\r").split("\t")
        if line.strip():
            if len(cells) != PASTED:
                raise ValueError(f"line {number} has {len(cells)} columns, not {PASTED}")
            yield _Event(_seconds(cells[0], number), *cells[1:5])


def _tabular(text: str, header: str) -> Iterator[_Event]:
    table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in header else ",")
    missing = {"Time", "Subject", "Behavior", "Behavior type"} - set(table.fieldnames or ())
    if missing:
        raise ValueError(f"it has no columns {', '.join(sorted(missing))}")
    for line in table:
        said = {name: text or "" for name, text in line.items() if name}
        modifier = next((said[name] for name in ("Modifier #1", "Modifiers") if said.get(name) not in (None, "")), "")
        subject = "" if said["Subject"] == "No focal subject" else said["Subject"]
        video = said.get("Media file name", "").replace("\\", "/").split("/")[-1]
        yield _Event(_seconds(said["Time"], table.line_num), subject, said["Behavior"], modifier.replace("None", ""),
                     said.get("Comment", ""), video, said["Behavior type"])  # fmt: skip


def _seconds(text: str, number: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"line {number}: {text!r} is not a time in seconds") from None
