"""What was true, what was emitted, and which belongs to which: a maximum one-to-one matching. Frames are inclusive."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MIN_IOU = 0.5
"""T_eval of MESNet (Wang et al. 2021) and of the field."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A true ME: onset and offset frame, both inclusive. `size_px`: its size on a 256-px face, if known. `regions`:
    where it shows, as far as that is known."""

    onset: int
    offset: int
    apex: int | None = None
    size_px: float | None = None
    regions: tuple[str, ...] = ()

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
    """One video: what was true, what was emitted. Frames are at `fps`.

    `starts`: (stream time of emission in s, score) of every `start`, also of those taken back later.
    """

    subject: str
    name: str
    fps: float
    duration_s: float
    truths: tuple[Truth, ...] = ()
    detections: tuple[Detection, ...] = ()
    starts: tuple[tuple[float, float], ...] = ()
    tags: dict[str, str] = field(default_factory=dict, hash=False)


def iou(a_onset: int, a_offset: int, b_onset: int, b_offset: int) -> float:
    """Intersection over union of two frame intervals, ends inclusive."""
    shared = max(0, min(a_offset, b_offset) - max(a_onset, b_onset) + 1)
    return shared / (a_offset - a_onset + 1 + b_offset - b_onset + 1 - shared)


def by_score(detections: Iterable[Detection]) -> list[Detection]:
    """Best first; ties in order of time, so that results do not depend on the order of input."""
    return sorted(detections, key=lambda d: (-d.score, d.onset, d.offset))


def match(truths: Sequence[Truth], ranked: Sequence[Detection], min_iou: float = MIN_IOU) -> list[int | None]:
    """Index of the ME that each detection is matched to, or None: a maximum one-to-one matching.

    `ranked` best first. Which detections are hits is decided in that order, and each prefix's number of hits is the
    largest possible (Kuhn's algorithm).
    """
    overlap = [[iou(d.onset, d.offset, t.onset, t.offset) for t in truths] for d in ranked]
    fits = [[t for o, t in sorted((-o, t) for t, o in enumerate(row)) if -o >= min_iou] for row in overlap]
    owner: dict[int, int] = {}

    def claim(d: int, asked: set[int]) -> bool:
        for t in fits[d]:
            if t not in asked:
                asked.add(t)
                if t not in owner or claim(owner[t], asked):
                    owner[t] = d
                    return True
        return False

    for d in range(len(ranked)):
        claim(d, set())
    truth_of = {d: t for t, d in owner.items()}
    return [truth_of.get(d) for d in range(len(ranked))]
