"""Puts a face's crops on the model's time grid: index k is the moment k / fps on the source's clock.

Sources deliver at any rate and with jitter, but the network knows one rate. Every grid frame is made from the crops
around its moment, **by their time stamps**:

- Up to twice the grid's rate, the two neighbouring crops are interpolated linearly. A crop whose stamp is within 1 ms
  of the grid is used as it is, so files at 30 fps are not blurred by mixing.
- For faster sources, the crops in the grid cell are averaged with a tent of half a cell to either side. The result is
  what a 30 fps shutter would integrate: there is less sensor noise and no aliasing above the grid's Nyquist rate.
  Averaging costs half a cell (17 ms) of delay, so slower sources do not use it.

Crops further apart than `max_gap_s` are never joined: the ring restarts.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.types import CROP_PX, FaceCrop

MAX_GAP_S = 0.2
"""Longest interval that is interpolated: 3 frames at 15 fps. The median rise of a micro-expression (160 ms, onset to
apex) could be missed within it. A longer interval would invent faces."""

ON_GRID_S = 0.001
"""A stamp this close to the grid counts as on it, because containers round stamps to 1 ms."""

FAST_INTERVAL = 0.4
"""Crops closer together than this share of a grid cell are averaged (above 75 fps for a 30 fps grid)."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The effect of a crop on the ring: the grid indices it filled (possibly none), and whether there was a gap before
    it.
    """

    filled: range
    restarted: bool = False


class FaceRing:
    """Preallocated ring uint8[capacity_frames, crop_px, crop_px]. It uses no clock and no thread."""

    def __init__(
        self, fps: int = 30, capacity_frames: int = 128, crop_px: int = CROP_PX, max_gap_s: float = MAX_GAP_S
    ) -> None:
        self.fps = fps
        self.capacity_frames = capacity_frames
        self.max_gap_s = max_gap_s
        # every frame is written twice, one capacity apart, so that any range is a contiguous view
        self._frames = np.zeros((2 * capacity_frames, crop_px, crop_px), np.uint8)
        self._previous: FaceCrop | None = None
        self._first = self._next = 0  # grid indices [first, next) are published since the last gap
        self._interval_s = math.inf
        self._cell = _Cell(crop_px)

    @property
    def newest(self) -> int | None:
        """Grid index of the newest frame since the last gap, or None."""
        return self._next - 1 if self._next > self._first else None

    @property
    def first(self) -> int:
        """Grid index of the first frame since the last gap."""
        return self._first

    def __len__(self) -> int:
        """The number of frames held since the last gap."""
        return min(self._next - self._first, self.capacity_frames)

    def time_s(self, index: int) -> float:
        """Returns the moment of a grid index on the source's clock."""
        return index / self.fps

    def is_gap(self, time_s: float) -> bool:
        """Whether a crop at `time_s` is too late to be joined to the last one."""
        return self._previous is not None and time_s - self._previous.time_s > self.max_gap_s

    def gap(self) -> None:
        """Forget everything. The next crop starts anew."""
        self._previous = None
        self._first = self._next
        self._interval_s = math.inf

    def push(self, crop: FaceCrop) -> Pushed:
        """Take the next crop. A crop that is not later than the last one is ignored."""
        last = self._previous
        if last is None:
            self._start(crop)
            return Pushed(range(self._first, self._next))
        interval_s = crop.time_s - last.time_s
        if interval_s <= 0:
            return Pushed(range(0))
        if self.is_gap(crop.time_s):
            self._start(crop)
            return Pushed(range(self._first, self._next), restarted=True)
        filled_from = self._next
        # a median would need a history; a running mean over a few crops is enough to tell 60 from 90 fps
        self._interval_s = interval_s if math.isinf(self._interval_s) else 0.8 * self._interval_s + 0.2 * interval_s
        if self._interval_s < FAST_INTERVAL / self.fps:
            self._average(last, crop)
        else:
            self._interpolate(last, crop)
        self._previous = crop
        return Pushed(range(filled_from, self._next))

    def frames(self, indices: range) -> NDArray[np.uint8]:
        """Returns a view uint8[n, S, S] of consecutive grid indices. Raises IndexError if one of them is not held."""
        if indices and not (self._next - len(self) <= indices[0] and indices[-1] < self._next):
            raise IndexError(
                f"grid frames {indices[0]}..{indices[-1]} are not in {self._next - len(self)}..{self._next - 1}"
            )
        begin = indices.start % self.capacity_frames
        view = self._frames[begin : begin + len(indices)]
        view.flags.writeable = False
        return view

    def newest_frames(self, count: int) -> NDArray[np.uint8]:
        """Returns a view uint8[n, S, S] of the newest crops, oldest first; n <= count if the ring holds fewer."""
        return self.frames(range(self._next - min(count, len(self)), self._next))

    def _start(self, crop: FaceCrop) -> None:
        self.gap()
        self._previous = crop
        self._cell.clear(-1)
        # an index is never used twice, even if the clock jumps back over a gap
        index = max(math.ceil((crop.time_s - ON_GRID_S) * self.fps), self._next)
        self._first = self._next = index
        if abs(self.time_s(index) - crop.time_s) <= ON_GRID_S:
            self._write(index, crop.image)
            self._next += 1

    def _interpolate(self, last: FaceCrop, crop: FaceCrop) -> None:
        while (moment_s := self.time_s(self._next)) <= crop.time_s + ON_GRID_S:
            if moment_s > last.time_s:  # otherwise it was written while averaging
                self._write(self._next, _between(last, crop, moment_s))
            self._next += 1

    def _average(self, last: FaceCrop, crop: FaceCrop) -> None:
        """Add the crop to its cell. The cell of `_next` is published once a crop lies past it."""
        half_s = 0.5 / self.fps
        while crop.time_s >= (moment_s := self.time_s(self._next)) + half_s:
            # if the mean is off the grid (missing crops, averaging just begun), the interpolated frame is kept
            if self._cell.index == self._next and self._cell.count > 1 and abs(self._cell.offset_s) <= ON_GRID_S:
                self._write(self._next, self._cell.mean())
            elif moment_s > last.time_s:
                self._write(self._next, _between(last, crop, moment_s))
            self._next += 1
        self._cell.add(self._next, crop.image, crop.time_s - moment_s, weight=1 - abs(crop.time_s - moment_s) / half_s)
        if last.time_s < moment_s <= crop.time_s:
            self._write(self._next, _between(last, crop, moment_s))

    def _write(self, index: int, image: NDArray[np.uint8]) -> None:
        slot = index % self.capacity_frames
        self._frames[slot] = image
        self._frames[slot + self.capacity_frames] = image


class _Cell:
    """The weighted mean of the crops around one grid moment, and of their distances to it."""

    def __init__(self, crop_px: int) -> None:
        self._sum = np.zeros((crop_px, crop_px), np.float32)
        self.index = -1
        self.count = 0
        self._weight = self._moment = 0.0

    def clear(self, index: int) -> None:
        self._sum[:] = 0
        self.index = index
        self.count = 0
        self._weight = self._moment = 0.0

    def add(self, index: int, image: NDArray[np.uint8], offset_s: float, weight: float) -> None:
        if index != self.index:
            self.clear(index)
        if weight <= 0:
            return
        self._sum += np.float32(weight) * image
        self._weight += weight
        self._moment += weight * offset_s
        self.count += 1

    @property
    def offset_s(self) -> float:
        return self._moment / self._weight

    def mean(self) -> NDArray[np.uint8]:
        return np.rint(self._sum / np.float32(self._weight)).astype(np.uint8)


def _between(last: FaceCrop, crop: FaceCrop, moment_s: float) -> NDArray[np.uint8]:
    if abs(moment_s - crop.time_s) <= ON_GRID_S:
        return crop.image
    if abs(moment_s - last.time_s) <= ON_GRID_S:
        return last.image
    share = round(256 * (moment_s - last.time_s) / (crop.time_s - last.time_s))
    share = min(max(share, 0), 256)
    mixed = last.image.astype(np.uint16) * np.uint16(256 - share) + crop.image.astype(np.uint16) * np.uint16(share)
    return ((mixed + 128) >> 8).astype(np.uint8)
