"""True and emitted intervals of a video. `engine.matching` pairs them. Frames are inclusive."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Truth:
    """A true ME with its onset and offset frame, both inclusive. `size_px`: its size on a 256-px face. `regions`:
    where it shows. `visibility`: against the face's own motion. Each is given if known."""

    onset: int
    offset: int
    apex: int | None = None
    size_px: float | None = None
    regions: tuple[str, ...] = ()
    visibility: float | None = None

    def __post_init__(self) -> None:
        if self.onset > self.offset:
            raise ValueError(f"onset {self.onset} lies after offset {self.offset}")


@dataclass(frozen=True, slots=True)
class Detection:
    """An emitted interval: frames inclusive, score. `start_s`, `end_s`: stream time of its `start` and `end`."""

    onset: int
    offset: int
    score: float
    apex: int | None = None
    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        if self.onset > self.offset or not math.isfinite(self.score):
            raise ValueError(f"detection {self.onset}..{self.offset} with score {self.score} is not an interval")


@dataclass(frozen=True, slots=True)
class VideoResult:
    """One video with its true and emitted intervals. Frames are at `fps`.

    `starts`: (stream time of emission in s, score) of every `start`, including those retracted later.
    """

    subject: str
    name: str
    fps: float
    duration_s: float
    truths: tuple[Truth, ...] = ()
    detections: tuple[Detection, ...] = ()
    starts: tuple[tuple[float, float], ...] = ()
    tags: dict[str, str] = field(default_factory=dict, hash=False)


def by_score(detections: Iterable[Detection]) -> list[Detection]:
    """Best first. Ties are in order of time, so that results do not depend on the order of input."""
    return sorted(detections, key=lambda d: (-d.score, d.onset, d.offset))
