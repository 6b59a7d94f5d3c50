"""`--record DIR`: writes a session (`stream.sessions.session`) to disk. Images reach the disk in no other way.

Each session has one private folder. The video is Matroska, flushed frame by frame, so everything written is readable
even after `kill -9`. Encoding has its own thread behind a short queue. If it can't keep up, frames are left out of the
recording and counted; the live run never waits. Offline the queue waits. A run of a single file encodes nothing: the
session refers to the file, or holds a copy (`--copy`).
"""

import hashlib
import logging
import shutil
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import numpy as np

from stream.config import Config
from stream.errors import UserError
from stream.files.private import make_private_dir, make_private_file, open_private
from stream.files.whole import append
from stream.protocol.ulid import new_ulid
from stream.sessions.session import TRACE, TRACK, About, VideoFile, write_about
from stream.sinks import Item, Run
from stream.sinks.events_file import EventsFile
from stream.types import FaceCrop, Frame, TracePoint
from stream.workers import Channel, Worker, one_line

log = logging.getLogger("stream")

FRAMES_WAITING = 15
CLOSE_S = 0.4
"""How long the end of a live run waits for the encoder. It waits twice, since the encoder may still be at one frame."""
TOLD_S = 1.0
"""`session.json` is updated with lost frames at most this often during the recording."""
BLOCK_BYTES = 1 << 20
TIME_BASE = Fraction(1, 1000)
OPTIONS = {"preset": "veryfast", "tune": "zerolatency", "crf": "18", "g": "30"}
CONTAINER = {"flush_packets": "1", "cluster_time_limit": "0"}  # a cluster is on disk once it ends


def open_recorder(config: Config, run: Run) -> "Recorder | None":
    """See `stream.sinks.OpenSink`."""
    return Recorder(config.record, run, config.consent or "", copy=config.copy) if config.record else None


class Recorder:
    """Writes what it gets until `close`. Raises UserError if the folder can't be made or written.

    `folder`: the session's folder, a new one in `parent`. `consent`: a note to keep. `copy`: copy a file that is run
    offline instead of referring to it. `trouble`: why the recording is incomplete.
    """

    def __init__(self, parent: Path, run: Run, consent: str = "", *, copy: bool = False) -> None:
        self.folder = (parent / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{new_ulid()[-6:]}").absolute()
        self.trouble: str | None = None
        self._run, self._copy = run, copy
        self._file = None if run.live else run.source.file
        self._about = _about(run, self._file, consent)
        self._telling = threading.Lock()
        self._frames: Channel[Frame] = Channel(FRAMES_WAITING)
        self._seen = self._missed = self._late = self._unfit = 0
        self._newest: Frame | None = None
        self._told_s = 0.0
        try:
            make_private_dir(self.folder, exist_ok=False)
            try:
                write_about(self.folder, self._about)
                self._trace = open_private(self.folder / "trace.bin", "xb")
                self._track = open_private(self.folder / "track.bin", "xb")
            except OSError:
                shutil.rmtree(self.folder)
                raise
        except OSError as error:
            raise UserError(f"--record {parent}: cannot be written ({error.strerror}); give another folder") from None
        self._events = EventsFile(self.folder / "events.jsonl", run.epoch, flag="--record")
        self._worker = Worker("record", self._work, self._frames.close)
        self._worker.start()
        log.info("recording into %s", self.folder)

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that arrived and are not in the video, because the encoder was behind or failed."""
        return {"record": self._late + self._unfit}

    def put(self, item: Item) -> None:
        """Record the item. Live, a frame is left out if the encoder is behind."""
        try:
            if isinstance(item, Frame):
                self._put_frame(item)
            elif isinstance(item, FaceCrop):
                append(self._track, np.array((item.time_s, item.face_id, item.matrix), TRACK).tobytes())
            elif isinstance(item, TracePoint):
                record = np.array((item.time_s, item.face_id, item.score, item.threshold), TRACE)
                append(self._trace, record.tobytes())
            else:
                self._events.put(item)
                if self._events.trouble:
                    self._fail(self._events.trouble)
        except OSError as error:
            self._fail(f"--record {self.folder}: {error.strerror}")

    def close(self) -> None:
        """Finish the files and report what is missing."""
        self._frames.close()
        self._worker.join(CLOSE_S if self._run.live else None)
        while self._frames.get() is not None:
            self._late += 1  # the encoder is too far behind to wait for it
        self._worker.join(CLOSE_S)
        for file in (self._events, self._trace, self._track):
            file.close()
        ends_s = None if self._newest is None else self._newest.time_s
        try:
            self._tell(ends_s=ends_s, complete=self.trouble is None)
        except OSError as error:
            self._fail(f"--record {self.folder}: {error.strerror}")
        lost = {stage: count for stage, count in self._lost().items() if count}
        words = ", ".join(f"{count} in {stage}" for stage, count in lost.items())
        if lost:
            log.warning("recorded into %s: %d frames are missing (%s)", self.folder, sum(lost.values()), words)
        else:
            log.info("recorded into %s: %d frames, none is missing", self.folder, self._seen)

    def _put_frame(self, frame: Frame) -> None:
        if self._newest is not None:
            self._missed += frame.index - self._newest.index - 1  # a camera's frames are numbered as they arrive
        self._newest = frame
        self._seen += 1
        if self._file is None:
            taken = self._frames.offer(frame) if self._run.live else self._frames.put(frame)
            self._late += not taken

    def _lost(self) -> dict[str, int]:
        return {"capture": self._missed, **self.dropped}

    def _fail(self, why: str) -> None:
        if self.trouble is None:
            self.trouble = why
            log.warning("%s; the recording will not be complete", why)

    def _tell(self, **news: Any) -> None:
        """Rewrite `session.json`."""
        with self._telling:
            self._about = replace(self._about, dropped=self._lost(), **news)
            write_about(self.folder, self._about)

    # --- record thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            if self._file is None:
                self._encode()
            else:
                self._keep(self._file)
        except (OSError, ValueError) as error:  # PyAV's errors are both
            self._unfit += self._file is None  # the frame that it was at
            self._fail(f"--record {self.folder}: {one_line(error)}")

    def _encode(self) -> None:
        video: _Video | None = None
        while (frame := self._frames.get()) is not None:
            if video is None or not video.fits(frame):
                if video is not None:
                    video.close()
                video = self._next_video(frame)
            self._unfit += not video.write(frame)
            if frame.time_s - self._told_s >= TOLD_S and self._lost() != self._about.dropped:
                self._told_s = frame.time_s
                self._tell()
        if video is not None:
            video.close()

    def _next_video(self, frame: Frame) -> "_Video":
        videos = self._about.videos
        path = self.folder / (f"video-{len(videos) + 1}.mkv" if videos else "video.mkv")
        began = {} if videos else {"starts_s": frame.time_s, "started": _wall_clock(self._run, frame.time_s)}
        self._told_s = frame.time_s
        self._tell(videos=(*videos, VideoFile(path, frame.time_s)), **began)
        make_private_file(path)
        return _Video(path, frame)

    def _keep(self, source: Path) -> None:
        """Hash the file, and copy it if requested. Until the copy is complete, the session refers to the file."""
        digest, part = hashlib.sha256(), self.folder / "video.part"
        try:
            with source.open("rb") as file, open_private(part, "xb") if self._copy else nullcontext() as copied:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    if copied is not None:
                        append(copied, block)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if self._copy:
            copy = part.rename(self.folder / f"video{source.suffix}")
            self._tell(file_sha256=digest.hexdigest(), videos=(VideoFile(copy, 0.0),))
        else:
            self._tell(file_sha256=digest.hexdigest())


def _about(run: Run, file: Path | None, consent: str) -> About:
    """Returns what is known before the first frame. A camera's clock is the monotonic one; a file's begins at 0."""
    starts_s = time.monotonic() if run.source.live else 0.0
    return About(
        source=run.source.name,
        epoch=run.epoch,
        program=_release(),
        started=_wall_clock(run, starts_s),
        starts_s=starts_s,
        model_name=run.spec.name,
        model_sha256=run.model_sha256,
        model_fps=run.spec.fps,
        runtime=run.runtime,
        threshold=run.threshold,
        false_alarms_per_hour=run.false_alarms_per_hour,
        videos=() if file is None else (VideoFile(file.resolve(), 0.0),),
        consent=consent,
    )


def _wall_clock(run: Run, source_s: float) -> str:
    """Returns the ISO 8601 UTC of a recent moment on the source's clock."""
    ago_s = time.monotonic() - source_s if run.source.live else 0.0
    return datetime.fromtimestamp(time.time() - ago_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _release() -> str:
    try:
        return f"mestream {version('mestream')}"
    except PackageNotFoundError:
        return "mestream, not installed"


class _Video:
    """One Matroska file. Its time 0 is that of its first frame."""

    def __init__(self, path: Path, first: Frame) -> None:
        self._starts_s = first.time_s
        self._size = first.image.shape[:2]
        self._last_pts = -1
        self._container = av.open(str(path), "w", format="matroska", options=CONTAINER)
        stream: Any = self._container.add_stream("libx264", options=OPTIONS)
        # H.264 in 4:2:0 needs even sides, so a last odd row or column is left out
        stream.height, stream.width = (max(2, side - side % 2) for side in self._size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        self._stream = stream

    def fits(self, frame: Frame) -> bool:
        return frame.image.shape[:2] == self._size

    def write(self, frame: Frame) -> bool:
        """Encode a frame. Returns False if the file can't hold it: two frames in one millisecond, or a single row or
        column.
        """
        pts = round((frame.time_s - self._starts_s) / TIME_BASE)
        if pts <= self._last_pts:
            return False
        image = frame.image[: self._stream.height, : self._stream.width]
        if image.shape[:2] != (self._stream.height, self._stream.width):
            return False  # 4:2:0 can't hold it
        self._last_pts = pts
        picture = av.VideoFrame.from_ndarray(image.copy(), format="bgr24")
        picture.pts, picture.time_base = pts, TIME_BASE
        self._container.mux(self._stream.encode(picture))
        return True

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
