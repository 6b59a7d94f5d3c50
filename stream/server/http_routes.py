"""HTTP on the server's port: the dashboard's files, health, metrics, the event log. It uses no socket."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from urllib.parse import parse_qs

from stream.protocol.log import EVERYTHING, Cursor, Entry, Missing, message_of
from stream.protocol.schema import asyncapi_document
from stream.protocol.ulid import is_ulid
from stream.server import access
from stream.server.answers import Answer, QueryError, StaticFiles, json_answer, text_answer
from stream.server.event_log import EventLog
from stream.server.metrics import Metrics
from stream.server.reviews import Reviews, session_path
from stream.server.tickets import Tickets

EVENTS_PAGE = 500


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The head of a request. `target` is path and query as sent; `headers` have lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    address: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request may become a WebSocket. Says for whom, where it resumes, and whether its header had the right token.

    `codings`: the socket stores codings and gets no events.
    """

    address: str
    after: Cursor | None
    authenticated: bool
    codings: bool = False


@dataclass(frozen=True)
class Routes:
    """The rules for requests on this port, and the answers. Times are the loop's clock, s.

    `loopback`: whether the server is bound to loopback only. `degraded` and `ready` tell the program's state. `secure`:
    whether it is served over TLS. `reviews`: None if there are no sessions to review.
    """

    bind_host: str
    loopback: bool
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    gate: access.Gate
    log: EventLog
    metrics: Metrics
    degraded: Callable[[], list[str]]
    ready: Callable[[], dict[str, bool]]
    files: StaticFiles
    secure: bool = False
    reviews: Reviews | None = None
    tickets: Tickets = field(default_factory=Tickets)
    document: bytes = field(default_factory=lambda: asyncapi_document().encode())
    own_names: frozenset[str] = field(default_factory=lambda: _machine_names(socket.gethostname()))

    async def answer(self, request: HttpRequest, now_s: float) -> Answer | Upgrade:
        """Answer a request, or let it become a WebSocket."""
        try:
            return self._turned_away(request) or await self._found(request, now_s)
        except QueryError as error:
            return text_answer(HTTPStatus.BAD_REQUEST, str(error))
        except access.RefusedError as refusal:
            if refusal.code == "rate_limited":
                return text_answer(HTTPStatus.TOO_MANY_REQUESTS, str(refusal), **{"Retry-After": "10"})
            return text_answer(HTTPStatus.UNAUTHORIZED, str(refusal), **{"WWW-Authenticate": "Bearer"})

    def _turned_away(self, request: HttpRequest) -> Answer | None:
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if not access.host_allowed(host, self.bind_host, self.own_names, self.loopback, self.allowed_hosts):
            return text_answer(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this Host is not served here: use the machine's address, or start the program with --allow-host",
            )
        if not access.origin_allowed(origin, host, self.allowed_origins):
            return text_answer(HTTPStatus.FORBIDDEN, "pages of another origin may not connect")
        if request.method not in ("GET", "HEAD"):
            return text_answer(HTTPStatus.METHOD_NOT_ALLOWED, "GET only", Allow="GET, HEAD")
        return None

    async def _found(self, request: HttpRequest, now_s: float) -> Answer | Upgrade:
        path, _, query_text = request.target.partition("?")
        query = parse_query(query_text)
        token = access.bearer_token(request.headers.get("authorization"))
        if self.reviews is not None and (path == "/codings" or path.startswith("/api/sessions")):
            return await self._reviewed(self.reviews, request, now_s)
        if self.reviews is not None and self.reviews.alone and path == "/":
            return text_answer(HTTPStatus.FOUND, "the sessions are at review/", Location="review/")
        match path:
            case "/events":
                after = parse_after(query.get("after"), self.log.tail.epoch)
                if token is not None:
                    self.gate.check(token, request.address, now_s)
                return Upgrade(request.address, after, authenticated=self.gate.open or token is not None)
            case "/api/events":
                self.gate.check(token, request.address, now_s)
                return await self._events(query)
            case "/metrics":
                self.gate.check(token, request.address, now_s)
                return Answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text())
            case "/healthz":
                degraded = self.degraded()
                return json_answer({"status": "degraded" if degraded else "ok", "degraded": degraded})
            case "/readyz":
                flags = self.ready()
                ready = all(flags.values())
                return json_answer(
                    {"ready": ready, **flags}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                )
            case "/asyncapi.yaml":
                return Answer(HTTPStatus.OK, "application/yaml", self.document)
        found = self.files.get(path, request.headers.get("if-none-match"))
        return found or text_answer(HTTPStatus.NOT_FOUND, "there is nothing here")

    async def _reviewed(self, reviews: Reviews, request: HttpRequest, now_s: float) -> Answer | Upgrade:
        path, _, query_text = request.target.partition("?")
        token = access.bearer_token(request.headers.get("authorization"))
        if path == "/codings":
            if token is not None:
                self.gate.check(token, request.address, now_s)
            return Upgrade(request.address, None, self.gate.open or token is not None, codings=True)
        name, part = session_path(path)
        video = part.startswith("video/")
        if not (video and self.tickets.holds(request.headers.get("cookie"), now_s)):
            self.gate.check(token, request.address, now_s)
        if video:
            number = part.removeprefix("video/")
            number = number if number.isascii() and number.isdigit() else "999999"
            return await asyncio.to_thread(reviews.video, name, int(number[:6]), request.headers.get("range"))
        if name:
            return await asyncio.to_thread(reviews.session, name, part, parse_query(query_text))
        answer = await asyncio.to_thread(reviews.listed)
        return replace(answer, headers={**answer.headers, "Set-Cookie": self.tickets.cookie(now_s, self.secure)})

    async def _events(self, query: Mapping[str, str]) -> Answer:
        cursor = self.log.start(parse_after(query.get("after", "0"), self.log.tail.epoch))
        items, end = await self.log.read_after(cursor, parse_limit(query.get("limit")))
        events = ",".join(item.body for item in items if isinstance(item, Entry))
        gaps = ",".join(message_of(item) for item in items if isinstance(item, Missing))
        more = "true" if self.log.tail.is_behind(end) else "false"
        body = f'{{"events":[{events}],"gaps":[{gaps}],"next":"{end.epoch}:{end.seq}","more":{more}}}'
        return Answer(HTTPStatus.OK, "application/json", body.encode(), {"Cache-Control": "no-store"})


def _machine_names(hostname: str) -> frozenset[str]:
    return frozenset({hostname.lower(), hostname.lower() + ".local"})


def parse_query(query: str) -> dict[str, str]:
    """Returns the parameters of a URL. Raises QueryError, also for a token, which must never be in a URL."""
    try:
        parsed = parse_qs(query, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise QueryError("the query cannot be read") from None
    if {"token", "access_token", "auth"} & parsed.keys():
        raise QueryError("a token must not be in the URL: use an Authorization header or a first message")
    return {name: values[-1] for name, values in parsed.items()}


def parse_after(after: str | None, current_epoch: str) -> Cursor | None:
    """Returns where to resume: `EPOCH:SEQ`, `:SEQ` for the running epoch, `0` for everything. None if not given.

    Raises QueryError.
    """
    if after is None:
        return None
    if after == "0":
        return EVERYTHING
    epoch, colon, seq = after.partition(":")
    if not colon or not (seq.isascii() and seq.isdigit()) or len(seq) > 15 or (epoch and not is_ulid(epoch)):
        raise QueryError("after must be EPOCH:SEQ as in an event (or :SEQ for the running epoch, or 0 for everything)")
    return Cursor(epoch or current_epoch, int(seq))


def parse_limit(limit: str | None) -> int:
    """Returns how many events a page of /api/events holds, 1 to EVENTS_PAGE. Raises QueryError."""
    if limit is None:
        return EVENTS_PAGE
    if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit[:6]) <= EVENTS_PAGE:
        raise QueryError(f"limit must be a number from 1 to {EVENTS_PAGE}")
    return int(limit)
