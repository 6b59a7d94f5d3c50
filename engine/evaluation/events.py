"""Prepares truth and emitted events for judging: times become frames, events become detections."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.datasets.truth import Nuisance, TruthVideo
from engine.evaluation.matching import Detection, Truth, VideoResult
from stream.errors import UserError

YEAR_OF_MEDIA_TIME = 1970
"""Offline, `time` is 1970-01-01 plus the media time of emission (`stream.decide.emission`); live, the wall clock."""


@dataclass(frozen=True, slots=True)
class Said:
    """One event as it was emitted, and its stream time, or None when that is unknown."""

    phase: str
    interval: str
    onset_s: float
    apex_s: float | None
    offset_s: float | None
    score: float
    emitted_s: float | None = None
    suppressed: str | None = None
    face: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """One video ready to judge. `other`: true movements that are no MEs, and nuisances, in s.

    `trace`: (time in s, score) if the run was recorded. `notes`: remarks for the reader.
    """

    result: VideoResult
    split: str = "test"
    other: tuple[Nuisance, ...] = ()
    trace: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()
    emitted: tuple[Said, ...] = field(default=(), repr=False)


def judged(truth: TruthVideo, emitted: Sequence[Said], trace: Sequence[tuple[float, float]] = ()) -> Judged:
    """Truth and events of one video. Its MEs are of kind `micro`. Other movements are kept to explain false alarms."""
    fps = truth.fps
    truths = tuple(
        Truth(
            round(i.onset_s * fps),
            round(i.offset_s * fps),
            None if i.apex_s is None else round(i.apex_s * fps),
            i.amplitude_px,
            i.regions,
            i.visibility,
        )
        for i in truth.intervals
        if i.kind == "micro"
    )
    moved = tuple(Nuisance(i.onset_s, i.offset_s, i.kind) for i in truth.intervals if i.kind != "micro")
    detections, starts = detections_of(emitted, fps)
    result = VideoResult(truth.subject, truth.file, fps, truth.duration_s, truths, detections, starts, dict(truth.tags))
    return Judged(result, truth.split, moved + truth.nuisances, tuple(trace), emitted=tuple(emitted))


def detections_of(emitted: Iterable[Said], fps: float) -> tuple[tuple[Detection, ...], tuple[tuple[float, float], ...]]:
    """The `end` events as detections at `fps`, and (emission time, score) of every `start` with a known time."""
    began: dict[str, float | None] = {}
    detections, starts = [], []
    for s in emitted:
        if s.phase == "start":
            began[s.interval] = s.emitted_s
            if s.emitted_s is not None:
                starts.append((s.emitted_s, s.score))
        elif s.phase == "end" and s.offset_s is not None:
            apex = None if s.apex_s is None else round(s.apex_s * fps)
            onset, offset = round(s.onset_s * fps), round(s.offset_s * fps)
            detections.append(Detection(onset, offset, s.score, apex, began.get(s.interval), s.emitted_s))
    return tuple(detections), tuple(starts)


def read_events(path: Path) -> list[Said]:
    """The event messages in a file that `--events` wrote. Raises UserError with the line."""
    emitted = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as events ({error}); write it by --offline --events") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                message = json.loads(line)
                if message.get("type") == "event":
                    emitted.append(_said(message))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{path} line {number} is not an event ({error!r}); see docs/protocol.md") from None
    return emitted


def events_of(videos: Sequence[TruthVideo], paths: Sequence[Path]) -> dict[str, list[Said]]:
    """Events of each video, from a folder's file with the video's stem (or `<name>.jsonl`), or by the events' `source`.

    Raises UserError for a video without events, since leaving a video out would flatter the result.
    """
    files = [f for p in paths for f in (sorted(p.glob("**/*.jsonl")) if p.is_dir() else [p])]
    if not files:
        raise UserError(f"no events (*.jsonl) in {', '.join(map(str, paths))}; write them by --offline --events")
    by_name: dict[str, Path] = {}
    for f in files:
        for root in (p for p in paths if p.is_dir() and f.is_relative_to(p)):
            by_name[f.relative_to(root).as_posix().removesuffix(".jsonl")] = f
        by_name.setdefault(f.stem, f)
    out, missing = {}, []
    for video in videos:
        name = Path(video.file)
        keys = (video.file, name.with_suffix("").as_posix(), name.name, name.stem)
        found = next((by_name[k] for k in keys if k in by_name), None)
        if found is None and len(videos) == len(files) == 1:
            found = files[0]
        if found is None:
            missing.append(video.file)
        else:
            out[video.file] = read_events(found)
    if missing:
        raise UserError(f"no events for {', '.join(missing[:5])}{' ...' if missing[5:] else ''}; a run without events "
                        f"still writes an empty {Path(missing[0]).stem}.jsonl")  # fmt: skip
    return out


def _said(message: dict[str, Any]) -> Said:
    when = datetime.fromisoformat(message["time"]) if message.get("time") else None
    offline = when is not None and when.year == YEAR_OF_MEDIA_TIME
    apex_s, offset_s = message.get("apex_s"), message.get("offset_s")
    return Said(
        phase=str(message["phase"]),
        interval=str(message["id"]),
        onset_s=float(message["onset_s"]),
        apex_s=None if apex_s is None else float(apex_s),
        offset_s=None if offset_s is None else float(offset_s),
        score=float(message["score"]),
        emitted_s=when.timestamp() if when is not None and offline else None,
        suppressed=message.get("suppressed"),
    )
