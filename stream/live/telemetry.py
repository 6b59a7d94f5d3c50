"""Collects measurements from the pipeline's threads and reports them once a second as a status message."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stream.live.overload import Load
from stream.protocol.messages import FaceStatus, Status
from stream.types import FaceState

LATENCY_WINDOW_S = 10.0


class Telemetry:
    """Counters that several threads write and the main thread reads. Every method holds the lock only briefly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: deque[tuple[float, float]] = deque()  # (when, ms)
        self._busy_s: defaultdict[str, float] = defaultdict(float)
        self._frames = self._last_frames = self._last_dropped = 0
        self._fps: float | None = None
        self._faces: list[FaceState] = []
        self._last_s = time.monotonic()

    @contextmanager
    def working(self, stage: str) -> Iterator[None]:
        """Count the time inside the block as work of that stage."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._busy_s[stage] += time.monotonic() - began_s

    def frame(self, frames: int, fps: float | None, faces: list[FaceState]) -> None:
        """Count a processed frame: `frames` so far, at `fps` by the frames' own stamps."""
        with self._lock:
            self._frames, self._fps, self._faces = frames, fps, faces

    def scored(self, captured_s: float) -> None:
        """Count a scored hop whose events have been sent. `captured_s`: when its newest frame was captured
        (monotonic).
        """
        now_s = time.monotonic()
        with self._lock:
            self._latencies.append((now_s, 1000 * (now_s - captured_s)))

    def load(self, dropped: int | None) -> Load:
        """Returns the load since the last call. `dropped`: frames dropped by the source so far; None if it waits
        instead.
        """
        now_s = time.monotonic()
        with self._lock:
            elapsed_s = max(now_s - self._last_s, 1e-3)
            done_fps = (self._frames - self._last_frames) / elapsed_s
            offered_fps = self._fps or 0.0
            if dropped is not None:
                offered_fps = done_fps + (dropped - self._last_dropped) / elapsed_s
                self._last_dropped = dropped
            busy = max(self._busy_s.values(), default=0.0) / elapsed_s
            self._last_s, self._last_frames = now_s, self._frames
            self._busy_s.clear()
        return Load(offered_fps, done_fps, busy)

    def status(self, **known: Any) -> Status:
        """Returns the status message. `known` holds the fields that are not measured here."""
        with self._lock:
            oldest_s = time.monotonic() - LATENCY_WINDOW_S
            while self._latencies and self._latencies[0][0] < oldest_s:
                self._latencies.popleft()
            latencies = sorted(ms for _, ms in self._latencies)
            fps, faces = self._fps, self._faces
        return Status(
            fps=None if fps is None else round(fps, 1),
            faces=[FaceStatus(face.face_id, face.state, face.reason) for face in faces],
            latency_ms={"p50": _quantile(latencies, 0.5), "p99": _quantile(latencies, 0.99)},
            **known,
        )


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None
