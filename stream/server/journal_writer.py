"""The thread that writes the journal. Publishers only put events into its bounded queue and never wait for the disk."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from stream.protocol.log import Entry
from stream.server.journal import Journal
from stream.types import Event

_log = logging.getLogger("stream.server")

_BATCH = 256
_RETRY_S = 2.0
_PRUNE_S = 3600.0


class JournalWriter:
    """Stores events in the order they were published, then passes each batch to `on_stored` (called in this thread).

    Events that arrive during a commit become the next batch. If the disk hangs until the queue is full, new events are
    lost. They are counted in `lost`, and `degraded` says so. A fault of the program itself, rather than of the disk,
    ends the thread and is kept in `failure`.
    """

    def __init__(
        self,
        journal: Journal,
        on_stored: Callable[[list[Event], list[Entry], float], None],
        queue_max: int = 10_000,
    ) -> None:
        self.journal = journal
        self.lost = 0
        self.failure: BaseException | None = None
        self._on_stored = on_stored
        self._queue: queue.Queue[Event | None] = queue.Queue(queue_max)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    @property
    def degraded(self) -> list[str]:
        """What does not work, in words."""
        stalled = f"journal: the disk stalled, {self.lost} events were lost" if self.lost else None
        return [reason for reason in (self.journal.degraded, self.journal.rescued, stalled) if reason]

    def start(self) -> None:
        """Start to store."""
        self._thread.start()

    def put(self, event: Event) -> bool:
        """Take an event and return at once. Returns False if the event is lost."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost += 1
            return False
        return True

    def stop(self, timeout_s: float) -> None:
        """Store the queue and close the journal, or give up on a hanging disk after `timeout_s`."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._store_batches()
        except BaseException as error:
            _log.exception("the journal's thread died")
            self.failure = error
        finally:
            self.journal.close()

    def _store_batches(self) -> None:
        prune_at_s = time.monotonic() + _PRUNE_S
        running = True
        while running:
            batch = self._next_batch()
            running = None not in batch
            events = [event for event in batch if event is not None]
            if events:
                began_s = time.perf_counter()
                entries = self.journal.append(events)
                self._on_stored(events, entries, time.perf_counter() - began_s)
            elif self.journal.degraded:
                self.journal.retry()
            if time.monotonic() > prune_at_s:
                self.journal.prune(time.time())
                prune_at_s = time.monotonic() + _PRUNE_S

    def _next_batch(self) -> list[Event | None]:
        """Waits for the first event and returns the queue; empty after _RETRY_S without any."""
        batch: list[Event | None] = []
        try:
            batch.append(self._queue.get(timeout=_RETRY_S))
            while len(batch) < _BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return batch
