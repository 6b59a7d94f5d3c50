"""CSV: one row per interval, with all videos and raters in one file. Times are to the microsecond."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from engine.spec import REGIONS
from stream.sessions.rows import Row, VideoRows, mark_in, units_text

TIMES = ("onset_s", "apex_s", "offset_s")
COLUMNS = ("video", "video_starts_s", "video_started", "rater", "id", "face", *TIMES, "verdict", "units", "note",
           "score", *(f"region_{region}" for region in REGIONS))  # fmt: skip


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file. Each row states the clocks: the source's time and the wall clock at time 0 of its video."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in videos:
        for row in one.rows:
            mark = row.mark
            times = ["" if time is None else f"{time:.6f}" for time in (mark.onset_s, mark.apex_s, mark.offset_s)]
            regions = [row.regions.get(region, "") for region in REGIONS]
            writer.writerow([row.video, f"{one.video.starts_s:.6f}", one.started, row.rater, mark.id, mark.face, *times,
                             row.verdict, units_text(mark.units), mark.note, row.score, *regions])  # fmt: skip
    return {out: text.getvalue()}


def is_ours(path: Path) -> bool:
    """Whether the header has the time columns that `rows` needs."""
    return {"onset_s", "offset_s"} <= set(_reader(path).fieldnames or ())


def rows(path: Path) -> list[Row]:
    """Returns the rows of a table with at least `onset_s` and `offset_s`. Raises ValueError that names the line."""
    found, table = [], _reader(path)
    for line in table:
        said = {name: text or "" for name, text in line.items() if name}
        try:
            onset_s, apex_s, offset_s = (float(said[name]) if said.get(name) else None for name in TIMES)
            if onset_s is None or offset_s is None:
                raise ValueError("onset_s or offset_s is empty")
            mark = mark_in(said.get("id", ""), int(said.get("face") or 0), (onset_s, apex_s, offset_s),
                           said.get("verdict", ""), units=said.get("units", ""), note=said.get("note", ""))  # fmt: skip
        except ValueError as error:
            raise ValueError(f"line {table.line_num}: {error}") from None
        found.append(Row(said.get("video", ""), said.get("rater", ""), mark))
    return found


def _reader(path: Path) -> "csv.DictReader[str]":
    text = path.read_bytes().decode("utf-8-sig")  # a spreadsheet writes a byte order mark
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
