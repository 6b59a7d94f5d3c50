"""Opens a video file and chooses the best of its video streams. A file that is not a video gets one clear
error line.
"""

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from stream.errors import UserError
from stream.sources.picture import HEADER_BYTES, check_size, size_px

POLL_MS = 100
"""How often a wait for the writer of a FIFO checks whether to end."""


class Pipe:
    """A FIFO, or a stand-in for stdin, for `av.open`. A wait for its writer can be ended.

    `ended`: returns whether the bytes are no longer needed. From then on the pipe reads as ended.
    """

    def __init__(self, path: Path, ended: Callable[[], bool]) -> None:
        self.name, self._ended = str(path), ended
        # a plain open would wait for a writer, and nothing could end that wait
        self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        self._readable = select.poll()
        self._readable.register(self._file, select.POLLIN)

    def read(self, size: int) -> bytes:
        """Returns up to so many bytes as soon as there are any. Returns b"" once the writer has closed, or
        at the end.
        """
        while not self._ended():
            if self._readable.poll(POLL_MS):
                return self._file.read(size) or b""
        return b""


def open_video(path: Path, number: int | None, max_pixels: int, ended: Callable[[], bool]) -> tuple[Any, Any]:
    """Open a video file for decoding on one thread. Returns its container and the stream to watch.

    With several threads, the decoding of a damaged stream would depend on their timing. `number`: number of the video
    stream, see `choose`. `ended`: see `Pipe`.

    Raises:
        UserError: there is no such file, it can't be read, or it has no video of an allowed size.
    """
    container = _open(path, max_pixels, ended)
    try:
        stream = choose(path, container, number)
        context = stream.codec_context
        check_size(f"source {path}", (context.width, context.height), max_pixels)
    except UserError:
        container.close()
        raise
    context.thread_count = 1
    context.options = {"max_pixels": str(max_pixels)}
    if context.name == "mjpeg":  # otherwise a damaged JPEG comes out half grey, as if it were whole
        context.options = {**context.options, "err_detect": "explode"}
    return container, stream


def choose(path: Path, container: Any, number: int | None) -> Any:
    """Returns the video stream to watch: stream `number` (from 0), or else the best one with moving pictures.

    FFmpeg decides which stream is best. It prefers a stream flagged as default, then one with several pictures, then
    more bits. Cover pictures and streams of a single picture do not count.

    Raises:
        UserError: there is none.
    """
    streams = container.streams.video
    if number is not None:
        if number < len(streams) and streams[number].codec_context is not None:
            return streams[number]
        there = "; ".join(f"{i}: {describe(stream)}" for i, stream in enumerate(streams)) or "none"
        raise UserError(f"--video-stream {number}: {path} has no such video stream to decode (there: {there})", code=2)
    decodable = [stream for stream in streams if stream.codec_context is not None and not _is_cover(stream)]
    moving = [stream for stream in decodable if stream.frames != 1] or decodable
    if not moving:
        raise UserError(f"source {path}: holds no video that can be decoded (sound only?); give a video file")
    best = container.streams.best("video")
    return best if best in moving else max(moving, key=lambda stream: (_is_default(stream), stream.frames))


def describe(stream: Any) -> str:
    """Describes a video stream in words, so that a user can choose one."""
    context = stream.codec_context
    what = "unknown codec" if context is None else f"{context.name} {context.width}x{context.height}"
    return f"{what}, cover picture" if _is_cover(stream) else what


def _open(path: Path, max_pixels: int, ended: Callable[[], bool]) -> Any:
    if not path.exists():
        raise UserError(f"source {path}: no such file; check the path, or use --demo for a clip that is shipped")
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"source {path}: is empty (0 bytes); copy or record it again")
    try:
        if path.is_file():  # only the decoder learns the size of a single picture
            with path.open("rb") as opened:
                check_size(f"source {path}", size_px(opened.read(HEADER_BYTES)), max_pixels)
        file: Any = Pipe(path.absolute(), ended) if path.is_fifo() else str(path.absolute())
        container = av.open(file, "r", options={"max_pixels": str(max_pixels)})  # FFmpeg decodes while it probes
        if container.format.name == "tty":  # FFmpeg plays any text file as an animation of characters
            container.close()
            raise ValueError("it is text")
    except PermissionError:
        raise UserError(f"source {path}: may not be read by this user; change its permissions") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if ended():
            raise UserError(f"source {path}: told to stop before its first images", code=0) from None
        raise UserError(
            f"source {path}: is not a video that can be read, or is cut off ({_why(error)}); "
            "check that it plays in a video player"
        ) from None
    if not container.streams:
        container.close()
        raise UserError(f"source {path}: holds nothing, or is cut off; copy or record it again")
    return container


def _is_cover(stream: Any) -> bool:
    kinds = type(stream.disposition)
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def _is_default(stream: Any) -> bool:
    return bool(stream.disposition & type(stream.disposition).default)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__)
