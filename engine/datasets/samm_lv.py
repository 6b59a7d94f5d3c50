"""SAMM Long Videos (Yap et al., FG 2020): 200 fps, 147 videos, 159 micro- and 343 macro-expressions.

`SAMM_LongVideos_V1|V2|V3_Release.xlsx` with ten header rows; `SAMM_longvideos/006_1/006_1_0001.jpg` counts from 1.
"""

from pathlib import Path

from engine.datasets.tables import Cell, read_sheet, records, text, whole
from engine.datasets.video import NO_FRAMES, DatasetError, Interval, Video, folders, image_files, mend

FPS = 200.0
HEADINGS = ("Subject", "Filename", "Onset", "Apex", "Offset", "Duration", "Type", "Action Units")


def load_samm_lv(root: Path) -> list[Video]:
    """All videos under `root`, including those without expressions, by the newest release of the table. Raises
    DatasetError."""
    path = _newest_table(root)
    rows: dict[str, list[tuple[int, dict[str, Cell]]]] = {}
    for line, record in records(read_sheet(path), HEADINGS, path):
        rows.setdefault(text(record["Filename"]).rpartition("_")[0], []).append((line, record))
    on_disk = folders(root / "SAMM_longvideos")
    videos = [_video(folder.name, image_files(folder, first=1), rows.pop(folder.name, [])) for folder in on_disk]
    return videos + [_video(name, (), lost) for name, lost in sorted(rows.items())]


def _newest_table(root: Path) -> Path:
    found = [p for v in (3, 2, 1) if (p := root / f"SAMM_LongVideos_V{v}_Release.xlsx").is_file()]
    if not found:
        raise DatasetError(f"{root} has no SAMM_LongVideos_V*_Release.xlsx; put the data set's table there")
    return found[0]


def _video(name: str, frames: tuple[tuple[int, Path], ...], rows: list[tuple[int, dict[str, Cell]]]) -> Video:
    last = frames[-1][0] if frames else None
    intervals: list[Interval] = []
    notes: list[str] = [] if frames else [f"{name} {NO_FRAMES}"]
    for line, record in rows:
        where = f"row {line}"
        onset, apex, offset, length = (whole(record[h]) for h in ("Onset", "Apex", "Offset", "Duration"))
        if onset is None or offset is None:
            notes.append(f"{where}: onset {record['Onset']} or offset {record['Offset']} is not known; left out")
            continue
        if length is not None and length != offset - onset + 1:
            notes.append(f"{where}: duration {length} is not offset - onset + 1 = {offset - onset + 1}; not used")
        kind = "micro" if text(record["Type"]).lower().startswith("micro") else "macro"
        apex_0 = None if apex is None else apex - 1
        interval, mends = mend(onset - 1, apex_0, offset - 1, kind, text(record["Action Units"]), last, where)
        intervals += [interval] if interval else []
        notes += mends
    return Video(name.partition("_")[0], name, FPS, frames, tuple(intervals), tuple(notes))
