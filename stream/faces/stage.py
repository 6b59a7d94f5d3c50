"""First step of the pipeline: it takes a frame and returns hops. A plain object without thread, queue or clock.

The face thread calls it live, and a loop calls it offline. There is no other implementation.
"""

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from engine.spec import ModelSpec
from stream.faces.condition import MIN_FPS, Condition, RateMeter
from stream.faces.ring import FaceRing
from stream.types import FaceCrop, FaceGap, FaceHop, FaceState, Frame, Hop, Quality, SourceGap, Watch

log = logging.getLogger("stream")


REPEAT_S = 10.0
"""The same line is logged at most once in this time."""


class FaceFinder(Protocol):
    """The part of `stream.faces.finder.Faces` that the pipeline uses.

    `unwatched`: the number of faces beyond the limit.
    """

    unwatched: int

    def update(self, frame: Frame) -> list[FaceCrop | FaceGap]:
        """Returns the faces of one frame."""

    def gap(self, time_s: float, reason: str) -> list[FaceGap]:
        """The source has a gap."""

    def close(self, time_s: float) -> list[FaceGap]:
        """The source has ended."""

    def limit(self, max_faces: int, time_s: float) -> list[FaceGap]:
        """Follow at most `max_faces` from now on."""


@dataclass(slots=True)
class _Followed:
    """A face that has a number now."""

    ring: FaceRing
    condition: Condition = field(default_factory=Condition)
    quality: Quality | None = None
    scored: int = -1
    """Grid index of the newest crop that is in a hop."""
    lost: str | None = None
    """Why the face has no crops now, or None."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work is done per frame: a batch every `hop_frames` of the grid, for at most `max_faces`."""

    hop_frames: int
    max_faces: int


class Repeats:
    """Limits repeated log lines: each is logged once per REPEAT_S of the source's time."""

    def __init__(self) -> None:
        self._said: dict[object, tuple[float, int]] = {}

    def due(self, line: object, time_s: float) -> str | None:
        """Returns the text to add to a line that is due (how often it was held back), or None if it is not due."""
        said_s, held = self._said.get(line, (-math.inf, 0))
        if 0 <= time_s - said_s < REPEAT_S:
            self._said[line] = said_s, held + 1
            return None
        self._said[line] = time_s, 0
        return f" (and {held} times since this was last said)" if held else ""


class FaceStage:
    """Finds faces in each frame, aligns their crops, puts them on the time grid and hands on every hop as one batch.

    `crops`: the crops of the newest frame, for display. `effort`: how much work is done per frame now.
    """

    def __init__(self, faces: FaceFinder, spec: ModelSpec, max_faces: int) -> None:
        self.crops: list[FaceCrop] = []
        self.rate = RateMeter()
        self.frames = 0
        self.faces_seen = 0
        self.most_unwatched = 0
        self._faces = faces
        self._full = Effort(spec.hop_frames, max_faces)
        self.effort = self._full
        self._repeats = Repeats()
        self._spec = spec
        self._followed: dict[int, _Followed] = {}
        self._last_hop = -1
        self._first_s = self._time_s = math.nan

    @property
    def media_s(self) -> float:
        """Time from the first to the newest frame, on the source's clock."""
        return 0.0 if math.isnan(self._first_s) else self._time_s - self._first_s

    def step(self, item: Frame | SourceGap, captured_s: float, effort: Effort | None = None) -> list[Hop]:
        """Take the next frame or gap of the source. Returns what to score now, in order.

        `effort`: how much work to do from now on; None means all.
        """
        self.crops = []
        if isinstance(item, SourceGap):
            self.rate.clear()
            if (more := self._repeats.due(item.reason, item.time_s)) is not None:
                log.info("the source has a gap at %.2f s: %s%s", item.time_s, item.reason, more)
            return self._cut_all(self._faces.gap(item.time_s, item.reason), captured_s)
        self._time_s = item.time_s
        if self.frames == 0:
            self._first_s = item.time_s
        self.frames += 1
        self.rate.add(item.time_s)
        hops: list[Hop] = []
        before, self.effort = self.effort, effort or self._full
        if self.effort.max_faces != before.max_faces:
            hops += self._cut_all(self._faces.limit(self.effort.max_faces, item.time_s), captured_s)
        for found in self._faces.update(item):
            if isinstance(found, FaceGap):
                hops += self._cut_all([found], captured_s)
                continue
            self.crops.append(found)
            if (gap := self._take(found)) is not None:
                hops += self._cut_all([gap], captured_s)
                if gap.reason == "frames_missing":
                    self._take(found)
        self._tell_unwatched()
        return hops + self._due(captured_s)

    @property
    def given_up(self) -> list[str]:
        """Names in words how many faces exceed the limit. Empty while overload sets the limit."""
        count = self._faces.unwatched if self.effort.max_faces == self._full.max_faces else 0
        return [unwatched_words(count, self._full.max_faces)] if count else []

    @property
    def unwatched_summary(self) -> str:
        """The largest number of faces that were not watched at the same time, as the end of a line; "" if all were
        watched.
        """
        return f"; {unwatched_words(self.most_unwatched, self._full.max_faces)}" if self.most_unwatched else ""

    def end(self, captured_s: float) -> list[Hop]:
        """The source has ended. Open stretches are closed."""
        return self._cut_all(self._faces.close(self._time_s), captured_s)

    def states(self, calibrating: Collection[int] = ()) -> list[FaceState]:
        """Returns the state of every face that has a number now. `calibrating`: faces whose baseline is still being
        measured.
        """
        out = []
        for face_id, followed in self._followed.items():
            reason = followed.lost or followed.condition.reason
            watched: Watch = "calibrating" if face_id in calibrating else "watching"
            out.append(FaceState(face_id, "cannot_spot" if reason else watched, reason))
        return out

    def _take(self, crop: FaceCrop) -> FaceGap | None:
        """Put a crop on its face's grid. Returns the gap that comes before it or replaces it, if any."""
        followed = self._follow(crop.face_id)
        before = followed.condition.reason
        reason = followed.condition.update(crop.time_s, crop.quality, self.rate.fps)
        if reason != before:
            self._tell(crop, reason)
        followed.lost, followed.quality = None, crop.quality
        if reason:
            if followed.ring.newest is None:
                return None
            followed.scored = followed.ring.newest  # the waiting crops are no better
            return FaceGap(crop.face_id, crop.time_s, reason)
        if followed.ring.is_gap(crop.time_s):
            return FaceGap(crop.face_id, crop.time_s, "frames_missing")
        followed.ring.push(crop)
        return None

    def _follow(self, face_id: int) -> _Followed:
        if face_id not in self._followed:
            self.faces_seen += 1
            self._followed[face_id] = _Followed(FaceRing(self._spec.fps, crop_px=self._spec.crop_px))
        return self._followed[face_id]

    def _tell_unwatched(self) -> None:
        words = self.given_up
        if words and not self.most_unwatched:
            log.warning("%s", words[0])
        if words:
            self.most_unwatched = max(self.most_unwatched, self._faces.unwatched)

    def _tell(self, crop: FaceCrop, reason: str | None) -> None:
        more = self._repeats.due((crop.face_id, reason), crop.time_s)
        if more is None:
            return
        if reason is None:
            log.info("face %d: watching again at %.2f s%s", crop.face_id, crop.time_s, more)
        elif reason == "low_fps":
            fps = self.rate.fps or 0.0
            log.warning("face %d: cannot spot: low_fps (%.1f fps, %g are needed)%s", crop.face_id, fps, MIN_FPS, more)
        else:
            log.warning("face %d: cannot spot: %s%s", crop.face_id, reason, more)

    def _cut_all(self, gaps: list[FaceGap], captured_s: float) -> list[Hop]:
        """Returns the hops that end these faces' stretches: first the unscored crops, then the gap."""
        hops = []
        for gap in gaps:
            followed = self._follow(gap.face_id)
            if followed.quality is not None:
                hops.append(
                    Hop((self._pending(gap.face_id, followed, followed.quality, gap),), captured_s, self.rate.fps)
                )
            followed.ring.gap()
            followed.scored = -1
            if gap.reason not in ("frames_missing", followed.condition.reason):
                followed.lost = gap.reason
            if gap.final:
                del self._followed[gap.face_id]
        return hops

    def _due(self, captured_s: float) -> list[Hop]:
        """Returns one batch of all faces whenever the grid, which all faces share, has advanced by a hop.

        Crops wait in their rings until the frame rate is known, since the rate may be too low to spot anything.
        """
        if self.rate.fps is None:
            return []
        newest = max((f.ring.newest for f in self._followed.values() if f.ring.newest is not None), default=-1)
        hop_frames = self.effort.hop_frames
        if newest // hop_frames == self._last_hop // hop_frames:
            return []
        self._last_hop = newest
        batch = [self._pending(face_id, f, f.quality) for face_id, f in self._followed.items() if f.quality is not None]
        faces = tuple(face for face in batch if len(face.crops))
        return [Hop(faces, captured_s, self.rate.fps)] if faces else []

    def _pending(self, face_id: int, followed: _Followed, quality: Quality, gap: FaceGap | None = None) -> FaceHop:
        ring = followed.ring
        newest = -1 if ring.newest is None else ring.newest
        count = min(len(ring), newest - followed.scored)
        followed.scored = newest
        # copied, because the ring moves on while the hop waits to be scored
        return FaceHop(face_id, ring.first, newest, ring.newest_frames(count).copy(), quality, gap)


def unwatched_words(count: int, limit: int) -> str:
    """Says how many faces are not watched, and which setting would watch them all."""
    faces = "1 face is" if count == 1 else f"{count} faces are"
    return f"{faces} not watched, beyond the limit of {limit}; --max-faces {limit + count} makes room for all"
