"""BIDS: a data set folder with `beh/*_events.tsv` and its JSON sidecar; https://bids-specification.readthedocs.io."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from engine.spec import REGIONS
from stream.sessions.formats.placing import one_line
from stream.sessions.rows import MACHINE, Row, VideoRows, units_text

VERSION = "1.10.0"
COLUMNS = {
    "onset": ("s", "Onset of the facial movement in the time of the video file."),
    "duration": ("s", "From onset to offset."),
    "trial_type": (None, "What the rater holds the interval to be; `detected`: an interval of the machine."),
    "rater": (None, f"Name of the coder, or {MACHINE}."),
    "face": (None, "Number of the face in the video."),
    "apex": ("s", "Apex in the time of the video file."),
    "score": (None, "Probability of a micro-expression, by the machine."),
    "action_units": (None, "FACS action units that the coder gave, for example 4B+L12C."),
    **{f"region_{region}": (None, f"Share of the movement in the region {region}.") for region in REGIONS},
    "note": (None, "Free note of the coder."),
    "interval_id": (None, "Name of the interval in the recording."),
}


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns the files of subject `sub-<name of the recording>`. An existing data set keeps its description and
    README.
    """
    name = videos[0].session
    subject = re.sub(r"[^0-9A-Za-z]", "", name) or "unnamed"
    about = {
        "Name": name,
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "mestream"}],
    }
    texts = {
        out / "dataset_description.json": json.dumps(about, indent=2, ensure_ascii=False) + "\n",
        out / "README": "Facial-movement intervals of recorded video: found by mestream, and marked by coders.\n",
    }
    texts = {path: text for path, text in texts.items() if not path.exists()}
    for run, one in enumerate(videos, 1):
        stem = f"sub-{subject}_task-video" + (f"_run-{run}" if len(videos) > 1 else "")
        folder = out / f"sub-{subject}" / "beh"
        lines = ["\t".join(COLUMNS), *(_line(row) for row in one.rows)]
        texts[folder / f"{stem}_events.tsv"] = "\n".join(lines) + "\n"
        texts[folder / f"{stem}_events.json"] = json.dumps(_sidecar(one), indent=2, ensure_ascii=False) + "\n"
    return texts


def _sidecar(one: VideoRows) -> dict[str, dict[str, str]]:
    columns = {}
    for name, (unit, text) in COLUMNS.items():
        columns[name] = {"Description": text, **({"Units": unit} if unit else {})}
    columns["onset"]["Description"] += f" {one.clocks}"
    return columns


def _line(row: Row) -> str:
    mark = row.mark
    regions = [f"{row.regions[region]:.6g}" if region in row.regions else "" for region in REGIONS]
    cells = (
        f"{mark.onset_s:.6f}", f"{mark.offset_s - mark.onset_s:.6f}", row.verdict or "detected", row.rater,
        str(mark.face), "" if mark.apex_s is None else f"{mark.apex_s:.6f}",
        "" if row.score is None else f"{row.score:.6g}", units_text(mark.units), *regions, mark.note, mark.id,
    )  # fmt: skip
    return one_line(cell if cell.strip() else "n/a" for cell in cells)
