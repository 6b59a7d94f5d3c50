"""CAS(ME)^2 (Qu et al., IEEE TAC 9(4), 2018): 30 fps, 98 videos of 22 people, 57 micro- and 300 macro-expressions.

`CAS(ME)^2code_final.xlsx` has no headings; `rawpic/s15/15_0101disgustingteeth/img001.jpg` counts from 1.
"""

import re
from pathlib import Path

from engine.datasets.tables import Row, read_sheet, text, whole
from engine.datasets.video import NO_FRAMES, DatasetError, Interval, Video, folders, image_files, known_offset, mend

FPS = 30.0
ANNOTATIONS = "CAS(ME)^2code_final.xlsx"
KIND = {"micro-expression": "micro", "macro-expression": "macro"}


def load_casme2(root: Path) -> list[Video]:
    """All videos under `root`, including those without expressions. Raises DatasetError."""
    path = root / ANNOTATIONS
    folder_of = _subject_folders(read_sheet(path, "naming rule1"), path)
    code_of = _video_codes(read_sheet(path, "naming rule2"), path)
    rows = _rows_by_video(read_sheet(path, "CASFEcode_final"), folder_of, code_of, path)
    videos = []
    for subject in folders(root / "rawpic"):
        for folder in folders(subject):
            code = folder.name.partition("_")[2][:4]
            frames = image_files(folder, first=1)
            videos.append(_video(subject.name, folder.name, frames, rows.pop((subject.name, code), [])))
    videos += [_video(s, f"{s.lstrip('s')}_{code}", (), lost) for (s, code), lost in sorted(rows.items())]
    return videos


def _video(subject: str, name: str, frames: tuple[tuple[int, Path], ...], rows: list[tuple[int, Row]]) -> Video:
    last = frames[-1][0] if frames else None
    intervals: list[Interval] = []
    notes: list[str] = [] if frames else [f"{name} {NO_FRAMES}"]
    for line, row in rows:
        onset, apex, offset = (whole(cell) for cell in row[2:5])
        kind, where = KIND[text(row[7]).lower()], f"row {line}"
        if onset is None or offset is None or onset < 0 or offset < 0:
            notes.append(f"{where}: onset {row[2]} or offset {row[4]} is not known; left out")
            continue
        offset, guessed = known_offset(onset, apex, offset, where)
        apex_0 = None if apex is None else apex - 1
        interval, mends = mend(onset - 1, apex_0, offset - 1, kind, text(row[5]), last, where)
        intervals += [interval] if interval else []
        notes += guessed + mends
    return Video(subject, name, FPS, frames, tuple(intervals), tuple(notes))


def _rows_by_video(
    rows: list[Row], folder_of: dict[int, str], code_of: dict[str, str], path: Path
) -> dict[tuple[str, str], list[tuple[int, Row]]]:
    """(subject folder, code) -> its rows with their line numbers."""
    out: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for line, row in enumerate(rows, 1):
        if not row or row[0] is None:
            continue
        subject, name = whole(row[0]), text(row[1]).split("_")[0]
        known = len(row) > 7 and subject in folder_of and name in code_of and text(row[7]).lower() in KIND
        if subject is None or not known:
            raise DatasetError(f"{path} row {line}: subject {row[0]}, video {row[1]} or its type is not known")
        out.setdefault((folder_of[subject], code_of[name]), []).append((line, row))
    return out


def _subject_folders(rows: list[Row], path: Path) -> dict[int, str]:
    """Subject number -> folder. In a row `15, s15, 1` the number that differs from the folder's own counts, if there
    are two."""
    out = {}
    for row in rows:
        names = [text(c) for c in row if re.fullmatch(r"s\d+", text(c))]
        numbers = [n for c in row if text(c) not in names and (n := whole(c)) is not None]
        if names and numbers:
            others = [n for n in numbers if n != int(names[0][1:])]
            out[(others or numbers)[0]] = names[0]
    if not out:
        raise DatasetError(f"{path}: sheet 'naming rule1' names no subject (s15, ...); is it another version?")
    return out


def _video_codes(rows: list[Row], path: Path) -> dict[str, str]:
    """`disgust1` -> `0101`. Codes stored as numbers have lost their leading zero."""
    out = {}
    for row in rows:
        names = [text(c) for c in row if re.fullmatch(r"[A-Za-z]+\d", text(c))]
        codes = [n for c in row if (n := whole(c)) is not None]
        if names and codes:
            out[names[0]] = f"{codes[0]:04d}"
    if not out:
        raise DatasetError(f"{path}: sheet 'naming rule2' names no video (disgust1, ...); is it another version?")
    return out
