"""Small videos for tests whose every frame carries its own number as bars, so that its image tells its true time."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

BITS = 12
WIDTH_PX, HEIGHT_PX = 16 * BITS, 64


def numbered(number: int, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> NDArray[np.uint8]:
    """Image uint8[H, W, 3] whose BITS vertical bars are the binary digits of `number`, the highest first."""
    bits = [(number >> bit) & 1 for bit in reversed(range(BITS))]
    row = np.repeat(np.array(bits, np.uint8) * 180 + 40, -(-width_px // BITS))[:width_px]
    return np.repeat(np.tile(row, (height_px, 1))[..., None], 3, axis=2)


def number_in(image: NDArray[np.uint8]) -> int:
    """Read the number back from the middle of each bar."""
    width = -(-image.shape[1] // BITS)
    middles = image[image.shape[0] // 2, width // 2 :: width].mean(axis=1) > 128
    return int("".join("1" if bit else "0" for bit in middles[:BITS]), 2)


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    rate: Fraction | int = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    time_base: Fraction = Fraction(1, 90000),
    images: Iterable[NDArray[np.uint8]] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
    matrix: tuple[int, int, int, int] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Write one frame per entry of `times_s`, numbered from 0 (or `images`), each with that time as its PTS.

    `matrix`: the linear part (a, b, c, d) of the display matrix.
    """
    pictures = [numbered(i) for i in range(len(times_s))] if images is None else list(images)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(rate))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        stream.options = options or {}
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix:
            a, b, c, d = (value * 0x10000 for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 0x40000000])
        container.metadata.update(tags or {})
        for time_s, image in zip(times_s, pictures, strict=True):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = round(Fraction(time_s) / time_base), time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path
