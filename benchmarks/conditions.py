"""The cost of a worse picture: films by a good camera, made smaller, slower, darker or noisier, then spotted in.

Every row has the same MEs (`benchmarks.same_films`). In the original films a face is 144 to 259 px wide.
"""

import argparse
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import same_films
from benchmarks.same_films import Change
from engine.training.film.encode import webcam
from stream.types import Frame


def smaller(share: float) -> Change:
    """The whole picture, and so the face in it, `share` times as wide. Sides are even, as encoders need."""

    def shrunk(f: Frame) -> NDArray[np.uint8]:
        height, width = (2 * round(side * share / 2) for side in f.image.shape[:2])
        return _u8(cv2.resize(f.image, (width, height), interpolation=cv2.INTER_AREA))

    return Change(shrunk)


def rarer(fps: float) -> Change:
    """Leaves out frames. The others keep their own stamps."""
    return Change(fps=fps)


def darker(share: float) -> Change:
    """A `share` of the grey levels, rounded to whole ones."""
    return Change(lambda f: _u8(cv2.convertScaleAbs(f.image, alpha=share)))


def noisier(sigma: float) -> Change:
    """Adds white noise of `sigma` grey levels to every pixel and colour. The frame is its seed."""

    def noisy(f: Frame) -> NDArray[np.uint8]:
        noise = np.random.default_rng(f.index).standard_normal(f.image.shape, np.float32)
        return _u8(np.clip(f.image + sigma * noise + 0.5, 0, 255))

    return Change(noisy)


CHANGES: dict[str, Change | None] = {
    "as they are": None,
    "2/3 as wide, face 96 to 173 px": smaller(2 / 3),
    "1/2 as wide, face 72 to 130 px": smaller(1 / 2),
    "1/3 as wide, face 48 to 86 px": smaller(1 / 3),
    "1/2 as wide, by a webcam's H.264 at CRF 23": replace(smaller(1 / 2), encoder=webcam(23)),
    "1/3 as wide, by a webcam's H.264 at CRF 23": replace(smaller(1 / 3), encoder=webcam(23)),
    "at most 20 fps": rarer(20),
    "at most 15 fps": rarer(15),
    "1/2 of the grey levels": darker(1 / 2),
    "1/4 of the grey levels": darker(1 / 4),
    "noise of 4 grey levels": noisier(4),
    "noise of 8 grey levels": noisier(8),
}
"""None is the bench's own file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    same_films.add_arguments(parser)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")


def run(args: argparse.Namespace) -> dict[str, Any]:
    result = same_films.judge(args, "change", {name: CHANGES[name] for name in args.changes})
    for row in result["rows"]:
        print(f"{row['change']:44} | {same_films.told(row)}")
    return result


def _u8(image: NDArray[Any]) -> NDArray[np.uint8]:
    return image.astype(np.uint8)
