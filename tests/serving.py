"""A real event server on a free port of loopback, real events for it, and clients to look at it with."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator
from websockets.sync.client import ClientConnection, connect

from stream.protocol.messages import FaceStatus, Model, Spotter, Status, encode, event_message
from stream.protocol.schema import asyncapi_document
from stream.server.listen import ServerConfig
from stream.server.service import EventServer
from stream.types import Event, Phase

SPOTTER = Spotter(source="video:interview.mp4", model=Model("mesnet-v1", "00ff", 30, 64), runtime="onnx", latency_s=0.4)
STATUS = Status(
    fps=29.8,
    faces=[FaceStatus(1, "watching", None)],
    dropped={"capture": 0, "score": 0},
    latency_ms={"p50": 31.0, "p99": 52.0},
    degraded=[],
)


def event(number: int, phase: Phase = Phase.END, interval: int | None = None, face: int = 1, **more: Any) -> Event:
    """The `number`-th event of a session; `interval` tells whose start, update or end it is."""
    onset_s = 2.0 * number
    fields: dict[str, Any] = {
        "id": f"01J{number if interval is None else interval:023d}",
        "source": SPOTTER.source,
        "face": face,
        "onset_s": onset_s,
        "apex_s": onset_s + 0.16,
        "offset_s": onset_s + 0.4,
        "score": 0.87,
        "regions": {"brows": 0.8, "eyes": 0.1, "cheeks": 0.0, "mouth": 0.1},
        "time": f"2026-11-23T02:{number // 60 % 60:02d}:{number % 60:02d}.234Z",
        "latency_ms": 84.0,
        "quality": {"fps": 29.7, "yaw_deg": 4.1, "blur": 0.2},
        "suppressed": "blink" if phase is Phase.RETRACT else None,
    }
    return Event(phase=phase, **{**fields, **more})


@contextmanager
def serving(folder: Path, **config: Any) -> Iterator[EventServer]:
    """A started server; its journal lies in `folder` and stays there."""
    server = EventServer(ServerConfig(**{"port": 0, "journal_path": folder / "journal.sqlite", **config}), SPOTTER)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def joined(server: EventServer, after: str | None = None, **options: Any) -> ClientConnection:
    """A connected WebSocket client, hello not yet read."""
    query = "" if after is None else f"?after={after}"
    return connect(f"ws://127.0.0.1:{server.port}/events{query}", compression=None, **{"close_timeout": 1, **options})


def receive(client: ClientConnection, count: int = 1, timeout_s: float = 10) -> list[dict[str, Any]]:
    """The next `count` messages."""
    return [json.loads(client.recv(timeout=timeout_s)) for _ in range(count)]


def seqs(messages: list[dict[str, Any]]) -> list[int]:
    assert all(message["type"] == "event" for message in messages), messages
    return [message["seq"] for message in messages]


def http(server: EventServer, target: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """One HTTP exchange; header names with _ for -."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def as_sent(happened: Event, epoch: str, seq: int) -> dict[str, Any]:
    return dict(json.loads(encode(event_message(happened, epoch, seq))))


def schemas(document: dict[str, Any] | None = None, strict: bool = False) -> dict[str, Draft7Validator]:
    """By message type, what holds a message against a published document (today's, unless another is given).

    `strict` also forbids fields that the document does not name.
    """
    components = (document or json.loads(asyncapi_document()))["components"]
    if strict:
        for schema in components["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
    return {
        name: Draft7Validator({**message["payload"], "components": components})
        for name, message in components["messages"].items()
    }
