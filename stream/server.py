"""WebSocket and HTTP on one port, in a thread of its own: events to every subscriber, telemetry to those who asked.

Publishing never waits: an event goes to the journal's thread, from there (stored) into the tail in this thread's loop,
and from the tail to each client at that client's pace. See docs/protocol.md.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from base64 import b64encode
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from stream import access, http_routes
from stream.delivery import Outbox, Tail
from stream.errors import UserError
from stream.http_routes import Answer, QueryError, json_answer, text_answer
from stream.journal import EVERYTHING, Cursor, Entry, Journal, Missing, Retention, default_path
from stream.journal_writer import JournalWriter
from stream.messages import VERSION, Auth, MessageError, Subscribe, encode, parse_client
from stream.metrics import Metrics
from stream.schema import asyncapi_document
from stream.types import Event

_log = logging.getLogger("stream.server")
_library_log = logging.getLogger("stream.server.websockets")
_library_log.setLevel(logging.CRITICAL)  # else every port scan prints a traceback

_PAGE = 256
_SWEEP_S = 0.25
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, who may, and how much one client may cost.

    `port` 0 takes a free one. `journal_path` None is the user's state directory. `allowed_origins`: pages other than
    the dashboard that may connect. `pending_events_max`, `stall_s`: a client further behind, or stuck for longer, is
    `too_slow`. `client_rate_hz`, `client_burst`: messages taken from one client.
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
    pending_events_max: int = 1000
    telemetry_max: int = 64
    tail_events: int = 4096
    stall_s: float = 10.0
    message_bytes_max: int = 16_384
    fragments_max: int = 64
    bad_messages_max: int = 10
    client_rate_hz: float = 20.0
    client_burst: int = 50


class _Connection(ServerConnection):
    """One socket with what its handshake settled; sockets beyond the limit are dropped before they cost anything."""

    events: "EventServer"
    authenticated = False
    after: Cursor | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.events.admit(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.forget(self)
        super().connection_lost(exc)


@dataclass(eq=False, slots=True)
class _Client:
    """A connection that was let in."""

    ws: _Connection
    outbox: Outbox
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Task[None] | None = None


class _RefusedError(Exception):
    """This client is to be closed; `code` is the word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EventServer:
    """The event service of one running spotter. All public methods may be called from any thread.

    `hello`: what the first message says of the spotter: `source`, `model` (name, sha256, fps, clip_frames), `runtime`,
    `latency_s`.
    """

    def __init__(self, config: ServerConfig, hello: Mapping[str, Any]) -> None:
        self.config = config
        self.metrics = Metrics()
        self.port = config.port
        self.failure: BaseException | None = None
        self._hello = dict(hello)
        self._ready = {"frames": False, "model": False}
        self._status: dict[str, Any] | None = None
        self._wanted: frozenset[str] = frozenset()
        self._mail: deque[tuple[str, str]] = deque(maxlen=1024)
        self._mail_announced = False
        self._connections: set[_Connection] = set()
        self._clients: set[_Client] = set()
        self._limiter = access.FailureLimiter()
        self._own_names = frozenset({socket.gethostname().lower(), socket.gethostname().lower() + ".local"})
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    # --- the outside: any thread -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the journal, bind, serve. Raises UserError: port taken, no token off loopback, bad certificate, ..."""
        config = self.config
        self._loopback = _check_bind(config)
        self._tls = _tls_context(config)
        self._static = http_routes.StaticFiles(Path(__file__).parent / "dashboard")
        self._document = asyncapi_document().encode()
        journal = Journal(config.journal_path or default_path(), config.retention)
        self._journal = journal
        self._tail = Tail(journal.epoch, config.tail_events)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="journal-read")
        self._writer = JournalWriter(journal, self._on_stored)
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._thread.start()
        self._started.wait()
        if self.failure is not None:
            self._thread.join()
            journal.close()
            raise _bind_error(config, self.failure) from None
        self._writer.start()
        if journal.degraded:
            _log.warning("%s: %s", journal.path, journal.degraded)

    @property
    def url(self) -> str:
        """Where browsers find the dashboard."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'https' if self.config.tls_cert else 'http'}://{host}:{self.port}/"

    @property
    def epoch(self) -> str:
        """ULID of this run."""
        return self._tail.epoch

    @property
    def degraded(self) -> list[str]:
        """What of this service does not work as it should, in words; empty when all is well."""
        return self._writer.degraded

    def wants(self, topic: str) -> bool:
        """Whether any client is subscribed to `topic` now, so that nobody encodes previews for no one."""
        return topic in self._wanted

    def publish(self, event: Event) -> None:
        """Journal an event, then send it to all. Returns at once."""
        self._writer.put(event)

    def publish_status(self, status: Mapping[str, Any]) -> None:
        """Replace the status (see messages.Status; `type` and the journal's `degraded` are added here)."""
        self._status = {"type": "status", **status}
        self.metrics.take_status(status)
        self._post("status", self._status_text)

    def publish_scores(self, scores: Mapping[str, Any]) -> None:
        """Send one face's newest score: `face`, `time_s`, `score`, `threshold`."""
        if self.wants("scores"):
            self._post("scores", lambda: encode({"type": "scores", **scores}))

    def publish_preview(self, face: int, jpeg: bytes, time_s: float) -> None:
        """Send one face's newest crop."""
        if self.wants("preview"):
            message = {"type": "preview", "face": face, "time_s": round(float(time_s), 4)}
            self._post("preview", lambda: encode({**message, "jpeg": b64encode(jpeg).decode()}))

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
        with contextlib.suppress(RuntimeError):  # the loop may have ended on its own
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(0.7)

    # --- crossings into the loop -------------------------------------------------------------------------------------

    def _on_stored(self, events: list[Event], entries: list[Entry], took_s: float) -> None:
        self.metrics.journal_write.observe(took_s)
        for event in events:
            self.metrics.events.labels(event.phase.value).inc()
        self._call(self._announce, entries)

    def _announce(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._tail.append(entry)
        for client in self._clients:
            client.wake.set()

    def _post(self, topic: str, text: Any) -> None:
        if not self.wants(topic):
            return
        self._mail.append((topic, text()))
        if not self._mail_announced:
            self._mail_announced = True
            self._call(self._deliver_mail)

    def _deliver_mail(self) -> None:
        self._mail_announced = False
        while self._mail:
            topic, text = self._mail.popleft()
            for client in self._clients:
                if (dropped := client.outbox.offer(topic, text)) is not None:
                    self.metrics.dropped.labels(dropped).inc()
                if topic in client.outbox.topics:
                    client.wake.set()

    def _call(self, function: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._started.is_set():
                _log.exception("the event server died")
            self.failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config = self.config
        server = await serve(
            self._handle,
            "127.0.0.1" if (config.host, config.port) == ("localhost", 0) else config.host or None,
            config.port,
            ssl=self._tls,
            create_connection=type("BoundConnection", (_Connection,), {"events": self}),
            process_request=self._process_request,
            compression=None,
            server_header=None,
            open_timeout=config.handshake_timeout_s,
            ping_interval=config.heartbeat_s,
            ping_timeout=4 * config.heartbeat_s,
            close_timeout=5,
            max_size=config.message_bytes_max,
            max_queue=8,
            logger=_library_log,
            backlog=512,
        )
        self.port = server.sockets[0].getsockname()[1]
        sweeper = asyncio.create_task(self._sweep())
        self._started.set()
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({sweeper, stopped}, return_when=asyncio.FIRST_COMPLETED)
        server.close(close_connections=False)
        await self._say_goodbye()
        if sweeper.done():
            sweeper.result()  # raises what killed it

    def admit(self, connection: _Connection) -> bool:
        """Count a new socket; False if there are too many."""
        if len(self._connections) >= self.config.connections_max:
            return False
        self._connections.add(connection)
        self.metrics.connections.set(len(self._connections))
        return True

    def forget(self, connection: _Connection) -> None:
        """A socket is gone."""
        self._connections.discard(connection)
        self.metrics.connections.set(len(self._connections))

    async def _say_goodbye(self) -> None:
        deadline_s = self._loop.time() + 0.2
        while any(c.outbox.behind(self._tail) for c in self._clients) and self._loop.time() < deadline_s:
            await asyncio.sleep(0.01)
        closing = [asyncio.create_task(client.ws.close(_GOING_AWAY)) for client in self._clients]
        if closing:
            await asyncio.wait(closing, timeout=0.2)
        for connection in list(self._connections):
            connection.transport.abort()
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def _sweep(self) -> None:
        """Close who is too slow; repeat the status at least every heartbeat."""
        config, status_at_s, last_status = self.config, 0.0, None
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = self._loop.time()
            for client in list(self._clients):
                slow = client.outbox.too_slow(self._tail, config.pending_events_max, config.stall_s, now_s)
                if slow and client.closing is None:
                    message = "events were not taken fast enough; resume with after=EPOCH:SEQ"
                    client.closing = asyncio.create_task(self._close(client.ws, "too_slow", message))
            self.metrics.degraded.set(len(self.degraded))
            if self._status is not last_status:
                status_at_s, last_status = now_s, self._status
            elif self._status is not None and now_s - status_at_s >= config.heartbeat_s:
                status_at_s = now_s
                self._post("status", self._status_text)

    def _status_text(self) -> str:
        status = self._status or {}
        return encode({**status, "degraded": [*status.get("degraded", ()), *self.degraded]})

    def _hello_text(self) -> str:
        return encode(
            {
                "type": "hello",
                "v": VERSION,
                "epoch": self._tail.epoch,
                "seq_oldest": min(self._journal.oldest_seq, self._tail.first_seq),
                "seq_newest": self._tail.newest_seq,
                **self._hello,
                "heartbeat_s": self.config.heartbeat_s,
            }
        )

    # --- one WebSocket -----------------------------------------------------------------------------------------------

    async def _handle(self, ws: ServerConnection) -> None:
        assert isinstance(ws, _Connection)
        with contextlib.suppress(ConnectionClosed):
            try:
                if self.config.token and not ws.authenticated:
                    await self._authenticate(ws)
                await self._serve(ws)
            except _RefusedError as refusal:
                await self._close(ws, refusal.code, str(refusal))

    async def _authenticate(self, ws: _Connection) -> None:
        try:
            async with asyncio.timeout(self.config.handshake_timeout_s):
                message = parse_client(await self._receive(ws))
        except TimeoutError:
            raise _RefusedError("auth_required", "no auth message came in time") from None
        except MessageError as error:
            raise _RefusedError("bad_message", str(error)) from None
        if not isinstance(message, Auth):
            raise _RefusedError("auth_required", 'the first message must be {"type":"auth","token":"..."}')
        if (refusal := self._refuse_token(message.token, ws)) is not None:
            raise _RefusedError(*refusal)

    async def _serve(self, ws: _Connection) -> None:
        newest = Cursor(self._tail.epoch, self._tail.newest_seq)
        cursor = newest if ws.after is None else min(ws.after, newest)
        client = _Client(ws, Outbox(cursor, telemetry_max=self.config.telemetry_max))
        await ws.send(self._hello_text())
        self._clients.add(client)
        self._count_clients()
        sender = asyncio.create_task(self._send_to(client))
        try:
            await self._read_from(client)
        finally:
            sender.cancel()
            self._clients.discard(client)
            self._count_clients()
            if client.closing is not None:
                await client.closing

    def _count_clients(self) -> None:
        self._wanted = frozenset().union(*(client.outbox.topics for client in self._clients))
        self.metrics.subscribers.set(len(self._clients))

    async def _send_to(self, client: _Client) -> None:
        outbox = client.outbox
        with contextlib.suppress(ConnectionClosed):
            while True:
                if outbox.behind(self._tail):
                    await self._send_events(client)
                elif outbox.telemetry:
                    await self._send(client, outbox.telemetry.popleft()[1])
                else:
                    outbox.caught_up = True
                    client.wake.clear()
                    await client.wake.wait()

    async def _send_events(self, client: _Client) -> None:
        items, end = await self._next(client.outbox.cursor, _PAGE)
        for item in items:
            if not client.outbox.behind(self._tail):  # it unsubscribed meanwhile
                return
            await self._send(client, _text(item))
            if isinstance(item, Entry):
                client.outbox.cursor = Cursor(item.epoch, item.seq)
        client.outbox.cursor = max(client.outbox.cursor, end)

    async def _send(self, client: _Client, text: str) -> None:
        client.outbox.sending_since_s = self._loop.time()
        await client.ws.send(text)
        client.outbox.sending_since_s = None

    async def _next(self, cursor: Cursor, limit: int) -> tuple[list[Entry | Missing], Cursor]:
        """Up to `limit` events behind `cursor` from the tail or the journal, gaps said, and how far that brings."""
        tail = self._tail
        if not tail.reaches(cursor):
            items, end = await self._loop.run_in_executor(self._reader, self._journal.read_after, cursor, limit)
            if end > cursor:
                return items, end
            if cursor.epoch != tail.epoch:  # the journal cannot be read
                return [Missing(cursor.epoch, cursor.seq + 1, None)], Cursor(tail.epoch, 0)
            return [Missing(tail.epoch, cursor.seq + 1, tail.first_seq - 1)], Cursor(tail.epoch, tail.first_seq - 1)
        bodies = tail.after(cursor.seq, limit)
        found: list[Entry | Missing] = [Entry(tail.epoch, cursor.seq + 1 + i, body) for i, body in enumerate(bodies)]
        return found, Cursor(tail.epoch, cursor.seq + len(bodies))

    async def _read_from(self, client: _Client) -> None:
        config, bad, allowance, then_s = self.config, 0, float(self.config.client_burst), self._loop.time()
        while True:
            data = await self._receive(client.ws)
            now_s = self._loop.time()
            allowance = min(config.client_burst, allowance + (now_s - then_s) * config.client_rate_hz) - 1
            then_s = now_s
            if allowance < 0:
                raise _RefusedError("flood", "too many messages")
            try:
                message = parse_client(data)
            except MessageError as error:
                bad += 1
                if bad >= config.bad_messages_max:
                    raise _RefusedError("bad_message", f"{error}; that was one too many") from None
                await client.ws.send(encode({"type": "error", "code": "bad_message", "message": str(error)}))
                continue
            if isinstance(message, Subscribe):
                self._subscribe(client, message.topics)

    def _subscribe(self, client: _Client, topics: frozenset[str]) -> None:
        fresh_status = "status" in topics and "status" not in client.outbox.topics
        client.outbox.subscribe(topics, Cursor(self._tail.epoch, self._tail.newest_seq))
        self._count_clients()
        if fresh_status and self._status is not None:
            client.outbox.offer("status", self._status_text())
        client.wake.set()

    async def _receive(self, ws: _Connection) -> str | bytes:
        """One message; a message in endless (empty) fragments is refused, since the size limit does not see those."""
        pieces: list[Any] = []
        async for piece in ws.recv_streaming():
            pieces.append(piece)
            if len(pieces) > self.config.fragments_max:
                raise _RefusedError("bad_message", "too many fragments")
        return (b"" if pieces and isinstance(pieces[0], bytes) else "").join(pieces)

    async def _close(self, ws: _Connection, code: str, message: str) -> None:
        """Say why, close, and do not wait for a peer that does not answer."""
        self.metrics.closed.labels(code).inc()
        broadcast([ws], encode({"type": "error", "code": code, "message": message}))  # send() would wait for the slow
        try:
            async with asyncio.timeout(1.0):
                await ws.close(_POLICY_VIOLATION, code)
        except TimeoutError:
            ws.transport.abort()

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _process_request(self, ws: ServerConnection, request: Request) -> Response | None:
        assert isinstance(ws, _Connection)
        method = getattr(request, "method", "GET")  # websockets 15 knows no other
        try:
            answer = await self._route(ws, request, method)
        except QueryError as error:
            answer = text_answer(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:
            _log.exception("a request failed")
            answer = text_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        return None if answer is None else _response(answer, head=method == "HEAD")

    async def _route(self, ws: _Connection, request: Request, method: str) -> Answer | None:
        """The answer to a request; None lets the WebSocket handshake go on."""
        headers = request.headers
        host, origin = _header(headers, "Host"), _header(headers, "Origin")
        if not access.host_allowed(host, self.config.host, self._own_names, self._loopback):
            return text_answer(
                HTTPStatus.MISDIRECTED_REQUEST, "this Host is not served here; use the machine's address"
            )
        if not access.origin_allowed(origin, host, self.config.allowed_origins):
            return text_answer(HTTPStatus.FORBIDDEN, "pages of another origin may not connect")
        if method not in ("GET", "HEAD"):
            return text_answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET only", Allow="GET, HEAD")
        path, _, query_text = request.path.partition("?")
        query = http_routes.parse_query(query_text)
        match path:
            case "/events":
                ws.after = http_routes.parse_after(query.get("after"), self._tail.epoch)
                return self._check_authorization(ws, headers, required=False)
            case "/api/events":
                return self._check_authorization(ws, headers, required=True) or await self._api_events(query)
            case "/metrics":
                return self._check_authorization(ws, headers, required=True) or Answer(
                    HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text()
                )
            case "/healthz":
                return json_answer({"status": "degraded" if self.degraded else "ok", "degraded": self.degraded})
            case "/readyz":
                ready = all(self._ready.values())
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                return json_answer({"ready": ready, **self._ready}, status)
            case "/asyncapi.yaml":
                return Answer(HTTPStatus.OK, "application/yaml", self._document)
        found = self._static.get(path, _header(headers, "If-None-Match"))
        return found or text_answer(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _check_authorization(self, ws: _Connection, headers: Headers, required: bool) -> Answer | None:
        """What to answer to a missing or wrong Authorization header; None if all is well (or auth may come later)."""
        if not self.config.token:
            return None
        token = access.bearer_token(_header(headers, "Authorization"))
        if token is None and not required:
            return None
        refusal = ("auth_required", "a token is required") if token is None else self._refuse_token(token, ws)
        if refusal is None:
            ws.authenticated = True
            return None
        if refusal[0] == "rate_limited":
            return text_answer(HTTPStatus.TOO_MANY_REQUESTS, refusal[1], **{"Retry-After": "10"})
        return text_answer(HTTPStatus.UNAUTHORIZED, refusal[1], **{"WWW-Authenticate": "Bearer"})

    def _refuse_token(self, token: str, ws: _Connection) -> tuple[str, str] | None:
        """Code and message of the refusal, None if the token is right."""
        address, now_s = str((ws.remote_address or ("?",))[0]), self._loop.time()
        if not self._limiter.allowed(address, now_s):
            return "rate_limited", "too many wrong tokens came from this address; wait some seconds"
        if access.token_matches(token, self.config.token or ""):
            return None
        self._limiter.failed(address, now_s)
        return "bad_token", "the token is wrong"

    async def _api_events(self, query: Mapping[str, str]) -> Answer:
        after = http_routes.parse_after(query.get("after"), self._tail.epoch)
        newest = Cursor(self._tail.epoch, self._tail.newest_seq)
        cursor = min(EVERYTHING if after is None else after, newest)
        items, end = await self._next(cursor, http_routes.parse_limit(query.get("limit")))
        events = ",".join(item.body for item in items if isinstance(item, Entry))
        gaps = ",".join(_text(item) for item in items if isinstance(item, Missing))
        end = max(cursor, end)
        more = encode(end < newest)
        body = f'{{"events":[{events}],"gaps":[{gaps}],"next":"{end.epoch}:{end.seq}","more":{more}}}'
        return Answer(HTTPStatus.OK, "application/json", body.encode(), {"Cache-Control": "no-store"})


def _text(item: Entry | Missing) -> str:
    if isinstance(item, Entry):
        return item.body
    return encode({"type": "gap", "epoch": item.epoch, "from": item.first, "to": item.last})


def _header(headers: Headers, name: str) -> str | None:
    """The header's value; two of them count as none that could be right."""
    values = headers.get_all(name)
    return values[0] if len(values) == 1 else (", ".join(values) if values else None)


def _response(answer: Answer, head: bool) -> Response:
    headers = Headers({**http_routes.SECURITY_HEADERS, **answer.headers})
    headers["Content-Type"] = answer.content_type
    headers["Content-Length"] = str(len(answer.body))
    headers["Connection"] = "close"
    return Response(answer.status.value, answer.status.phrase, headers, b"" if head else answer.body)


def _check_bind(config: ServerConfig) -> bool:
    """Whether the bind is on loopback. Raises UserError for what must not or cannot be bound."""
    if not 0 <= config.port <= 65535:
        raise UserError(f"--port {config.port}: a port is a number from 0 to 65535", 2)
    try:
        loopback = access.is_loopback(config.host)
    except (OSError, UnicodeError):
        raise UserError(f"--host {config.host}: no such host; use an address of this machine", 2) from None
    if config.token is not None and not config.token.strip():
        raise UserError("--token is empty; give a long random one, or leave it out on 127.0.0.1", 2)
    if not loopback and not config.token:
        raise UserError(
            f"--host {config.host} can be reached from other machines: give --token too, or use 127.0.0.1", 2
        )
    if not loopback and config.tls_cert is None:
        _log.warning("%s without --tls-cert: the token and all events travel in the clear", config.host)
    return loopback


def _tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None:
        raise UserError(f"--tls-key {config.tls_key} needs --tls-cert", 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        files = f"--tls-cert {config.tls_cert}" + (f" --tls-key {config.tls_key}" if config.tls_key else "")
        raise UserError(f"{files}: cannot be used ({reason}); both must be PEM and belong together", 2) from None
    return context


def _bind_error(config: ServerConfig, error: BaseException) -> BaseException:
    if isinstance(error, PermissionError):
        return UserError(f"--port {config.port}: not permitted; use a port above 1023")
    if isinstance(error, OSError):
        if "address already in use" in str(error).lower():
            return UserError(
                f"port {config.port} is taken on {config.host}: stop the other program or give another --port"
            )
        return UserError(f"cannot listen on {config.host} port {config.port}: {error.strerror or error}")
    return error
