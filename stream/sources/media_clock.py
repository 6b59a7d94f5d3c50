"""Media time of a file's frames from the container's time stamps. Pure: knows no file, clock or thread."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LONG_GAP_S = 1.0
"""Two frames further apart than this have a gap between them, in a file and in a live source alike."""
SPLICE_S = 60.0
"""A step forward longer than this is a splice of two recordings (or a broken stamp), not a pause to be waited for."""
SAME_S = 1e-5
"""The container's start is rounded to 1 us: a first PTS that is this near to it is the same moment."""
DEFAULT_PERIOD_S = 1 / 25
"""Frame period where the container names none (FFmpeg's own default)."""


@dataclass
class MediaClock:
    """Stamps the frames of one file: each call of `stamp` takes the next frame's PTS, in the order of display.

    Media time is what a player's clock shows: the PTS less the container's start. The rules, in order:
    no PTS: one nominal period after the frame before. PTS back by 1 s or more, or forward by more than a
    minute: two recordings were spliced; the frame follows one nominal period after the one before and all later
    PTS move with it. PTS not later than the frame before, by less than 1 s: the frame is dropped, its moment has gone
    (a player would not show it). More than 1 s forward: a gap.
    """

    period_s: float = DEFAULT_PERIOD_S
    start_s: float | None = None
    last_s: float | None = field(default=None, init=False)

    def stamp(self, pts_s: float | None) -> tuple[float | None, str | None]:
        """Return (media time or None if the frame is to be dropped, reason of a gap before it or None)."""
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
        """The first frame comes at 0, or as much later as the picture begins after the sound by the container."""
        if pts_s is None:
            return 0.0
        if self.start_s is None or not SAME_S <= pts_s - self.start_s <= SPLICE_S:
            self.start_s = pts_s
        return pts_s - self.start_s


SLOW_MOTION_FPS = 100.0
"""A tag below this tells the rate that was asked for: in the dark a phone takes fewer frames, and in real time."""
CAPTURE_TAG = "capture.fps"
"""End of the tag's name: `com.android.capture.fps`, or another maker's of that name."""


def capture_rate(stored_fps: float | None, asked_fps: float | None, tags: Mapping[str, str]) -> float | None:
    """Return the rate at which a recording was taken if it is stored at another (slow motion), else None.

    `asked_fps`: what the user says, which is believed. A tag is believed if it tells of half as many frames again as
    are stored, and of so many that it is slow motion.
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
