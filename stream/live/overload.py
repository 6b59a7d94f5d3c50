"""Decides what the program gives up when the machine can't keep up, and when it resumes. Pure; updated once a second.

It gives up the preview first, then the score trace, then every second hop, then all faces but the lowest-numbered one.
It never gives up events or the frame rate of the remaining face. No queue grows: a camera drops its oldest frame. A
file waits instead, so nothing of it is lost.
"""

from dataclasses import dataclass, field
from enum import IntEnum

KEEPS_UP = 0.9
"""The machine keeps up while it processes at least this share of the frames, counted up to the model's rate."""
OVERLOADED_S = 2
"""After this many slow seconds in a row, the next level is given up. A single slow second (another program starts) has
no effect."""
CALM_BUSY = 0.7
"""A second is calm when the busiest thread worked for less than this share of it."""
CALM_S = 10
"""After this many calm seconds in a row, the program resumes one level. A relapse doubles the number, up to
CALM_LIMIT_S."""
CALM_LIMIT_S = 320


class Level(IntEnum):
    """How much is given up. Each level includes the ones before it."""

    NOTHING = 0
    PREVIEW = 1
    TELEMETRY = 2
    HOP = 3
    FACES = 4

    @property
    def words(self) -> list[str]:
        """The entries that the status lists as degraded."""
        said = ("preview off", "score trace off", "scoring every second hop only", "one face only")
        return [f"overloaded: {word}" for word in said[: self.value]]


@dataclass(frozen=True, slots=True)
class Load:
    """The load of one second: frames offered and processed per second, and the busiest thread's share of
    working time.
    """

    offered_fps: float
    done_fps: float
    busy: float


@dataclass(slots=True)
class Overload:
    """Decides the level. `grid_fps` is the model's rate; frames beyond it need not be processed."""

    grid_fps: float = 30.0
    level: Level = Level.NOTHING
    _behind_s: int = field(default=0, init=False)
    _calm_s: int = field(default=0, init=False)
    _calm_needed_s: int = field(default=CALM_S, init=False)
    _was_eased: bool = field(default=False, init=False)

    def update(self, load: Load) -> Level:
        """Takes the last second's load and returns what to give up from now on."""
        behind = load.done_fps < KEEPS_UP * min(load.offered_fps, self.grid_fps)
        calm = not behind and load.busy < CALM_BUSY
        self._behind_s = self._behind_s + 1 if behind else 0
        self._calm_s = self._calm_s + 1 if calm else 0
        if self._behind_s >= OVERLOADED_S and self.level < Level.FACES:
            if self._was_eased:  # the last resumed level was too much
                self._calm_needed_s = min(2 * self._calm_needed_s, CALM_LIMIT_S)
            self._was_eased = False
            self._move(+1)
        elif self._calm_s >= self._calm_needed_s and self.level > Level.NOTHING:
            self._was_eased = True
            self._move(-1)
        return self.level

    def _move(self, step: int) -> None:
        self.level = Level(self.level + step)
        self._behind_s = self._calm_s = 0
