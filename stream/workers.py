"""Threads and what lies between them: bounded, waking each other, never polling."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from stream.errors import UserError

T = TypeVar("T")


class Channel(Generic[T]):
    """A bounded queue that can be closed: nobody waits for ever on one whose other end has died."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Wait for room; False if the channel is or gets closed: the item was not taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._capacity)
            return self._add(item)

    def offer(self, item: T) -> bool:
        """Put without waiting; False if there is no room."""
        with self._changed:
            return len(self._items) < self._capacity and self._add(item)

    def get(self) -> T | None:
        """Wait for an item; None once the channel is closed and everything put before has been taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._items))
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, item: T) -> bool:
        if not self._closed:
            self._items.append(item)
            self._changed.notify_all()
        return not self._closed


class Worker(threading.Thread):
    """Runs `work` once in a thread of its own and keeps the error that ended it; `ended` is called either way.

    A daemon, so that a thread stuck in a driver cannot keep the program from ending.
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
        except BaseException as error:  # whatever it is, the main thread has to learn of it
            self.error = error
        finally:
            self._ended()

    def check(self) -> None:
        """Raise what ended the worker, if it was an error, as one line."""
        if self.error is None or isinstance(self.error, UserError):
            if self.error is not None:
                raise self.error
            return
        raise UserError(f"the {self.name} thread failed: {one_line(self.error)}") from self.error


def one_line(error: BaseException) -> str:
    """Kind and text of an error, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
