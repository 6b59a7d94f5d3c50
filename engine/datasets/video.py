"""The common form of all data sets: videos with intervals, folds by subject, frames thinned by time."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.sources.images import IMAGE_ENDINGS, natural

KINDS = ("micro", "macro", "blink")


class DatasetError(Exception):
    """A data set has a mistake: one line that names the file, the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An annotated movement, in frames from 0, inclusive: onset <= apex <= offset. An unknown `apex` is None."""

    onset: int
    apex: int | None
    offset: int
    kind: str
    action_units: str = ""

    def __post_init__(self) -> None:
        inside = self.apex is None or self.onset <= self.apex <= self.offset
        if not (0 <= self.onset <= self.offset and inside and self.kind in KINDS):
            raise ValueError(f"not an interval: {self.onset}, {self.apex}, {self.offset}, {self.kind}")


@dataclass(frozen=True, slots=True)
class Video:
    """One video of one person. `frames`: (frame number from 0, file) in order; numbers may leave gaps. `fps` in Hz.

    An annotated video that is not on disk has no frames. Its MEs count as missed, and `notes` says so.
    """

    subject: str
    name: str
    fps: float
    frames: tuple[tuple[int, Path], ...]
    intervals: tuple[Interval, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """From frame 0 to the end of the last frame. Missing frames are not subtracted."""
        return (self.frames[-1][0] + 1) / self.fps if self.frames else 0.0

    def read(self, fps: float | None = None) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        """Yields (frame number, time in s, image uint8[H, W, 3] BGR), thinned to about `fps` if given.

        Raises DatasetError for a file that is no image.
        """
        numbers = [number for number, _ in self.frames]
        for i in range(len(numbers)) if fps is None else subsample(numbers, self.fps, fps):
            number, path = self.frames[i]
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if image is None:
                raise DatasetError(f"{path} can't be read as an image; copy it again from the data set")
            yield number, number / self.fps, np.asarray(image, np.uint8)


@dataclass(frozen=True, slots=True)
class Fold:
    """Leave-one-subject-out: `test` holds all videos of `subject`, `train` all others."""

    subject: str
    train: tuple[Video, ...]
    test: tuple[Video, ...]


def loso(videos: Sequence[Video]) -> list[Fold]:
    """One fold per subject, in natural order. People without an ME get a fold too."""
    subjects = sorted({v.subject for v in videos}, key=natural)
    return [
        Fold(s, tuple(v for v in videos if v.subject != s), tuple(v for v in videos if v.subject == s))
        for s in subjects
    ]


def subsample(numbers: Sequence[int], fps: float, target_fps: float) -> list[int]:
    """Indices of the frames to keep: the nearest to each point of a time grid at `target_fps`, or all if `fps` is not
    higher.

    The choice goes by time, so 200 fps gives 30 without drift. No frame is invented for a missing one.
    """
    if target_fps >= fps:
        return list(range(len(numbers)))
    kept, half_s, i = [], 0.5 / fps + 1e-9, 0
    for k in range(int((numbers[-1] / fps) * target_fps + 1) + 1 if numbers else 0):
        time_s = k / target_fps
        while i + 1 < len(numbers) and abs(numbers[i + 1] / fps - time_s) < abs(numbers[i] / fps - time_s) - 1e-12:
            i += 1
        if abs(numbers[i] / fps - time_s) <= half_s:
            kept.append(i)
    return kept


def image_files(folder: Path, first: int | None) -> tuple[tuple[int, Path], ...]:
    """(number, file) of a folder's images by the last digits of their names. Frame 0 has number `first`.

    With `first` None, they are counted in natural order of the names. Raises DatasetError for two files with one
    number.
    """
    files = sorted((f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS), key=lambda f: natural(f.name))
    if first is None:
        return tuple(enumerate(files))
    numbered = sorted((int(m.group()) - first, f) for f in files if (m := re.search(r"\d+(?=\D*$)", f.stem)))
    for (a, file), (b, other) in pairwise(numbered):
        if a == b:
            raise DatasetError(f"{file} and {other.name} have the same frame number {a + first}; remove one of them")
    return tuple((number, f) for number, f in numbered if number >= 0)


def folders(root: Path) -> list[Path]:
    """Folders in `root`, in natural order. Raises DatasetError if `root` does not exist."""
    if not root.is_dir():
        raise DatasetError(f"{root} is missing; unpack the data set so that it lies there, or give another --root")
    return sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: natural(p.name))


NO_FRAMES = "is annotated but its frames are not on disk: its MEs count as missed"


def known_offset(onset: int, apex: int | None, offset: int, row: str) -> tuple[int, list[str]]:
    """Replaces an annotated offset of 0, which means unknown. The offset is then as far from the apex as the onset
    is."""
    if offset != 0 or apex is None or apex < onset:
        return offset, []
    offset = 2 * apex - onset
    return offset, [f"{row}: offset 0 means unknown; taken as apex + (apex - onset) = {offset}"]


def mend(
    onset: int, apex: int | None, offset: int, kind: str, action_units: str, last: int | None, row: str
) -> tuple[Interval | None, list[str]]:
    """An interval from annotated frames (from 0). Impossible values are corrected, with a note for each correction.

    An onset before the first frame becomes the first frame. An apex outside the interval becomes unknown. An offset
    past the last frame `last` is cut there. Returns None if nothing is left.
    """
    notes = []
    if offset < onset:
        return None, [f"{row}: offset {offset} lies before onset {onset}; left out"]
    if onset < 0 <= offset:
        notes.append(f"{row}: onset {onset} lies before the first frame; set to it")
        onset = 0
    if last is not None and onset <= last < offset:
        notes.append(f"{row}: offset {offset} lies past the last frame {last}; cut there")
        offset = last
    if onset < 0 or (last is not None and onset > last):
        return None, [f"{row}: {onset}..{offset} lies outside the video's frames 0..{last}; left out"]
    if apex is not None and not onset <= apex <= offset:
        notes.append(f"{row}: apex {apex} lies outside {onset}..{offset}; taken as not known")
        apex = None
    return Interval(onset, apex, offset, kind, action_units), notes
