"""Decides whether MEs can be spotted on a face, and names the reason if not. Pure: it works on measured values."""

import math
from collections import deque
from dataclasses import dataclass

from stream.types import Quality

MIN_FPS = 11.5
"""The lowest rate at which MEs are spotted. The median ME rises from onset to apex within 167 ms. Two frames within the
rise take 12 fps. The limit is 4 % lower, since a rate measured over a second of jittered stamps can be off by that
much."""
RATE_KNOWN_S = 0.5
"""The rate is known after this time. The shortest ME and the wait for its verdict take as long, so no ME is reported
before that."""
MIN_LIGHT = 15.0
"""Mean grey level. The demo clip darkened to 17 (with noise of 3 levels) still gives three of its four MEs and no false
alarm."""
MAX_BLUR = 0.9
STEADY_S = 0.5
"""Time constant of the mean by which light and blur are judged. One bad frame does not decide."""
SLACK = 0.1
"""Hysteresis: a value that has passed a limit must come back by this share, so that the reason does not flicker."""


class RateMeter:
    """Frames per second over the last `window_s`, by the frames' own stamps."""

    def __init__(self, window_s: float = 2.0) -> None:
        self._window_s = window_s
        self._times_s: deque[float] = deque()

    def add(self, time_s: float) -> None:
        """Count one more frame. Its time must not be earlier than that of the last one."""
        self._times_s.append(time_s)
        while time_s - self._times_s[0] > self._window_s:
            self._times_s.popleft()

    def clear(self) -> None:
        """Forget all frames. The rate is measured anew, since nothing is known about a gap."""
        self._times_s.clear()

    @property
    def fps(self) -> float | None:
        """The measured rate, or None until RATE_KNOWN_S have been seen."""
        if len(self._times_s) < 2 or (span_s := self._times_s[-1] - self._times_s[0]) < RATE_KNOWN_S:
            return None
        return (len(self._times_s) - 1) / span_s


@dataclass(slots=True)
class Condition:
    """Follows the light, sharpness and frame rate of one face. `reason` says why MEs cannot be seen on it, if so."""

    reason: str | None = None
    light: float = math.nan
    blur: float = math.nan
    _last_s: float = math.nan

    def update(self, time_s: float, quality: Quality, fps: float | None) -> str | None:
        """Take the newest frame's quality and the measured rate (None if not known yet). Returns the reason, if any."""
        if math.isnan(self._last_s):
            self.light, self.blur = quality.light, quality.blur
        share = 1 if math.isnan(self._last_s) else 1 - math.exp(-max(0.0, time_s - self._last_s) / STEADY_S)
        self.light += share * (quality.light - self.light)
        self.blur += share * (quality.blur - self.blur)
        self._last_s = time_s
        self.reason = self._judge(fps)
        return self.reason

    def _judge(self, fps: float | None) -> str | None:
        def slack(reason: str) -> float:
            return SLACK if self.reason == reason else 0.0

        if fps is None:
            if self.reason == "low_fps":
                return self.reason
        elif fps < MIN_FPS * (1 + slack("low_fps") / 2):
            return "low_fps"
        if self.light < MIN_LIGHT * (1 + slack("too_dark")):
            return "too_dark"
        if self.blur > MAX_BLUR * (1 - slack("blurred")):
            return "blurred"
        return None
