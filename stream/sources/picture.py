"""Decodes pictures the same way for every source: it checks their size first, then returns them as upright BGR."""

import struct
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError

CODECS = {b"\xff\xd8": "mjpeg", b"\x89PNG": "png", b"BM": "bmp"}
"""The first bytes of a picture, and the codec that decodes it."""
HEADER_BYTES = 65536
"""In nearly all pictures the size is within this many first bytes."""
NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}
"""JPEG markers from 0xC0 to 0xCF that do not hold the size."""
BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}


class TooLarge(UserError):  # noqa: N818 - what the picture is
    """The picture has more pixels than allowed."""

    def __init__(self, name: str, size_px: tuple[int, int], max_pixels: int) -> None:
        width, height = size_px
        super().__init__(
            f"{name}: a picture of {width} x {height} px is more than the limit of {max_pixels} pixels; "
            f"give a smaller one, or --max-pixels {width * height}"
        )


def check_size(name: str, size_px: tuple[int, int] | None, max_pixels: int) -> None:
    """Raise TooLarge if a picture of this width and height has too many pixels. None means that the size is unknown."""
    if size_px is not None and size_px[0] * size_px[1] > max_pixels:
        raise TooLarge(name, size_px, max_pixels)


def size_px(data: bytes) -> tuple[int, int] | None:
    """Returns the width and height in the header of a JPEG, PNG or BMP; None if they are not within `data`."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = struct.unpack("<ii", data[18:26])
        return abs(width), abs(height)
    return _jpeg_size_px(data) if data.startswith(b"\xff\xd8") else None


def _jpeg_size_px(data: bytes) -> tuple[int, int] | None:
    """Walk from marker to marker up to the frame header. Source: ITU-T T.81, annex B."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) <= len(data) - 9:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME_HEADER:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        if marker == 0xFF:
            at += 1
        elif marker in BARE_MARKERS:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


class PictureDecoder:
    """Decodes pictures that are each complete in themselves: JPEG, PNG or BMP. Not thread-safe."""

    def __init__(self, name: str, max_pixels: int) -> None:
        self._name, self._max_pixels = name, max_pixels
        self._contexts: dict[str, Any] = {}

    def decode(self, data: bytes) -> NDArray[np.uint8] | None:
        """Returns the upright image uint8[H, W, 3] BGR, or None if the picture is damaged.

        Raises:
            TooLarge: by its header; nothing has been decoded.
        """
        check_size(self._name, size_px(data), self._max_pixels)
        codec = next((codec for start, codec in CODECS.items() if data.startswith(start)), "mjpeg")
        if codec not in self._contexts:
            self._contexts[codec] = self._context(codec)
        packet = av.Packet(data)
        packet.is_keyframe = True  # otherwise FFmpeg adds a PNG to the one before
        try:
            pictures = self._contexts[codec].decode(packet)
        except (av.error.FFmpegError, ValueError):
            return None
        whole = [picture for picture in pictures if not picture.is_corrupt]
        return upright(whole[-1]) if whole else None

    def _context(self, codec: str) -> Any:
        context: Any = av.CodecContext.create(codec, "r")
        context.thread_count = 1  # frame threads would hold images back
        # a damaged image is left out, not shown half grey; a second header cannot bypass the limit
        context.options = {"err_detect": "explode", "max_pixels": str(self._max_pixels)}
        return context


def upright(picture: Any) -> NDArray[np.uint8]:
    """Returns the uint8[H, W, 3] BGR of an `av.VideoFrame`, turned and mirrored as its display matrix says.

    Only the linear part counts, rounded to the nearest of the eight orientations. The matrix takes (x, y) to (a x + c
    y, b x + d y). Source: libavutil/display.h.
    """
    image = bgr(picture)
    a, b, c, d = _display_matrix(picture)
    if abs(b * c) > abs(a * d):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(picture: Any) -> tuple[float, float, float, float]:
    """Returns the linear part (a, b, c, d), without a unit."""
    try:
        matrix = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV fails on side data that it does not know, such as EXIF
        turn = np.deg2rad(picture.rotation)
        return np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d


def bgr(picture: Any) -> NDArray[np.uint8]:
    """Returns the uint8[H, W, 3] BGR of an `av.VideoFrame`, converted on this thread alone.

    FFmpeg would use a thread per core and wait for the slowest. That is no faster, and on busy cores it sometimes takes
    ten times as long (`python -m benchmarks pictures`). The pixels are the same.
    """
    image: NDArray[np.uint8] = picture.to_ndarray(format="bgr24", threads=1)
    return image
