"""The live program run in this process, so that a test can break a part of it and watch what its clients are told."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from engine.model import Model
from stream.app import SINKS, assemble, open_named_source
from stream.config import Config
from stream.live.pipeline import LivePipeline, Parts
from stream.workers import Worker

LIMIT_S = 30.0


class Running:
    """A session under way: its parts, its end, and everything a client that subscribed to all topics was sent."""

    def __init__(self, config: Config, change: Callable[[Parts], None]) -> None:
        self.stop = threading.Event()
        self.ended = threading.Event()
        self.messages: list[dict[str, Any]] = []
        self._news = threading.Condition()
        source = open_named_source(config, self.stop)
        self.parts = assemble(config, source)
        change(self.parts)
        self.pipeline = LivePipeline(config, self.parts, SINKS, self.stop)
        self._program = Worker("program", self.pipeline.run, self.ended.set)
        self._client = Worker("client", self._listen, lambda: None)

    def start(self) -> None:
        self._program.start()
        self._client.start()

    def wait_for(self, what: Callable[[dict[str, Any]], bool], limit_s: float = LIMIT_S) -> dict[str, Any]:
        """The first message, past or to come, that is `what`; an AssertionError if none comes in time."""
        with self._news:
            found = self._news.wait_for(lambda: next((m for m in self.messages if what(m)), None), limit_s)
        assert found is not None, f"it never came; the last was {self.messages[-1:]}"
        return found

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        with self._news:
            return [message for message in self.messages if message["type"] == kind]

    def finish(self, limit_s: float = LIMIT_S) -> None:
        """Wait for the end, and raise what ended it."""
        assert self.ended.wait(limit_s), "it did not end"
        self._client.join(5)
        self.parts.source.close()
        self._program.check()
        self._client.check()

    def _listen(self) -> None:
        assert self.pipeline.serving.wait(LIMIT_S)
        url = f"ws://127.0.0.1:{self.pipeline.server.port}/events"
        with suppress(ConnectionClosed), connect(url, max_size=None, proxy=None) as socket:
            socket.send(json.dumps({"type": "subscribe", "topics": ["events", "status", "scores", "preview"]}))
            for text in socket:
                with self._news:
                    self.messages.append(json.loads(text))
                    self._news.notify_all()


@contextmanager
def live(
    folder: Path, model: Model, source: object, change: Callable[[Parts], None] = lambda parts: None, **settings: Any
) -> Iterator[Running]:
    """Run the program on `source` (its parts changed by `change`) until the block ends."""
    logging.getLogger("stream").setLevel(logging.INFO)
    config = Config(
        source=str(source), port=0, journal=folder / "journal.sqlite", model=model.directory, runtime="onnx", **settings
    )
    running = Running(config, change)
    running.start()
    try:
        yield running
    finally:
        running.stop.set()
        assert running.ended.wait(5), "it did not end within 5 s of being told"
        running.parts.source.close()
