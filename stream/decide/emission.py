"""Adds to events what only the edge of the program knows: the id, the wall clock and the delay.

Live, these come from the clocks. Offline they follow from the media alone, so the same file gives the same bytes:

- `time` is 1970-01-01T00:00:00Z plus the media time of the newest frame;
- `latency_ms` is 0, since nothing waits offline;
- the id is a ULID of the onset's media time; its random part is a hash of source, face and interval.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from engine.spec import REGIONS
from stream.protocol.ulid import new_ulid, ulid_of
from stream.types import Event, Quality, TrackerEvent


class LiveEdge:
    """The edge of a live run: wall clock, monotonic clock and random ids."""

    def __init__(
        self, wall_s: Callable[[], float] = time.time, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._last_id = ""

    def time(self, now_s: float) -> str:
        """Returns the current time as ISO 8601 UTC."""
        return _iso(self._wall_s())

    def latency_ms(self, captured_s: float) -> float:
        """Returns the milliseconds since `captured_s` on the monotonic clock."""
        return max(0.0, 1000 * (self._monotonic_s() - captured_s))

    def new_id(self, source: str, face: int, decided: TrackerEvent) -> str:
        """Returns a ULID that sorts after the one before."""
        self._last_id = new_ulid(after=self._last_id)
        return self._last_id


class OfflineEdge:
    """The edge of an offline run, which uses media time alone."""

    def time(self, now_s: float) -> str:
        """Returns the ISO 8601 UTC time `now_s` seconds after the start of 1970."""
        return _iso(now_s)

    def latency_ms(self, captured_s: float) -> float:
        """Returns 0, since nothing is late offline."""
        return 0.0

    def new_id(self, source: str, face: int, decided: TrackerEvent) -> str:
        """Returns a ULID that depends on the arguments alone."""
        onset_ms = max(0, round(decided.onset_s * 1000))
        return ulid_of(onset_ms, hashlib.blake2b(f"{source}\n{face}\n{decided.key}".encode(), digest_size=10).digest())


Edge = LiveEdge | OfflineEdge


class Emitter:
    """Makes events from one source's decisions. All events of an interval carry the same id."""

    def __init__(self, source: str, edge: Edge) -> None:
        self._source = source
        self._edge = edge
        self._ids: dict[tuple[int, int], str] = {}

    def event(
        self,
        face: int,
        decided: TrackerEvent,
        now_s: float,
        captured_s: float,
        quality: Quality,
        fps: float | None,
        probability: float | None = None,
    ) -> Event:
        """Returns the event. `now_s`: source time of the newest frame. `captured_s`: when it was captured, monotonic
        clock.

        `probability`: how often an interval of this score is right, if that was measured.
        """
        key = (face, decided.key)
        if key not in self._ids:
            self._ids[key] = self._edge.new_id(self._source, face, decided)
        settled = decided.phase in ("end", "retract")
        return Event(
            phase=decided.phase,
            id=self._ids.pop(key) if settled else self._ids[key],
            source=self._source,
            face=face,
            onset_s=decided.onset_s,
            apex_s=decided.apex_s,
            offset_s=decided.offset_s,
            score=decided.score,
            regions=dict(zip(REGIONS, decided.regions, strict=True)),
            time=self._edge.time(now_s),
            latency_ms=round(self._edge.latency_ms(captured_s), 1),
            quality={
                **({} if fps is None else {"fps": round(fps, 1)}),
                "face_px": round(quality.face_px),
                "yaw_deg": round(quality.yaw_deg, 1),
                "pitch_deg": round(quality.pitch_deg, 1),
                "blur": round(quality.blur, 2),
                "light": round(quality.light),
            },
            suppressed=decided.suppressed,
            probability=probability,
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
