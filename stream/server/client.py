"""One client of the event service: its socket, and the task that sends it events first and then telemetry."""

import asyncio
import logging
import socket
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream.protocol.log import Cursor, Entry, message_of
from stream.server.access import Network, RefusedError, client_address, trusts
from stream.server.door import Door
from stream.server.event_log import EventLog
from stream.server.http_routes import Upgrade
from stream.server.session import Outbox

_log = logging.getLogger("stream.server")

_PAGE = 256
_SOCKET_BYTES = 131_072  # limit of the kernel's buffer per client; megabytes would hide that a client does not read


class Connection(ServerConnection):
    """One socket and the result of its handshake (`upgrade`). It waits at the door before it uses any resources."""

    upgrade: Upgrade

    def __init__(
        self, door: "Door[Connection]", trusted_proxies: tuple[Network, ...], *given: Any, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self._door, self._trusted_proxies = door, trusted_proxies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait at the door, and drop the client that has to leave for it."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
        behind_proxy = trusts(self.peer, self._trusted_proxies)
        _drop(self._door.knock(self, None if behind_proxy else client_address(self.peer, None, ())))

    def recognise(self, forwarded_for: str | None) -> str:
        """Set the address that this client counts for, now that its headers have arrived."""
        address = client_address(self.peer, forwarded_for, self._trusted_proxies)
        _drop(self._door.recognise(self, address))
        return address

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the door."""
        self._door.leave(self)
        super().connection_lost(exc)

    @property
    def peer(self) -> str:
        """The address of the other end of the socket, or `?` if it is already gone."""
        return str((self.remote_address or ("?",))[0])


def _drop(who: Connection | None) -> None:
    if who is not None:
        who.transport.abort()


@dataclass(eq=False, slots=True)
class Client:
    """A connection that was let in. It sends the client what `log` and its outbox hold, at the client's pace."""

    ws: Connection
    outbox: Outbox
    log: EventLog
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    idle: bool = False
    closing: asyncio.Task[None] | None = None

    def abreast(self, newest: Cursor) -> bool:
        """Whether the client has everything, and the kernel has taken all of it."""
        up_to_date = self.idle and self.outbox.cursor == newest and "events" in self.outbox.topics
        return up_to_date and self.ws.transport.get_write_buffer_size() == 0

    async def send(self) -> None:
        """Send until the connection or the task ends."""
        try:
            await self._feed()
        except ConnectionClosed:
            pass
        except Exception:
            _log.exception("a client could not be sent to")
            self.ws.transport.abort()  # otherwise it would wait for ever; now it can return and resume

    async def _feed(self) -> None:
        """Send all events, then telemetry, then wait for more."""
        outbox = self.outbox
        while True:
            if outbox.behind(self.log.tail):
                await self._send_events()
            elif outbox.telemetry:
                await self._send(outbox.telemetry.popleft()[1])
            else:
                outbox.caught_up = True
                self.wake.clear()
                self.idle = True
                await self.wake.wait()
                self.idle = False

    async def _send_events(self) -> None:
        outbox = self.outbox
        cursor = outbox.cursor
        items, end = await self.log.read_after(cursor, _PAGE)
        for item in items:
            if outbox.cursor != cursor or not outbox.behind(
                self.log.tail
            ):  # the client turned events off (and on) meanwhile
                return
            await self._send(message_of(item))
            if isinstance(item, Entry) and outbox.cursor == cursor:
                outbox.cursor = cursor = Cursor(item.epoch, item.seq)
        if outbox.cursor == cursor:
            outbox.cursor = end

    async def _send(self, text: str) -> None:
        self.outbox.sending_since_s = asyncio.get_running_loop().time()
        await self.ws.send(text)
        self.outbox.sending_since_s = None


async def receive(ws: Connection, fragments_max: int) -> str | bytes:
    """Receive one message. A message in endless (empty) fragments is refused here, because the size limit does not
    count those.
    """
    pieces: list[Any] = []
    async for piece in ws.recv_streaming():
        pieces.append(piece)
        if len(pieces) > fragments_max:
            raise RefusedError("bad_message", "too many fragments")
    return (b"" if pieces and isinstance(pieces[0], bytes) else "").join(pieces)
