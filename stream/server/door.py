"""Tracks who is connected, and decides who must leave when there are too many. Pure: it only compares its arguments."""

from collections import Counter
from typing import Generic, TypeVar

from stream.server.access import RefusedError

Who = TypeVar("Who")


class Door(Generic[Who]):
    """Clients that were let in, and clients that wait. Every socket waits until it has shown that it may come in.

    At most `inside_max` are in. At most `waiting_max` wait, with at most `share` from one address. If there are more,
    the longest-waiting client at the address with the most must leave. So idle sockets, wherever they come from, never
    keep out a client that sends its token at once.
    """

    def __init__(self, inside_max: int, waiting_max: int, share: int) -> None:
        self._inside_max, self._waiting_max, self._share = inside_max, waiting_max, share
        self._inside: set[Who] = set()
        self._waiting: dict[Who, str | None] = {}

    @property
    def connected(self) -> list[Who]:
        """All clients that are in or wait."""
        return [*self._inside, *self._waiting]

    def knock(self, who: Who, address: str | None) -> Who | None:
        """Let `who` wait. `address`: None behind a proxy that has not yet named its client.

        Returns the client that must leave for it, if any.
        """
        self._waiting[who] = address
        crowd = Counter(self._waiting.values())
        crowded = address
        if len(self._waiting) > self._waiting_max:
            crowded = crowd.most_common(1)[0][0]
        elif address is None or crowd[address] <= self._share:
            return None
        goes = next(other for other, at in self._waiting.items() if at == crowded)
        del self._waiting[goes]
        return goes

    def recognise(self, who: Who, address: str) -> Who | None:
        """Set the address of `who`, which is known now. Returns the client that must leave for it, if any."""
        if self._waiting.get(who, address) == address:  # the address was known before, or the client is gone
            return None
        del self._waiting[who]
        return self.knock(who, address)

    def enter(self, who: Who) -> None:
        """Let `who` in, which has shown that it may. Raises RefusedError: full."""
        if who not in self._waiting or len(self._inside) >= self._inside_max:
            raise RefusedError("full", "too many clients are connected; try again later")
        del self._waiting[who]
        self._inside.add(who)

    def leave(self, who: Who) -> None:
        """Remove `who`."""
        self._inside.discard(who)
        self._waiting.pop(who, None)
