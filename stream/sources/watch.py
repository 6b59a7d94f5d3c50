"""Judges the frames and the silence of a live source. Pure: it takes times and images and uses no clock or device."""

import zlib
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from stream.sources.media_clock import LONG_GAP_S

FROZEN_AFTER_S = 2.0
"""An image that stays the same for longer than this is frozen, since sensor noise makes no two images alike."""
BLACK_AFTER_S = 1.0
BLACK_LEVEL, BLACK_SHARE = 20, 0.01
"""An image is black (lens covered, shutter closed) if a smaller share of it than this reaches this level of 0 to 255.
"""
SAMPLE_STEP_PX = 4
"""Frozen and black are judged on every fourth pixel of every fourth row, which is a sixteenth of the work."""


class State(StrEnum):
    """What a live source is doing. Only LIVE frames are delivered. Every way out of LIVE is one gap with that name."""

    LIVE = "live"
    STALLED = "stalled"
    FROZEN = "frozen"
    BLACK = "black"
    RECONNECTING = "reconnecting"


@dataclass(frozen=True, slots=True)
class Look:
    """What the rules need to know about one image.

    `digest` is equal for equal images. `bright` is the share of the image that is not black. `offset_s` is the wall
    clock minus `time_s`. It jumps when the machine sleeps (monotonic clocks stand still meanwhile) or when its clock is
    set.
    """

    time_s: float
    digest: int
    bright: float
    size_px: tuple[int, int]
    offset_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`gap`: the reason of a gap before this frame, if any. `usable`: whether the frame is delivered."""

    gap: str | None
    usable: bool


def look_at(time_s: float, image: NDArray[np.uint8], offset_s: float = 0.0) -> Look:
    """Summarises an image uint8[H, W, 3]."""
    sample = np.ascontiguousarray(image[::SAMPLE_STEP_PX, ::SAMPLE_STEP_PX])
    bright = np.count_nonzero(sample >= BLACK_LEVEL) / sample.size
    return Look(time_s, zlib.crc32(sample.data), bright, (image.shape[1], image.shape[0]), offset_s)


class SourceWatch:
    """Judges one live source, frame by frame.

    More than 1 s without a frame is `stalled`. The same image for more than 2 s is `frozen`. Only black for more than 1
    s is `black`, which comes before `frozen` because a black image is often both. A new size or a clock jump of more
    than 1 s is a gap, and the source goes on. Frozen and black frames are not delivered, since the step from the last
    one to the first live one would look like a movement.
    """

    def __init__(self) -> None:
        self.state = State.LIVE
        self._last: Look | None = None
        self._same_since_s = 0.0
        self._black_since_s: float | None = None

    def see(self, look: Look) -> Verdict:
        """Take the next frame. Times must not go backwards."""
        last, before = self._last, self.state
        self._last = look
        anew = last is None or (look.time_s - last.time_s > LONG_GAP_S and before not in (State.FROZEN, State.BLACK))
        if last is None or look.digest != last.digest or look.size_px != last.size_px or anew:
            self._same_since_s = look.time_s
        if look.bright >= BLACK_SHARE:
            self._black_since_s = None
        elif self._black_since_s is None or anew:
            self._black_since_s = look.time_s
        self.state = self._judge(look)
        if self.state is not State.LIVE:
            return Verdict(self.state.value if self.state is not before else None, usable=False)
        if before is State.LIVE and last is not None:
            return Verdict(_break_between(last, look), usable=True)
        return Verdict(None, usable=True)  # the gap before it has already been reported

    def silence(self, now_s: float) -> str | None:
        """Note that there is no frame at `now_s`. Returns the reason of a gap if this has now lasted too long."""
        if self.state is State.LIVE and self._last is not None and now_s - self._last.time_s > LONG_GAP_S:
            self.state = State.STALLED
            return self.state.value
        return None

    def lost(self) -> str | None:
        """Note that the connection is lost. Returns the reason of the gap, or None if it is already known."""
        before, self.state = self.state, State.RECONNECTING
        return self.state.value if before is not State.RECONNECTING else None

    def _judge(self, look: Look) -> State:
        if self._black_since_s is not None and look.time_s - self._black_since_s > BLACK_AFTER_S:
            return State.BLACK
        if look.time_s - self._same_since_s > FROZEN_AFTER_S:
            return State.FROZEN
        return State.LIVE


def _break_between(last: Look, look: Look) -> str | None:
    """Returns why no movement may be measured between two frames, or None."""
    if abs(look.offset_s - last.offset_s) > LONG_GAP_S:
        return "clock_jump"
    if look.time_s - last.time_s > LONG_GAP_S:
        return State.STALLED.value
    return "resolution_changed" if look.size_px != last.size_px else None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a live source, in seconds.

    `silence_s`: a connection that gives nothing for this long is closed and opened again. `first_s`, `most_s`: the
    pause before the first new attempt, and the most it doubles to. `limit_s`: the source fails after this time without
    a frame.
    """

    silence_s: float = 5.0
    first_s: float = 0.5
    most_s: float = 8.0
    limit_s: float = 60.0

    def pause_s(self, attempt: int, down_s: float) -> float | None:
        """Returns the pause before attempt number `attempt` (from 0) after `down_s` without a frame; None means give
        up.
        """
        if down_s >= self.limit_s:
            return None
        return min(self.first_s * 2.0 ** min(attempt, 30), self.most_s, self.limit_s - down_s)
