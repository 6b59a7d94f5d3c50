"""Opens every kind of source with one call: a file, a camera or a network stream. If it can't, the error says why.

Every frame is stamped once. A file's frame gets its container's PTS (`stream.sources.media_clock`). A live frame gets
the monotonic clock right after the grab (`stream.sources.cameras`, `stream.sources.network`).
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stream.config import MAX_PIXELS
from stream.errors import UserError
from stream.sources.cameras import Camera, CameraInfo, camera_nodes, list_cameras
from stream.sources.file import VideoFile
from stream.sources.http_mjpeg import MjpegConnection
from stream.sources.images import ImageFolder, means_images
from stream.sources.info import Source, SourceInfo, redact
from stream.sources.live import Connection, LiveSource
from stream.sources.network import describe_stream
from stream.sources.playback import Clip, Playback
from stream.sources.rtsp import RtspConnection
from stream.sources.watch import Patience

__all__ = ["CameraInfo", "Patience", "Source", "SourceInfo", "list_cameras", "open_source", "redact"]

STREAMS: dict[str, tuple[str, Callable[[str, float, int], Connection]]] = {
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
    video_stream: int | None = None,
    capture_fps: float | None = None,
    max_pixels: int = MAX_PIXELS,
    loop: bool = False,
    stop: threading.Event | None = None,
    patience: Patience | None = None,
) -> Source:
    """Open a camera (index, `camera:NAME` or a /dev path), an http(s) MJPEG or rtsp(s) URL, a file or a folder.

    A name without `camera:` means a camera only if there is no file of that name. `paced`: a file plays in real time;
    otherwise it is read as fast as possible. `loop`: a file starts again at its end. Size and rate are requested from a
    camera; for a folder, `fps` is the rate of its pictures. `video_stream`, `capture_fps`: see
    `stream.sources.file.VideoFile`. `max_pixels`: a larger picture is not decoded. `stop`: once it is set, `read`
    returns None soon. `patience`: how long to wait for a live source.

    Raises:
        UserError: it can't be opened; the message says why and what to do.
    """
    stop, patience, text = stop or threading.Event(), patience or Patience(), str(spec).strip()
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and scheme[1].lower() in STREAMS:
        return _open_stream(text, scheme[1].lower(), max_pixels, patience, stop)
    if scheme and scheme[1].lower() != "file":
        raise UserError(f"source {redact(text)}: can't read {scheme[1]}; use a file, http(s) MJPEG or rtsp(s)", code=2)
    if camera := _camera_meant(text):
        return _open_camera(Camera(camera, width_px, height_px, fps, patience.silence_s, max_pixels), patience, stop)
    path = Path(unquote(urlsplit(text).path) if scheme else text)
    if means_images(path):
        clip: Clip = ImageFolder(path, fps, max_pixels=max_pixels)
    else:
        clip = VideoFile(path, video_stream=video_stream, capture_fps=capture_fps, max_pixels=max_pixels, stop=stop)
    return Playback(clip, paced=paced, loop=loop, stop=stop)


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


def _open_stream(url: str, scheme: str, max_pixels: int, patience: Patience, stop: threading.Event) -> Source:
    backend, connect = STREAMS[scheme]
    return LiveSource(
        redact(url),
        lambda: connect(url, patience.silence_s, max_pixels),
        lambda connection, image: describe_stream(url, backend, connection.nominal_fps, image),
        patience=patience,
        stop=stop,
    )
