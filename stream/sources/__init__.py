"""Where frames come from: one call opens a file, a camera or a network stream, and says plainly why it can't.

Every frame is stamped once: a file's by its container's PTS (`stream.sources.media_clock`), a live source's by the
monotonic clock right after the grab (`stream.sources.cameras`, `stream.sources.network`).
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stream.errors import UserError
from stream.sources.cameras import Camera, CameraInfo, camera_nodes, list_cameras
from stream.sources.file import FileSource
from stream.sources.http_mjpeg import MjpegConnection
from stream.sources.info import Source, SourceInfo, redact
from stream.sources.live import Connection, LiveSource
from stream.sources.network import describe_stream
from stream.sources.rtsp import RtspConnection
from stream.sources.watch import Patience

__all__ = ["CameraInfo", "Patience", "Source", "SourceInfo", "list_cameras", "open_source", "redact"]

STREAMS: dict[str, tuple[str, Callable[[str, float], Connection]]] = {
    "http": ("http MJPEG", MjpegConnection),
    "https": ("http MJPEG", MjpegConnection),
    "rtsp": ("pyav RTSP", RtspConnection),
    "rtsps": ("pyav RTSP", RtspConnection),
}


def open_source(
    spec: str | int,
    *,
    paced: bool,
    width_px: int | None = None,
    height_px: int | None = None,
    fps: float | None = None,
    loop: bool = False,
    stop: threading.Event | None = None,
    patience: Patience | None = None,
) -> Source:
    """Open a camera (index, `camera:NAME` or a /dev path), an http(s) MJPEG or rtsp(s) URL, or a file.

    A name without `camera:` means a camera only where there is no such file. `paced`: a file plays in real time; else
    as fast as it is read. `loop`: a file begins again at its end. Size and rate are asked of a camera. `stop`: once
    set, `read` returns None soon. `patience`: how long a live source is waited for.

    Raises:
        UserError: it can't be opened; the message says why and what to do.
    """
    stop, patience, text = stop or threading.Event(), patience or Patience(), str(spec).strip()
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and scheme[1].lower() in STREAMS:
        return _open_stream(text, scheme[1].lower(), patience, stop)
    if scheme and scheme[1].lower() != "file":
        raise UserError(f"source {redact(text)}: can't read {scheme[1]}; use a file, http(s) MJPEG or rtsp(s)", code=2)
    if camera := _camera_meant(text):
        return _open_camera(Camera(camera, width_px, height_px, fps, patience.silence_s), patience, stop)
    path = unquote(urlsplit(text).path) if scheme else text
    return FileSource(Path(path), paced=paced, loop=loop, stop=stop)


def _camera_meant(text: str) -> str | None:
    if text.startswith("camera:"):
        return text.removeprefix("camera:")
    if text.isdecimal() or re.match(r"/dev/(video|v4l)", text):
        return text
    known = not Path(text).exists() and any(text.casefold() == node.name.casefold() for node in camera_nodes())
    return text if known else None


def _open_camera(camera: Camera, patience: Patience, stop: threading.Event) -> Source:
    return LiveSource(
        f"camera:{camera.spec}", camera.connect, lambda _, image: camera.describe(image), patience=patience, stop=stop
    )


def _open_stream(url: str, scheme: str, patience: Patience, stop: threading.Event) -> Source:
    backend, connect = STREAMS[scheme]
    return LiveSource(
        redact(url),
        lambda: connect(url, patience.silence_s),
        lambda connection, image: describe_stream(url, backend, connection.nominal_fps, image),
        patience=patience,
        stop=stop,
    )
