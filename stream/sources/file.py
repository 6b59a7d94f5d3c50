"""Reads a video file through PyAV: the container's own time stamps, upright images, every frame."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.container import describe, open_video
from stream.sources.info import SourceInfo
from stream.sources.media_clock import DEFAULT_PERIOD_S, capture_rate
from stream.sources.picture import upright

log = logging.getLogger("stream")


class VideoFile:
    """One video stream of a file. See `stream.sources.playback.Clip`.

    `video_stream`: its number among the file's video streams, from 0; None chooses the best. `capture_fps`: the rate at
    which it was filmed, if the stored rate differs; None uses what the file says.
    """

    def __init__(
        self,
        path: Path,
        *,
        video_stream: int | None,
        capture_fps: float | None,
        max_pixels: int,
        stop: threading.Event,
    ) -> None:
        self.name = str(path)
        self._path, self._video_stream, self._max_pixels, self._stop = path, video_stream, max_pixels, stop
        self._interrupted = threading.Event()
        self._fresh = True
        self._open()
        rate = self._stream.average_rate or self._stream.guessed_rate
        stored_fps = float(rate) if rate and 1 <= rate <= 1000 else None
        tags = {**self._container.metadata, **self._stream.metadata}
        self._fps = capture_rate(stored_fps, capture_fps, tags) or stored_fps
        if capture_fps and not stored_fps:
            raise UserError(f"--capture-fps: {path} names no frame rate to start from; leave it out", code=2)
        self._scale = stored_fps / self._fps if stored_fps and self._fps else 1.0
        self.period_s = 1 / self._fps if self._fps else DEFAULT_PERIOD_S
        # AVI stores no display time, only the decoding order, one tick each. FFmpeg's guess at the rest is wrong
        # if there are B frames. Decoding times minus the first one are the display times.
        self._only_dts = "avi" in self._container.format.name
        start_us = None if self._only_dts else self._container.start_time
        self.start_s = start_us / av.time_base * self._scale if start_us is not None else None
        self._tell(stored_fps)

    def describe(self, first: NDArray[np.uint8]) -> SourceInfo:
        """Returns what the file contains. See `stream.sources.playback.Clip`."""
        return SourceInfo(
            name=f"file:{self._path.name}",
            live=False,
            width_px=first.shape[1],
            height_px=first.shape[0],
            nominal_fps=self._fps,
            backend="pyav",
            time_uncertainty_s=float(self._stream.time_base) * self._scale / 2,
            file=self._path.absolute() if self._scale == 1 and self._path.is_file() else None,
        )

    def pictures(self) -> Iterator[tuple[float | None, NDArray[np.uint8] | None]]:
        """Decode the stream from its beginning. See `stream.sources.playback.Clip`."""
        if not self._fresh:
            self._container.close()
            self._open()
        self._fresh = False
        for picture in self._decoded():
            if picture is None or picture.is_corrupt:
                yield None, None
                continue
            ticks = picture.dts if self._only_dts else picture.pts
            stamp_s = float(ticks * picture.time_base) * self._scale if ticks is not None else None
            yield stamp_s, upright(picture)

    def interrupt(self) -> None:
        """End a wait for the writer of a FIFO."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _ended(self) -> bool:
        return self._stop.is_set() or self._interrupted.is_set()

    def _open(self) -> None:
        self._container, self._stream = open_video(self._path, self._video_stream, self._max_pixels, self._ended)

    def _tell(self, stored_fps: float | None) -> None:
        streams = self._container.streams.video
        if len(streams) > 1:
            number = streams.index(self._stream)
            log.info(
                *("%s: watching video stream %d of %d, counted from 0 (%s); --video-stream N takes another",),
                *(self._path.name, number, len(streams), describe(self._stream)),
            )
        if self._scale != 1:
            log.info(
                "%s: slow motion, taken at %g fps and stored at %.4g; times are those of the capture",
                *(self._path.name, self._fps, stored_fps),
            )

    def _decoded(self) -> Iterator[Any]:
        """Yields the decoded pictures in display order, and None for each that can't be decoded."""
        packets = self._container.demux(self._stream)
        broken = self._ends_early()
        broken_off = False
        packet: Any
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError):
                packet, broken = None, True
            ended = packet is None or packet.size == 0
            try:
                pictures = self._stream.decode(packet)
            except (av.error.FFmpegError, ValueError):
                pictures = [None]
            yield from pictures
            if ended:
                break
            broken_off = packet.is_corrupt  # FFmpeg flags the last packet if it is incomplete
        if (broken or broken_off) and not self._ended():
            raise UserError(
                f"source {self._path}: breaks off before its end (cut off or damaged); "
                "all that could be read was used; copy or record it again"
            )

    def _ends_early(self) -> bool:
        """Whether the index refers to bytes that the file does not have."""
        entries = self._stream.index_entries
        ends = entries[-1].pos + entries[-1].size if len(entries) else 0
        return self._path.is_file() and ends > self._path.stat().st_size
