"""Who is connected, and who has to go when it gets crowded. Pure: it only compares what it is given."""

from collections import Counter
from typing import Generic, TypeVar

from stream.server.access import RefusedError

Who = TypeVar("Who")


class Door(Generic[Who]):
    """Those who were let in, and those who wait: every socket, until it has shown that it may come in.

    At most `inside_max` are in. At most `waiting_max` wait, `share` of them from one address. Where more come, the one
    that has waited longest at the address with the most has to go. So idle sockets never keep out a client that
    brings its token at once, wherever they come from.
    """

    def __init__(self, inside_max: int, waiting_max: int, share: int) -> None:
        self._inside_max, self._waiting_max, self._share = inside_max, waiting_max, share
        self._inside: set[Who] = set()
        self._waiting: dict[Who, str | None] = {}

    @property
    def connected(self) -> list[Who]:
        """All who are in or wait."""
        return [*self._inside, *self._waiting]

    def knock(self, who: Who, address: str | None) -> Who | None:
        """`who` waits from now on. `address`: None behind a proxy, which has not yet said for whom it speaks.

        Returns who has to go for it, if anybody.
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
        """The address of `who` is known now. Returns who has to go for it, if anybody."""
        if self._waiting.get(who, address) == address:  # it was known before, or is gone
            return None
        del self._waiting[who]
        return self.knock(who, address)

    def enter(self, who: Who) -> None:
        """`who` has shown that it may come in. Raises RefusedError: full."""
        if who not in self._waiting or len(self._inside) >= self._inside_max:
            raise RefusedError("full", "too many clients are connected; try again later")
        del self._waiting[who]
        self._inside.add(who)

    def leave(self, who: Who) -> None:
        """`who` is gone."""
        self._inside.discard(who)
        self._waiting.pop(who, None)
