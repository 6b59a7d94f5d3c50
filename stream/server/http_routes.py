"""HTTP on the server's port: the dashboard's files, health, metrics, the event log. Knows no socket."""

import hashlib
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from stream.protocol.schema import asyncapi_document
from stream.protocol.ulid import is_ulid
from stream.server import access
from stream.server.event_log import EventLog, message_of
from stream.server.journal import EVERYTHING, Cursor, Entry, Missing
from stream.server.metrics import Metrics

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
EVENTS_PAGE = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: status, type and body; `headers` beyond those of every response."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def text_answer(status: HTTPStatus, text: str, **headers: str) -> Answer:
    """One plain line."""
    return Answer(status, "text/plain; charset=utf-8", (text + "\n").encode(), headers)


def json_answer(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """A JSON document that is not to be cached."""
    return Answer(status, "application/json", json.dumps(value).encode(), {"Cache-Control": "no-store"})


class StaticFiles:
    """The files of one folder by their URL path. Read once: what is not in the table cannot be asked for."""

    def __init__(self, folder: Path) -> None:
        self._answers: dict[str, Answer] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix in _TYPES and file.is_file():
                body = file.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
                headers = {"ETag": etag, "Cache-Control": "no-cache"}
                self._answers[f"/{file.name}"] = Answer(HTTPStatus.OK, _TYPES[file.suffix], body, headers)
        if "/index.html" in self._answers:
            self._answers["/"] = self._answers["/index.html"]

    def get(self, path: str, if_none_match: str | None) -> Answer | None:
        """The file at this exact URL path, 304 if the browser has it already, None if there is none."""
        answer = self._answers.get(path)
        if answer and if_none_match == answer.headers["ETag"]:
            return Answer(HTTPStatus.NOT_MODIFIED, answer.content_type, b"", answer.headers)
        return answer


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request's head: `target` is path and query as sent, `headers` have lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    address: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The request may become a WebSocket: for whom, where it resumes, and whether its header held the right token."""

    address: str
    after: Cursor | None
    authenticated: bool


@dataclass(frozen=True)
class Routes:
    """Who may ask for what on this port, and the answers. Times are the loop's clock, s.

    `loopback`: bound there alone. `degraded` and `ready` say how the program is.
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


class QueryError(Exception):
    """A query parameter that cannot be understood; the text says which and what it should be."""


def parse_query(query: str) -> dict[str, str]:
    """The parameters of a URL. Raises QueryError, also for a token, which must never travel in a URL."""
    try:
        parsed = parse_qs(query, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise QueryError("the query cannot be read") from None
    if {"token", "access_token", "auth"} & parsed.keys():
        raise QueryError("a token must not be in the URL: use an Authorization header or a first message")
    return {name: values[-1] for name, values in parsed.items()}


def parse_after(after: str | None, current_epoch: str) -> Cursor | None:
    """Where to resume: `EPOCH:SEQ`, `:SEQ` for the running epoch, `0` for all there is; None if not given.

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
    """How many events a page of /api/events holds, 1 to EVENTS_PAGE. Raises QueryError."""
    if limit is None:
        return EVENTS_PAGE
    if not (limit.isascii() and limit.isdigit()) or not 1 <= int(limit[:6]) <= EVENTS_PAGE:
        raise QueryError(f"limit must be a number from 1 to {EVENTS_PAGE}")
    return int(limit)
