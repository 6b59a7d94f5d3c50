"""The data that passes between the rooms. It is frozen and checked when made, so a wrong shape fails at its origin."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from engine.spec import KINDS, REGIONS

CROP_PX = 128
"""Side of an aligned face crop, px. The outer eye corners are CROP_PX / 2 apart, so the face fills about 3/4 of its
width."""


Watch = Literal["watching", "calibrating", "cannot_spot"]
"""What the program does with a face."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a source: uint8[H, W, 3] BGR, at `time_s` seconds on the source's clock (PTS or monotonic)."""

    index: int
    time_s: float
    image: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"Frame.image must be uint8[H, W, 3], not {self.image.dtype}{list(self.image.shape)}")


@dataclass(frozen=True, slots=True)
class SourceGap:
    """The source gave nothing from `time_s` on (reconnecting, clock jump, frozen). It may go on later.

    Open intervals are closed, and nothing is bridged. `reason` is a word for the status message.
    """

    time_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a face can be seen in one frame.

    `face_px`: width of the face in the source image, px. `yaw_deg`, `pitch_deg`: head pose, 0 is frontal. `blur`: 0
    (sharp) to 1 (fully blurred). `light`: mean grey level of the crop, 0 to 255.
    """

    face_px: float
    yaw_deg: float
    pitch_deg: float
    blur: float
    light: float


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """One aligned face: `image` is uint8[CROP_PX, CROP_PX] grey.

    `matrix`: float64[2, 3], the similarity that maps px of the frame to px of the crop.
    """

    face_id: int
    time_s: float
    image: NDArray[np.uint8]
    quality: Quality
    matrix: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.shape != (CROP_PX, CROP_PX):
            raise ValueError(
                f"FaceCrop.image must be uint8[{CROP_PX}, {CROP_PX}], not {self.image.dtype}{list(self.image.shape)}"
            )
        if self.matrix.shape != (2, 3):
            raise ValueError(f"FaceCrop.matrix must be float64[2, 3], not {list(self.matrix.shape)}")


@dataclass(frozen=True, slots=True)
class FaceGap:
    """Nothing is known about this face from `time_s` on. `reason`: lost, turned_away, too_small, source_gap, ...

    `final`: the number will not return, because the face was lost for longer than the tracker remembers.
    """

    face_id: int
    time_s: float
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class FaceHop:
    """The new data of one face: `crops` uint8[n, S, S], the last at grid index `newest`; then the gap, if any.

    `first`: grid index of the face's first crop since its last gap.
    """

    face_id: int
    first: int
    newest: int
    crops: NDArray[np.uint8]
    quality: Quality
    gap: FaceGap | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """The faces that are scored as one batch. `captured_s`: monotonic time at which the newest frame was captured."""

    faces: tuple[FaceHop, ...]
    captured_s: float
    fps: float | None


@dataclass(frozen=True, slots=True)
class FaceState:
    """What the program does with a face, for the status message."""

    face_id: int
    state: Watch
    reason: str | None


@dataclass(frozen=True, slots=True)
class ScoredInterval:
    """One proposal of the network in stream time, before any decision.

    Times are seconds on the source's clock, onset_s <= apex_s <= offset_s. `score`: probability of a micro-expression.
    `kinds`: probability per entry of KINDS (what else it could be). `regions`: share per entry of REGIONS; the sum is
    1.
    """

    onset_s: float
    apex_s: float
    offset_s: float
    score: float
    kinds: tuple[float, ...]
    regions: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.onset_s <= self.apex_s <= self.offset_s:
            raise ValueError(f"interval out of order: {self.onset_s} <= {self.apex_s} <= {self.offset_s} does not hold")
        if len(self.kinds) != len(KINDS) or len(self.regions) != len(REGIONS):
            raise ValueError(f"kinds and regions need {len(KINDS)} and {len(REGIONS)} entries")


@dataclass(frozen=True, slots=True)
class TracePoint:
    """One point of a face's score trace: the settled result at `time_s` on the source's clock.

    `score`: that of the best interval at that time, 0 without one. `level`: that of the best candidate, however small.
    `threshold`: what a score had to reach on this face then.
    """

    face_id: int
    time_s: float
    score: float
    level: float
    threshold: float


class Phase(StrEnum):
    """What an event says of its interval. `end` is final; `retract` takes a `start` back."""

    START = "start"
    UPDATE = "update"
    END = "end"
    RETRACT = "retract"


@dataclass(frozen=True, slots=True)
class TrackerEvent:
    """A decision of the tracker, in stream time. `key` numbers the intervals of one tracker from 0.

    `suppressed` is the reason of a `retract` (an entry of KINDS, or `faded`, `gap`, ...), otherwise None. A `start` may
    lack apex and offset.
    """

    phase: Phase
    key: int
    onset_s: float
    apex_s: float | None
    offset_s: float | None
    score: float
    regions: tuple[float, ...]
    suppressed: str | None = None


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tracker's event with what only the edge of the program knows: face, source, wall clock, latency, quality.

    The fields of an event are defined only here. The message that is sent (`messages.EventMessage`) adds only the
    `epoch` and the `seq` from the journal.
    """

    phase: Annotated[Phase, Meta(description="`end` is final; `retract` takes a `start` back")]
    id: Annotated[str, Meta(description="ULID shared by all events of one interval")]
    source: str
    face: Annotated[int, Meta(description="number of the face; says nothing about who it is")]
    onset_s: Annotated[float, Meta(description="seconds on the source's clock (media time for a file)")]
    apex_s: Annotated[float | None, Meta(description="seconds on the source's clock; may be absent (null) in a start")]
    offset_s: Annotated[
        float | None, Meta(description="seconds on the source's clock; may be absent (null) in a start")
    ]
    score: Annotated[float, Meta(description="0 to 1")]
    regions: Annotated[dict[str, float], Meta(description="share of the movement per region of the face")]
    time: Annotated[str, Meta(description="wall clock at emission, ISO 8601 UTC")]
    latency_ms: Annotated[float, Meta(description="from the capture of the newest frame it rests on to its emission")]
    quality: Annotated[dict[str, float], Meta(description="how well the face was seen (fps, yaw_deg, blur, ...)")]
    suppressed: Annotated[
        str | None, Meta(description="why it was taken back (blink, macro, speech, head, faded, gap, ...)")
    ]
    probability: Annotated[
        float | None, Meta(description="how often an interval of this score was right on the tuning people")
    ] = None
