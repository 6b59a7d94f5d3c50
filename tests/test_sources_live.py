"""Live sources against real servers that misbehave: each fault has its one behaviour. Cameras here run at 30 fps."""

import socket
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from servers import MjpegCamera, MuteServer, NetworkCamera, RtspCamera
from videos import number_in, numbered

from stream.errors import UserError
from stream.sources import Patience, Source, SourceInfo, open_source
from stream.sources.live import Connection, LiveSource, SourceLost
from stream.sources.network import dial
from stream.types import Frame, SourceGap

SHORT = Patience(silence_s=0.6, first_s=0.05, most_s=0.2, limit_s=2.0)
BOTH = pytest.mark.parametrize("kind", [MjpegCamera, RtspCamera])


def opened(url: str, patience: Patience = SHORT) -> LiveSource:
    source = open_source(url, paced=False, patience=patience)
    assert isinstance(source, LiveSource)
    return source


def read_frames(source: Source, count: int) -> list[Frame]:
    """The next frames, without a gap between; but a loaded machine may stall for a second, and is then told so."""
    frames: list[Frame] = []
    while len(frames) < count:
        item = source.read()
        assert isinstance(item, Frame) or item == SourceGap(item.time_s if item else 0.0, "stalled"), item
        if isinstance(item, Frame):
            frames.append(item)
    return frames


def until_gap(source: Source, reason: str, within_s: float = 8.0) -> SourceGap:
    """The next gap for that reason, after however many frames; for another reason there must be none before it."""
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        item = source.read()
        assert isinstance(item, Frame | SourceGap)
        if isinstance(item, SourceGap) and (item.reason == reason or item.reason != "stalled"):
            assert item.reason == reason
            return item
    raise AssertionError(f"no gap within {within_s} s")


def capture_ended() -> bool:
    """Whether no capture thread is left; `close` waits for them, a loaded machine may need a little longer."""
    for thread in threading.enumerate():
        if thread.name.startswith("capture"):
            thread.join(1)
    return not any(thread.name.startswith("capture") for thread in threading.enumerate())


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as camera:
        yield camera


@pytest.mark.parametrize("lengths", [True, False])
def test_mjpeg_frames_are_stamped_when_they_come(lengths: bool) -> None:
    """Each image once, in order, stamped after it was sent and before the next one was, with or without lengths."""
    with MjpegCamera(rate_hz=2, lengths=lengths) as camera:
        source = opened(camera.url())
        frames = read_frames(source, 4)
        source.close()
        numbers = [number_in(frame.image) for frame in frames]
        assert numbers == sorted(set(numbers))
        assert (source.info.live, source.info.width_px, source.info.height_px) == (True, 192, 64)
        for frame, number in zip(frames, numbers, strict=True):
            assert camera.sent_s[number] <= frame.time_s < camera.sent_s.get(number + 1, frame.time_s + 1)


def test_rtsp_frames_are_new_ones_in_order() -> None:
    """FFmpeg does not probe for a second and then give what it buffered meanwhile a time that is a second late."""
    with RtspCamera() as camera:
        source = opened(camera.url())
        frames = read_frames(source, 20)
        source.close()
        numbers = [number_in(frame.image) for frame in frames]
        assert numbers == sorted(set(numbers))
        late_s = [frame.time_s - camera.sent_s[number] for frame, number in zip(frames, numbers, strict=True)]
        assert min(late_s) >= 0
        assert min(late_s[:5]) < 0.6, "all of the first are late"
        assert source.info.nominal_fps == 30


def test_old_images_that_a_server_kept_are_not_handed_out() -> None:
    """30 images in one burst are a second old when they come; they are decoded, as others rest on them, and not shown.

    They are told by not having to be waited for: a loaded machine may take a break among them, so it has three tries.
    """
    first = []
    for _ in range(3):
        with RtspCamera(cached=30) as camera:
            camera.next_image = lambda number: numbered(30 + number)
            source = opened(camera.url())
            frames = read_frames(source, 3)
            source.close()
        assert all(np.abs(f.image.astype(int) - numbered(number_in(f.image))).mean() < 8 for f in frames)
        first.append(number_in(frames[0].image))
        if first[-1] >= 30:
            return
    raise AssertionError(f"old images were handed out, from number {first} on")


class Script:
    """A connection that gives these images one after the other, as fast as they are taken, then nothing."""

    nominal_fps = None

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images, self.at = images, 0
        self.all_taken, self.cut = threading.Event(), threading.Event()

    def open(self) -> None:
        pass

    def grab(self) -> tuple[float, np.ndarray]:
        if self.at == len(self.images):
            self.all_taken.set()
            self.cut.wait(60)
            raise SourceLost("interrupted")
        self.at += 1
        return time.monotonic(), self.images[self.at - 1]

    def interrupt(self) -> None:
        self.cut.set()

    def close(self) -> None:
        pass


def scripted(images: list[np.ndarray]) -> tuple[LiveSource, Script]:
    script = Script(images)

    def describe(connection: Connection, image: np.ndarray) -> SourceInfo:
        return SourceInfo("script", True, image.shape[1], image.shape[0], None, "script", 0.0)

    source = LiveSource("script", lambda: script, describe, patience=SHORT, stop=threading.Event())
    assert script.all_taken.wait(10)
    return source, script


def test_the_newest_frame_wins_and_drops_are_counted() -> None:
    """A reader that was away while 30 frames came gets the last of them, and knows that it missed 29."""
    source, _ = scripted([numbered(i) for i in range(30)])
    frame = source.read()
    source.close()
    assert isinstance(frame, Frame)
    assert (number_in(frame.image), frame.index, source.dropped) == (29, 29, 29)


def test_a_gap_is_never_dropped() -> None:
    """Two changes of size while the reader was away: one gap, from before the first of them, then the newest frame."""
    sizes = [(192, 64)] * 10 + [(96, 48)] * 10 + [(192, 64)] * 10
    source, _ = scripted([numbered(i, *size) for i, size in enumerate(sizes)])
    gap, frame = source.read(), source.read()
    source.close()
    assert isinstance(gap, SourceGap)
    assert isinstance(frame, Frame)
    assert (gap.reason, number_in(frame.image), source.dropped) == ("resolution_changed", 29, 29)
    assert gap.time_s <= frame.time_s


@BOTH
def test_a_stalled_network_is_told_and_then_connected_anew(kind: type[NetworkCamera]) -> None:
    """Nothing comes, nothing is closed: reconnecting after the silence; frames again once the camera speaks."""
    with kind() as camera:
        source = opened(camera.url(), Patience(silence_s=0.6, first_s=0.05, most_s=0.2, limit_s=20))  # type: ignore[attr-defined]
        last = read_frames(source, 5)[-1]
        camera.stalled.set()
        gap = until_gap(source, "reconnecting")
        assert gap.time_s >= last.time_s
        clients = camera.clients
        camera.stalled.clear()
        again = source.read()
        source.close()
        assert isinstance(again, Frame)
        assert again.time_s > gap.time_s
        assert again.index > last.index
        assert camera.clients > clients


def test_a_short_stall_is_told_while_it_lasts(camera: MjpegCamera) -> None:
    """A second of silence on a connection that is still good: one gap, and frames go on without a new connection."""
    source = opened(camera.url(), Patience(silence_s=10))
    read_frames(source, 5)
    camera.stalled.set()
    until_gap(source, "stalled")
    camera.stalled.clear()
    read_frames(source, 5)
    source.close()
    assert camera.clients == 1


@BOTH
def test_a_restarted_server_is_found_again(kind: type[NetworkCamera]) -> None:
    with kind() as camera:
        source = opened(camera.url(), Patience(silence_s=2, first_s=0.05, most_s=0.2, limit_s=20))  # type: ignore[attr-defined]
        last = read_frames(source, 5)[-1]
        camera.stop()
        gap = until_gap(source, "reconnecting")
        camera.start()
        again = read_frames(source, 5)
        source.close()
        assert again[0].time_s > gap.time_s >= last.time_s
        assert again[0].index > last.index


@pytest.mark.slow
@BOTH
def test_a_server_that_never_comes_back_ends_with_one_line(kind: type[NetworkCamera]) -> None:
    with kind() as camera:
        source = opened(camera.url("me:secret@"))  # type: ignore[attr-defined]
        camera.stop()
        until_gap(source, "reconnecting")
        with pytest.raises(UserError, match=r"Connection refused.*check.*no image for 2 s") as caught:
            source.read()
        source.close()
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.code == 1


@pytest.mark.parametrize(("reason", "image"), [("frozen", numbered(5)), ("black", np.zeros((64, 192, 3), np.uint8))])
def test_frozen_and_black_images_are_one_gap_until_they_end(
    camera: MjpegCamera, reason: str, image: np.ndarray
) -> None:
    source = opened(camera.url())
    read_frames(source, 5)
    camera.next_image = lambda number: image
    gap = until_gap(source, reason)
    camera.next_image = numbered
    frames = read_frames(source, 5)
    source.close()
    assert frames[0].time_s > gap.time_s
    assert not any(np.array_equal(frame.image, image) for frame in frames)


@BOTH
def test_a_new_size_is_a_gap_and_on_it_goes(kind: type[NetworkCamera]) -> None:
    with kind() as camera:
        source = opened(camera.url())  # type: ignore[attr-defined]
        read_frames(source, 5)
        camera.next_image = lambda number: numbered(number, 96, 48)
        until_gap(source, "resolution_changed")
        frames = read_frames(source, 5)
        source.close()
        assert {frame.image.shape for frame in frames} == {(48, 96, 3)}


def test_corrupt_images_are_left_out_and_counted(camera: MjpegCamera) -> None:
    """Every third JPEG is cut short: none of them is shown half grey, the others are, without a gap."""
    count = iter(range(10**6))
    camera.damage = lambda jpeg: jpeg[:-90] if next(count) % 3 == 2 else jpeg
    source = opened(camera.url())
    frames = read_frames(source, 12)
    source.close()
    assert source.corrupt >= 3
    assert all(np.abs(frame.image.astype(int) - numbered(number_in(frame.image))).mean() < 8 for frame in frames)
    assert all(number_in(frame.image) % 3 != 2 for frame in frames)


def noisy(number: int) -> np.ndarray:
    """A numbered image whose JPEG is far over 8 KB."""
    noise = np.random.default_rng(number).integers(-30, 30, (320, 768, 3))
    return (numbered(number, 768, 320) + noise).astype(np.uint8)


@pytest.mark.parametrize(
    ("content_type", "first_line", "lengths", "length_off"),
    [
        ("multipart/x-mixed-replace; boundary=frame", False, True, 0),
        ("multipart/x-mixed-replace; boundary=frame", False, False, 0),
        ("multipart/x-mixed-replace", True, True, 0),
        ("multipart/x-mixed-replace", False, False, 0),
        ("multipart/x-mixed-replace; boundary=frame", True, True, 5),
        ("multipart/x-mixed-replace; boundary=frame", True, True, -5),
    ],
    ids=["esp32", "esp32 without lengths", "no boundary named", "neither", "lengths too great", "lengths too small"],
)
def test_a_camera_that_a_browser_shows_is_shown(
    camera: MjpegCamera, content_type: str, first_line: bool, lengths: bool, length_off: int
) -> None:
    """Every image, from the first on, on one connection: nothing is reconnected, nothing is corrupt."""
    camera.content_type, camera.first_line = content_type, first_line
    camera.lengths, camera.length_off, camera.next_image = lengths, length_off, noisy
    source = opened(camera.url())
    frames = read_frames(source, 6)
    source.close()
    assert {frame.image.shape for frame in frames} == {(320, 768, 3)}
    numbers = [number_in(frame.image) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert (source.corrupt, camera.clients) == (0, 1)


def test_a_redirect_within_the_host_is_followed_and_no_other(camera: MjpegCamera) -> None:
    """Another host or scheme: one line that names both, without secrets, and nobody is asked there."""
    camera.redirect = "/cam"
    source = opened(camera.url(path="/moved"))
    assert isinstance(source.read(), Frame)
    source.close()
    with MjpegCamera() as other:
        for elsewhere in (f"http://me:secret@localhost:{other.port}/cam", f"https://127.0.0.1:{other.port}/cam"):
            camera.redirect = elsewhere
            with pytest.raises(UserError, match=r"/moved: sends on to http.*which is not followed; give") as caught:
                opened(camera.url(path="/moved"))
            assert str(other.port) in str(caught.value)
            assert "secret" not in str(caught.value)
        assert other.clients == 0


def claiming(jpeg: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its header."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + height.to_bytes(2) + width.to_bytes(2) + jpeg[at + 9 :]


def test_a_picture_over_the_limit_is_not_decoded(camera: MjpegCamera) -> None:
    """From the start: one line. Among good ones: left out and counted. (It took 2 GB.)"""
    camera.damage = lambda jpeg: claiming(jpeg, 16_000, 16_000)
    with pytest.raises(UserError, match=r"16000 x 16000 px is more than the limit of 33177600.*--max-pixels 256000000"):
        opened(camera.url())
    count = iter(range(10**6))
    camera.damage = lambda jpeg: claiming(jpeg, 16_000, 16_000) if next(count) % 3 == 2 else jpeg
    source = opened(camera.url())
    frames = read_frames(source, 8)
    source.close()
    assert source.corrupt >= 2
    assert {frame.image.shape for frame in frames} == {(64, 192, 3)}


@BOTH
def test_max_pixels_is_a_limit_for_every_camera(kind: type[NetworkCamera]) -> None:
    with kind() as camera:
        url = camera.url()  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="192 x 64 px is more than the limit of 12000 pixels"):
            open_source(url, paced=False, max_pixels=12_000, patience=SHORT)
        source = open_source(url, paced=False, max_pixels=192 * 64, patience=SHORT)
        assert isinstance(source.read(), Frame)
        source.close()


@BOTH
def test_close_ends_everything_while_the_network_hangs(kind: type[NetworkCamera]) -> None:
    """In the middle of a silent connection, with a reader that waits: thread and reader end within a second."""
    with kind() as camera:
        source = opened(camera.url(), Patience(silence_s=60))  # type: ignore[attr-defined]
        read_frames(source, 2)
        camera.stalled.set()
        until_gap(source, "stalled")
        got: list[object] = []
        reader = threading.Thread(target=lambda: got.append(source.read()))
        reader.start()
        began_s = time.monotonic()
        source.close()
        reader.join(1)
        assert time.monotonic() - began_s < 1
        assert got == [None]
        assert capture_ended()


@BOTH
def test_close_ends_an_attempt_to_connect_to_a_server_that_hangs(kind: type[NetworkCamera]) -> None:
    """The camera is gone, what took its place takes calls and says nothing."""
    with kind() as camera:
        source = opened(camera.url(), Patience(silence_s=60, first_s=0.01, most_s=0.1))  # type: ignore[attr-defined]
        camera.stop()
        until_gap(source, "reconnecting")
        with MuteServer(camera.port) as mute:
            assert mute.called.wait(5)
            began_s = time.monotonic()
            source.close()
            assert time.monotonic() - began_s < 1
            assert capture_ended()


@pytest.mark.skipif(sys.platform != "linux", reason="how a full backlog behaves is the system's affair")
def test_dialling_a_host_that_does_not_answer_can_be_interrupted() -> None:
    """A host that swallows every call (its backlog is full): no waiting for the timeout."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        address = listening.getsockname()
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(address)
        interrupted = threading.Event()
        ended: list[BaseException] = []

        def call() -> None:
            try:
                dial(*address, 60, interrupted)
            except OSError as error:
                ended.append(error)

        calling = threading.Thread(target=call)
        calling.start()
        calling.join(0.3)
        assert calling.is_alive()
        interrupted.set()
        calling.join(1)
        assert len(ended) == 1
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_stop_ends_an_opening_that_hangs(scheme: str) -> None:
    """Ctrl-C while the first connection waits for an answer that never comes."""
    with MuteServer() as mute:
        stop = threading.Event()
        failures: list[UserError] = []

        def open_it() -> None:
            try:
                open_source(
                    f"{scheme}://127.0.0.1:{mute.port}/cam", paced=False, stop=stop, patience=Patience(silence_s=60)
                )
            except UserError as error:
                failures.append(error)

        opening = threading.Thread(target=open_it)
        opening.start()
        assert mute.called.wait(5)
        stop.set()
        opening.join(1)
        assert not opening.is_alive()
        assert "told to stop" in str(failures[0])
        assert capture_ended()


def test_stop_ends_a_read(camera: MjpegCamera) -> None:
    stop = threading.Event()
    source = open_source(camera.url(), paced=False, stop=stop)
    camera.stalled.set()
    stop.set()
    assert source.read() is None
    source.close()


@pytest.mark.parametrize("login", ["basic", "digest"])
def test_user_and_password_work_and_are_never_shown(login: str) -> None:
    """Both ways to log in; neither the right nor a wrong password is in any text that comes out."""
    with MjpegCamera(login=(login, "m e", "s3cr:et")) as camera:
        source = opened(camera.url("m%20e:s3cr%3Aet@"))
        read_frames(source, 2)
        assert source.info.name == f"http://***@127.0.0.1:{camera.port}/cam"
        source.close()
        with pytest.raises(UserError, match="401 Unauthorized; give user and password") as caught:
            opened(camera.url("me:wr0ng@", "/cam?token=t0ken"))
        assert not any(secret in str(caught.value) for secret in ("wr0ng", "t0ken", "me:"))


def test_dead_and_wrong_addresses_get_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody there, a server that hangs, a page that is no stream, a scheme that can't be read; no noise on stderr."""
    with MjpegCamera() as camera, MuteServer() as mute:
        nobody = MjpegCamera()
        nobody.start()
        nobody.stop()
        bad = {
            nobody.url("a:pw@"): "no answer (Connection refused)",
            nobody.url("a:pw@").replace("http", "rtsp"): "can't be opened (Connection refused)",
            f"http://a:pw@127.0.0.1:{mute.port}/cam": "nothing came in time",
            f"rtsp://a:pw@127.0.0.1:{mute.port}/cam": "nothing came in time",
            camera.url("a:pw@").replace("http", "rtsp"): "can't be opened",
            camera.url("a:pw@", "/nothing"): "404",
            camera.url("a:pw@", "/page"): "text/html, not an MJPEG stream",
            "http://a:pw@[bad/": "malformed",
            "http://a:pw@host:port/": "malformed",
            "http://": "malformed",
            "ftp://a:pw@host/x.mp4": "can't read ftp",
        }
        for url, reason in bad.items():
            with pytest.raises(UserError) as caught:
                opened(url)
            message = str(caught.value)
            assert reason in message, url
            assert "pw" not in message
            assert "; " in message
            assert "\n" not in message
            assert caught.value.code == (2 if url.startswith("ftp") else 1)
    assert capfd.readouterr().err == ""
