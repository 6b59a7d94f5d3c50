"""Real network cameras that misbehave on demand: MJPEG over HTTP, RTSP, and one that takes a call and says nothing."""

import base64
import hashlib
import secrets
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from videos import numbered


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what the tests are about; nothing of it belongs on the terminal."""


class NetworkCamera:
    """Serves while open; `restart` drops every client and comes back on the same port."""

    def __init__(self, handler: type[socketserver.BaseRequestHandler], rate_hz: float = 30.0) -> None:
        self.rate_hz = rate_hz
        self.port = 0
        self.stalled = threading.Event()
        self.next_image: Callable[[int], NDArray[np.uint8]] = numbered
        self.clients = 0
        self.sent_s: dict[int, float] = {}
        self._handler = handler
        self._server: _Server | None = None
        self.ended = threading.Event()
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.ended.clear()
        self._server = _Server(("127.0.0.1", self.port), self._handler)
        self._server.camera = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is None:
            return
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def took(self, connection: socket.socket) -> None:
        self.clients += 1
        self._connections.append(connection)

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Number and image of each frame, at the camera's rate; nothing comes while it is stalled."""
        started_s, number = time.monotonic(), 0
        while not self.ended.wait(max(0.0, started_s + number / self.rate_hz - time.monotonic())):
            if not self.stalled.is_set():
                self.sent_s[number] = time.monotonic()
                yield number, self.next_image(number)
            number += 1


class MjpegCamera(NetworkCamera):
    """http://127.0.0.1:PORT/cam, multipart/x-mixed-replace."""

    def __init__(
        self, rate_hz: float = 30.0, *, lengths: bool = True, login: tuple[str, str, str] | None = None
    ) -> None:
        """`login`: ("basic" or "digest", user, password). /moved redirects to `redirect`.

        `first_line`: there is a boundary line before the first part. `length_off`: added to each Content-Length.
        """
        super().__init__(_MjpegHandler, rate_hz)
        self.lengths, self.login = lengths, login
        self.content_type = "multipart/x-mixed-replace; boundary=--frame"
        self.first_line = True
        self.length_off = 0
        self.redirect = ""
        self.damage: Callable[[bytes], bytes] = bytes
        self.nonce = secrets.token_hex(8)

    def url(self, user_info: str = "", path: str = "/cam") -> str:
        return f"http://{user_info}127.0.0.1:{self.port}{path}"


class _MjpegHandler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        camera: MjpegCamera = self.server.camera  # type: ignore[attr-defined]
        camera.took(self.connection)
        if self.path == "/page":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", camera.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if not self.path.startswith("/cam"):
            self.send_error(404)
            return
        if camera.login and not self._knows(*camera.login):
            self._challenge(camera)
            return
        self.send_response(200)
        self.send_header("Content-Type", camera.content_type)
        self.end_headers()
        line = "--frame\r\n" if camera.first_line else ""
        for _, image in camera.images():
            jpeg = camera.damage(cv2.imencode(".jpg", image)[1].tobytes())
            length = f"Content-Length: {len(jpeg) + camera.length_off}\r\n" if camera.lengths else ""
            self.wfile.write(f"{line}Content-Type: image/jpeg\r\n{length}\r\n".encode() + jpeg + b"\r\n")
            line = "--frame\r\n"

    def _challenge(self, camera: MjpegCamera) -> None:
        assert camera.login is not None
        self.send_response(401)
        if camera.login[0] == "basic":
            self.send_header("WWW-Authenticate", 'Basic realm="cam"')
        else:
            self.send_header("WWW-Authenticate", f'Digest realm="cam", nonce="{camera.nonce}", qop="auth"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _knows(self, kind: str, user: str, password: str) -> bool:
        given = self.headers.get("Authorization", "")
        if kind == "basic":
            return given == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        fields = dict(part.strip().split("=", 1) for part in given.removeprefix("Digest ").split(",") if "=" in part)
        fields = {key: value.strip('"') for key, value in fields.items()}

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret, request = md5(f"{user}:cam:{password}"), md5(f"GET:{fields.get('uri')}")
        middle = ":".join(fields.get(key, "") for key in ("nonce", "nc", "cnonce", "qop"))
        return fields.get("response") == md5(f"{secret}:{middle}:{request}")


class RtspCamera(NetworkCamera):
    """rtsp://127.0.0.1:PORT/cam, H.264 interleaved in the TCP connection (RFC 2326 section 10.12, RFC 6184)."""

    def __init__(self, rate_hz: float = 30.0, *, cached: int = 0) -> None:
        """`cached`: the first so many images are old ones, sent in one burst, as some servers do."""
        super().__init__(_RtspHandler, rate_hz)
        self.cached = cached

    def url(self, user_info: str = "") -> str:
        return f"rtsp://{user_info}127.0.0.1:{self.port}/cam"


RTSP_ANSWERS = {
    "OPTIONS": ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"],
    "SETUP": ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"],
    "PLAY": ["Session: 1"],
    "TEARDOWN": ["Session: 1"],
}
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n"
SDP += "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"


class _RtspHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        camera: RtspCamera = self.server.camera  # type: ignore[attr-defined]
        camera.took(self.connection)
        with suppress(OSError):
            while (request := self.rfile.readline().decode("latin-1").split()) and len(request) == 3:
                headers = {}
                while line := self.rfile.readline().decode("latin-1").strip():
                    key, _, value = line.partition(":")
                    headers[key.strip().lower()] = value.strip()
                self._answer(request[0], headers.get("cseq", "0"))
                if request[0] == "PLAY":
                    self._play(camera)
                    return

    def _answer(self, method: str, sequence: str) -> None:
        lines = ["RTSP/1.0 200 OK", f"CSeq: {sequence}", *RTSP_ANSWERS.get(method, [])]
        body = SDP if method == "DESCRIBE" else ""
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _play(self, camera: RtspCamera) -> None:
        self._encoder: Any = None
        self._sequence = 0
        burst = b"".join(self._packets(camera, number, numbered(number)) for number in range(camera.cached))
        self.wfile.write(burst)
        for number, image in camera.images():
            self.wfile.write(self._packets(camera, camera.cached + number, image))

    def _packets(self, camera: RtspCamera, number: int, image: NDArray[np.uint8]) -> bytes:
        """One image as RTP packets, one for each unit of H.264, each framed for TCP."""
        if self._encoder is None or (self._encoder.height, self._encoder.width) != image.shape[:2]:
            self._encoder = _h264(image, camera.rate_hz)
        picture = av.VideoFrame.from_ndarray(image, format="bgr24")
        picture.pts = number
        framed = b""
        for packet in self._encoder.encode(picture):
            units = [unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
            for unit in units:
                stamp = int(number * 90000 / camera.rate_hz) & 0xFFFFFFFF
                mark = 0x80 if unit is units[-1] else 0
                head = struct.pack(">BBHII", 0x80, 96 | mark, self._sequence & 0xFFFF, stamp, 1)
                framed += struct.pack(">cBH", b"$", 0, len(head) + len(unit)) + head + unit
                self._sequence += 1
        return framed


def _h264(image: NDArray[np.uint8], rate_hz: float) -> Any:
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = image.shape[:2]
    encoder.pix_fmt, encoder.framerate = "yuv420p", round(rate_hz)
    encoder.time_base = 1 / encoder.framerate
    encoder.thread_count = 1
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "15"}
    return encoder


class MuteServer:
    """Takes every call and never says a word: a network that hangs without closing. `called`: somebody did."""

    def __init__(self, port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), _Mute)
        self._server.mute = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        self.called, self.ended = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()


class _Mute(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        mute: MuteServer = self.server.mute  # type: ignore[attr-defined]
        mute.called.set()
        mute.ended.wait(60)
