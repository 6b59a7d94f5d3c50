"""The messages of protocol v1: the one place where their fields, types and meanings are written down.

The JSON Schemas and the AsyncAPI document (`stream.protocol.schema`) are derived from these classes, and the server
sends nothing that is not one of them. `parse_client` reads what clients send. Nothing here knows a socket or a clock.
"""

import json
import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from stream.types import Event, Watch

VERSION: Final = 1
TOPICS = ("events", "status", "scores", "preview")

Seconds = Annotated[float, Meta(description="seconds on the source's clock (media time for a file)")]


class Model(Struct, frozen=True):
    """The weights that score."""

    name: str
    sha256: Annotated[str, Meta(description="of the weights' file")]
    fps: Annotated[float, Meta(description="rate of the model's time grid, Hz")]
    clip_frames: Annotated[int, Meta(description="frames in one scored clip")]


class OperatingPoint(Struct, frozen=True):
    """The threshold, and what was measured at it on people the model was not trained on."""

    threshold: Annotated[float, Meta(description="what a score must pass, 0 to 1, before a face's baseline moves it")]
    false_alarms_per_hour: Annotated[float, Meta(description="measured on video without micro-expressions")]
    upper_bound: Annotated[float, Meta(description="of that rate, at 95 % confidence")]
    hours: Annotated[float, Meta(description="of such video that were measured")]


class Spotter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `hello` says of the running program; the server adds what it knows itself."""

    source: Annotated[str, Meta(description="what is being analysed, credentials redacted")]
    model: Model
    runtime: Annotated[str, Meta(description="what runs the model")]
    latency_s: Annotated[float, Meta(description="how long the spotter waits before it settles, s")]
    operating_point: OperatingPoint | None = None


class Hello(Spotter, frozen=True, tag="hello"):
    """First message of a session."""

    v: Literal[1]
    epoch: Annotated[str, Meta(description="ULID of this run of the server; seq counts from 1 within it")]
    seq_oldest: Annotated[
        int, Meta(description="oldest event of this epoch that can be replayed (1 while there is none)")
    ]
    seq_newest: Annotated[int, Meta(description="newest event of this epoch (0 while there is none)")]
    heartbeat_s: Annotated[
        float, Meta(description="a ping (and, if subscribed, a status) comes at least this often, s")
    ]


class EventMessage(Event, frozen=True, tag="event"):
    """A micro-expression interval begins, changes, settles or is taken back."""

    v: Literal[1]
    epoch: Annotated[str, Meta(description="ULID of the run that sent it")]
    seq: Annotated[int, Meta(description="counts from 1 within the epoch, without holes")]


class FaceStatus(Struct, frozen=True):
    """What is done with one face."""

    face: int
    state: Watch
    reason: Annotated[str | None, Meta(description="why it cannot be spotted (low_fps, turned_away, ...)")]


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True, tag="status"):
    """Health of the running program, about once a second."""

    fps: Annotated[float | None, Meta(description="measured rate of the source, Hz; null before the first frames")]
    faces: list[FaceStatus]
    dropped: Annotated[dict[str, int], Meta(description="frames dropped so far, per stage")]
    latency_ms: Annotated[dict[str, float | None], Meta(description="capture to score, p50 and p99")]
    degraded: Annotated[list[str], Meta(description="what does not work as it should, in words")]
    runtime: Annotated[str | None, Meta(description="what runs the model now, if that changed since hello")] = None
    threshold: Annotated[float | None, Meta(description="what a score must pass, 0 to 1")] = None
    false_alarms_per_hour: Annotated[float | None, Meta(description="the rate that the threshold stands for")] = None
    operating_point: OperatingPoint | None = None


class Gap(Struct, frozen=True, tag="gap"):
    """Events that were asked for by `after` but are no longer (or were never) in the journal."""

    epoch: Annotated[str, Meta(description="epoch of the missing events")]
    first: Annotated[int, Meta(description="first missing seq")] = msgspec.field(name="from")
    last: Annotated[int | None, Meta(description="last missing seq; null if the epoch is unknown here")] = (
        msgspec.field(name="to")
    )


class ErrorMessage(Struct, frozen=True, tag="error"):
    """Something went wrong with this connection."""

    code: Annotated[
        str,
        Meta(
            description="bad_token, auth_required, rate_limited, bad_message, flood, too_slow, full, ...: "
            "ignore what you do not know"
        ),
    ]
    message: str


class Scores(Struct, frozen=True, tag="scores"):
    """The newest score of one face."""

    face: int
    time_s: Seconds
    score: Annotated[float, Meta(description="0 to 1")]
    threshold: Annotated[float, Meta(description="what the score must pass, 0 to 1")]


class Preview(Struct, frozen=True, tag="preview"):
    """The newest aligned crop of one face."""

    face: int
    time_s: Seconds
    jpeg: Annotated[bytes, Meta(description="a JPEG image, base64")]


class Subscribe(Struct, frozen=True, tag="subscribe"):
    """Which topics this connection wants from now on; replaces what it asked for before. Default: events."""

    topics: Annotated[tuple[str, ...], Meta(description="of events, status, scores, preview; unknown ones are ignored")]


class Auth(Struct, frozen=True, tag="auth"):
    """The token, as the first message, from clients that cannot send an Authorization header."""

    token: str


ServerMessage = Hello | EventMessage | Status | Gap | ErrorMessage | Scores | Preview
SERVER_MESSAGES: tuple[type[Struct], ...] = (Hello, EventMessage, Status, Gap, ErrorMessage, Scores, Preview)
CLIENT_MESSAGES: tuple[type[Struct], ...] = (Subscribe, Auth)


class MessageError(Exception):
    """What a client sent is not a message of the protocol; the text says why."""


class _Typed(Struct):
    type: str


def parse_client(data: str | bytes) -> Subscribe | Auth | None:
    """Read one frame of a client. Unknown types and fields are ignored (None); MessageError on anything malformed."""
    if not isinstance(data, str):
        raise MessageError("binary frames are not understood; send JSON text")
    try:
        match msgspec.json.decode(data, type=_Typed).type:
            case "subscribe":
                return msgspec.json.decode(data, type=Subscribe)
            case "auth":
                return msgspec.json.decode(data, type=Auth)
            case _:
                return None
    except msgspec.ValidationError as error:
        raise MessageError(f"not a message of the protocol: {error}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise MessageError("not JSON") from None


def event_message(event: Event, epoch: str, seq: int) -> EventMessage:
    """The message of one event; times to 0.1 ms, scores and shares to four places."""
    fields = {name: _four_places(value) for name, value in msgspec.structs.asdict(event).items()}
    return EventMessage(VERSION, epoch, seq, **fields)


def _four_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: round(float(share), 4) for name, share in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def encode(message: ServerMessage | Subscribe | Auth) -> str:
    """A message as JSON text. Numbers that JSON does not know (NaN, infinity) become null; numpy's become plain.

    The text is that of Python's own json module, which escapes everything but ASCII: msgspec writes other floats
    (1e16 for 1e+16) and refuses names that are not Unicode.
    """
    plain = msgspec.to_builtins(message, enc_hook=lambda number: number.item())
    return json.dumps(_finite(plain), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
