"""WebSocket and HTTP on one port, in its own threads: events for every subscriber, telemetry for those that requested
it.

Publishing never waits. An event goes to the journal's thread. Once stored, it goes to the tail in the loop's thread,
and from there to each client at the client's pace (`stream.server.hub`, `stream.server.client`). See docs/protocol.md.
"""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from stream.protocol.log import Entry
from stream.protocol.messages import Preview, Scores, Spotter, Status, encode
from stream.reach import check_bind
from stream.server import listen
from stream.server.access import FailureLimiter, Gate
from stream.server.answers import StaticFiles
from stream.server.event_log import EventLog, Tail
from stream.server.http_routes import Routes
from stream.server.hub import Hub
from stream.server.journal import Journal, default_path
from stream.server.journal_writer import JournalWriter
from stream.server.listen import ServerConfig
from stream.server.metrics import Metrics
from stream.server.reviews import Reviews
from stream.types import Event

_log = logging.getLogger("stream.server")


class EventServer:
    """The event service of one running spotter. Any thread may call its public methods.

    `spotter`: what the first message says about the running program. `reviews`: the sessions that its pages show.
    """

    def __init__(self, config: ServerConfig, spotter: Spotter, reviews: Reviews | None = None) -> None:
        self.config = config
        self._reviews = reviews
        self.metrics = Metrics()
        self._failure: BaseException | None = None
        self._spotter = spotter
        self._ready = {"frames": False, "model": False}
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the journal, bind and serve. Raises UserError: port in use, no token off loopback, bad
        certificate, ...
        """
        config = self.config
        loopback = check_bind(config.host, config.port, config.token)
        tls = listen.tls_context(config.tls_cert, config.tls_key)
        if not loopback and tls is None:
            _log.warning("%s without --tls-cert: the token and all events travel in the clear", config.host)
        if config.token is None and (config.allowed_hosts or config.trusted_proxies):
            _log.warning("behind a proxy without --token-file: whoever reaches the proxy can watch")
        journal = Journal(config.journal_path or default_path(), config.retention)
        self._writer = JournalWriter(journal, self._on_stored)
        log = EventLog(journal, Tail(journal.epoch, config.tail_events))
        gate = Gate(config.token, FailureLimiter())
        routes = Routes(
            bind_host=config.host,
            loopback=loopback,
            allowed_origins=config.allowed_origins,
            allowed_hosts=config.allowed_hosts,
            gate=gate,
            log=log,
            metrics=self.metrics,
            degraded=lambda: self.degraded,
            ready=lambda: self._ready,
            files=StaticFiles(Path(__file__).parent / "dashboard"),
            secure=tls is not None,
            reviews=self._reviews,
        )
        self._hub = Hub(config, log, gate, routes, self.metrics, lambda: self._spotter, lambda: self.degraded)
        self._thread = threading.Thread(target=self._run, args=(tls,), name="server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            journal.close()
            if isinstance(self._failure, OSError):
                raise listen.bind_error(config.host, config.port, self._failure) from None
            raise self._failure
        self._writer.start()
        if journal.degraded:
            _log.warning("%s%s", f"{journal.path}: " if journal.path else "", journal.degraded)

    @property
    def failure(self) -> BaseException | None:
        """The error that ended one of the service's threads, or None. The program should end with it."""
        return self._failure or self._writer.failure

    @property
    def port(self) -> int:
        """The port in use, once started."""
        return self._hub.port

    @property
    def url(self) -> str:
        """The URL of the dashboard."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'https' if self.config.tls_cert else 'http'}://{host}:{self.port}/"

    @property
    def epoch(self) -> str:
        """The ULID of this run."""
        return self._hub.log.tail.epoch

    @property
    def outbox(self) -> Journal:
        """The stored events, for outputs that forward them."""
        return self._writer.journal

    @property
    def degraded(self) -> list[str]:
        """What does not work in this service, in words; empty if all is well."""
        return self._writer.degraded

    def wants(self, topic: str) -> bool:
        """Whether any client is subscribed to `topic` now. This saves encoding previews for no one."""
        return topic in self._hub.wanted

    def publish(self, event: Event) -> None:
        """Store an event in the journal, then send it to all. Returns at once. An event is lost if the journal's queue
        is full.
        """
        if not self._writer.put(event):
            self.metrics.events_lost.inc()

    def publish_status(self, status: Status) -> None:
        """Replace the status. This service's own `degraded` entries are added."""
        self.metrics.take_status(status)
        self._hub.set_status(status)

    def publish_scores(self, scores: Scores) -> None:
        """Send one face's newest score."""
        if self.wants("scores"):
            self._hub.post("scores", encode(scores))

    def publish_preview(self, face: int, jpeg: bytes, time_s: float) -> None:
        """Send one face's newest crop."""
        if self.wants("preview"):
            self._hub.post("preview", encode(Preview(face, round(time_s, 4), jpeg)))

    def update_hello(self, **fields: Any) -> None:
        """Change fields of the first message for new clients, e.g. `runtime` after a fallback."""
        self._spotter = replace(self._spotter, **fields)

    def ready(self, frames: bool | None = None, model: bool | None = None) -> None:
        """Set the state that /readyz reports: frames arrive, the model is warm. None leaves a flag unchanged."""
        given = {"frames": frames, "model": model}
        self._ready = {name: old if given[name] is None else bool(given[name]) for name, old in self._ready.items()}

    def stop(self) -> None:
        """Store and send what was published, say goodbye, and end within a second."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self._writer.stop(timeout_s=0.3)  # even if the loop has died, published events are stored
        self._hub.call(self._hub.stopping.set)
        thread.join(0.7)

    def _on_stored(self, events: list[Event], entries: list[Entry], took_s: float) -> None:
        self.metrics.journal_write.observe(took_s)
        for event in events:
            self.metrics.events.labels(event.phase.value).inc()
        self._hub.call(self._hub.announce, entries)

    def _run(self, tls: Any) -> None:
        try:
            asyncio.run(self._hub.run(tls, self._started.set))
        except BaseException as error:
            if self._started.is_set():
                _log.exception("the event server died")
            self._failure = error
        finally:
            self._started.set()
