"""Reads RTSP through PyAV. Each image is stamped when its packet arrives, before it is decoded."""

import errno
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import redact
from stream.sources.live import SourceLost
from stream.sources.network import CONNECT_S, POLL_S, dial, why
from stream.sources.picture import TooLarge, check_size, upright

RTSP_OPTIONS = {"rtsp_flags": "prefer_tcp", "timeout": str(int(CONNECT_S * 1e6)), "analyzeduration": "10000"}
BUFFERED_S, BUFFERED_PACKETS = 0.005, 250
"""At first, a packet that arrives within this time after the request is an old one. At most this many packets count as
old."""


class RtspConnection:
    """RTSP, over TCP if the server supports it (UDP loses packets). See `stream.sources.live.Connection`.

    FFmpeg reads in slices of POLL_S, so that it can be interrupted. It probes for only 10 ms; by default it takes a
    second or more. The first packets that arrive without a wait were buffered by FFmpeg or the server. Their images are
    old, so they are decoded but not delivered.
    """

    def __init__(self, url: str, silence_s: float, max_pixels: int) -> None:
        self._url, self._name, self._silence_s = url, redact(url), silence_s
        self._max_pixels = max_pixels
        self._interrupted = threading.Event()
        self._container: Any = None
        self.nominal_fps: float | None = None

    def open(self) -> None:
        """Check that an RTSP server answers, then let FFmpeg open the stream."""
        limit = {"max_pixels": str(self._max_pixels)}
        try:
            self._knock()
            if self._interrupted.is_set():
                raise TimeoutError
            self._container = av.open(self._url, options={**RTSP_OPTIONS, **limit}, timeout=(CONNECT_S, POLL_S))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                f"source {self._name}: can't be opened ({why(error)}); check address, password, network and camera"
            ) from None
        if not self._container.streams.video:
            self.close()
            raise UserError(f"source {self._name}: holds no video; check the path")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        try:
            check_size(f"source {self._name}", (context.width, context.height), self._max_pixels)
        except TooLarge:
            self.close()
            raise
        context.thread_count, context.options = 1, limit
        context.flags |= av.codec.context.Flags.low_delay
        rate = self._stream.average_rate
        self.nominal_fps = float(rate) if rate and 1 <= rate <= 1000 else None
        self._packets = self._arriving()
        self._pictures: deque[tuple[float, Any]] = deque()

    def grab(self) -> tuple[float, NDArray[np.uint8]] | None:
        """Wait for the next image. See `stream.sources.live.Connection`."""
        while not self._pictures:
            arrived_s, packet, old = next(self._packets)
            try:
                pictures = self._stream.decode(packet)
            except (av.error.FFmpegError, ValueError):
                return None
            if not old:
                self._pictures.extend((arrived_s, picture) for picture in pictures)
        arrived_s, picture = self._pictures.popleft()
        return None if picture.is_corrupt else (arrived_s, upright(picture))

    def interrupt(self) -> None:
        """Make `grab` end within POLL_S. An `open` ends within CONNECT_S at most."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the connection."""
        if self._container is not None:
            self._container.close()

    def _arriving(self) -> Iterator[tuple[float, Any, bool]]:
        """Yields packets, their arrival times, and whether each is an old one from FFmpeg's buffer."""
        asked_s, buffered = time.monotonic(), BUFFERED_PACKETS
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    arrived_s = time.monotonic()
                    buffered = buffered - 1 if buffered and arrived_s - asked_s < BUFFERED_S else 0
                    yield arrived_s, packet, buffered > 0
                    asked_s = time.monotonic()
                raise SourceLost("the server ended the stream")
            except av.error.ExitError:  # one slice of the wait has ended
                silent_s = time.monotonic() - asked_s
                if self._interrupted.is_set() or silent_s > self._silence_s:
                    raise SourceLost(f"nothing came for {silent_s:.1f} s") from None
            except (av.error.FFmpegError, OSError) as error:
                raise SourceLost(why(error)) from None

    def _knock(self) -> None:
        """Request OPTIONS, to detect a missing or hanging server in a way that can be interrupted.

        Raises:
            OSError: no RTSP server answered.
        """
        parts = urlsplit(self._url)
        if parts.scheme.lower() != "rtsp" or not parts.hostname:
            return
        with dial(parts.hostname, parts.port or 554, CONNECT_S, self._interrupted) as knocking:
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
            knocking.sendall(f"OPTIONS {bare} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            deadline_s = time.monotonic() + self._silence_s
            while not select.select([knocking], [], [], POLL_S)[0]:
                if self._interrupted.is_set() or time.monotonic() > deadline_s:
                    raise TimeoutError("connected, but no answer")
            if not knocking.recv(64).startswith(b"RTSP/"):
                raise OSError(errno.EPROTO, "what answers is not an RTSP server")
