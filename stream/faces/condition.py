"""Whether a face can be spotted on, and if not, why: pure, from what was measured of it."""

import math
from collections import deque
from dataclasses import dataclass

from stream.types import Quality

MIN_FPS = 11.5
"""The median ME rises from onset to apex within 167 ms; two frames within the rise take 12 fps. Less 4 %, which is how
far a rate measured over a second of jittered stamps may be off."""
RATE_KNOWN_S = 0.5
"""The shortest ME and the wait for its verdict take as long, so that none is reported before the rate is known."""
MIN_LIGHT = 15.0
"""Mean grey level. The demo clip darkened to 17 (noise of 3 levels) still gives three of its four MEs, nothing else."""
MAX_BLUR = 0.9
STEADY_S = 0.5
"""Time constant of the mean over which light and blur are judged: one bad frame is no verdict."""
SLACK = 0.1
"""A limit once passed must be passed back by this share: no flicker at the limit."""


class RateMeter:
    """Frames per second over the last `window_s`, by the frames' own stamps."""

    def __init__(self, window_s: float = 2.0) -> None:
        self._window_s = window_s
        self._times_s: deque[float] = deque()

    def add(self, time_s: float) -> None:
        """One more frame, not earlier than the last."""
        self._times_s.append(time_s)
        while time_s - self._times_s[0] > self._window_s:
            self._times_s.popleft()

    def clear(self) -> None:
        """Forget the past: what comes next says nothing of the time between."""
        self._times_s.clear()

    @property
    def fps(self) -> float | None:
        """None until RATE_KNOWN_S have been seen."""
        if len(self._times_s) < 2 or (span_s := self._times_s[-1] - self._times_s[0]) < RATE_KNOWN_S:
            return None
        return (len(self._times_s) - 1) / span_s


@dataclass(slots=True)
class Condition:
    """Follows one face's light, sharpness and frame rate; says `reason` while MEs cannot be seen on it."""

    reason: str | None = None
    light: float = math.nan
    blur: float = math.nan
    _last_s: float = math.nan

    def update(self, time_s: float, quality: Quality, fps: float | None) -> str | None:
        """Take the newest frame's quality and the measured rate (None: not known yet); return the reason, if any."""
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
