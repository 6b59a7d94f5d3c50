"""What one client may do, and what it gets next. Pure: it takes data, addresses and times, and returns decisions.

Events are never queued per client. Each client has a cursor into the one log (`stream.server.event_log`), so resuming,
replay and live sending are the same loop. No event can be lost or doubled between them. Only telemetry has a queue,
which drops its oldest message.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.protocol.log import Cursor
from stream.protocol.messages import TOPICS, Auth, MessageError, Subscribe, parse_client
from stream.server.access import Gate, RefusedError
from stream.server.event_log import Tail


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one client may cost.

    `pending_events_max`, `stall_s`: a client further behind, or with one send stuck for longer, is `too_slow`.
    `telemetry_max`: queued telemetry messages. `burst`, `rate_hz`: messages accepted from it. `bad_messages_max`:
    malformed messages before it is closed. `message_bytes_max`, `fragments_max`: size of one message.
    """

    pending_events_max: int = 1000
    stall_s: float = 10.0
    telemetry_max: int = 64
    burst: int = 50
    rate_hz: float = 20.0
    bad_messages_max: int = 10
    message_bytes_max: int = 16_384
    fragments_max: int = 64


class Inbound:
    """The rules for a client's messages: first the token if it needs one, then requests at a limited rate."""

    def __init__(self, limits: Limits, gate: Gate, address: str, authenticated: bool, now_s: float) -> None:
        self.authenticated = authenticated
        self._limits = limits
        self._gate = gate
        self._address = address
        self._allowance = float(limits.burst)
        self._then_s = now_s
        self._bad = 0

    def take(self, data: str | bytes, now_s: float) -> Subscribe | MessageError | None:
        """Returns what to do with a message: obey, complain, or nothing. Raises RefusedError to close the client."""
        self._spend(now_s)
        try:
            message = parse_client(data)
        except MessageError as error:
            self._bad += 1
            if not self.authenticated or self._bad >= self._limits.bad_messages_max:
                raise RefusedError("bad_message", str(error)) from None
            return error
        if not self.authenticated:
            if not isinstance(message, Auth):
                raise RefusedError("auth_required", 'the first message must be {"type":"auth","token":"..."}')
            self._gate.check(message.token, self._address, now_s)
            self.authenticated = True
        return message if isinstance(message, Subscribe) else None

    def _spend(self, now_s: float) -> None:
        refilled = self._allowance + (now_s - self._then_s) * self._limits.rate_hz
        self._allowance, self._then_s = min(self._limits.burst, refilled) - 1, now_s
        if self._allowance < 0:
            raise RefusedError("flood", "too many messages")


@dataclass
class Outbox:
    """What one client wants, and how far it has come.

    `cursor`: the last event it got. `caught_up`: it has been at the newest event once, so being far behind is now its
    own fault. `sending_since_s`: when the current send began, None between sends.
    """

    cursor: Cursor
    limits: Limits = field(default_factory=Limits)
    topics: frozenset[str] = frozenset({"events"})
    caught_up: bool = False
    sending_since_s: float | None = None
    telemetry: deque[tuple[str, str]] = field(default_factory=deque)

    def offer(self, topic: str, text: str) -> str | None:
        """Queue telemetry if the client wants it. Returns the topic of the message dropped for it, if any."""
        if topic not in self.topics:
            return None
        self.telemetry.append((topic, text))
        return self.telemetry.popleft()[0] if len(self.telemetry) > self.limits.telemetry_max else None

    def subscribe(self, topics: Iterable[str], newest: Cursor) -> None:
        """Replace the topics. Unknown ones are ignored. A client that turns events on again gets those from now on."""
        topics = frozenset(topics).intersection(TOPICS)
        if "events" in topics and "events" not in self.topics:
            self.cursor = newest
        self.topics = topics
        self.telemetry = deque(item for item in self.telemetry if item[0] in topics)

    def behind(self, tail: Tail) -> bool:
        """Whether there are events to send."""
        return "events" in self.topics and tail.is_behind(self.cursor)

    def too_slow(self, tail: Tail, now_s: float) -> bool:
        """Whether the client is too slow: too many events wait, or one send is stuck for too long."""
        if not self.behind(tail):
            return False
        pending = tail.newest_seq - self.cursor.seq if self.cursor.epoch == tail.epoch else 0
        stuck = self.sending_since_s is not None and now_s - self.sending_since_s > self.limits.stall_s
        return stuck or (self.caught_up and pending > self.limits.pending_events_max)
