"""Reads MJPEG over HTTP with the standard library's client. Each image is stamped when its last byte arrives.

FFmpeg is not used here: its demuxer buffers images while it probes, can't be interrupted while it waits, and always
reports 25 fps.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import redact
from stream.sources.live import SourceLost
from stream.sources.multipart import PartSplitter
from stream.sources.network import CONNECT_S, dial, why
from stream.sources.picture import PictureDecoder, TooLarge

CHUNK_BYTES = 65536


class MjpegConnection:
    """MJPEG over HTTP (multipart/x-mixed-replace). See `stream.sources.live.Connection`."""

    nominal_fps: float | None = None

    def __init__(self, url: str, silence_s: float, max_pixels: int) -> None:
        self._url, self._name, self._silence_s = url, redact(url), silence_s
        self._interrupted = threading.Event()
        self._socket: socket.socket | None = None
        self._response: Any = None
        self._parts: deque[tuple[float, bytes]] = deque()
        self._decoder = PictureDecoder(f"source {self._name}", max_pixels)
        self._decoded = False

    def open(self) -> None:
        """Request the stream and read the headers of the response."""
        try:
            request, opener = self._request()
            self._response = opener.open(request, timeout=CONNECT_S)
            kind = self._response.headers.get_content_type()
            boundary = self._response.headers.get_param("boundary")
        except urllib.error.HTTPError as error:
            remedy = "give user and password in the URL" if error.code == 401 else "check the path"
            meaning = http.client.responses.get(error.code, "")
            error.close()
            raise UserError(f"source {self._name}: the server answers {error.code} {meaning}; {remedy}") from None
        except Redirected as elsewhere:
            raise UserError(
                f"source {self._name}: sends on to {elsewhere}, another host or scheme, which is not followed; "
                "give that address if you trust it"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = why(getattr(error, "reason", error))
            raise UserError(f"source {self._name}: no answer ({reason}); check address, network and camera") from None
        if not kind.startswith("multipart/"):
            self.close()
            raise UserError(f"source {self._name}: is {kind}, not an MJPEG stream (multipart); check the path")
        self._splitter = PartSplitter(boundary if isinstance(boundary, str) else "")
        self._whole_s = time.monotonic()

    def grab(self) -> tuple[float, NDArray[np.uint8]] | None:
        """Wait for the next image. See `stream.sources.live.Connection`."""
        while not self._parts:
            try:
                data = self._response.read1(CHUNK_BYTES)
                arrived_s = time.monotonic()
                self._parts.extend((arrived_s, part) for part in self._splitter.feed(data))
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise SourceLost(why(error)) from None
            if not data:
                raise SourceLost("the server ended the stream")
            if self._parts:
                self._whole_s = arrived_s
            elif arrived_s - self._whole_s > self._silence_s:
                raise SourceLost("bytes came, but no whole image")
        arrived_s, jpeg = self._parts.popleft()
        try:
            image = self._decoder.decode(jpeg)
        except TooLarge:
            if not self._decoded:
                raise
            image = None  # among good images it counts as a damaged one
        self._decoded = self._decoded or image is not None
        return None if image is None else (arrived_s, image)

    def interrupt(self) -> None:
        """Cut the connection. Whatever waits on it ends at once."""
        self._interrupted.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self._response is not None:
            self._response.close()
        if self._socket is not None:
            self._socket.close()

    def _request(self) -> tuple[urllib.request.Request, urllib.request.OpenerDirector]:
        parts = urlsplit(self._url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if parts.username is not None:
            passwords.add_password(None, bare, unquote(parts.username), unquote(parts.password or ""))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # the request goes straight to the camera
            _Handler(self),
            _SameHost(),
            urllib.request.HTTPBasicAuthHandler(passwords),
            urllib.request.HTTPDigestAuthHandler(passwords),
        )
        return urllib.request.Request(bare, headers={"Accept": "multipart/x-mixed-replace, */*"}), opener

    def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
        """Connect as `_Handler` expects, and keep the socket for `interrupt`. The socket's timeout is the silence
        limit.
        """
        connected = dial(host, port, CONNECT_S, self._interrupted)
        if tls is not None:
            connected = tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
        self._socket = connected
        if self._interrupted.is_set():  # set before there was a socket to cut
            raise TimeoutError
        if isinstance(connected, ssl.SSLSocket):
            connected.do_handshake()
        connected.settimeout(self._silence_s)
        return connected


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens http and https through the connection's own sockets, so that another thread can cut them."""

    def __init__(self, connection: MjpegConnection) -> None:
        super().__init__()
        self._connection = connection

    def http_open(self, request: urllib.request.Request) -> Any:
        """Open without TLS."""
        return self.do_open(partial(_HttpConnection, connection=self._connection, tls=None), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        """Open with TLS; the server's certificate is checked."""
        tls = ssl.create_default_context()
        return self.do_open(partial(_HttpConnection, connection=self._connection, tls=tls), request)


class Redirected(Exception):  # noqa: N818 - what the server did
    """The server redirects to another host or scheme. The text names the target without secrets."""


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the host only: a camera must not make this machine contact others."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Returns the new request. Raises Redirected if it would go elsewhere."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, old.hostname) != (new.scheme, new.hostname):
            raise Redirected(redact(newurl))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, host: str, *, connection: MjpegConnection, tls: ssl.SSLContext | None, timeout: float) -> None:
        self.default_port = http.client.HTTPS_PORT if tls else http.client.HTTP_PORT
        super().__init__(host, timeout=timeout)
        self._connection, self._tls = connection, tls

    def connect(self) -> None:
        self.sock = self._connection.connect(self.host, self.port, self._tls)
