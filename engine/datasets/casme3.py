"""CAS(ME)^3 part A (Li et al., IEEE TPAMI 45(3), 2023): 30 fps, micro- and macro-expressions, and blinks.

`CAS(ME)3_part_A_v2.xls` has the sheets `AU+Emotion` and `eye blink`. Frames are `data/spNO.1/a/color/<n>.jpg`, with the
annotation's numbers and with gaps. Its MEs differ from the 0.5 s rule: onset to apex is at most 8 frames, but the whole
may be longer (median 733 ms).
"""

from pathlib import Path

from engine.datasets.tables import Cell, read_sheet, records, text, whole
from engine.datasets.video import NO_FRAMES, Interval, Video, folders, image_files, known_offset, mend

FPS = 30.0
ANNOTATIONS = "CAS(ME)3_part_A_v2.xls"
EXPRESSION = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Expression type")
BLINK = ("Subject", "Filename", "Onset", "Offset")


def load_casme3(root: Path) -> list[Video]:
    """All videos under `root`, including those without expressions. Raises DatasetError."""
    path = root / ANNOTATIONS
    rows: dict[tuple[str, str], list[tuple[str, str, dict[str, Cell]]]] = {}
    for line, record in records(read_sheet(path, "AU+Emotion"), EXPRESSION, path):
        kind = "micro" if text(record["Expression type"]).lower().startswith("micro") else "macro"
        rows.setdefault(_video_of(record), []).append((f"AU+Emotion row {line}", kind, record))
    for line, record in records(read_sheet(path, "eye blink"), BLINK, path, optional=("Apex",)):
        rows.setdefault(_video_of(record), []).append((f"eye blink row {line}", "blink", record))
    videos = []
    for subject in folders(root / "data"):
        for folder in folders(subject):
            if (folder / "color").is_dir():
                key = (subject.name.lower(), folder.name.lower())
                frames = image_files(folder / "color", first=0)
                videos.append(_video(subject.name, folder.name, frames, rows.pop(key, [])))
    return videos + [_video(subject, name, (), lost) for (subject, name), lost in sorted(rows.items())]


def _video_of(record: dict[str, Cell]) -> tuple[str, str]:
    return text(record["Subject"]).lower(), text(record["Filename"]).lower()


def _video(
    subject: str, name: str, frames: tuple[tuple[int, Path], ...], rows: list[tuple[str, str, dict[str, Cell]]]
) -> Video:
    last = frames[-1][0] if frames else None
    intervals: list[Interval] = []
    notes: list[str] = [] if frames else [f"{subject}_{name} {NO_FRAMES}"]
    for where, kind, record in rows:
        onset, apex, offset = whole(record["Onset"]), whole(record.get("Apex")), whole(record["Offset"])
        if onset is None or offset is None:
            notes.append(f"{where}: onset {record['Onset']} or offset {record['Offset']} is not known; left out")
            continue
        offset, guessed = known_offset(onset, apex, offset, where)
        interval, mends = mend(onset, apex, offset, kind, text(record.get("AU")), last, where)
        intervals += [interval] if interval else []
        notes += guessed + mends
    lacking = frames[-1][0] + 1 - frames[0][0] - len(frames) if frames else 0
    notes += [f"{lacking} frames lack between the first and the last"] if lacking else []
    return Video(subject, f"{subject}_{name}", FPS, frames, tuple(intervals), tuple(notes))
