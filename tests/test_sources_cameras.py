"""Which camera is which, and never another one in its place; a folder stands in for /dev and /sys here."""

import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2
import pytest
from videos import number_in, write_video

from stream.errors import UserError
from stream.sources import Patience, open_source
from stream.sources.cameras import Camera, camera_nodes, find_camera, list_cameras
from stream.sources.live import LiveSource
from stream.types import Frame, SourceGap


class Bus:
    """The part of /dev and /sys that tells of cameras, with cameras to plug in and out."""

    def __init__(self, root: Path) -> None:
        self.dev, self.sys_class = root / "dev", root / "sys"
        for folder in (self.dev / "v4l/by-id", self.dev / "v4l/by-path", self.sys_class):
            folder.mkdir(parents=True)

    def plug(self, index: int, name: str, serial: str | None, *, capture: bool = True) -> None:
        (self.dev / f"video{index}").touch()
        entry = self.sys_class / f"video{index}"
        entry.mkdir()
        (entry / "name").write_text(name + "\n")
        (entry / "index").write_text("0\n" if capture else "1\n")
        if serial:
            (self.dev / "v4l/by-id" / f"usb-{serial}-video-index{int(not capture)}").symlink_to(f"../../video{index}")
        (self.dev / "v4l/by-path" / f"pci-usb-{index}-video-index0").symlink_to(f"../../video{index}")

    def unplug(self, index: int) -> None:
        for link in [*self.dev.glob("v4l/*/*")]:
            if link.resolve() == (self.dev / f"video{index}").resolve():
                link.unlink()
        (self.dev / f"video{index}").unlink()
        for file in (self.sys_class / f"video{index}").iterdir():
            file.unlink()
        (self.sys_class / f"video{index}").rmdir()

    def nodes(self) -> list:
        return camera_nodes(self.dev, self.sys_class)


@pytest.fixture
def bus(tmp_path: Path) -> Bus:
    bus = Bus(tmp_path)
    bus.plug(0, "Integrated Camera", None)
    bus.plug(2, "HD Webcam C920", "046d_C920_A1")
    bus.plug(3, "HD Webcam C920", "046d_C920_A1", capture=False)
    bus.plug(10, "HD Webcam C270", "046d_C270_B2")
    return bus


def test_nodes_are_the_cameras_in_order_without_metadata(bus: Bus) -> None:
    assert [(node.index, node.name) for node in bus.nodes()] == [
        (0, "Integrated Camera"),
        (2, "HD Webcam C920"),
        (10, "HD Webcam C270"),
    ]
    assert [Path(node.links[0]).parent.name for node in bus.nodes()] == ["by-path", "by-id", "by-id"]


@pytest.mark.parametrize(
    ("spec", "index"), [("0", 0), ("10", 10), ("integrated camera", 0), ("C920", 2), ("by-id", 2), ("device", 10)]
)
def test_a_camera_is_found_by_index_name_and_path(bus: Bus, spec: str, index: int) -> None:
    paths = {"by-id": bus.dev / "v4l/by-id/usb-046d_C920_A1-video-index0", "device": bus.dev / "video10"}
    assert find_camera(str(paths.get(spec, spec)), bus.nodes()).index == index


def test_unknown_and_ambiguous_cameras_get_one_line(bus: Bus) -> None:
    with pytest.raises(UserError, match=r"camera 1: not found \(cameras here: 0 \(Integrated.*--list-cameras.*--demo"):
        find_camera("1", bus.nodes())
    with pytest.raises(UserError, match=r"camera HD Webcam: 2 cameras are called so \(2, 10\); give an index or"):
        find_camera("HD Webcam", bus.nodes())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
def test_a_replugged_camera_is_never_another_one(bus: Bus) -> None:
    """Camera 2 goes, another takes its index: it is not opened in its place. The same one comes back as 4: it is."""
    camera = Camera("2", None, None, None, 5.0)
    camera.node = find_camera("2", bus.nodes())
    bus.unplug(2)
    assert not camera.is_there()
    bus.plug(2, "HD Webcam C920", "046d_C920_OTHER")
    with pytest.raises(UserError, match=r"camera 2: .*046d_C920_A1.* is not plugged in"):
        camera.open_device()
    bus.plug(4, "HD Webcam C920", "046d_C920_A1")
    assert camera.is_there()
    with pytest.raises(UserError, match="can't be opened"):  # it is tried: the file of this test is no device
        camera.open_device()


@pytest.fixture
def device_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV opens a video of 10 frames where it would open a device: a camera that gives 10 images and then hangs."""
    times = [i / 30 for i in range(10)]
    path = write_video(tmp_path / "v.avi", times, codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 30))
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda target, backend: capture(str(path)))


def camera_source(camera: Camera, limit_s: float) -> LiveSource:
    patience = Patience(silence_s=camera.silence_s, first_s=0.02, most_s=0.1, limit_s=limit_s)
    stop = threading.Event()
    return LiveSource("camera:2", camera.connect, lambda _, i: camera.describe(i), patience=patience, stop=stop)


def next_gap(source: LiveSource) -> SourceGap:
    while isinstance(item := source.read(), Frame):
        pass
    assert item is not None
    return item


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
@pytest.mark.usefixtures("device_is_a_file")
def test_an_unplugged_camera_is_waited_for_and_opened_again(bus: Bus) -> None:
    """It is told at once; frames come again when the same camera is back, under another index; then it stays away."""
    camera = Camera("2", 640, 480, 30, silence_s=60)
    camera.node = find_camera("2", bus.nodes())
    source = camera_source(camera, limit_s=1.5)
    assert (source.info.name, source.info.requested_width_px, source.info.width_px) == ("camera:2", 640, 192)
    first = source.read()
    assert isinstance(first, Frame)
    bus.unplug(2)
    assert next_gap(source).reason == "reconnecting"
    bus.plug(7, "HD Webcam C920", "046d_C920_A1")
    again = source.read()
    assert isinstance(again, Frame)
    assert again.index > first.index
    assert again.time_s > first.time_s
    bus.unplug(7)
    assert next_gap(source).reason == "reconnecting"
    with pytest.raises(UserError, match=r"camera 2: .*A1.* is not plugged in \(given up: no image for 1\.5 s"):
        source.read()
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
@pytest.mark.usefixtures("device_is_a_file")
def test_a_camera_that_hangs_is_opened_anew_and_close_does_not_wait(bus: Bus) -> None:
    camera = Camera("2", None, None, None, silence_s=0.3)
    camera.node = find_camera("2", bus.nodes())
    source = camera_source(camera, limit_s=30)
    assert next_gap(source).reason == "reconnecting"
    frame = source.read()
    assert isinstance(frame, Frame)
    assert number_in(frame.image) < 10
    began_s = time.monotonic()
    source.close()
    assert time.monotonic() - began_s < 1
    assert not any(thread.name == "capture camera:2" for thread in threading.enumerate())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells cameras apart")
@pytest.mark.usefixtures("device_is_a_file")
def test_a_camera_of_too_many_pixels_is_refused(bus: Bus) -> None:
    camera = Camera("2", None, None, None, 5.0, max_pixels=192 * 64 - 1)
    camera.node = find_camera("2", bus.nodes())
    with pytest.raises(UserError, match=r"camera 2: .*192 x 64 px is more than the limit.*--max-pixels 12288"):
        camera.open_device()


def test_without_a_camera_one_line_names_the_demo(capfd: pytest.CaptureFixture[str]) -> None:
    """For real: an index that no machine has. OpenCV's own warnings stay off the terminal."""
    with pytest.raises(UserError) as caught:
        open_source("63", paced=False)
    message = str(caught.value)
    assert message.startswith("camera 63: ")
    assert "--list-cameras" in message
    assert "--demo" in message
    assert "\n" not in message
    assert caught.value.code == 1
    assert capfd.readouterr().err == ""


def test_listing_cameras_works_without_any(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is here: no exception, no noise, and each entry can be given to --camera."""
    cameras = list_cameras()
    assert len({camera.index for camera in cameras}) == len(cameras)
    if not list(Path("/dev").glob("video*")) and sys.platform == "linux":
        assert cameras == []
    assert capfd.readouterr().err == ""
