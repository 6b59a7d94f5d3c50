"""What the log of events consists of, for those that store it and those that read it."""

from typing import NamedTuple

from stream.protocol.messages import Gap, encode


class Cursor(NamedTuple):
    """A place in the log: everything up to and including `seq` of `epoch` is known.

    Which of two epochs came first is known to the journal alone, so cursors of different epochs can't be compared.
    """

    epoch: str
    seq: int


EVERYTHING = Cursor("", 0)
"""Before the oldest event there is."""


class Entry(NamedTuple):
    """One journalled event; `body` is the JSON text as it is sent, now and on every replay."""

    epoch: str
    seq: int
    body: str


class Missing(NamedTuple):
    """Events `first` to `last` of `epoch` can't be had; `last` is None if it is not known how many those are."""

    epoch: str
    first: int
    last: int | None


def message_of(item: Entry | Missing) -> str:
    """What is sent for it: the event as journalled, or a gap message."""
    if isinstance(item, Entry):
        return item.body
    return encode(Gap(item.epoch, item.first, item.last))
