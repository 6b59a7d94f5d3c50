"""The parts of the event log, for code that stores it and code that reads it."""

from typing import NamedTuple

from stream.protocol.messages import Gap, encode


class Cursor(NamedTuple):
    """A place in the log: everything up to and including `seq` of `epoch` is known.

    Only the journal knows which of two epochs came first, so cursors of different epochs can't be compared.
    """

    epoch: str
    seq: int


EVERYTHING = Cursor("", 0)
"""The place before the oldest event."""


class Entry(NamedTuple):
    """One journalled event. `body` is the JSON text as it is sent, now and on every replay."""

    epoch: str
    seq: int
    body: str


class Missing(NamedTuple):
    """Events `first` to `last` of `epoch` are missing. `last` is None if their number is unknown."""

    epoch: str
    first: int
    last: int | None


def message_of(item: Entry | Missing) -> str:
    """Returns the message to send: the event as journalled, or a gap message."""
    if isinstance(item, Entry):
        return item.body
    return encode(Gap(item.epoch, item.first, item.last))
