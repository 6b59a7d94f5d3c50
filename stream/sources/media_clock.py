"""Computes the media time of a file's frames from the container's time stamps. Pure: it uses no file, clock
or thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

LONG_GAP_S = 1.0
"""Two frames further apart than this have a gap between them, both in a file and in a live source."""
SPLICE_S = 60.0
"""A longer step forward is a splice of two recordings (or a broken stamp), and playback does not wait for it."""
SAME_S = 1e-5
"""The container's start is rounded to 1 us, so a first PTS this close to it is the same moment."""
DEFAULT_PERIOD_S = 1 / 25
"""Frame period if the container names none (FFmpeg's own default)."""


@dataclass
class MediaClock:
    """Stamps the frames of one file. Each call of `stamp` takes the next frame's PTS, in display order.

    Media time is what a player's clock shows: the PTS minus the container's start. The rules apply in this order:

    - No PTS: the frame comes one nominal period after the frame before.
    - PTS back by 1 s or more, or forward by more than a minute: two recordings were spliced. The frame comes one
      nominal period after the one before, and all later PTS move with it.
    - PTS back by less than 1 s, or the same: the frame is dropped, because its moment has passed (a player does not
      show it either).
    - PTS forward by more than 1 s: there is a gap.
    """

    period_s: float = DEFAULT_PERIOD_S
    start_s: float | None = None
    last_s: float | None = field(default=None, init=False)

    def stamp(self, pts_s: float | None) -> tuple[float | None, str | None]:
        """Returns the media time (None if the frame is dropped) and the reason of a gap before it (or None)."""
        expected_s = 0.0 if self.last_s is None else self.last_s + self.period_s
        if self.last_s is None:
            time_s, reason = self._first(pts_s), None
        elif pts_s is None:
            time_s, reason = expected_s, None
        else:
            if self.start_s is None:
                self.start_s = pts_s - expected_s
            time_s, reason = pts_s - self.start_s, None
            step_s = time_s - self.last_s
            if step_s <= -LONG_GAP_S or step_s > SPLICE_S:
                self.start_s = pts_s - expected_s
                time_s, reason = expected_s, "clock_jump"
            elif step_s <= 0:
                return None, None
            elif step_s > max(LONG_GAP_S, 1.5 * self.period_s):
                reason = "stalled"
        self.last_s = time_s
        return time_s, reason

    def _first(self, pts_s: float | None) -> float:
        """Returns the first frame's time: 0, or later if the container starts the picture after the sound."""
        if pts_s is None:
            return 0.0
        if self.start_s is None or not SAME_S <= pts_s - self.start_s <= SPLICE_S:
            self.start_s = pts_s
        return pts_s - self.start_s


SLOW_MOTION_FPS = 100.0
"""A lower tag is not slow motion: it names the requested rate. In the dark a phone takes fewer frames, in real time."""
CAPTURE_TAG = "capture.fps"
"""The end of the tag's name: `com.android.capture.fps`, or another maker's tag that ends like this."""


def capture_rate(stored_fps: float | None, asked_fps: float | None, tags: Mapping[str, str]) -> float | None:
    """Returns the rate at which a recording was filmed if it differs from the stored rate (slow motion), else None.

    `asked_fps`: the rate that the user gives; it wins. A tag counts only if its rate is at least half again the stored
    rate and high enough for slow motion.
    """
    if asked_fps is not None or stored_fps is None:
        return asked_fps
    for name, value in tags.items():
        if name.lower().endswith(CAPTURE_TAG):
            try:
                tagged_fps = float(value)
            except ValueError:
                continue
            if SLOW_MOTION_FPS <= tagged_fps <= 10_000 and tagged_fps >= 1.5 * stored_fps:
                return tagged_fps
    return None
