"""HTTP on the server's port: the dashboard's files, health, metrics, the event log. Knows no socket."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from stream.journal import Cursor
from stream.ulid import is_ulid

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
        return Cursor("", 0)
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
