"""A live source: a thread grabs and stamps images and keeps only the newest. A failure becomes a gap and is then
repaired.
"""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError
from stream.sources.info import SourceInfo
from stream.sources.watch import Patience, SourceWatch, look_at
from stream.types import Frame, SourceGap

WAKE_S = 0.1
"""How often a waiting `read` checks for a stop and for silence."""
JOIN_S = 0.9
SETTLED_S = 5.0
"""A connection that lasts this long counts as good. The pauses before new attempts then start from the shortest again.
"""


class SourceLost(Exception):  # noqa: N818 - what happened, not a mistake
    """The connection broke, or delivered nothing for too long."""


class Connection(Protocol):
    """One connection to a device or server. One thread uses it; only `interrupt` may come from another.

    `nominal_fps`: the rate that the other side claims, None if it claims none. It may be known only after opening.
    """

    nominal_fps: float | None

    def open(self) -> None:
        """Connect. Raises UserError with the reason."""

    def grab(self) -> tuple[float, NDArray[np.uint8]] | None:
        """Block until the next image. Returns uint8[H, W, 3] BGR and its arrival time; the image is None if it is
        damaged.

        Raises:
            SourceLost: there will be no more images.
        """

    def interrupt(self) -> None:
        """Make `open` or `grab` end soon. Called from another thread."""

    def close(self) -> None:
        """Release everything."""


class LiveSource:
    """Keeps the newest frame of a camera or a network stream. See `stream.sources.info.Source`.

    Opening waits for the first image, so a dead source fails at once and the size is known. `stop` ends that wait, too.
    The slot between the threads holds at most one gap and one frame after it. A newer frame replaces the frame, and a
    newer gap replaces both.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Connection],
        describe: Callable[[Connection, NDArray[np.uint8]], SourceInfo],
        *,
        patience: Patience,
        stop: threading.Event,
    ) -> None:
        self.dropped = 0
        self.corrupt = 0
        self._name, self._patience, self._stop = name, patience, stop
        self._make, self._describe = make, describe
        self._closed = threading.Event()
        self._news = threading.Condition()
        self._watch = SourceWatch()
        self._gap: SourceGap | None = None
        self._frame: Frame | None = None
        self._failure: UserError | None = None
        self._index = 0
        self._connection = make()
        self._arrived_s = 0.0
        self._opened = False
        self._thread = threading.Thread(target=self._capture, name=f"capture {name}", daemon=True)
        self._thread.start()
        try:
            self._await_first()
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | SourceGap | None:
        """Returns the gap or the newest frame as soon as there is one, or None once closed or stopped."""
        with self._news:
            while True:
                if self._closed.is_set() or self._stop.is_set():
                    return None
                if self._gap is not None:
                    gap, self._gap = self._gap, None
                    return gap
                if self._frame is not None:
                    frame, self._frame = self._frame, None
                    return frame
                if self._failure is not None:
                    raise self._failure
                if not self._news.wait(WAKE_S):
                    self._put_gap(self._arrived_s, self._watch.silence(time.monotonic()))

    def close(self) -> None:
        """End the thread and release the device."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
            connection = self._connection
        connection.interrupt()
        self._thread.join(JOIN_S)

    def _await_first(self) -> None:
        with self._news:
            while not self._opened and self._failure is None:
                if self._stop.is_set():
                    raise UserError(f"source {self._name}: told to stop before its first image", code=0)
                self._news.wait(WAKE_S)
            if self._failure is not None:
                raise self._failure

    def _open(self) -> None:
        self._connection.open()
        arrived_s, image = self._first_image()
        self.info = self._describe(self._connection, image)
        self._arrived_s = arrived_s
        with self._news:
            self._opened = True
        self._put(arrived_s, image)

    def _first_image(self) -> tuple[float, NDArray[np.uint8]]:
        give_up_s = time.monotonic() + self._patience.silence_s
        while time.monotonic() < give_up_s and not self._closed.is_set():
            try:
                if (grabbed := self._connection.grab()) is not None:
                    return grabbed
            except SourceLost as lost:
                raise UserError(
                    f"source {self._name}: gave no image ({lost}); check the camera and its address"
                ) from None
            self.corrupt += 1
        raise UserError(f"source {self._name}: no image of it can be decoded; check the camera's settings")

    def _capture(self) -> None:
        try:
            self._open()
            opened_s, attempt = time.monotonic(), 0
            while not self._closed.is_set():
                try:
                    grabbed = self._connection.grab()
                except SourceLost as lost:
                    held_s = self._arrived_s - opened_s
                    attempt = self._reconnect(lost, 0 if held_s > SETTLED_S else attempt)
                    opened_s = time.monotonic()
                    continue
                if grabbed is None:
                    self.corrupt += 1
                else:
                    self._put(*grabbed)
        except UserError as error:
            self._fail(error)
        except Exception as error:  # the thread must never end silently
            self._fail(UserError(f"source {self._name}: capture failed ({type(error).__name__}); start again"))
        finally:
            self._connection.close()

    def _reconnect(self, lost: SourceLost, attempt: int) -> int:
        """Open a new connection, with as many attempts as it takes. Returns the number of the next attempt."""
        failure = UserError(f"source {self._name}: {lost}; check its plug, power and network, then start again")
        with self._news:
            self._put_gap(self._arrived_s, self._watch.lost())
        while not self._closed.is_set():
            self._connection.close()
            pause_s = self._patience.pause_s(attempt, time.monotonic() - self._arrived_s)
            if pause_s is None:
                raise UserError(f"{failure} (given up: no image for {self._patience.limit_s:g} s)")
            attempt += 1
            if self._closed.wait(pause_s):
                break
            connection = self._make()
            with self._news:
                self._connection = connection
            try:
                if not self._closed.is_set():
                    connection.open()
                return attempt
            except UserError as error:
                failure = error
        return attempt

    def _fail(self, error: UserError) -> None:
        with self._news:
            self._failure = error
            self._news.notify_all()

    def _put(self, time_s: float, image: NDArray[np.uint8]) -> None:
        look = look_at(time_s, image, time.time() - time.monotonic())
        with self._news:
            verdict = self._watch.see(look)
            self._put_gap(time_s if not verdict.usable else self._arrived_s, verdict.gap)
            self._arrived_s = time_s
            if verdict.usable:
                self.dropped += self._frame is not None
                self._frame = Frame(self._index, time_s, image)
                self._index += 1
                self._news.notify_all()

    def _put_gap(self, time_s: float, reason: str | None) -> None:
        if reason is None:
            return
        self.dropped += self._frame is not None
        self._frame = None
        self._gap = SourceGap(time_s if self._gap is None else self._gap.time_s, reason)
        self._news.notify_all()
