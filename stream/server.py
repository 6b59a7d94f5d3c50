"""WebSocket and HTTP on one port, in a thread of its own: events to every subscriber, telemetry to those who asked.

Publishing never waits: an event goes to the journal's thread, from there (stored) into the tail in the loop's thread,
and from the tail to each client at that client's pace. The rules are in `stream.session`, `stream.access` and
`stream.http_routes`; here they are only fed and obeyed. See docs/protocol.md.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from stream import listen
from stream.access import FailureLimiter, Gate, RefusedError
from stream.event_log import EventLog, Tail, message_of
from stream.http_routes import SECURITY_HEADERS, Answer, HttpRequest, Routes, StaticFiles
from stream.journal import Cursor, Entry, Journal, Retention, default_path
from stream.journal_writer import JournalWriter
from stream.messages import VERSION, MessageError, Subscribe, encode
from stream.metrics import Metrics
from stream.session import Inbound, Limits, Outbox
from stream.types import Event

_log = logging.getLogger("stream.server")
_library_log = logging.getLogger("stream.server.websockets")
_library_log.setLevel(logging.CRITICAL)  # else every port scan prints a traceback

_PAGE = 256
_SWEEP_S = 0.25
_CLOSE_S = 1.0
_SOCKET_BYTES = 131_072  # what the kernel may hold for one client: else megabytes hide that it does not read
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, who may, and how much clients may cost.

    `port` 0 takes a free one. `journal_path` None is the user's state directory. `allowed_origins`: pages other than
    the dashboard that may connect. `connections_max`: sockets, whatever their state. `tail_events`: newest events kept
    in memory.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    journal_path: Path | None = None
    retention: Retention = field(default_factory=Retention)
    allowed_origins: tuple[str, ...] = ()
    heartbeat_s: float = 5.0
    handshake_timeout_s: float = 5.0
    connections_max: int = 800
    tail_events: int = 4096
    limits: Limits = field(default_factory=Limits)


class EventServer:
    """The event service of one running spotter. All public methods may be called from any thread.

    `hello`: what the first message says of the spotter: `source`, `model` (name, sha256, fps, clip_frames), `runtime`,
    `latency_s`.
    """

    def __init__(self, config: ServerConfig, hello: Mapping[str, Any]) -> None:
        self.config = config
        self.metrics = Metrics()
        self._failure: BaseException | None = None
        self._hello = dict(hello)
        self._ready = {"frames": False, "model": False}
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the journal, bind, serve. Raises UserError: port taken, no token off loopback, bad certificate, ..."""
        config = self.config
        loopback = listen.check_bind(config.host, config.port, config.token)
        tls = listen.tls_context(config.tls_cert, config.tls_key)
        if not loopback and tls is None:
            _log.warning("%s without --tls-cert: the token and all events travel in the clear", config.host)
        journal = Journal(config.journal_path or default_path(), config.retention)
        self._writer = JournalWriter(journal, self._on_stored)
        log = EventLog(journal, Tail(journal.epoch, config.tail_events))
        gate = Gate(config.token, FailureLimiter())
        routes = Routes(
            bind_host=config.host,
            loopback=loopback,
            allowed_origins=config.allowed_origins,
            gate=gate,
            log=log,
            metrics=self.metrics,
            degraded=lambda: self.degraded,
            ready=lambda: self._ready,
            files=StaticFiles(Path(__file__).parent / "dashboard"),
        )
        self._hub = _Hub(config, log, gate, routes, self.metrics, lambda: self._hello, lambda: self.degraded)
        self._thread = threading.Thread(target=self._run, args=(tls,), name="server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            journal.close()
            if isinstance(self._failure, OSError):
                raise listen.bind_error(config.host, config.port, self._failure) from None
            raise self._failure
        self._writer.start()
        if journal.degraded:
            _log.warning("%s: %s", journal.path, journal.degraded)

    @property
    def failure(self) -> BaseException | None:
        """What killed one of the service's threads: the program should end with it. None while they live."""
        return self._failure or self._writer.failure

    @property
    def port(self) -> int:
        """The port that is served, once started."""
        return self._hub.port

    @property
    def url(self) -> str:
        """Where browsers find the dashboard."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'https' if self.config.tls_cert else 'http'}://{host}:{self.port}/"

    @property
    def epoch(self) -> str:
        """ULID of this run."""
        return self._hub.log.tail.epoch

    @property
    def degraded(self) -> list[str]:
        """What of this service does not work as it should, in words; empty when all is well."""
        return self._writer.degraded

    def wants(self, topic: str) -> bool:
        """Whether any client is subscribed to `topic` now, so that nobody encodes previews for no one."""
        return topic in self._hub.wanted

    def publish(self, event: Event) -> None:
        """Journal an event, then send it to all. Returns at once."""
        self._writer.put(event)

    def publish_status(self, status: Mapping[str, Any]) -> None:
        """Replace the status (see messages.Status); `type` and what is degraded here are added."""
        self.metrics.take_status(status)
        self._hub.set_status({**status, "type": "status"})

    def publish_scores(self, scores: Mapping[str, Any]) -> None:
        """Send one face's newest score: `face`, `time_s`, `score`, `threshold`."""
        if self.wants("scores"):
            self._hub.post("scores", encode({**scores, "type": "scores"}))

    def publish_preview(self, face: int, jpeg: bytes, time_s: float) -> None:
        """Send one face's newest crop."""
        if self.wants("preview"):
            image = b64encode(jpeg).decode()
            message = {"type": "preview", "face": int(face), "time_s": round(float(time_s), 4), "jpeg": image}
            self._hub.post("preview", encode(message))

    def update_hello(self, **fields: Any) -> None:
        """Change what new clients are told, e.g. `runtime` after a fallback."""
        self._hello = {**self._hello, **fields}

    def ready(self, frames: bool | None = None, model: bool | None = None) -> None:
        """Say what /readyz answers from: frames are flowing, the model is warm. None leaves a flag as it is."""
        given = {"frames": frames, "model": model}
        self._ready = {name: old if given[name] is None else bool(given[name]) for name, old in self._ready.items()}

    def stop(self) -> None:
        """Store and send what was published, say goodbye, be gone within a second."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._writer.stop(timeout_s=0.3)
        self._hub.call(self._hub.stopping.set)
        self._thread.join(0.7)

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


class _Connection(ServerConnection):
    """One socket, and what its handshake settled. Sockets beyond the limit are dropped before they cost anything."""

    hub: "_Hub"
    authenticated = False
    after: Cursor | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.hub.connections) >= self.hub.config.connections_max:
            self.transport.abort()
        self.hub.connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.connections.discard(self)
        super().connection_lost(exc)


@dataclass(eq=False, slots=True)
class _Client:
    """A connection that was let in."""

    ws: _Connection
    outbox: Outbox
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    idle: bool = False
    closing: asyncio.Task[None] | None = None

    def abreast(self, newest: Cursor) -> bool:
        """Whether it has everything there is, and the kernel has taken all of it."""
        up_to_date = self.idle and self.outbox.cursor == newest and "events" in self.outbox.topics
        return up_to_date and self.ws.transport.get_write_buffer_size() == 0


class _Hub:
    """The server's inside: everything but `set_status`, `post`, `call` and `wanted` belongs to the loop's thread."""

    def __init__(
        self,
        config: ServerConfig,
        log: EventLog,
        gate: Gate,
        routes: Routes,
        metrics: Metrics,
        hello: Callable[[], dict[str, Any]],
        degraded: Callable[[], list[str]],
    ) -> None:
        self.config = config
        self.log = log
        self.port = config.port
        self.wanted: frozenset[str] = frozenset()
        self.connections: set[_Connection] = set()
        self._clients: set[_Client] = set()
        self._gate = gate
        self._routes = routes
        self._metrics = metrics
        self._hello = hello
        self._degraded = degraded
        self._status: dict[str, Any] | None = None
        self._mail: deque[tuple[str, str]] = deque(maxlen=1024)
        self._mail_announced = False

    # --- crossings from other threads --------------------------------------------------------------------------------

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function in the loop soon."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    def set_status(self, status: dict[str, Any]) -> None:
        """The newest status, which late subscribers get at once."""
        self._status = status
        if "status" in self.wanted:
            self.post("status", self._status_text())

    def post(self, topic: str, text: str) -> None:
        """Telemetry for those who want it; the oldest is dropped if the loop cannot keep up."""
        self._mail.append((topic, text))
        if not self._mail_announced:
            self._mail_announced = True
            self.call(self._deliver_mail)

    def announce(self, entries: list[Entry]) -> None:
        """These events are on disk: everybody may have them."""
        tail = self.log.tail
        abreast = {client for client in self._clients if client.abreast(tail.newest)}
        connections = [client.ws for client in abreast]
        for entry in entries:
            tail.append(entry)
            broadcast(connections, entry.body)  # at once, which is cheap; all others at their own pace
        for client in self._clients:
            if client in abreast:
                client.outbox.cursor = tail.newest
            else:
                client.wake.set()

    def _deliver_mail(self) -> None:
        self._mail_announced = False
        while self._mail:
            topic, text = self._mail.popleft()
            for client in self._clients:
                if (dropped := client.outbox.offer(topic, text)) is not None:
                    self._metrics.dropped.labels(dropped).inc()
                if topic in client.outbox.topics:
                    client.wake.set()

    # --- the life of the server --------------------------------------------------------------------------------------

    async def run(self, tls: Any, on_started: Callable[[], None]) -> None:
        """Serve until `stopping` is set. Raises OSError if binding fails, and whatever kills the sweeper."""
        self._loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        config = self.config
        server = await serve(
            self._handle,
            # a free port for each of localhost's two addresses would be two ports
            "127.0.0.1" if (config.host, config.port) == ("localhost", 0) else config.host or None,
            config.port,
            ssl=tls,
            create_connection=type("_HubConnection", (_Connection,), {"hub": self}),
            process_request=self._process_request,
            compression=None,
            server_header=None,
            open_timeout=config.handshake_timeout_s,
            ping_interval=config.heartbeat_s,
            ping_timeout=4 * config.heartbeat_s,
            close_timeout=5 * _CLOSE_S,
            max_size=config.limits.message_bytes_max,
            max_queue=8,
            logger=_library_log,
            backlog=512,
        )
        self.port = server.sockets[0].getsockname()[1]
        on_started()
        sweeper = asyncio.create_task(self._sweep())
        stopped = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({sweeper, stopped}, return_when=asyncio.FIRST_COMPLETED)
        server.close(close_connections=False)
        await self._say_goodbye()
        if sweeper.done():
            sweeper.result()

    async def _say_goodbye(self) -> None:
        """Let those who keep up have the last events, close all politely, then drop who does not answer."""
        deadline_s = self._loop.time() + 0.2
        while any(c.outbox.behind(self.log.tail) for c in self._clients) and self._loop.time() < deadline_s:
            await asyncio.sleep(0.005)
        closing = [asyncio.create_task(client.ws.close(_GOING_AWAY)) for client in self._clients]
        if closing:
            await asyncio.wait(closing, timeout=0.2)
        for connection in list(self.connections):
            connection.transport.abort()
        self.log.close()

    async def _sweep(self) -> None:
        """Close who is too slow; repeat the status at least every heartbeat."""
        told_at_s, told = 0.0, self._status
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = self._loop.time()
            for client in list(self._clients):
                if client.closing is None and client.outbox.too_slow(self.log.tail, now_s):
                    why = RefusedError("too_slow", "events were not taken fast enough; resume with after=EPOCH:SEQ")
                    client.closing = asyncio.create_task(self._close(client.ws, why))
            self._metrics.connections.set(len(self.connections))
            self._metrics.degraded.set(len(self._degraded()))
            if self._status is not told:
                told_at_s, told = now_s, self._status
            elif told is not None and now_s - told_at_s >= self.config.heartbeat_s:
                told_at_s = now_s
                self.post("status", self._status_text())

    def _status_text(self) -> str:
        status = self._status or {}
        return encode({**status, "degraded": [*status.get("degraded", ()), *self._degraded()]})

    def _hello_text(self) -> str:
        tail = self.log.tail
        run = {"epoch": tail.epoch, "seq_oldest": self.log.oldest_seq, "seq_newest": tail.newest_seq}
        heartbeat_s = self.config.heartbeat_s
        return encode({"type": "hello", "v": VERSION, **run, **self._hello(), "heartbeat_s": heartbeat_s})

    # --- one connection ----------------------------------------------------------------------------------------------

    async def _process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """HTTP: answer, or return None to let the WebSocket handshake go on."""
        assert isinstance(ws, _Connection)
        method = getattr(request, "method", "GET")  # websockets 15 lets no other through
        headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
        try:
            given = HttpRequest(method, request.path, headers, _address(ws))
            answer = await self._routes.answer(given, self._loop.time())
        except Exception:
            _log.exception("a request could not be answered")
            raise
        if isinstance(answer, Answer):
            return _response(answer, head=method == "HEAD")
        ws.after, ws.authenticated = answer.after, answer.authenticated
        return None

    async def _handle(self, ws: ServerConnection) -> None:
        """One WebSocket from its handshake to its end."""
        assert isinstance(ws, _Connection)
        inbound = Inbound(self.config.limits, self._gate, _address(ws), ws.authenticated, self._loop.time())
        with contextlib.suppress(ConnectionClosed):
            try:
                if not inbound.authenticated:
                    await self._authenticate(ws, inbound)
                await self._serve(ws, inbound)
            except RefusedError as refusal:
                await self._close(ws, refusal)

    async def _authenticate(self, ws: _Connection, inbound: Inbound) -> None:
        try:
            async with asyncio.timeout(self.config.handshake_timeout_s):
                inbound.take(await self._receive(ws), self._loop.time())
        except TimeoutError:
            raise RefusedError("auth_required", "no auth message came in time") from None

    async def _serve(self, ws: _Connection, inbound: Inbound) -> None:
        newest = self.log.tail.newest
        client = _Client(ws, Outbox(newest if ws.after is None else min(ws.after, newest), self.config.limits))
        await ws.send(self._hello_text())
        self._clients.add(client)
        self._count_clients()
        sender = asyncio.create_task(self._send_to(client))
        try:
            while True:
                request = inbound.take(await self._receive(ws), self._loop.time())
                if isinstance(request, Subscribe):
                    self._subscribe(client, request.topics)
                elif isinstance(request, MessageError):
                    await ws.send(encode({"type": "error", "code": "bad_message", "message": str(request)}))
        finally:
            sender.cancel()
            self._clients.discard(client)
            self._count_clients()
            if client.closing is not None:
                await client.closing

    def _count_clients(self) -> None:
        self.wanted = frozenset().union(*(client.outbox.topics for client in self._clients))
        self._metrics.subscribers.set(len(self._clients))

    def _subscribe(self, client: _Client, topics: frozenset[str]) -> None:
        fresh_status = "status" in topics and "status" not in client.outbox.topics
        client.outbox.subscribe(topics, self.log.tail.newest)
        self._count_clients()
        if fresh_status and self._status is not None:
            client.outbox.offer("status", self._status_text())
        client.wake.set()

    async def _send_to(self, client: _Client) -> None:
        try:
            await self._feed(client)
        except ConnectionClosed:
            pass
        except Exception:
            _log.exception("a client could not be sent to")
            client.ws.transport.abort()  # else it would wait for ever; so it can come back and resume

    async def _feed(self, client: _Client) -> None:
        """Events as long as there are any, then telemetry, then wait for more."""
        outbox = client.outbox
        while True:
            if outbox.behind(self.log.tail):
                await self._send_events(client)
            elif outbox.telemetry:
                await self._send(client, outbox.telemetry.popleft()[1])
            else:
                outbox.caught_up = True
                client.wake.clear()
                client.idle = True
                await client.wake.wait()
                client.idle = False

    async def _send_events(self, client: _Client) -> None:
        outbox = client.outbox
        items, end = await self.log.read_after(outbox.cursor, _PAGE)
        for item in items:
            if not outbox.behind(self.log.tail):  # it unsubscribed meanwhile
                return
            await self._send(client, message_of(item))
            if isinstance(item, Entry):
                outbox.cursor = Cursor(item.epoch, item.seq)
        outbox.cursor = max(outbox.cursor, end)

    async def _send(self, client: _Client, text: str) -> None:
        client.outbox.sending_since_s = self._loop.time()
        await client.ws.send(text)
        client.outbox.sending_since_s = None

    async def _receive(self, ws: _Connection) -> str | bytes:
        """One message. One in endless (empty) fragments is refused here, since the size limit does not see those."""
        pieces: list[Any] = []
        async for piece in ws.recv_streaming():
            pieces.append(piece)
            if len(pieces) > self.config.limits.fragments_max:
                raise RefusedError("bad_message", "too many fragments")
        return (b"" if pieces and isinstance(pieces[0], bytes) else "").join(pieces)

    async def _close(self, ws: _Connection, why: RefusedError) -> None:
        """Say why, close, and do not wait long for a peer that does not answer."""
        self._metrics.closed.labels(why.code).inc()
        # broadcast() writes at once, where send() would wait for the slow client to read
        broadcast([ws], encode({"type": "error", "code": why.code, "message": str(why)}))
        try:
            async with asyncio.timeout(_CLOSE_S):
                await ws.close(_POLICY_VIOLATION, why.code)
        except TimeoutError:
            ws.transport.abort()


def _address(ws: _Connection) -> str:
    return str((ws.remote_address or ("?",))[0])


def _response(answer: Answer, head: bool) -> Response:
    headers = Headers({**SECURITY_HEADERS, **answer.headers})
    headers["Content-Type"] = answer.content_type
    headers["Content-Length"] = str(len(answer.body))
    headers["Connection"] = "close"
    return Response(answer.status.value, answer.status.phrase, headers, b"" if head else answer.body)
