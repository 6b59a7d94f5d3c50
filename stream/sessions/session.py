"""A session: one folder with everything that a run with `--record` stored, and the coders' codings since.

    session.json    what was watched, when, by which weights, at which threshold; which videos there are
    video.mkv       the frames, one file more (video-2.mkv, ...) whenever their size changes
    events.jsonl    events as the server sent them
    trace.bin       the score trace, TRACE records
    track.bin       where each face was cropped, TRACK records
    codings/        one file per coder, `stream.sessions.coding`

A session made from a file refers to it by absolute path and sha256, or holds a copy, `video.` and its suffix.

All times are seconds on the source's clock. `session.json` is replaced as a whole; all other files only grow. So a
session is readable during the recording and after the program was killed. Half a record or half a line at the end is
ignored.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.files import whole
from stream.sessions.coding import Coding, load_coding
from stream.workers import one_line

log = logging.getLogger("stream")

VERSION = 1
TRACE = np.dtype([("time_s", "<f8"), ("face", "<u4"), ("score", "<f4"), ("threshold", "<f4")])
"""One settled score of one face, in order of time."""
TRACK = np.dtype([("time_s", "<f8"), ("face", "<u4"), ("matrix", "<f4", (2, 3))])
"""One aligned crop: `matrix` maps px of the video's frame to px of the crop."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video of a session: its `path`, and the source's time at the video's time 0."""

    path: Path
    starts_s: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A final interval of the machine (an `end` event). `regions`: share of the movement per region of the face."""

    id: str
    face: int
    onset_s: float
    apex_s: float
    offset_s: float
    score: float
    regions: dict[str, float]


@dataclass(frozen=True, slots=True)
class About:
    """The content of `session.json`.

    `started`: wall clock (ISO 8601 UTC) at source time `starts_s`; for a file that was run offline, the time of the
    run. `videos`: the source file if the session refers to one. `file_sha256`: that of the file. `consent`: the note
    given at the start. `dropped`: frames missing in the session, by the stage that lost them. `ends_s`: source time of
    the last frame. `complete`: the program ended the session itself and wrote all of it. It is False during the
    recording and after a kill.
    """

    source: str
    epoch: str
    program: str
    started: str
    starts_s: float
    model_name: str
    model_sha256: str
    model_fps: float
    runtime: str
    threshold: float
    false_alarms_per_hour: float | None
    videos: tuple[VideoFile, ...] = ()
    file_sha256: str | None = None
    consent: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    ends_s: float | None = None
    complete: bool = False

    def __post_init__(self) -> None:
        times_s = (self.starts_s, self.ends_s or 0.0, *(video.starts_s for video in self.videos))
        if not all(math.isfinite(time_s) for time_s in times_s):
            raise ValueError(f"times that are no numbers: {times_s}")


class State(StrEnum):
    """The state of a session. `cut short`: the program was killed, or could not write everything."""

    COMPLETE = "complete"
    CUT_SHORT = "cut short"
    VIDEO_MOVED = "video moved"


@dataclass(frozen=True, slots=True)
class Session:
    """A session on disk, opened by `load_session`."""

    folder: Path
    about: About

    @property
    def name(self) -> str:
        """The folder's name, which the command line and the page use."""
        return self.folder.name

    @property
    def state(self) -> State:
        """The state of the session. A video that was about to begin when the program was killed does not count as
        missing.
        """
        inside = self.folder.resolve()
        expected = [v.path for v in self.about.videos if self.about.complete or v.path.parent != inside]
        if not all(path.is_file() for path in expected):
            return State.VIDEO_MOVED
        return State.COMPLETE if self.about.complete else State.CUT_SHORT

    @property
    def ends_s(self) -> float:
        """Source time of the last moment. For a session that was cut short, that of the last crop or score."""
        if self.about.ends_s is not None:
            return self.about.ends_s
        return float(max([self.about.starts_s, *self.trace()["time_s"][-1:], *self.track()["time_s"][-1:]]))

    def events(self) -> list[dict[str, Any]]:
        """Returns the event messages, in order. Raises UserError for a line that is no event."""
        path, events = self.folder / "events.jsonl", []
        *lines, _half = path.read_bytes().split(b"\n") if path.exists() else [b""]
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                if event["type"] != "event":
                    raise ValueError(f"type {event['type']}")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(f"{path}: line {number} is no event ({one_line(error)}); remove this line") from None
            events.append(event)
        return events

    def intervals(self) -> tuple[Interval, ...]:
        """Returns the machine's intervals, in order of onset. Raises UserError for a line that is no event."""
        try:
            found = [msgspec.convert(event, Interval) for event in self.events() if event.get("phase") == "end"]
        except msgspec.MsgspecError as error:
            raise UserError(
                f"{self.folder / 'events.jsonl'}: an `end` is not whole ({error}); remove its line"
            ) from None
        return tuple(sorted(found, key=lambda one: one.onset_s))

    def trace(self) -> NDArray[np.void]:
        """Returns the score trace, TRACE[n]."""
        return _records(self.folder / "trace.bin", TRACE)

    def track(self) -> NDArray[np.void]:
        """Returns the places of the face crops, TRACK[n]."""
        return _records(self.folder / "track.bin", TRACK)

    @property
    def coders(self) -> tuple[str, ...]:
        """The coders' names, in order. Their codings are not read."""
        return tuple(sorted(path.stem for path in (self.folder / "codings").glob("[!.]*.json")))

    def codings(self) -> tuple[Coding, ...]:
        """Returns the codings, in order of the coders' names. Raises UserError for a file that is no coding."""
        return tuple(load_coding(self.folder / "codings" / f"{coder}.json") for coder in self.coders)

    def media_s(self, source_s: float) -> tuple[VideoFile, float] | None:
        """Returns the video that shows a moment, and the time in it; None if no video shows it."""
        begun = [video for video in self.about.videos if video.starts_s <= source_s + 1e-6]
        return (begun[-1], source_s - begun[-1].starts_s) if begun else None


def load_session(folder: Path) -> Session:
    """Open a session. Raises UserError that says what is wrong with the folder, and what to do."""
    path = folder / "session.json"
    try:
        message = json.loads(path.read_bytes())
        if "version" not in message and "videos" in message:
            raise UserError(
                f"{folder} was recorded before sessions could be reviewed; make a new one of its video: "
                f"--source {folder / 'video.mkv'} --offline --record DIR",
                2,
            )
        if (version := message.pop("version")) != VERSION:
            raise ValueError(f"version {version}, this program reads {VERSION}; use the program that recorded it")
        videos = tuple(VideoFile((folder / v["file"]).resolve(), float(v["starts_s"])) for v in message.pop("videos"))
        return Session(folder, replace(msgspec.convert(message, About), videos=videos))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} is no session: it has no session.json; name a folder that --record made", 2
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
        raise UserError(f"{path} can't be read as a session ({one_line(error)})", 2) from None


def write_about(folder: Path, about: About) -> None:
    """Write `session.json`. The old file stays until the new one is complete. Raises OSError."""
    inside = folder.resolve()
    videos = [
        {"file": v.path.name if v.path.parent == inside else str(v.path), "starts_s": v.starts_s} for v in about.videos
    ]
    message = {"version": VERSION, **asdict(about), "videos": videos}
    whole.replace(folder / "session.json", f"{json.dumps(message, indent=2)}\n".encode())


def sessions_in(folder: Path) -> list[Session]:
    """Returns the sessions in a folder, newest last, or the folder itself if it is one. Other folders are one warning
    in the log.

    Raises UserError if there is none.
    """
    if (folder / "session.json").exists():
        return [load_session(folder)]
    found = []
    try:
        for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
            try:
                found.append(load_session(path))
            except UserError as error:
                log.warning("%s", error)
    except OSError as error:
        raise UserError(f"{folder} can't be read ({error.strerror}); name a folder that --record made", 2) from None
    if not found:
        raise UserError(f"{folder} holds no session; record one with --record {folder}", 2)
    return sorted(found, key=lambda session: (session.about.started, session.name))


def _records(path: Path, kind: np.dtype[np.void]) -> NDArray[np.void]:
    if not path.exists():
        return np.empty(0, kind)
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
