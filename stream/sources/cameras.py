"""Cameras through OpenCV: lists them, finds the one that is meant, and never confuses an open camera with another."""

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# V4L2 waits 10 s for a frame by default. This sets it in whole seconds and must run before OpenCV's first capture.
# Otherwise a camera that hangs could not be released sooner.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "1")

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.config import MAX_PIXELS
from stream.errors import UserError
from stream.sources.info import SourceInfo
from stream.sources.live import SourceLost
from stream.sources.picture import TooLarge, check_size

BACKENDS = {"linux": cv2.CAP_V4L2, "win32": cv2.CAP_DSHOW, "darwin": cv2.CAP_AVFOUNDATION}
"""Media Foundation takes up to half a minute to open a camera; DirectShow does not."""
PROBED_INDICES = 8
"""How many indices are tried on systems that list no cameras (Windows, macOS)."""
PLAIN_FPS, PLAIN_WIDTH_PX = 30.0, 640
"""Above these limits a USB 2 camera has to compress, so MJPEG is requested."""


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """One camera: `index` as in --camera, `name` as the driver gives it.

    `path`: a /dev path that survives replugging; None on systems without one (Windows, macOS). `opens`: whether the
    camera could be opened just now.
    """

    index: int
    name: str
    path: str | None
    opens: bool


@dataclass(frozen=True, slots=True)
class CameraNode:
    """A capture device on Linux: `device` is /dev/videoN. `links` are its paths under /dev/v4l, by-id
    before by-path.
    """

    index: int
    name: str
    device: str
    links: tuple[str, ...]


def list_cameras() -> list[CameraInfo]:
    """Returns all cameras, or an empty list. Each is opened briefly to see whether it works."""
    _hush()
    if sys.platform == "linux":
        nodes = camera_nodes()
    else:
        nodes = [CameraNode(index, f"camera {index}", "", ()) for index in range(PROBED_INDICES)]
    found = []
    for node in nodes:
        capture = cv2.VideoCapture(node.index, BACKENDS.get(sys.platform, cv2.CAP_ANY))
        opens = capture.isOpened()
        capture.release()
        if opens or sys.platform == "linux":
            found.append(CameraInfo(node.index, node.name, node.links[0] if node.links else None, opens))
    return found


def camera_nodes(dev: Path = Path("/dev"), sys_class: Path = Path("/sys/class/video4linux")) -> list[CameraNode]:
    """Returns the capture devices that Linux knows, in the order of their index, without metadata nodes."""
    nodes = []
    for entry in sorted(sys_class.glob("video*"), key=lambda path: (len(path.name), path.name)):
        number = entry.name.removeprefix("video")
        if not number.isdigit() or _first_line(entry / "index") not in ("", "0"):
            continue
        device = dev / entry.name
        links = [
            str(link)
            for folder in ("by-id", "by-path")
            for link in sorted((dev / "v4l" / folder).glob("*"))
            if link.resolve() == device.resolve()
        ]
        nodes.append(CameraNode(int(number), _first_line(entry / "name") or entry.name, str(device), tuple(links)))
    return nodes


def find_camera(spec: str, nodes: list[CameraNode]) -> CameraNode:
    """Returns the one camera that `spec` means: an index, a path under /dev, or a name.

    Raises:
        UserError: none fits, or several do.
    """
    if spec.isdecimal():
        fitting = [node for node in nodes if node.index == int(spec)]
    elif "/" in spec:
        fitting = [node for node in nodes if Path(spec).resolve() == Path(node.device).resolve()]
    else:
        exact = [node for node in nodes if node.name.casefold() == spec.casefold()]
        fitting = exact or [node for node in nodes if spec.casefold() in node.name.casefold()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"camera {spec}: {len(fitting)} cameras are called so ({', '.join(str(n.index) for n in fitting)}); "
            "give an index or a /dev/v4l/by-id path, see --list-cameras"
        )
    there = ", ".join(f"{node.index} ({node.name})" for node in nodes) or "none"
    raise UserError(
        f"camera {spec}: not found (cameras here: {there}); see --list-cameras, or use --demo, which needs no camera"
    )


class CameraConnection:
    """One opened camera. See `stream.sources.live.Connection`.

    A `Camera` makes it and remembers which device it is.
    """

    def __init__(self, camera: "Camera") -> None:
        self._camera = camera
        self.nominal_fps: float | None = None
        self._capture: Any = None
        self._interrupted = threading.Event()
        self._last_s = time.monotonic()

    def open(self) -> None:
        """Open the device and request size and rate."""
        self._capture = self._camera.open_device()
        self.nominal_fps = self._camera.given_fps
        self._last_s = time.monotonic()

    def grab(self) -> tuple[float, NDArray[np.uint8]] | None:
        """Wait for the next image. See `stream.sources.live.Connection`."""
        while not self._capture.grab():
            silent_s = time.monotonic() - self._last_s
            if self._interrupted.is_set() or silent_s > self._camera.silence_s or not self._camera.is_there():
                raise SourceLost(f"no image for {silent_s:.1f} s")
            self._interrupted.wait(0.05)  # a driver that fails at once must not cause a busy loop
        self._last_s = time.monotonic()
        decoded, image = self._capture.retrieve()
        return (self._last_s, image) if decoded else None

    def interrupt(self) -> None:
        """Make `grab` end. OpenCV waits 1 s for a driver that hangs (V4L2)."""
        self._interrupted.set()

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()


class Camera:
    """A camera and the settings requested from it. It is bound to one device for good when first opened.

    Linux identifies the device by its /dev/v4l/by-id path, or by-path for cameras without one. So the same camera is
    opened after a replug, whatever its index is then, and never another one. On other systems OpenCV knows cameras only
    by index, so that index is opened again.
    """

    def __init__(
        self,
        spec: str,
        width_px: int | None,
        height_px: int | None,
        fps: float | None,
        silence_s: float,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        _hush()
        self.spec, self.silence_s, self.max_pixels = spec, silence_s, max_pixels
        self.width_px, self.height_px, self.fps = width_px, height_px, fps
        self.backend = BACKENDS.get(sys.platform, cv2.CAP_ANY)
        self.node: CameraNode | None = None
        self.given_fps: float | None = None

    def connect(self) -> CameraConnection:
        """Returns a new connection that is not open yet."""
        return CameraConnection(self)

    def is_there(self) -> bool:
        """Whether this camera's device is plugged in."""
        if sys.platform != "linux" or self.node is None:
            return True
        return Path(self._path()).exists()

    def open_device(self) -> Any:
        """Returns an open cv2.VideoCapture of this camera.

        Raises:
            UserError: it is missing, in use or forbidden, or its pictures are too large.
        """
        target: str | int = int(self.spec) if self.spec.isdecimal() else self.spec
        if sys.platform == "linux":
            if self.node is None:
                self.node = find_camera(self.spec, camera_nodes())
            if not self.is_there():
                raise UserError(f"camera {self.spec}: {self._path()} is not plugged in")
            target = str(Path(self._path()).resolve())
        elif isinstance(target, str):
            raise UserError(f"camera {self.spec}: here a camera is given by its index; see --list-cameras", code=2)
        capture = cv2.VideoCapture(target, self.backend)
        if not capture.isOpened():
            raise UserError(f"camera {self.spec}: {self._why_closed(target)}; see --list-cameras, or use --demo")
        self._ask(capture)
        width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        try:
            check_size(f"camera {self.spec}", (width, height), self.max_pixels)
        except TooLarge:
            capture.release()
            raise
        return capture

    def describe(self, image: NDArray[np.uint8]) -> SourceInfo:
        """Returns what the camera delivers and what was requested."""
        return SourceInfo(
            name=f"camera:{self.spec}",
            live=True,
            width_px=image.shape[1],
            height_px=image.shape[0],
            nominal_fps=self.given_fps,
            backend=f"opencv {cv2.videoio_registry.getBackendName(self.backend)}",
            time_uncertainty_s=1 / (self.given_fps or PLAIN_FPS),
            requested_width_px=self.width_px,
            requested_height_px=self.height_px,
            requested_fps=self.fps,
        )

    def _path(self) -> str:
        assert self.node is not None
        return self.node.links[0] if self.node.links else self.node.device

    def _ask(self, capture: Any) -> None:
        if (self.width_px or 0) > PLAIN_WIDTH_PX or (self.fps or 0) > PLAIN_FPS:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        for key, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, self.width_px),
            (cv2.CAP_PROP_FRAME_HEIGHT, self.height_px),
            (cv2.CAP_PROP_FPS, self.fps),
        ):
            if value is not None:
                capture.set(key, value)
        given = float(capture.get(cv2.CAP_PROP_FPS))
        self.given_fps = given if 1 <= given <= 1000 else None

    def _why_closed(self, target: str | int) -> str:
        if sys.platform == "darwin":
            return "can't be opened; allow this terminal to use the camera in System Settings, Privacy & Security"
        if isinstance(target, str) and not os.access(target, os.R_OK | os.W_OK):
            return f"{target} may not be opened by this user; join the group 'video'"
        return "can't be opened; another program may be using it"


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _hush() -> None:
    """Keep OpenCV's warnings off the terminal. The caller reports what matters in one line."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
