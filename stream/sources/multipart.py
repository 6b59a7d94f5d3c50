"""Splits an HTTP multipart stream (MJPEG, `multipart/x-mixed-replace`) into its parts. Pure: it takes bytes and returns
parts.
"""

import re

HEADER_LIMIT_BYTES = 8192
PART_LIMIT_BYTES = 32 * 1024 * 1024
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
OVERRUN = re.compile(rb"(?<=\xff\xd9)\r?\n?(?:--|-?\Z)")
"""Matches the bytes after the end mark if a Content-Length reaches into the next boundary."""
HEADER_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*:")
BOUNDARY_LINE = re.compile(rb"\s*(--[^\r\n]+?)\s*\n")
JPEG_TAIL_BYTES = 512
"""Most padding that cameras put after the end mark."""
NEXT_BOUNDARY = re.compile(rb"(?<=\xff\xd9)\r?\n--")


class BadMultipart(ValueError):  # noqa: N818 - what the bytes are
    """The bytes are not a multipart stream of images."""


class PartSplitter:
    """Takes bytes as they arrive and returns each part's body as soon as it is complete.

    A part with a Content-Length is complete at its last byte. A part without one is complete at the next boundary, or
    once the received bytes end with the end mark of a JPEG. Waiting for the boundary would stamp every image one frame
    late.

    Source: RFC 2046, section 5.1. Cameras disagree about dashes before the boundary, so dashes are not counted. It
    accepts what browsers accept. `boundary` may be ""; then the first line with two dashes defines it. The first part
    may lack its boundary line (ESP32 cameras). A Content-Length that cuts a JPEG short or reaches into the next
    boundary is ignored.
    """

    def __init__(self, boundary: str) -> None:
        bare = boundary.strip().strip('"').lstrip("-").encode("latin-1")
        self._delimiter = b"--" + bare if bare else None
        self._bytes = bytearray()
        self._begun = False
        self._in_body = False
        self._length: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the parts that `data` completes.

        Raises:
            BadMultipart: the headers or a part are longer than any camera's.
        """
        self._bytes += data
        parts = []
        while (part := self._body() if self._in_body else self._header()) is not None:
            if part:
                parts.append(part)
        return parts

    def _header(self) -> bytes | None:
        """Skip the boundary and the headers. Returns b"" once they are complete, None if more bytes are needed."""
        start, end, blank = self._headers()
        if end < 0:
            limit = PART_LIMIT_BYTES if self._begun else HEADER_LIMIT_BYTES
            if len(self._bytes) > limit:
                raise BadMultipart(f"no part begins within {limit} bytes")
            return None
        self._length = _content_length(bytes(self._bytes[start:end]))
        del self._bytes[: end + blank]
        self._begun = self._in_body = True
        return b""

    def _headers(self) -> tuple[int, int, int]:
        """Returns start and end of the next headers and the length of the blank line after them. An end of -1:
        incomplete.
        """
        if not self._begun:
            del self._bytes[: len(self._bytes) - len(self._bytes.lstrip(b"\r\n"))]
            if self._bytes.startswith(JPEG_START):
                return 0, 0, 0
            if HEADER_LINE.match(self._bytes):
                return 0, *_blank_line(self._bytes, 0)
        if self._delimiter is None and (line := BOUNDARY_LINE.match(self._bytes)):
            self._delimiter = line[1]
        start = -1 if self._delimiter is None else self._bytes.find(self._delimiter)
        return (start, *_blank_line(self._bytes, start)) if start >= 0 else (-1, -1, 0)

    def _body(self) -> bytes | None:
        """Take the body if it is complete; otherwise return None."""
        end = -1
        if self._length is not None and len(self._bytes) >= self._length:
            end = self._end_by_length(self._length)
        if self._length is None:
            end = self._next_boundary()
            if end < 0 and self._bytes.rstrip(b"\r\n").endswith(JPEG_END):
                end = len(self._bytes)
        if end < 0:
            if len(self._bytes) > PART_LIMIT_BYTES:
                raise BadMultipart(f"a part is longer than {PART_LIMIT_BYTES} bytes")
            return None
        body = bytes(self._bytes[:end])
        del self._bytes[:end]
        self._in_body, length = False, self._length
        return body if length is not None else body.rstrip(b"\r\n")

    def _end_by_length(self, length: int) -> int:
        """Returns where the body ends by its Content-Length. Returns -1 and drops the length if the JPEG goes on after
        that.
        """
        body = bytes(self._bytes[:length])
        if not body.startswith(JPEG_START):
            return length
        if overrun := OVERRUN.search(body):
            return overrun.start()
        if JPEG_END not in body[-JPEG_TAIL_BYTES:]:
            self._length = None
            return -1
        return length

    def _next_boundary(self) -> int:
        """Returns the position of the boundary after this body, or -1 if it has not arrived."""
        if self._delimiter is not None:
            return self._bytes.find(self._delimiter)
        found = NEXT_BOUNDARY.search(self._bytes)
        return found.start() if found else -1


def _blank_line(data: bytearray, start: int) -> tuple[int, int]:
    """Returns where the headers at `start` end, and the length of the blank line after them; (-1, 0) if incomplete."""
    crlf, lf = data.find(b"\r\n\r\n", start), data.find(b"\n\n", start)
    if crlf >= 0 and (lf < 0 or crlf < lf):
        return crlf, 4
    return lf, 2 if lf >= 0 else 0


def _content_length(headers: bytes) -> int | None:
    for line in headers.splitlines():
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
            if length > PART_LIMIT_BYTES:
                raise BadMultipart(f"a part of {length} bytes is announced")
            return length
    return None
