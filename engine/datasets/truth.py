"""`truth.json`: the truth of a folder of videos. Times are in s from the first frame; see docs/evaluation.md."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stream.errors import UserError

VERSION = 1
SPLITS = ("tune", "test")
KINDS = ("micro", "macro", "blink")
VISIBLE = 0.5
"""No spotter finds a micro-expression of lower visibility (docs/bench.md)."""


@dataclass(frozen=True, slots=True)
class TruthInterval:
    """A movement of the face. `amplitude_px`: its largest displacement on a 256-px face. `regions`: where it shows.
    `visibility`: its peak motion over the face's own in the same place and second (docs/bench.md)."""

    onset_s: float
    apex_s: float | None
    offset_s: float
    kind: str = "micro"
    amplitude_px: float | None = None
    regions: tuple[str, ...] = ()
    face: int | None = None
    visibility: float | None = None

    def __post_init__(self) -> None:
        _ordered(self.onset_s, self.apex_s, self.offset_s)
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind} is not one of {', '.join(KINDS)}")


@dataclass(frozen=True, slots=True)
class Nuisance:
    """Something that is no expression but may trigger a spotter: speech, gaze, head, exposure, noise, ..."""

    onset_s: float
    offset_s: float
    kind: str

    def __post_init__(self) -> None:
        _ordered(self.onset_s, None, self.offset_s)


@dataclass(frozen=True, slots=True)
class TruthVideo:
    """One video. `file`: relative to truth.json. `split`: `tune` chooses thresholds, `test` is judged.

    `tags`: the groups of the tables, such as {"nuisance": "speech", "skin": "dark"}.
    """

    file: str
    subject: str
    fps: float
    duration_s: float
    split: str = "test"
    intervals: tuple[TruthInterval, ...] = ()
    nuisances: tuple[Nuisance, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split {self.split} is not one of {', '.join(SPLITS)}")
        if not (self.fps > 0 and self.duration_s > 0):
            raise ValueError(f"fps {self.fps} and duration_s {self.duration_s} must be positive")


def load_truth(path: Path) -> list[TruthVideo]:
    """Reads `truth.json`. Raises UserError with one line that names the video and its mistake."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; it says what is true in the videos, see docs/evaluation.md") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON ({error}); write it anew") from None
    if not isinstance(record, dict) or record.get("version") != VERSION or not isinstance(record.get("videos"), list):
        raise UserError(f'{path} is not {{"version": {VERSION}, "videos": [...]}}; see docs/evaluation.md')
    videos = []
    for i, video in enumerate(record["videos"]):
        try:
            videos.append(_video(video))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            name = video.get("file", i) if isinstance(video, dict) else i
            raise UserError(f"{path}: video {name}: {what}; see docs/evaluation.md") from None
    names = [v.file for v in videos]
    if len(names) != len(set(names)):
        twice = next(n for n in names if names.count(n) > 1)
        raise UserError(f"{path}: video {twice} is there twice; leave one of them out")
    return videos


def save_truth(path: Path, videos: Sequence[TruthVideo]) -> None:
    """Write `truth.json`."""
    record = {"version": VERSION, "videos": [asdict(v) for v in videos]}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _video(record: dict[str, Any]) -> TruthVideo:
    return TruthVideo(
        file=str(record["file"]),
        subject=str(record["subject"]),
        fps=float(record["fps"]),
        duration_s=float(record["duration_s"]),
        split=record.get("split", "test"),
        intervals=tuple(_interval(i) for i in record.get("intervals", ())),
        nuisances=tuple(
            Nuisance(float(n["onset_s"]), float(n["offset_s"]), str(n["kind"])) for n in record.get("nuisances", ())
        ),
        tags={str(k): str(v) for k, v in record.get("tags", {}).items()},
    )


def _interval(record: dict[str, Any]) -> TruthInterval:
    apex_s, face = record.get("apex_s"), record.get("face")
    amplitude_px, visibility = record.get("amplitude_px"), record.get("visibility")
    return TruthInterval(
        onset_s=float(record["onset_s"]),
        apex_s=None if apex_s is None else float(apex_s),
        offset_s=float(record["offset_s"]),
        kind=str(record.get("kind", "micro")),
        amplitude_px=None if amplitude_px is None else float(amplitude_px),
        regions=tuple(map(str, record.get("regions") or ())),
        face=None if face is None else int(face),
        visibility=None if visibility is None else float(visibility),
    )


def _ordered(onset_s: float, apex_s: float | None, offset_s: float) -> None:
    times = [t for t in (onset_s, apex_s, offset_s) if t is not None]
    if not all(map(math.isfinite, times)) or times != sorted(times):
        raise ValueError(f"interval {onset_s}, {apex_s}, {offset_s} is not in order")
