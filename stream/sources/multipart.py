"""Cut an HTTP multipart stream (MJPEG, `multipart/x-mixed-replace`) into its parts. Pure: bytes in, parts out."""

HEADER_LIMIT_BYTES = 8192
PART_LIMIT_BYTES = 32 * 1024 * 1024
JPEG_END = b"\xff\xd9"


class BadMultipart(ValueError):  # noqa: N818 - what the bytes are
    """The bytes are not a multipart stream of images."""


class PartSplitter:
    """Takes bytes as they come, gives each part's body as soon as it is whole.

    A part with a Content-Length is whole at its last byte; one without at the next boundary, or as soon as what has
    come ends with the end mark of a JPEG (waiting for the boundary would stamp every image one frame late).

    Source: RFC 2046, section 5.1. Cameras disagree about dashes before the boundary, so they are not counted.
    """

    def __init__(self, boundary: str) -> None:
        self._delimiter = b"--" + boundary.strip().strip('"').lstrip("-").encode("latin-1")
        self._bytes = bytearray()
        self._in_body = False
        self._length: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the parts that `data` completes.

        Raises:
            BadMultipart: headers or a part longer than any camera's.
        """
        self._bytes += data
        parts = []
        while (part := self._body() if self._in_body else self._header()) is not None:
            if part:
                parts.append(part)
        return parts

    def _header(self) -> bytes | None:
        """Step over boundary and headers; b"" once they are whole, None if more bytes are needed."""
        start = self._bytes.find(self._delimiter)
        end, blank = _blank_line(self._bytes, start) if start >= 0 else (-1, 0)
        if end < 0:
            if len(self._bytes) > HEADER_LIMIT_BYTES + len(self._delimiter):
                raise BadMultipart(f"no part begins within {HEADER_LIMIT_BYTES} bytes")
            return None
        self._length = _content_length(bytes(self._bytes[start:end]))
        del self._bytes[: end + blank]
        self._in_body = True
        return b""

    def _body(self) -> bytes | None:
        """Take the body if it is whole, else None."""
        if self._length is not None:
            end = self._length if len(self._bytes) >= self._length else -1
        else:
            end = self._bytes.find(self._delimiter)
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


def _blank_line(data: bytearray, start: int) -> tuple[int, int]:
    """Where the headers that begin at `start` end, and how long the blank line after them is; (-1, 0) if not yet."""
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
