"""A person's baseline: how high this face scores at this camera while nothing happens, and the threshold that follows.

Landmark jitter, compression, flicker and habitual motion lift the network's scores between micro-expressions, and lift
its false alarms with them. `Baseline` follows that level as a drifting median of the log-odds of the hop scores; where
it lies above what is usual, the face's threshold rises, by as much as `BaselineLaw` says holds the false-alarm rate (it
is fitted by `mestream calibrate threshold`). Pure and causal: knows no clock, and its memory does not grow.

An ME is not learnt away, for two reasons. What is going on is held back and dropped when it has passed; only what lasts
longer than an ME can is let in. And a median does not move for what fills less than half of the time.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from stream.decide.odds import HIGHEST, LOWEST, log_odds, probability

CALIBRATING_S = 10.0
"""So much of a face must have been seen before its baseline is one that may be kept."""
DECIDES_S = 5.0
"""From so much on it moves the threshold; until then the threshold is everybody's. Chosen on films of lively people
(docs/calibration.md): nearly all alarms that were left on lively faces came while it waited for its ten seconds."""
MEMORY_S = 60.0
"""Time constant with which the past is forgotten."""
ONGOING_S = 1.2
"""An ME (at most 0.8 s), and what of it the score's neighbouring candidates still see. What lasts longer is no ME."""
LIGHT_RATIO, SIZE_RATIO, RATE_RATIO = 1.35, 1.5, 1.35
"""A mean grey level, face width or frame rate that differs by more than this factor is another light or camera."""
CHANGED_S = 1.0
"""... when it stays so: a flash, or a hand before the face, is none."""
STEADY_S = 5.0
"""Time constant with which the conditions themselves are followed: a sunset is no change, a lamp is one."""

BINS = 144
"""Log-odds are kept in a histogram of so many bins: 1/8 wide."""
_CENTRES = LOWEST + (np.arange(BINS) + 0.5) * (HIGHEST - LOWEST) / BINS


class State(StrEnum):
    """What a face's baseline is doing."""

    CALIBRATING = "calibrating"
    WATCHING = "watching"


@dataclass(frozen=True, slots=True)
class BaselineLaw:
    """What a face's level does to its threshold; all in log-odds.

    shift = `gain` * (level - `usual`), within [`lowest`, `highest`]. `usual`: the median level of the tuning people.
    `ongoing`: a hop score from here on means that something is going on. With `gain` 0 the threshold is everybody's.
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
        """What is added to the log-odds of the threshold at this level."""
        return min(max(self.gain * (level - self.usual), self.lowest), self.highest)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a baseline holds for: mean grey level of the crop, width of the face in px, frames per second (if known)."""

    light: float
    face_px: float
    fps: float | None = None

    def differs(self, other: "Conditions") -> bool:
        """Whether this is another light or camera. Grey levels get 10 added: two blacks are one."""
        pairs = [(self.light + 10, other.light + 10, LIGHT_RATIO), (self.face_px, other.face_px, SIZE_RATIO)]
        if self.fps is not None and other.fps is not None:
            pairs.append((self.fps, other.fps, RATE_RATIO))
        return any(max(a, b) > ratio * max(min(a, b), 1e-6) for a, b, ratio in pairs)

    def towards(self, other: "Conditions", share: float) -> "Conditions":
        """These, moved by `share` of the way to `other`."""

        def mixed(a: float, b: float) -> float:
            return a + share * (b - a)

        fps = other.fps if self.fps is None else self.fps if other.fps is None else mixed(self.fps, other.fps)
        return Conditions(mixed(self.light, other.light), mixed(self.face_px, other.face_px), fps)


@dataclass(frozen=True, slots=True)
class KnownBaseline:
    """A baseline measured before: log-odds of level and spread, seconds that it rests on, and under what conditions."""

    level: float
    spread: float
    seconds: float
    conditions: Conditions

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level) and 0 <= self.spread < math.inf and 0 < self.seconds < math.inf):
            raise ValueError(f"level {self.level}, spread {self.spread}, seconds {self.seconds} are no baseline")


class Baseline:
    """Follows one face's noise floor, hop by hop."""

    def __init__(self, law: BaselineLaw, known: KnownBaseline | None = None) -> None:
        self.law = law
        self._known = known
        self._restart()

    def _restart(self) -> None:
        self._weights = np.zeros(BINS)
        self._held: deque[tuple[float, float]] = deque()  # (seconds it stands for, log-odds), oldest first
        self._held_s = 0.0
        self._last_s: float | None = None
        self._conditions: Conditions | None = None
        self._changed_s = 0.0
        self.seconds = 0.0
        """Of the face that the baseline has taken in since it began or restarted."""
        if self._known is not None:
            self._preload(self._known)

    def _preload(self, known: KnownBaseline) -> None:
        """As if the known level had just been seen: a logistic distribution with its median and its spread."""
        scale = max(known.spread, 0.05) / math.log(3)
        below = 1 / (1 + np.exp(-(np.linspace(LOWEST, HIGHEST, BINS + 1) - known.level) / scale))
        self._weights = np.diff(below) / (below[-1] - below[0]) * min(known.seconds, MEMORY_S)
        self.seconds, self._conditions = known.seconds, known.conditions

    @property
    def state(self) -> State:
        """CALIBRATING until enough has been seen."""
        return State.WATCHING if self.seconds >= CALIBRATING_S - 1e-9 else State.CALIBRATING

    @property
    def conditions(self) -> Conditions | None:
        """What the baseline holds for; None before the first hop."""
        return self._conditions

    @property
    def level(self) -> float | None:
        """Median log-odds of the hop scores; None before there are any."""
        return self._quantile(0.5)

    @property
    def spread(self) -> float | None:
        """Half the distance between the quartiles: the MAD, where the distribution is symmetric."""
        low, high = self._quantile(0.25), self._quantile(0.75)
        return None if low is None or high is None else (high - low) / 2

    @property
    def shift(self) -> float:
        """What is now to be added to the log-odds of the threshold; 0 before DECIDES_S."""
        if self.seconds < DECIDES_S - 1e-9 or (level := self.level) is None:
            return 0.0
        return self.law.shift(level)

    def threshold(self, everybody: float) -> float:
        """This face's threshold where everybody's is `everybody` (a probability)."""
        return probability(log_odds(everybody) + self.shift) if self.shift else everybody

    def update(self, now_s: float, score: float, conditions: Conditions) -> State:
        """Take in one hop: the score (probability) of what has just settled. Returns the state.

        Time that goes backwards, or stands still for longer than an ME, parts two stretches of one face: what lies
        between is unknown and counts for nothing.
        """
        elapsed_s = 0.0 if self._last_s is None else now_s - self._last_s
        if not 0 < elapsed_s <= ONGOING_S:
            self._drop_held()
            elapsed_s = 0.0
        self._last_s = now_s
        if self._is_elsewhere(conditions, elapsed_s):
            self._known = None  # it was of the old light or camera
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
        """Of the weighted histogram, linear within a bin."""
        total = float(self._weights.sum())
        if total <= 0:
            return None
        reached = np.cumsum(self._weights) / total
        k = int(np.searchsorted(reached, share))
        below = float(reached[k - 1]) if k else 0.0
        inside = (share - below) / (float(reached[k]) - below)
        return float(_CENTRES[k] + (inside - 0.5) * (HIGHEST - LOWEST) / BINS)
