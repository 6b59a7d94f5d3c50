"""Videos of a face for the pipeline's tests, made from the portrait in tests/data: it sways, raises a brow, leaves."""

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from videos import write_video

PORTRAIT = Path(__file__).parent / "data" / "face.jpg"
BROW_AT = (0.36, 0.36)
"""Centre of one brow, as a share of the portrait's width and height."""


@lru_cache
def _still(side_px: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The portrait at that size, its pixels' coordinates, and how much each takes part in the brow's movement."""
    portrait = cv2.resize(cv2.imread(str(PORTRAIT)), (side_px, side_px), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:side_px, :side_px].astype(np.float32)
    near = np.exp(-(((x / side_px - BROW_AT[0]) / 0.1) ** 2 + ((y / side_px - BROW_AT[1]) / 0.06) ** 2))
    return portrait, x, y, near


def raised_at(time_s: float, onset_s: float, length_s: float = 0.4) -> float:
    """A brow raise: 0 to 1 and back, as a raised cosine."""
    share = (time_s - onset_s) / length_s
    return (1 - math.cos(2 * math.pi * share)) / 2 if 0 <= share <= 1 else 0.0


def face_image(time_s: float, raised: float = 0.0, side_px: int = 320, light: float = 1.0) -> NDArray[np.uint8]:
    """Portrait at one moment, uint8[side, side, 3]: swaying by some px, one brow up by `raised` x 1.6 % of the side."""
    portrait, x, y, near = _still(side_px)
    dx, dy = 4 * np.sin(2 * np.pi * 0.3 * time_s), 2 * np.sin(2 * np.pi * 0.21 * time_s)
    moved = cv2.remap(
        portrait,
        (x - dx).astype(np.float32),
        (y - dy + raised * 0.016 * side_px * near).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.clip(moved * light, 0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _swaying(number: int) -> NDArray[np.uint8]:
    return face_image(number / 30)


def face_in_camera(number: int) -> NDArray[np.uint8]:
    """What a camera sees of a face that sways for ever; a changing stripe tells it from a frozen image."""
    image = _swaying(abs(number % 120 - 60)).copy()
    image[0, :16] = number % 256
    return image


def blank(side_px: int = 320) -> NDArray[np.uint8]:
    """An empty room."""
    return np.full((side_px, side_px, 3), 90, np.uint8)


def face_video(
    path: Path,
    *,
    fps: float = 30.0,
    length_s: float = 3.0,
    raise_s: float = 1.2,
    away: tuple[float, float] = (0.0, 0.0),
    light: float = 1.0,
    variable: bool = False,
) -> Path:
    """Write the portrait's video: one brow raise at `raise_s`; between the two times of `away` the room is empty.

    `variable`: of every six frames some stay longer than others, from half to one and a half periods of `fps`.
    """
    steps = (0.5, 1.5, 1.0, 1.25, 0.75, 1.0) if variable else (1.0,)
    periods = np.concatenate([[0.0], np.cumsum(np.resize(steps, round(length_s * fps) - 1))])
    times_s = [float(period) / fps for period in periods]

    def images() -> Iterator[NDArray[np.uint8]]:
        for time_s in times_s:
            gone = away[0] <= time_s < away[1]
            yield blank() if gone else face_image(time_s, raised_at(time_s, raise_s), light=light)

    return write_video(path, times_s, images=images(), options={"preset": "ultrafast", "crf": "18"})
