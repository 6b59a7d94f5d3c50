"""SMIC-E-long (Tran et al., 2021; Li et al., FG 2013), high-speed camera: 100 fps, micro-expressions only.

`SMIC-HS-E_annotation.xlsx` has the camera's frame numbers. `FirstF` is the number of a video's first frame, so onset =
OnsetF - FirstF. A video's frames are the images, in order of name, of the one folder below `root` with its name.
"""

from pathlib import Path

from engine.datasets.tables import Cell, read_sheet, records, text, whole
from engine.datasets.video import IMAGE_ENDINGS, NO_FRAMES, DatasetError, Interval, Video, image_files, mend, natural

FPS = 100.0
ANNOTATIONS = "SMIC-HS-E_annotation.xlsx"
HEADINGS = ("Subject", "Filename", "OnsetF", "OffsetF", "FirstF", "Emotion")


def load_smic(root: Path) -> list[Video]:
    """All annotated videos under `root`. Raises DatasetError."""
    path = root / ANNOTATIONS
    rows: dict[tuple[str, str], list[tuple[int, dict[str, Cell]]]] = {}
    for line, record in records(read_sheet(path), HEADINGS, path):
        rows.setdefault((text(record["Subject"]), text(record["Filename"])), []).append((line, record))
    folder_of = _image_folders(root, {name for _, name in rows})
    keys = sorted(rows, key=lambda k: (natural(k[0]), natural(k[1])))
    return [_video(subject, name, folder_of.get(name), rows[subject, name]) for subject, name in keys]


def _image_folders(root: Path, names: set[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in sorted(p for p in root.rglob("*") if p.name in names and p.is_dir()):
        if any(f.suffix.lower() in IMAGE_ENDINGS for f in folder.iterdir()):
            if folder.name in found:
                raise DatasetError(f"{folder} and {found[folder.name]} have the same name; which one is the video?")
            found[folder.name] = folder
    return found


def _video(subject: str, name: str, folder: Path | None, rows: list[tuple[int, dict[str, Cell]]]) -> Video:
    frames = image_files(folder, first=None) if folder else ()
    last = frames[-1][0] if frames else None
    intervals: list[Interval] = []
    notes: list[str] = [] if frames else [f"{name} {NO_FRAMES}"]
    for line, record in rows:
        onset, offset, first = (whole(record[h]) for h in ("OnsetF", "OffsetF", "FirstF"))
        if onset is None or offset is None or first is None:
            notes.append(f"row {line}: OnsetF, OffsetF or FirstF is not known; left out")
            continue
        interval, mends = mend(onset - first, None, offset - first, "micro", "", last, f"row {line}")
        intervals += [interval] if interval else []
        notes += mends
    return Video(subject, name, FPS, frames, tuple(intervals), tuple(notes))
