"""Plays a recording as a source: in real time or as fast as it is read, once or in a loop."""

import threading
import time
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import SourceInfo
from stream.sources.media_clock import MediaClock
from stream.types import Frame, SourceGap

HOLE_S = 0.2
"""Frames lost to decoding errors become a gap if they leave a longer hole than this. Shorter holes show in the times.
"""
WAKE_S = 0.1
"""How often a waiting paced source checks whether to stop."""


class Clip(Protocol):
    """Recorded pictures: a video file or a folder of images.

    `name`: as the user wrote it. `period_s`: time between pictures if nothing else is known. `start_s`: the time stamp
    of media time 0, or None if that is the first picture's.
    """

    name: str
    period_s: float
    start_s: float | None

    def pictures(self) -> Iterator[tuple[float | None, NDArray[np.uint8] | None]]:
        """Yields (time stamp in s, upright image uint8[H, W, 3] BGR) in display order, from the first picture on.

        A time stamp may be None. An image is None if it can't be decoded. Raises UserError if the clip breaks off.
        """

    def describe(self, first: NDArray[np.uint8]) -> SourceInfo:
        """Returns what the clip is. `first` is its first image."""

    def interrupt(self) -> None:
        """Make `pictures` end soon if it waits. Called from another thread."""

    def close(self) -> None:
        """Release everything."""


class Playback:
    """Plays one clip. See `stream.sources.info.Source`."""

    def __init__(self, clip: Clip, *, paced: bool, loop: bool, stop: threading.Event) -> None:
        self.dropped = 0
        self.corrupt = 0
        self._clip, self._paced, self._loop, self._stop = clip, paced, loop, stop
        self._closed = threading.Event()
        self._decoding = threading.Lock()
        self._started_s: float | None = None
        try:
            first, self._items = self._peek(self._play())
        except BaseException:
            clip.close()
            raise
        self.info = clip.describe(first)

    def read(self) -> Frame | SourceGap | None:
        """Returns the next frame or gap, at its moment if paced, or None at the end."""
        with self._decoding:
            item = None if self._ended() else next(self._items, None)
        if item is None or (self._paced and not self._wait_until(item.time_s)):
            return None
        return item

    def close(self) -> None:
        """Close the clip. If a frame is being decoded, this waits for it."""
        self._closed.set()
        self._clip.interrupt()
        with self._decoding:
            self._clip.close()

    def _ended(self) -> bool:
        return self._closed.is_set() or self._stop.is_set()

    def _wait_until(self, media_s: float) -> bool:
        """Sleep until the media time is now. Returns False if the source ends first."""
        if self._started_s is None:
            self._started_s = time.monotonic() - media_s
        while (left_s := self._started_s + media_s - time.monotonic()) > 0 and not self._ended():
            self._stop.wait(min(left_s, WAKE_S))
        return not self._ended()

    def _peek(self, items: Iterator[Frame | SourceGap]) -> tuple[NDArray[np.uint8], Iterator[Frame | SourceGap]]:
        """Returns the first image and an iterator over all items. So the size is known, and a file without video fails
        at once.
        """
        before: list[Frame | SourceGap] = []
        for item in items:
            before.append(item)
            frames = [item for item in before if isinstance(item, Frame)]
            if len(frames) == 2:
                return frames[0].image, chain(before, items)
        raise UserError(f"source {self._clip.name}: told to stop before its first images", code=0)

    def _play(self) -> Iterator[Frame | SourceGap]:
        index, lap_start_s = 0, 0.0
        while True:
            end_s = lap_start_s
            for item in self._lap(index, lap_start_s):
                yield item
                if isinstance(item, Frame):
                    index, end_s = item.index + 1, item.time_s
            if self._ended():
                return
            if index < 2:
                raise UserError(f"source {self._clip.name}: {NO_FRAME if index == 0 else ONE_PICTURE}")
            if not self._loop:
                return
            yield SourceGap(end_s, "loop")
            lap_start_s = end_s + self._clip.period_s

    def _lap(self, index: int, lap_start_s: float) -> Iterator[Frame | SourceGap]:
        """Plays the clip once. Its first frame has number `index`, and its media time 0 is `lap_start_s`."""
        clock = MediaClock(self._clip.period_s, self._clip.start_s)
        last_s, last_shape, corrupt_before = lap_start_s, None, self.corrupt
        for stamp_s, image in self._clip.pictures():
            if image is None:
                self.corrupt += 1
                continue
            media_s, gap = clock.stamp(stamp_s)
            if media_s is None:
                self.dropped += 1
                continue
            time_s = lap_start_s + media_s
            if gap is None and self.corrupt > corrupt_before and time_s - last_s > HOLE_S:
                gap = "corrupt"
            if gap is None and last_shape not in (None, image.shape):
                gap = "resolution_changed"
            if gap is not None:
                yield SourceGap(last_s, gap)
            yield Frame(index, time_s, image)
            index, last_s, last_shape, corrupt_before = index + 1, time_s, image.shape, self.corrupt


NO_FRAME = "no frame of it can be decoded; check that it plays in a video player"
ONE_PICTURE = "is a single picture, in which nothing moves; give a video, or a folder of pictures with --fps"
