"""A video file as a source, through PyAV: the container's own time stamps, upright images, nothing left out."""

import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import SourceInfo
from stream.sources.media_clock import DEFAULT_PERIOD_S, MediaClock
from stream.sources.picture import bgr
from stream.types import Frame, SourceGap

HOLE_S = 0.2
"""Frames lost to decoding errors are a gap once they leave a hole longer than this; shorter ones show in the times."""
WAKE_S = 0.1
"""How often a paced source that waits for its moment looks whether it is to stop."""


class FileSource:
    """Plays one file. See `stream.sources.info.Source`.

    Decoding runs on one thread: several would make what a damaged stream decodes to depend on their timing.
    """

    def __init__(self, path: Path, *, paced: bool, loop: bool, stop: threading.Event) -> None:
        self.dropped = 0
        self.corrupt = 0
        self._path, self._paced, self._loop, self._stop = path, paced, loop, stop
        self._closed = threading.Event()
        self._decoding = threading.Lock()
        self._container, self._stream = _open_video(path)
        self._started_s: float | None = None
        rate = self._stream.average_rate or self._stream.guessed_rate
        nominal_fps = float(rate) if rate and 1 <= rate <= 1000 else None
        self._period_s = 1 / nominal_fps if nominal_fps else DEFAULT_PERIOD_S
        first, self._items = _peek(self._play())
        self.info = SourceInfo(
            name=f"file:{path.name}",
            live=False,
            width_px=first.shape[1],
            height_px=first.shape[0],
            nominal_fps=nominal_fps,
            backend="pyav",
            time_uncertainty_s=float(self._stream.time_base) / 2,
        )

    def read(self) -> Frame | SourceGap | None:
        """Return the next frame or gap, at its moment if paced; None at the end."""
        with self._decoding:
            item = None if self._ended() else next(self._items, None)
        if item is None or (self._paced and not self._wait_until(item.time_s)):
            return None
        return item

    def close(self) -> None:
        """Close the file, after the frame that is being decoded if there is one."""
        self._closed.set()
        with self._decoding:
            self._container.close()

    def _ended(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _wait_until(self, media_s: float) -> bool:
        """Sleep until the media time is now; False if told to end before."""
        if self._started_s is None:
            self._started_s = time.monotonic() - media_s
        while (left_s := self._started_s + media_s - time.monotonic()) > 0 and not self._ended():
            self._stop.wait(min(left_s, WAKE_S))
        return not self._ended()

    def _play(self) -> Iterator[Frame | SourceGap]:
        index, lap_start_s = 0, 0.0
        while True:
            end_s = lap_start_s
            for item in self._lap(index, lap_start_s):
                yield item
                if isinstance(item, Frame):
                    index, end_s = item.index + 1, item.time_s
            if index == 0:
                raise UserError(
                    f"source {self._path}: no frame of it can be decoded; check that it plays in a video player"
                )
            if not self._loop:
                return
            yield SourceGap(end_s, "loop")
            lap_start_s = end_s + self._period_s
            self._container.close()
            self._container, self._stream = _open_video(self._path)

    def _lap(self, index: int, lap_start_s: float) -> Iterator[Frame | SourceGap]:
        """The file once, its first frame being number `index`, media time 0 being `lap_start_s`."""
        # AVI stores no time of display, only the order of decoding, one tick each; FFmpeg's guess at the rest is wrong
        # where B frames reorder. Decoding times less the first one are the display times.
        only_dts = "avi" in self._container.format.name
        start_us = None if only_dts else self._container.start_time
        clock = MediaClock(self._period_s, start_us / av.time_base if start_us is not None else None)
        last_s, last_shape, corrupt_before = lap_start_s, None, self.corrupt
        for picture in self._pictures():
            ticks = picture.dts if only_dts else picture.pts
            media_s, gap = clock.stamp(float(ticks * picture.time_base) if ticks is not None else None)
            if media_s is None:
                self.dropped += 1
                continue
            time_s = lap_start_s + media_s
            if gap is None and self.corrupt > corrupt_before and time_s - last_s > HOLE_S:
                gap = "corrupt"
            image = _upright(picture)
            if gap is None and last_shape not in (None, image.shape):
                gap = "resolution_changed"
            if gap is not None:
                yield SourceGap(last_s, gap)
            yield Frame(index, time_s, image)
            index, last_s, last_shape, corrupt_before = index + 1, time_s, image.shape, self.corrupt

    def _pictures(self) -> Iterator[Any]:
        """Decoded pictures in the order of display; what can't be decoded is counted and left out."""
        packets = self._container.demux(self._stream)
        broken = _ends_early(self._path, self._stream)
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
            except av.error.FFmpegError:
                pictures = [None]
            for picture in pictures:
                if picture is None or picture.is_corrupt:
                    self.corrupt += 1
                else:
                    yield picture
            if ended:
                break
            broken_off = packet.is_corrupt  # FFmpeg flags the last packet if there is but a piece of it
        if broken or broken_off:
            raise UserError(
                f"source {self._path}: breaks off before its end (cut off or damaged); "
                "all that could be read was used; copy or record it again"
            )


def _open_video(path: Path) -> tuple[Any, Any]:
    """Open the first moving picture of a file, decoding on one thread.

    Raises:
        UserError: there is no such file, it can't be read, or it holds no video.
    """
    if path.is_dir():
        raise UserError(f"source {path}: is a directory; give a video file in it")
    if not path.exists():
        raise UserError(f"source {path}: no such file; check the path, or use --demo for a clip that is shipped")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"source {path}: is empty (0 bytes); copy or record it again")
    try:
        container = av.open(str(path.absolute()))
        if container.format.name == "tty":  # FFmpeg plays any text file as an animation of its letters
            container.close()
            raise ValueError("it is text")
    except PermissionError:
        raise UserError(f"source {path}: may not be read by this user; change its permissions") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UserError(
            f"source {path}: is not a video that can be read, or is cut off ({_why(error)}); "
            "check that it plays in a video player"
        ) from None
    if not container.streams:
        raise UserError(f"source {path}: holds nothing, or is cut off; copy or record it again")
    streams = [s for s in container.streams.video if not _is_cover(s) and s.codec_context is not None]
    if not streams:
        container.close()
        raise UserError(f"source {path}: holds no video that can be decoded (sound only?); give a video file")
    streams[0].codec_context.thread_count = 1
    if streams[0].codec_context.name == "mjpeg":  # else a damaged JPEG comes out half grey, as if it were whole
        streams[0].codec_context.options = {"err_detect": "explode"}
    return container, streams[0]


def _ends_early(path: Path, stream: Any) -> bool:
    """Whether the index speaks of bytes that the file does not have."""
    return (
        len(stream.index_entries) > 0
        and path.is_file()
        and (stream.index_entries[-1].pos + stream.index_entries[-1].size > path.stat().st_size)
    )


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _peek(items: Iterator[Frame | SourceGap]) -> tuple[NDArray[np.uint8], Iterator[Frame | SourceGap]]:
    """Return the first image and an iterator over all, so that a source knows its size, and fails early."""
    before: list[Frame | SourceGap] = []
    for item in items:
        before.append(item)
        if isinstance(item, Frame):
            return item.image, chain(before, items)
    raise AssertionError("_play raises rather than end without a frame")


def _upright(picture: Any) -> NDArray[np.uint8]:
    """The picture as uint8[H, W, 3] BGR, turned as the container says that it is to be shown."""
    image = bgr(picture)
    quarter_turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
