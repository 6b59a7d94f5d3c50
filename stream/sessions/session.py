"""A session: one folder with all that a run with `--record` stored, and what coders said of it since.

    session.json    what was watched, when, by which weights, at which threshold; which videos there are
    video.mkv       the frames, one file more (video-2.mkv, ...) whenever their size changes
    events.jsonl    events as the server sent them
    trace.bin       the score trace, TRACE records
    track.bin       where each face was cropped, TRACK records
    codings/        one file per coder, `stream.sessions.coding`

All times are seconds on the source's clock. Everything but `session.json` only grows, so a session is readable while it
is recorded, and after the program was killed: half a record or half a line at the end is left out.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sessions.coding import Coding, load_coding

VERSION = 1
TRACE = np.dtype([("time_s", "<f8"), ("face", "<u4"), ("score", "<f4"), ("threshold", "<f4")])
"""One settled score of one face, in order of time."""
TRACK = np.dtype([("time_s", "<f8"), ("face", "<u4"), ("matrix", "<f4", (2, 3))])
"""One aligned crop: `matrix` maps px of the video's frame to px of the crop."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """A video of a session: `path`, and the source's time of its first frame. Its own time 0 is that frame's."""

    path: Path
    starts_s: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A final interval of the machine (an `end` event); `regions`: share of the movement per region of the face."""

    id: str
    face: int
    onset_s: float
    apex_s: float
    offset_s: float
    score: float
    regions: dict[str, float]


@dataclass(frozen=True, slots=True)
class About:
    """What `session.json` says.

    `started`: wall clock (ISO 8601 UTC) at source time `starts_s`. `videos`: of the source file if the session refers
    to one. `file_sha256`: of that file. `consent`: the note given at the start. `dropped`: frames lost, by stage.
    `complete`: the program ended the session itself; False after a kill, and while it records.
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


@dataclass(frozen=True, slots=True)
class Session:
    """A session on disk, opened by `load_session`."""

    folder: Path
    about: About

    @property
    def name(self) -> str:
        """The folder's name: what the command line and the page call it."""
        return self.folder.name

    def events(self) -> list[dict[str, Any]]:
        """Its event messages, in order."""
        path, events = self.folder / "events.jsonl", []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                events.append(json.loads(line))
            except ValueError:
                break  # the program was killed while it wrote this line
        return events

    def intervals(self) -> tuple[Interval, ...]:
        """What the machine reported, in order of onset."""
        ends = [event for event in self.events() if event["phase"] == "end"]
        found = [
            Interval(e["id"], e["face"], e["onset_s"], e["apex_s"], e["offset_s"], e["score"], e["regions"])
            for e in ends
        ]
        return tuple(sorted(found, key=lambda one: one.onset_s))

    def trace(self) -> NDArray[np.void]:
        """The score trace, TRACE[n]."""
        return _records(self.folder / "trace.bin", TRACE)

    def track(self) -> NDArray[np.void]:
        """Where the faces were cropped, TRACK[n]."""
        return _records(self.folder / "track.bin", TRACK)

    def codings(self) -> tuple[Coding, ...]:
        """What coders said, in order of their names. Raises UserError for a file that is no coding."""
        return tuple(load_coding(path) for path in sorted((self.folder / "codings").glob("[!.]*.json")))

    def media_s(self, source_s: float) -> tuple[VideoFile, float] | None:
        """The video that shows a moment, and its own time there; None if there is no video of it."""
        begun = [video for video in self.about.videos if video.starts_s <= source_s + 1e-6]
        return (begun[-1], source_s - begun[-1].starts_s) if begun else None


def load_session(folder: Path) -> Session:
    """Open a session. Raises UserError that says what is wrong with the folder, and what to do."""
    path = folder / "session.json"
    if not path.exists():
        raise UserError(f"{folder} is no session: it has no session.json; name a folder that --record made", 2)
    try:
        message = json.loads(path.read_text(encoding="utf-8"))
        if message.get("version") != VERSION:
            raise ValueError(f"version {message.get('version')}, this program reads {VERSION}")
        videos = tuple(VideoFile((folder / v["file"]).resolve(), float(v["starts_s"])) for v in message.pop("videos"))
        del message["version"]
        return Session(folder, About(videos=videos, **message))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} can't be read as a session ({error})", 2) from None


def sessions_in(folder: Path) -> list[Session]:
    """The sessions in a folder, newest last. Raises UserError when there is none."""
    found = [load_session(path.parent) for path in sorted(folder.glob("*/session.json"))]
    if not found:
        raise UserError(f"{folder} holds no session; record one with --record {folder}", 2)
    return found


def _records(path: Path, kind: np.dtype[np.void]) -> NDArray[np.void]:
    if not path.exists():
        return np.empty(0, kind)
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
