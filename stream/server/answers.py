"""HTTP answers and the dashboard's files. It uses no socket."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; "
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


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response: status, type and body. `headers` come in addition to those of every response."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def text_answer(status: HTTPStatus, text: str, **headers: str) -> Answer:
    """Returns one line of plain text."""
    return Answer(status, "text/plain; charset=utf-8", (text + "\n").encode(), headers)


def json_answer(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """Returns a JSON document that must not be cached."""
    return Answer(status, "application/json", json.dumps(value).encode(), {"Cache-Control": "no-store"})


class StaticFiles:
    """A folder's files by URL path. They are read once, so nothing outside this table can be requested."""

    def __init__(self, folder: Path) -> None:
        self._answers: dict[str, Answer] = {}
        for file in sorted(folder.rglob("*")):
            if file.suffix in _TYPES and file.is_file():
                body = file.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
                headers = {"ETag": etag, "Cache-Control": "no-cache"}
                path = f"/{file.relative_to(folder).as_posix()}"
                self._answers[path] = Answer(HTTPStatus.OK, _TYPES[file.suffix], body, headers)
                if file.name == "index.html":
                    self._answers[path.removesuffix("index.html")] = self._answers[path]

    def get(self, path: str, if_none_match: str | None) -> Answer | None:
        """Returns the file at this exact URL path, a 304 if the browser already has it, or None if there is none."""
        answer = self._answers.get(path)
        if answer and if_none_match == answer.headers["ETag"]:
            return Answer(HTTPStatus.NOT_MODIFIED, answer.content_type, b"", answer.headers)
        return answer


class QueryError(Exception):
    """A query parameter is not understood. The text names it and what it should be."""
