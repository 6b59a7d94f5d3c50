"""A person's baseline: how high this face scores at this camera while nothing happens, and the threshold that follows.

Landmark jitter, compression, flicker and habitual motion raise the network's scores between micro-expressions, and with
them its false alarms. `Baseline` tracks that level as a drifting median of the log-odds of the hop scores. If the level
is higher than usual, the face's threshold rises. `BaselineLaw` sets by how much, so that the false-alarm rate holds
(`mestream calibrate threshold` fits it). Pure and causal: it uses no clock, and its memory does not grow.

The baseline does not learn MEs, for two reasons. High scores are held back and dropped once they have passed; only
those that last longer than an ME enter. And a median does not move for anything that fills less than half of the time.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stream.decide.odds import HIGHEST, LOWEST, log_odds, probability

CALIBRATING_S = 10.0
"""A baseline may be stored once it has seen this much of a face."""
DECIDES_S = 5.0
"""From this time on the baseline moves the threshold; before, the default threshold applies. Chosen on films of lively
people (docs/calibration.md): nearly all remaining alarms on lively faces came while the baseline waited for its ten
seconds."""
MEMORY_S = 60.0
"""Time constant of forgetting."""
ONGOING_S = 1.2
"""The length of an ME (at most 0.8 s) plus the time in which neighbouring candidates still see it. What lasts longer is
no ME."""
LIGHT_RATIO, SIZE_RATIO, RATE_RATIO = 1.35, 1.5, 1.35
"""The light or the camera has changed if the mean grey level, face width or frame rate differs by more than this
factor."""
CHANGED_S = 1.0
"""The change counts after this time. A flash, or a hand before the face, does not."""
STEADY_S = 5.0
"""Time constant with which the conditions are tracked: a sunset is no change, but a lamp is one."""

BINS = 144
"""The number of bins in the histogram of log-odds, each 1/8 wide."""
_CENTRES = LOWEST + (np.arange(BINS) + 0.5) * (HIGHEST - LOWEST) / BINS


class State(StrEnum):
    """What a face's baseline is doing now."""

    CALIBRATING = "calibrating"
    WATCHING = "watching"


@dataclass(frozen=True, slots=True)
class BaselineLaw:
    """How a face's level changes its threshold. All values are log-odds.

    shift = `gain` * (level - `usual`), within [`lowest`, `highest`]. `usual`: the median level of the people it was
    fitted on. `ongoing`: from this hop score on, something is going on. With `gain` 0 the default threshold applies.
    """

    gain: float = 0.0
    usual: float = -5.0
    lowest: float = -1.0
    highest: float = 3.0
    ongoing: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.gain, self.usual, self.lowest, self.highest, self.ongoing)
        if not all(map(math.isfinite, numbers)) or self.gain < 0 or not self.lowest <= 0 <= self.highest:
            raise ValueError(f"baseline law {numbers}: gain must be >= 0 and lowest <= 0 <= highest, all finite")

    def shift(self, level: float) -> float:
        """Returns what is added to the log-odds of the threshold at this level."""
        return min(max(self.gain * (level - self.usual), self.lowest), self.highest)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a baseline: mean grey level of the crop, face width in px, frames per second (if known)."""

    light: float
    face_px: float
    fps: float | None = None

    def differs(self, other: "Conditions") -> bool:
        """Whether this is another light or camera. Grey levels get 10 added, so that two black images are alike."""
        pairs = [(self.light + 10, other.light + 10, LIGHT_RATIO), (self.face_px, other.face_px, SIZE_RATIO)]
        if self.fps is not None and other.fps is not None:
            pairs.append((self.fps, other.fps, RATE_RATIO))
        return any(max(a, b) > ratio * max(min(a, b), 1e-6) for a, b, ratio in pairs)

    def towards(self, other: "Conditions", share: float) -> "Conditions":
        """Returns these conditions, moved by `share` of the way to `other`."""

        def mixed(a: float, b: float) -> float:
            return a + share * (b - a)

        fps = other.fps if self.fps is None else self.fps if other.fps is None else mixed(self.fps, other.fps)
        return Conditions(mixed(self.light, other.light), mixed(self.face_px, other.face_px), fps)


@dataclass(frozen=True, slots=True)
class KnownBaseline:
    """A baseline measured earlier: log-odds of level and spread, how many seconds it rests on, and its conditions."""

    level: float
    spread: float
    seconds: float
    conditions: Conditions

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level) and 0 <= self.spread < math.inf and 0 < self.seconds < math.inf):
            raise ValueError(f"level {self.level}, spread {self.spread}, seconds {self.seconds} are no baseline")


class Baseline:
    """Tracks one face's noise floor, hop by hop."""

    def __init__(self, law: BaselineLaw, known: KnownBaseline | None = None) -> None:
        self.law = law
        self._known = known
        self._restart()

    def _restart(self) -> None:
        self._weights = np.zeros(BINS)
        self._held: deque[tuple[float, float]] = deque()  # (seconds that it covers, log-odds), oldest first
        self._held_s = 0.0
        self._last_s: float | None = None
        self._conditions: Conditions | None = None
        self._changed_s = 0.0
        self.seconds = 0.0
        """How much of the face the baseline has taken in since it began or restarted."""
        if self._known is not None:
            self._preload(self._known)

    def _preload(self, known: KnownBaseline) -> None:
        """Start as if the known level had just been seen: a logistic distribution with its median and spread."""
        scale = max(known.spread, 0.05) / math.log(3)
        below = 1 / (1 + np.exp(-(np.linspace(LOWEST, HIGHEST, BINS + 1) - known.level) / scale))
        self._weights = np.diff(below) / (below[-1] - below[0]) * min(known.seconds, MEMORY_S)
        self.seconds, self._conditions = known.seconds, known.conditions

    @property
    def state(self) -> State:
        """The state, which is CALIBRATING until enough has been seen."""
        return State.WATCHING if self.seconds >= CALIBRATING_S - 1e-9 else State.CALIBRATING

    @property
    def conditions(self) -> Conditions | None:
        """The conditions that the baseline is for, or None before the first hop."""
        return self._conditions

    @property
    def level(self) -> float | None:
        """Median log-odds of the hop scores, or None before there are any."""
        return self._quantile(0.5)

    @property
    def spread(self) -> float | None:
        """Half the distance between the quartiles, which equals the MAD of a symmetric distribution."""
        low, high = self._quantile(0.25), self._quantile(0.75)
        return None if low is None or high is None else (high - low) / 2

    @property
    def shift(self) -> float:
        """What is added to the log-odds of the threshold now; 0 before DECIDES_S."""
        if self.seconds < DECIDES_S - 1e-9 or (level := self.level) is None:
            return 0.0
        return self.law.shift(level)

    def threshold(self, everybody: float) -> float:
        """Returns this face's threshold if the default one is `everybody` (a probability)."""
        return probability(log_odds(everybody) + self.shift) if self.shift else everybody

    def update(self, now_s: float, score: float, conditions: Conditions) -> State:
        """Take in one hop: the score (probability) of the newest settled time. Returns the state.

        If time goes backwards, or a pause is longer than an ME, a new stretch of the face begins. The time between is
        unknown and does not count.
        """
        elapsed_s = 0.0 if self._last_s is None else now_s - self._last_s
        if not 0 < elapsed_s <= ONGOING_S:
            self._drop_held()
            elapsed_s = 0.0
        self._last_s = now_s
        if self._is_elsewhere(conditions, elapsed_s):
            self._known = None  # it belongs to the old light or camera
            self._restart()
            self._last_s, self._conditions = now_s, conditions
            return self.state
        odds = log_odds(score)
        if odds >= self.law.ongoing:
            self._hold(elapsed_s, odds)
        else:
            self._drop_held()
            self._learn(elapsed_s, odds)
        return self.state

    def _hold(self, elapsed_s: float, odds: float) -> None:
        self._held.append((elapsed_s, odds))
        self._held_s += elapsed_s
        while self._held_s > ONGOING_S:
            seconds, oldest = self._held.popleft()
            self._held_s -= seconds
            self._learn(seconds, oldest)

    def _drop_held(self) -> None:
        self._held.clear()
        self._held_s = 0.0

    def _learn(self, elapsed_s: float, odds: float) -> None:
        self._weights *= math.exp(-elapsed_s / MEMORY_S)
        self._weights[min(int((odds - LOWEST) / (HIGHEST - LOWEST) * BINS), BINS - 1)] += elapsed_s
        self.seconds += elapsed_s

    def _is_elsewhere(self, now: Conditions, elapsed_s: float) -> bool:
        if self._conditions is None:
            self._conditions = now
        if now.differs(self._conditions):
            self._changed_s += elapsed_s
        else:
            self._changed_s = 0.0
            self._conditions = self._conditions.towards(now, -math.expm1(-elapsed_s / STEADY_S))
        return self._changed_s >= CHANGED_S

    def _quantile(self, share: float) -> float | None:
        """Returns a quantile of the weighted histogram, linear within a bin."""
        total = float(self._weights.sum())
        if total <= 0:
            return None
        reached = np.cumsum(self._weights) / total
        k = int(np.searchsorted(reached, share))
        below = float(reached[k - 1]) if k else 0.0
        inside = (share - below) / (float(reached[k]) - below)
        return float(_CENTRES[k] + (inside - 0.5) * (HIGHEST - LOWEST) / BINS)
