"""Threads and the channels between them: bounded, waking each other, never polling."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from stream.errors import UserError

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue that can be closed, so that nobody waits for ever if the other end has died."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Wait for room. Returns False if the channel is closed, before or meanwhile; the item was then not taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            return self._add(item)

    def offer(self, item: T) -> bool:
        """Put without waiting. Returns False if there is no room."""
        with self._changed:
            return len(self._items) < self._capacity and self._add(item)

    def get(self) -> T | None:
        """Wait for an item. Returns None once the channel is closed and all earlier items have been taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Close the channel. No more items will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, item: T) -> bool:
        if not self._closed:
            self._items.append(item)
            self._changed.notify_all()
        return not self._closed


class Worker(threading.Thread):
    """Runs `work` once in its own thread and keeps the error that ended it. `ended` is called either way.

    It is a daemon thread, so a thread stuck in a driver can't keep the program from ending.
    """

    def __init__(self, name: str, work: Callable[[], None], ended: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._ended = ended
        self.error: BaseException | None = None

    def run(self) -> None:
        """Thread body; see `threading.Thread`."""
        try:
            self._work()
        except BaseException as error:  # the main thread must learn of any error
            self.error = error
        finally:
            self._ended()

    def check(self) -> None:
        """Raise the error that ended the worker, if any, as one line."""
        if self.error is None or isinstance(self.error, UserError):
            if self.error is not None:
                raise self.error
            return
        raise UserError(f"the {self.name} thread failed: {one_line(self.error)}") from self.error


def one_line(error: BaseException) -> str:
    """Returns kind and text of an error, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
