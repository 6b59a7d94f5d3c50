"""Plays a folder of numbered pictures, a common form of data sets. The number in its name sets each picture's time."""

import logging
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import SourceInfo
from stream.sources.picture import HEADER_BYTES, PictureDecoder, check_size, size_px

log = logging.getLogger("stream")

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp"}
NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
"""Splits a file's name without its ending: the text before its last digits, the digits, and the text after them."""
PLACE = re.compile(r"%(0\d+)?d")


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts `s2` before `s10`."""
    return tuple((0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", text) if p)


def means_images(path: Path) -> bool:
    """Whether a source's path is a folder, or a pattern such as `img_%04d.jpg`."""
    return path.is_dir() or (PLACE.search(path.name) is not None and not path.exists())


class ImageFolder:
    """The pictures of a folder, or those that match a pattern. See `stream.sources.playback.Clip`."""

    start_s: float | None = None

    def __init__(self, path: Path, fps: float | None, *, max_pixels: int) -> None:
        self._files = number(_files(path))
        if fps is None:
            raise UserError(f"source {path}: pictures have no times of their own; add --fps, their rate", code=2)
        self.name, self.period_s = str(path), 1 / fps
        self._path, self._fps = path, fps
        self._decoder = PictureDecoder(f"source {path}", max_pixels)
        self._check_sizes(max_pixels)
        self._tell_missing()

    def describe(self, first: NDArray[np.uint8]) -> SourceInfo:
        """Returns what the pictures are. See `stream.sources.playback.Clip`."""
        height, width = first.shape[:2]
        return SourceInfo(
            f"images:{self._path.absolute().name}", False, width, height, self._fps, "images", self.period_s / 2
        )

    def pictures(self) -> Iterator[tuple[float | None, NDArray[np.uint8] | None]]:
        """Read the pictures one by one. See `stream.sources.playback.Clip`."""
        for frame, file in self._files:
            yield (frame - self._files[0][0]) / self._fps, self._decoder.decode(_read(file, -1))

    def interrupt(self) -> None:
        """Do nothing, since reading a picture never waits."""

    def close(self) -> None:
        """Do nothing, since no file stays open."""

    def _check_sizes(self, max_pixels: int) -> None:
        first: tuple[Path, tuple[int, int]] | None = None
        for _, file in self._files:
            size = size_px(_read(file, HEADER_BYTES)) or size_px(_read(file, -1))
            check_size(f"source {file}", size, max_pixels)
            if size is None:
                continue  # a damaged picture, which is counted later
            first = first or (file, size)
            if size != first[1]:
                sizes = ", ".join(f"{f.name} {w}x{h}" for f, (w, h) in (first, (file, size)))
                raise UserError(f"source {self._path}: pictures of different sizes ({sizes}); give one video a folder")

    def _tell_missing(self) -> None:
        holes = [(a + 1, b - 1) for (a, _), (b, _) in pairwise(self._files) if b - a > 1]
        if holes:
            shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in holes[:3])
            log.warning(
                *("%s: by their numbers %d pictures are missing (%s%s); nothing is put in their place",),
                *(self.name, sum(b - a + 1 for a, b in holes), shown, ", ..." if len(holes) > 3 else ""),
            )


def number(files: list[Path]) -> list[tuple[int, Path]]:
    """Returns (frame number, file) in order. The number is the last digits of names that are otherwise alike; else it
    counts from 0.
    """
    parts = [NUMBER.fullmatch(file.stem) for file in files]
    alike = {(part[1], part[3], file.suffix) for part, file in zip(parts, files, strict=True) if part}
    numbers = [int(part[2]) for part in parts if part]
    if len(alike) == 1 and len(set(numbers)) == len(files):
        return sorted(zip(numbers, files, strict=True))
    return list(enumerate(sorted(files, key=lambda file: natural(file.name))))


def _files(path: Path) -> list[Path]:
    """Returns the selected pictures, in no order. Raises UserError if there are none."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_ENDINGS]
    else:
        before, digits, after = PLACE.split(path.name, maxsplit=1)
        pattern = re.compile(rf"{re.escape(before)}\d{{{int(digits or 1)},}}{re.escape(after)}")
        files = [file for file in folder.glob("*") if pattern.fullmatch(file.name)]
    if not files:
        what = f"is a directory without pictures ({' '.join(sorted(IMAGE_ENDINGS))})"
        raise UserError(
            f"source {path}: {what if path.is_dir() else 'names no pictures'}; "
            "give a video file, or a folder of pictures with --fps"
        )
    return files


def _read(file: Path, size: int) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(size)
    except OSError as error:
        raise UserError(f"source {file}: can't be read ({error.strerror}); check it, or copy it again") from None
