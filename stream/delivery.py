"""What each client gets next. Pure state: the server feeds it and sends what it says.

Events are never queued per client. There is one ordered log (the tail in memory, the journal behind it) and a cursor
per client, so that resuming, replay and live sending are the same loop and no event can be lost or doubled between
them. Only telemetry has a queue, and that one drops its oldest.
"""

from collections import deque
from dataclasses import dataclass, field

from stream.journal import Cursor, Entry


class Tail:
    """The newest `length` events of the running epoch, so that a client that keeps up never touches the disk."""

    def __init__(self, epoch: str, length: int) -> None:
        self.epoch = epoch
        self._bodies: deque[str] = deque(maxlen=length)
        self.newest_seq = 0

    @property
    def first_seq(self) -> int:
        """Sequence number of the oldest event held (newest + 1 if there is none)."""
        return self.newest_seq - len(self._bodies) + 1

    def append(self, entry: Entry) -> None:
        """Take the next event; they come without holes."""
        if entry.seq != self.newest_seq + 1:
            raise ValueError(f"event {entry.seq} follows {self.newest_seq}")
        self._bodies.append(entry.body)
        self.newest_seq = entry.seq

    def reaches(self, cursor: Cursor) -> bool:
        """Whether everything behind `cursor` is held here."""
        return cursor.epoch == self.epoch and cursor.seq >= self.first_seq - 1

    def after(self, seq: int, limit: int) -> list[str]:
        """Up to `limit` bodies behind `seq`, which must be within reach."""
        start = seq + 1 - self.first_seq
        return [self._bodies[i] for i in range(start, min(start + limit, len(self._bodies)))]


@dataclass
class Outbox:
    """What one client wants and how far it got.

    `cursor`: the last event it was given. `caught_up`: it has once been at the newest event, so from then on being far
    behind is its own fault. `sending_since_s`: when the send that is under way began, None between sends.
    """

    cursor: Cursor
    topics: frozenset[str] = frozenset({"events"})
    telemetry_max: int = 64
    caught_up: bool = False
    sending_since_s: float | None = None
    telemetry: deque[tuple[str, str]] = field(default_factory=deque)

    def offer(self, topic: str, text: str) -> str | None:
        """Queue telemetry if it is wanted; returns the topic of what had to be dropped for it, if anything."""
        if topic not in self.topics:
            return None
        self.telemetry.append((topic, text))
        return self.telemetry.popleft()[0] if len(self.telemetry) > self.telemetry_max else None

    def subscribe(self, topics: frozenset[str], newest: Cursor) -> None:
        """Replace the topics. Who turns events on again gets them from now on."""
        if "events" in topics and "events" not in self.topics:
            self.cursor = newest
        self.topics = topics
        self.telemetry = deque(item for item in self.telemetry if item[0] in topics)

    def behind(self, tail: Tail) -> bool:
        """Whether there are events to send."""
        return "events" in self.topics and self.cursor < (tail.epoch, tail.newest_seq)

    def too_slow(self, tail: Tail, pending_max: int, stall_s: float, now_s: float) -> bool:
        """Whether events wait that it does not take: more than `pending_max`, or one send stuck for `stall_s`."""
        if not self.behind(tail):
            return False
        pending = tail.newest_seq - self.cursor.seq if self.cursor.epoch == tail.epoch else 0
        stuck = self.sending_since_s is not None and now_s - self.sending_since_s > stall_s
        return stuck or (self.caught_up and pending > pending_max)
