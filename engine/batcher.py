"""One scorer for all faces of all sources of a process: requests from many threads become one batch per hop.

`Gathering` decides which requests go and when, without a clock or thread. `Batcher` is the thread around it.
"""

import threading
import time
from collections import deque
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.decode import Proposal
from engine.errors import EngineError
from engine.scorer import Scorer

DEADLINE_S = 0.005
"""Longest that a request waits for company."""

Crops = NDArray[np.uint8]


@dataclass(slots=True)
class Request:
    """A face's new crops, uint8[n, S, S], since `asked_s`. A request without crops asks to forget the face."""

    face: Hashable
    crops: Crops | None
    asked_s: float
    reply: "Future[list[Proposal]]" = field(default_factory=Future)


class Gathering:
    """Requests that wait. They are due when every live face has a request, or after `deadline_s`.

    A face is live from its first request until it is forgotten. A batch takes at most one request with crops from each
    face. The requests of a face keep their order.
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._waiting: dict[Hashable, deque[Request]] = {}
        self._live: set[Hashable] = set()

    def add(self, request: Request) -> None:
        """Queue it behind the face's earlier ones."""
        self._waiting.setdefault(request.face, deque()).append(request)
        if request.crops is not None:
            self._live.add(request.face)

    def due_s(self) -> float | None:
        """When the batch is due, on the clock of `asked_s`. -inf means now, None means that no request waits."""
        if not self._waiting:
            return None
        if self._live <= self._waiting.keys():
            return -np.inf
        return min(queue[0].asked_s for queue in self._waiting.values()) + self.deadline_s

    def take(self) -> list[Request]:
        """Takes the batch: each face's next crops, and the requests to forget the face directly before and after them.
        The requests of a face keep their order."""
        batch: list[Request] = []
        for face, queue in list(self._waiting.items()):
            scored = False
            while queue and (queue[0].crops is None or not scored):
                batch.append(queue.popleft())
                scored |= batch[-1].crops is not None
            if not queue:
                del self._waiting[face]
                if batch[-1].crops is None:
                    self._live.discard(face)
        return batch


class Batcher:
    """Thread-safe front of a scorer: `score` blocks until the batch with its faces is done.

    A late face never delays the others by more than the deadline. A request that fails does not fail the others.
    """

    def __init__(self, scorer: Scorer[Hashable], deadline_s: float = DEADLINE_S) -> None:
        self._scorer = scorer
        self._gathering = Gathering(deadline_s)
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def score(self, new: Mapping[Hashable, Crops]) -> dict[Hashable, list[Proposal]]:
        """Like `Scorer.score`. Faces of different sources need different names. Raises EngineError once closed."""
        requests = [Request(face, crops, time.monotonic()) for face, crops in new.items()]
        self._ask(requests)
        return {request.face: request.reply.result() for request in requests}

    def forget(self, face: Hashable) -> None:
        """Like `Scorer.forget`. It takes effect after the face's earlier requests, and returns at once."""
        self._ask([Request(face, None, time.monotonic())])

    def close(self) -> None:
        """Serve what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _ask(self, requests: list[Request]) -> None:
        with self._changed:
            if self._closed:
                raise EngineError("the scorer is closed: the program is ending")
            for request in requests:
                self._gathering.add(request)
            self._changed.notify()

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._serve(batch)
            except BaseException as error:  # the threads that asked handle the error
                for request in batch:
                    if not request.reply.done():
                        request.reply.set_exception(error)

    def _next(self) -> list[Request]:
        """Waits until a batch is due. Returns an empty batch when closed and no request waits."""
        with self._changed:
            while True:
                due_s = self._gathering.due_s()
                if due_s is not None and (self._closed or due_s <= time.monotonic()):
                    return self._gathering.take()
                if due_s is None and self._closed:
                    return []
                self._changed.wait(None if due_s is None else due_s - time.monotonic())

    def _serve(self, batch: list[Request]) -> None:
        asking: dict[Hashable, Request] = {}
        forgotten_after: list[Hashable] = []
        for request in batch:
            if request.crops is not None:
                asking[request.face] = request
            elif request.face in asking:
                forgotten_after.append(request.face)
            else:
                self._scorer.forget(request.face)
        self._score(list(asking.values()))
        for face in forgotten_after:
            self._scorer.forget(face)

    def _score(self, asking: list[Request]) -> None:
        try:
            found = self._scorer.score({r.face: r.crops for r in asking if r.crops is not None})
        # refused before anything was scored, so the other requests can still go
        except (EngineError, ValueError) as error:
            if len(asking) == 1:
                asking[0].reply.set_exception(error)
            else:
                for request in asking:
                    self._score([request])
            return
        for request in asking:
            request.reply.set_result(found[request.face])
