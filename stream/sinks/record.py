"""`--record DIR`: the session's video and events on disk, and the only way by which an image gets there.

One folder per session: `video.mkv` (H.264, one file more whenever the size changes), `events.jsonl`, and
`session.json`, which says where on the source's clock each video begins. Matroska, flushed frame by frame: whatever was
written is readable, also after `kill -9`. Encoding has a thread of its own behind a short queue; when it can't keep up,
frames are left out of the recording and counted, never waited for.
"""

import json
import logging
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from stream.config import Config
from stream.errors import UserError
from stream.sinks import Run
from stream.sinks.events_file import EventsFile
from stream.types import Event, Frame, TracePoint
from stream.workers import Channel, Worker, one_line

log = logging.getLogger("stream")

FRAMES_WAITING = 15
TIME_BASE = Fraction(1, 1000)
OPTIONS = {"preset": "veryfast", "tune": "zerolatency", "crf": "18", "g": "30"}
CONTAINER = {"flush_packets": "1", "cluster_time_limit": "500"}


def open_recorder(config: Config, run: Run) -> "Recorder | None":
    """See `stream.sinks.OpenSink`."""
    return Recorder(config.record, run.source.name, run.epoch) if config.record else None


class Recorder:
    """Writes what it is given until `close`. Raises UserError when the folder can't be made.

    `dropped`: frames that are left out because the encoder is behind.
    """

    def __init__(self, folder: Path, source: str, epoch: str) -> None:
        self.folder = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{epoch[-6:]}"
        self.dropped = {"record": 0}
        self._failure: str | None = None
        self._about: dict[str, Any] = {"source": source, "epoch": epoch, "videos": []}
        self._frames: Channel[Frame] = Channel(FRAMES_WAITING)
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"--record {folder}: cannot be written ({error.strerror}); give another folder") from None
        self._events = EventsFile(self.folder / "events.jsonl", epoch)
        self._worker = Worker("record", self._write, self._frames.close)
        self._worker.start()
        log.info("recording into %s", self.folder)

    @property
    def trouble(self) -> str | None:
        """Why the recording is not complete, in words."""
        return self._failure or self._events.trouble

    def put(self, item: Frame | TracePoint | Event) -> None:
        """Record an event, or a frame unless the encoder is behind."""
        if isinstance(item, Frame):
            self.dropped["record"] += not self._frames.offer(item)
        else:
            self._events.put(item)

    def close(self) -> None:
        """Finish the files."""
        self._frames.close()
        self._worker.join(0.5)
        self._events.close()

    def _write(self) -> None:
        video: _Video | None = None
        try:
            while (frame := self._frames.get()) is not None:
                if video is None or not video.fits(frame):
                    if video is not None:
                        video.close()
                    video = self._next_video(frame)
                video.write(frame)
            if video is not None:
                video.close()
        except (OSError, ValueError) as error:  # PyAV's errors are both
            self._failure = f"--record {self.folder}: {one_line(error)}"
            log.warning("%s; recording has stopped", self._failure)

    def _next_video(self, frame: Frame) -> "_Video":
        number = len(self._about["videos"]) + 1
        name = "video.mkv" if number == 1 else f"video-{number}.mkv"
        self._about["videos"].append(
            {"file": name, "starts_s": frame.time_s, "wall_clock": datetime.now(UTC).isoformat()}
        )
        (self.folder / "session.json").write_text(json.dumps(self._about, indent=2) + "\n")
        return _Video(self.folder / name, frame)


class _Video:
    """One Matroska file; its time 0 is its first frame's."""

    def __init__(self, path: Path, first: Frame) -> None:
        self._starts_s = first.time_s
        self._size = first.image.shape[:2]
        self._last_pts = -1
        self._container = av.open(str(path), "w", format="matroska", options=CONTAINER)
        stream: Any = self._container.add_stream("libx264", options=OPTIONS)
        # H.264 in 4:2:0 has even sides; a last odd row or column is left out
        stream.height, stream.width = (max(2, side - side % 2) for side in self._size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        self._stream = stream

    def fits(self, frame: Frame) -> bool:
        return frame.image.shape[:2] == self._size

    def write(self, frame: Frame) -> None:
        pts = round((frame.time_s - self._starts_s) / TIME_BASE)
        if pts <= self._last_pts:
            return
        self._last_pts = pts
        image = frame.image[: self._stream.height, : self._stream.width]
        if image.shape[:2] != (self._stream.height, self._stream.width):
            return  # a single row or column: nothing that 4:2:0 can hold
        picture = av.VideoFrame.from_ndarray(image.copy(), format="bgr24")
        picture.pts, picture.time_base = pts, TIME_BASE
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
