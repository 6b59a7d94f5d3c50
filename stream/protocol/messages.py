"""The messages of protocol v1: the one place where their fields, types and meanings are written down.

The JSON Schemas and the AsyncAPI document (`stream.protocol.schema`) are derived from these classes, the server
builds its messages through them, and what clients send is read by `parse_client`, which knows neither socket nor
clock.
"""

import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from stream.types import Event

VERSION = 1
TOPICS = ("events", "status", "scores", "preview")

Seconds = Annotated[float, "seconds on the source's clock (media time for a file)"]


class Model(TypedDict):
    """The weights that score."""

    name: str
    sha256: Annotated[str, "of the weights' file"]
    fps: Annotated[float, "rate of the model's time grid, Hz"]
    clip_frames: Annotated[int, "frames in one scored clip"]


class OperatingPoint(TypedDict):
    """The threshold, and what was measured at it on people the model was not trained on."""

    threshold: Annotated[float, "what a score must pass, 0 to 1, before a face's baseline moves it"]
    false_alarms_per_hour: Annotated[float, "measured on video without micro-expressions"]
    upper_bound: Annotated[float, "of that rate, at 95 % confidence"]
    hours: Annotated[float, "of such video that were measured"]


class Hello(TypedDict):
    """First message of a session."""

    type: Literal["hello"]
    v: Literal[1]
    epoch: Annotated[str, "ULID of this run of the server; seq counts from 1 within it"]
    seq_oldest: Annotated[int, "oldest event of this epoch that can be replayed (1 while there is none)"]
    seq_newest: Annotated[int, "newest event of this epoch (0 while there is none)"]
    source: Annotated[str, "what is being analysed, credentials redacted"]
    model: Model
    runtime: Annotated[str, "what runs the model"]
    latency_s: Annotated[float, "how long the spotter waits before it settles, s"]
    operating_point: NotRequired[OperatingPoint]
    heartbeat_s: Annotated[float, "a ping (and, if subscribed, a status) comes at least this often, s"]


class EventMessage(TypedDict):
    """A micro-expression interval begins, changes, settles or is taken back."""

    type: Literal["event"]
    v: Literal[1]
    epoch: Annotated[str, "ULID of the run that sent it"]
    seq: Annotated[int, "counts from 1 within the epoch, without holes"]
    phase: Annotated[Literal["start", "update", "end", "retract"], "`end` is final; `retract` takes a `start` back"]
    id: Annotated[str, "ULID shared by all events of one interval"]
    source: str
    face: Annotated[int, "number of the face; says nothing about who it is"]
    onset_s: Seconds
    apex_s: Annotated[float | None, "seconds on the source's clock; may be absent (null) in a start"]
    offset_s: Annotated[float | None, "seconds on the source's clock; may be absent (null) in a start"]
    score: Annotated[float, "0 to 1"]
    regions: Annotated[dict[str, float], "share of the movement per region of the face"]
    time: Annotated[str, "wall clock at emission, ISO 8601 UTC"]
    latency_ms: Annotated[float, "from the capture of the newest frame it rests on to its emission"]
    quality: Annotated[dict[str, float], "how well the face was seen (fps, yaw_deg, blur, ...)"]
    probability: NotRequired[
        Annotated[float | None, "how often an interval of this score was right on the tuning people"]
    ]
    suppressed: Annotated[str | None, "why it was taken back (blink, macro, speech, head, faded, gap, ...)"]


class FaceStatus(TypedDict):
    """What is done with one face."""

    face: int
    state: Literal["watching", "calibrating", "cannot_spot"]
    reason: Annotated[str | None, "why it cannot be spotted (low_fps, turned_away, ...)"]


class Status(TypedDict):
    """Health of the running program, about once a second."""

    type: Literal["status"]
    fps: Annotated[float | None, "measured rate of the source, Hz; null before the first frames"]
    faces: list[FaceStatus]
    dropped: Annotated[dict[str, int], "frames dropped so far, per stage"]
    latency_ms: Annotated[dict[str, float | None], "capture to score, p50 and p99"]
    degraded: Annotated[list[str], "what does not work as it should, in words"]
    runtime: NotRequired[Annotated[str, "what runs the model now, if that changed since hello"]]
    threshold: NotRequired[Annotated[float | None, "what a score must pass, 0 to 1"]]
    false_alarms_per_hour: NotRequired[Annotated[float | None, "the rate that the threshold stands for"]]
    operating_point: NotRequired[OperatingPoint]


Gap = TypedDict(
    "Gap",
    {
        "type": Literal["gap"],
        "epoch": Annotated[str, "epoch of the missing events"],
        "from": Annotated[int, "first missing seq"],  # a keyword, hence not a class
        "to": Annotated[int | None, "last missing seq; null if the epoch is unknown here"],
    },
)
Gap.__doc__ = "Events that were asked for by `after` but are no longer (or were never) in the journal."


class ErrorMessage(TypedDict):
    """Something went wrong with this connection."""

    type: Literal["error"]
    code: Annotated[
        str, "bad_token, auth_required, rate_limited, bad_message, flood, too_slow, ...: ignore what you do not know"
    ]
    message: str


class Scores(TypedDict):
    """The newest score of one face."""

    type: Literal["scores"]
    face: int
    time_s: Seconds
    score: Annotated[float, "0 to 1"]
    threshold: Annotated[float, "what the score must pass, 0 to 1"]


class Preview(TypedDict):
    """The newest aligned crop of one face."""

    type: Literal["preview"]
    face: int
    time_s: Seconds
    jpeg: Annotated[str, "a JPEG image, base64"]


class SubscribeMessage(TypedDict):
    """Which topics this connection wants from now on; replaces what it asked for before. Default: events."""

    type: Literal["subscribe"]
    topics: Annotated[list[str], "of events, status, scores, preview; unknown ones are ignored"]


class AuthMessage(TypedDict):
    """The token, as the first message, from clients that cannot send an Authorization header."""

    type: Literal["auth"]
    token: str


ServerMessage = Hello | EventMessage | Status | Gap | ErrorMessage | Scores | Preview
SERVER_MESSAGES: tuple[Any, ...] = (Hello, EventMessage, Status, Gap, ErrorMessage, Scores, Preview)
CLIENT_MESSAGES: tuple[Any, ...] = (SubscribeMessage, AuthMessage)


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client wants exactly these of TOPICS from now on."""

    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class Auth:
    """A client says its token."""

    token: str


class MessageError(Exception):
    """What a client sent is not a message of the protocol; the text says why."""


def parse_client(data: str | bytes) -> Subscribe | Auth | None:
    """Read one frame of a client. Unknown types and fields are ignored (None); MessageError on anything malformed."""
    if not isinstance(data, str):
        raise MessageError("binary frames are not understood; send JSON text")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):  # ValueError: not JSON, or an integer of thousands of digits
        raise MessageError("not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise MessageError('a message is an object with a "type"')
    match message["type"]:
        case "subscribe":
            topics = message.get("topics")
            if not isinstance(topics, list) or not all(isinstance(topic, str) for topic in topics):
                raise MessageError('"topics" must be a list of strings')
            return Subscribe(frozenset(topics) & frozenset(TOPICS))
        case "auth":
            token = message.get("token")
            if not isinstance(token, str):
                raise MessageError('"token" must be a string')
            return Auth(token)
        case _:
            return None


def event_message(event: Event, epoch: str, seq: int) -> EventMessage:
    """The message of one event; times to 0.1 ms, scores to four places."""
    message: EventMessage = {
        "type": "event",
        "v": 1,
        "epoch": epoch,
        "seq": seq,
        "phase": event.phase.value,
        "id": event.id,
        "source": event.source,
        "face": int(event.face),
        "onset_s": round(float(event.onset_s), 4),
        "apex_s": None if event.apex_s is None else round(float(event.apex_s), 4),
        "offset_s": None if event.offset_s is None else round(float(event.offset_s), 4),
        "score": round(float(event.score), 4),
        "regions": {name: round(float(share), 4) for name, share in event.regions.items()},
        "time": event.time,
        "latency_ms": round(float(event.latency_ms), 1),
        "quality": {name: round(float(value), 4) for name, value in event.quality.items()},
        "suppressed": event.suppressed,
    }
    if event.probability is not None:
        message["probability"] = round(float(event.probability), 4)
    return message


def encode(message: Any) -> str:
    """A message as JSON text. Numbers that JSON does not know (NaN, infinity) become null; numpy's become plain."""
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_plain(message), separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
