"""The inside of the event server, on its own loop: who is connected, what each client gets, when one is disconnected.

The rules are in `stream.server.session`, `stream.server.access` and `stream.server.http_routes`. This module only
applies them.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from msgspec.structs import asdict, replace
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from stream.protocol.log import Entry
from stream.protocol.messages import VERSION, ErrorMessage, Hello, MessageError, Spotter, Status, Subscribe, encode
from stream.server.access import Gate, RefusedError
from stream.server.answers import SECURITY_HEADERS, Answer, text_answer
from stream.server.client import Client, Connection, receive
from stream.server.door import Door
from stream.server.event_log import EventLog
from stream.server.http_routes import HttpRequest, Routes, Upgrade
from stream.server.listen import ServerConfig
from stream.server.metrics import Metrics
from stream.server.session import Inbound, Outbox

_log = logging.getLogger("stream.server")
_library_log = logging.getLogger("stream.server.websockets")
_library_log.setLevel(logging.CRITICAL)  # otherwise every port scan prints a traceback

_SWEEP_S = 0.25
_CLOSE_S = 1.0
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001


class Hub:
    """The inside of the server. Only the loop's thread may use it, except `set_status`, `post`, `call` and `wanted`."""

    def __init__(
        self,
        config: ServerConfig,
        log: EventLog,
        gate: Gate,
        routes: Routes,
        metrics: Metrics,
        spotter: Callable[[], Spotter],
        degraded: Callable[[], list[str]],
    ) -> None:
        self.config = config
        self.log = log
        self.port = config.port
        self.wanted: frozenset[str] = frozenset()
        # without a token there is nothing to prove, and all clients have one address: this machine's
        waiting = (config.connections_max,) * 2 if gate.open else (config.waiting_max, config.waiting_share)
        self._door: Door[Connection] = Door(config.connections_max, *waiting)
        self._clients: set[Client] = set()
        self._gate = gate
        self._routes = routes
        self._metrics = metrics
        self._spotter = spotter
        self._degraded = degraded
        self._status: Status | None = None
        self._mail: deque[tuple[str, str]] = deque(maxlen=1024)
        self._mail_announced = False

    # --- crossings from other threads --------------------------------------------------------------------------------

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function in the loop soon."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so no client is left
            self._loop.call_soon_threadsafe(function, *arguments)

    def set_status(self, status: Status) -> None:
        """Set the newest status. Late subscribers get it at once."""
        self._status = status
        if "status" in self.wanted:
            self.post("status", self._status_text(status))

    def post(self, topic: str, text: str) -> None:
        """Send telemetry to its subscribers. The oldest message is dropped if the loop can't keep up."""
        self._mail.append((topic, text))
        if not self._mail_announced:
            self._mail_announced = True
            self.call(self._deliver_mail)

    def announce(self, entries: list[Entry]) -> None:
        """Announce events that are on disk, so every client may have them."""
        tail = self.log.tail
        abreast = {client for client in self._clients if client.abreast(tail.newest)}
        connections = [client.ws for client in abreast]
        for entry in entries:
            tail.append(entry)
            broadcast(connections, entry.body)  # these get it at once, which is cheap; all others at their own pace
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
        """Serve until `stopping` is set. Raises OSError if binding fails, and any error of the sweeper."""
        self._loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        config = self.config
        server = await serve(
            self._handle,
            # localhost has two addresses, and a free port for each would be two ports
            "127.0.0.1" if (config.host, config.port) == ("localhost", 0) else config.host or None,
            config.port,
            ssl=tls,
            # websockets only calls this, as it would call the class
            create_connection=partial(Connection, self._door, config.trusted_proxies),  # type: ignore[arg-type]
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
        """Send the last events to clients that keep up, close all politely, then drop those that do not respond."""
        deadline_s = self._loop.time() + 0.2
        while any(c.outbox.behind(self.log.tail) for c in self._clients) and self._loop.time() < deadline_s:
            await asyncio.sleep(0.005)
        closing = [asyncio.create_task(client.ws.close(_GOING_AWAY)) for client in self._clients]
        if closing:
            await asyncio.wait(closing, timeout=0.2)
        for connection in self._door.connected:
            connection.transport.abort()
        self.log.close()

    async def _sweep(self) -> None:
        """Close clients that are too slow. Repeat the status at least every heartbeat."""
        told_at_s, told = 0.0, self._status
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = self._loop.time()
            for client in list(self._clients):
                if client.closing is None and client.outbox.too_slow(self.log.tail, now_s):
                    why = RefusedError("too_slow", "events were not taken fast enough; resume with after=EPOCH:SEQ")
                    client.closing = asyncio.create_task(self._close(client.ws, why))
            self._metrics.connections.set(len(self._door.connected))
            self._metrics.degraded.set(len(self._degraded()))
            if self._status is not told:
                told_at_s, told = now_s, self._status
            elif told is not None and now_s - told_at_s >= self.config.heartbeat_s:
                told_at_s = now_s
                self.post("status", self._status_text(told))

    def _status_text(self, status: Status) -> str:
        return encode(replace(status, degraded=[*status.degraded, *self._degraded()]))

    def _hello_text(self) -> str:
        tail, heartbeat_s = self.log.tail, self.config.heartbeat_s
        spotter = asdict(self._spotter())
        return encode(Hello(VERSION, tail.epoch, self.log.oldest_seq, tail.newest_seq, heartbeat_s, **spotter))

    # --- one connection ----------------------------------------------------------------------------------------------

    async def _process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        """Answer an HTTP request, or return None to let the WebSocket handshake go on."""
        assert isinstance(ws, Connection)
        method = getattr(request, "method", "GET")  # websockets 15 allows no other method
        headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
        try:
            address = ws.recognise(headers.get("x-forwarded-for"))
            answer = await self._routes.answer(HttpRequest(method, request.path, headers, address), self._loop.time())
            if isinstance(answer, Upgrade) and answer.authenticated:
                self._door.enter(ws)
        except RefusedError as refusal:
            answer = text_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(refusal), **{"Retry-After": "10"})
        except Exception:
            _log.exception("a request could not be answered")
            raise
        if isinstance(answer, Answer):
            return _response(answer, head=method == "HEAD")
        ws.upgrade = answer
        return None

    async def _handle(self, ws: ServerConnection) -> None:
        """Serve one WebSocket from its handshake to its end."""
        assert isinstance(ws, Connection)
        asked = ws.upgrade
        inbound = Inbound(self.config.limits, self._gate, asked.address, asked.authenticated, self._loop.time())
        with contextlib.suppress(ConnectionClosed):
            try:
                if not inbound.authenticated:
                    await self._authenticate(ws, inbound)
                await (self._store_codings(ws) if asked.codings else self._serve(ws, inbound))
            except RefusedError as refusal:
                await self._close(ws, refusal)

    async def _authenticate(self, ws: Connection, inbound: Inbound) -> None:
        try:
            async with asyncio.timeout(self.config.handshake_timeout_s):
                inbound.take(await receive(ws, self.config.limits.fragments_max), self._loop.time())
        except TimeoutError:
            raise RefusedError("auth_required", "no auth message came in time") from None
        self._door.enter(ws)

    async def _serve(self, ws: Connection, inbound: Inbound) -> None:
        client = Client(ws, Outbox(self.log.start(ws.upgrade.after), self.config.limits), self.log)
        await ws.send(self._hello_text())
        self._clients.add(client)
        self._count_clients()
        sender = asyncio.create_task(client.send())
        try:
            while True:
                request = inbound.take(await receive(ws, self.config.limits.fragments_max), self._loop.time())
                if isinstance(request, Subscribe):
                    self._subscribe(client, request.topics)
                elif isinstance(request, MessageError):
                    await ws.send(encode(ErrorMessage("bad_message", str(request))))
        finally:
            sender.cancel()
            self._clients.discard(client)
            self._count_clients()
            if client.closing is not None:
                await client.closing

    async def _store_codings(self, ws: Connection) -> None:
        """Store codings and answer each one until the page leaves. A socket does this because websockets takes no
        request with a body.
        """
        assert self._routes.reviews is not None
        while True:
            text = await receive(ws, self.config.limits.fragments_max)
            await ws.send(await asyncio.to_thread(self._routes.reviews.save, text))

    def _count_clients(self) -> None:
        self.wanted = frozenset().union(*(client.outbox.topics for client in self._clients))
        self._metrics.subscribers.set(len(self._clients))

    def _subscribe(self, client: Client, topics: tuple[str, ...]) -> None:
        fresh_status = "status" in topics and "status" not in client.outbox.topics
        client.outbox.subscribe(topics, self.log.tail.newest)
        self._count_clients()
        if fresh_status and self._status is not None:
            client.outbox.offer("status", self._status_text(self._status))
        client.wake.set()

    async def _close(self, ws: Connection, why: RefusedError) -> None:
        """Send the reason and close, without a long wait for a peer that does not respond."""
        self._metrics.closed.labels(why.code).inc()
        # broadcast() writes at once, while send() would wait for a slow client to read
        broadcast([ws], encode(ErrorMessage(why.code, str(why))))
        try:
            async with asyncio.timeout(_CLOSE_S):
                await ws.close(_POLICY_VIOLATION, why.code)
        except TimeoutError:
            ws.transport.abort()


def _response(answer: Answer, head: bool) -> Response:
    headers = Headers({**SECURITY_HEADERS, **answer.headers})
    headers["Content-Type"] = answer.content_type
    headers["Content-Length"] = str(len(answer.body))
    headers["Connection"] = "close"
    return Response(answer.status.value, answer.status.phrase, headers, b"" if head else answer.body)
