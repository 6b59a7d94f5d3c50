"""Fan-out of the event service against a bare `websockets` broadcast of the same messages in the same run.

Subscribers live in their own process and are as thin as a WebSocket client can be, so that only the server is measured.
Latency runs from the moment an event is on disk (for the broadcast: handed over) to its last byte at a client.
"""

import argparse
import asyncio
import contextlib
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, broadcast, serve

from stream.protocol.messages import Model, Spotter, encode, event_message
from stream.server.listen import ServerConfig
from stream.server.service import EventServer
from stream.server.session import Limits
from stream.types import Event, Phase

SPOTTER = Spotter(source="benchmark", model=Model("none", "", 30, 64), runtime="none", latency_s=0.0)
UPGRADE = (
    b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
START_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--events", type=int, default=200, help="for each of the two measurements")
    parser.add_argument("--rate", type=float, default=10.0, help="events per second while latency is measured")


def run(args: argparse.Namespace) -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * args.subscribers + 256)), hard))
    events = [_event(n) for n in range(args.events)]
    result: dict[str, Any] = {"subscribers": args.subscribers, "events_per_second_offered": args.rate}
    for name, service in (("service", _service), ("broadcast", _broadcast)):
        with service(args.subscribers) as (port, send):
            result[name] = _measure(port, send, events, args, skip=1 if name == "service" else 0)
    result["latency_ratio_p50"] = _ratio(result, "latency_ms_p50")
    result["latency_ratio_p99"] = _ratio(result, "latency_ms_p99")
    result["ratio"] = _ratio(result, "deliveries_per_second")
    for name in ("service", "broadcast"):
        print(name, *(f"{key} {value}" for key, value in result[name].items()), sep="\n  ")
    print(f"service / broadcast: throughput {result['ratio']}, p50 {result['latency_ratio_p50']}")
    return result


Send = Callable[[list[Event]], list[float]]
"""Sends events one after the other. Returns the time at which each was ready to go out (monotonic clock, s)."""


def _measure(port: int, send: Send, events: list[Event], args: argparse.Namespace, skip: int) -> dict[str, Any]:
    """Measures latency at a steady rate, then deliveries per second in one burst."""
    count = len(events)
    parent, child = get_context("spawn").Pipe()
    clients = get_context("spawn").Process(target=_subscribe, args=(port, args.subscribers, skip, count, child))
    clients.start()
    held = parent.recv()
    ready_s = []
    for event in events:
        began_s = time.monotonic()
        ready_s += send([event])
        time.sleep(max(0.0, began_s + 1 / args.rate - time.monotonic()))
    arrived_s = parent.recv()
    latency_ms = 1000 * (arrived_s - np.array(ready_s)[None, :])
    burst_s = time.monotonic()
    send(events)
    arrived_s = parent.recv()
    clients.join(10)
    return {
        "subscribers_held": held,
        "latency_ms_p50": round(float(np.median(latency_ms)), 2),
        "latency_ms_p99": round(float(np.quantile(latency_ms, 0.99)), 2),
        "deliveries_per_second": round(held * count / (arrived_s.max() - burst_s)),
        "events_per_second_fanned_out": round(count / (arrived_s.max() - burst_s), 1),
    }


def _ratio(result: dict[str, Any], key: str) -> float:
    return round(result["service"][key] / result["broadcast"][key], 2)


@contextlib.contextmanager
def _service(subscribers: int) -> Iterator[tuple[int, Send]]:
    with tempfile.TemporaryDirectory() as folder:
        config = ServerConfig(
            port=0,
            journal_path=Path(folder) / "journal.sqlite",
            heartbeat_s=3600,
            connections_max=subscribers + 8,
            limits=Limits(pending_events_max=10**9),
        )
        server = EventServer(config, SPOTTER)
        server.start()
        stored: list[float] = []
        all_stored = threading.Condition()
        tell = server._on_stored

        def on_stored(events: list[Event], entries: list[Any], took_s: float) -> None:
            with all_stored:
                stored.extend([time.monotonic()] * len(events))
                all_stored.notify()
            tell(events, entries, took_s)

        server._writer._on_stored = on_stored

        def send(events: list[Event]) -> list[float]:
            wanted = len(stored) + len(events)
            for event in events:
                server.publish(event)
            with all_stored:
                all_stored.wait_for(lambda: len(stored) >= wanted, timeout=START_S)
            return stored[wanted - len(events) : wanted]

        yield server.port, send
        server.stop()


@contextlib.contextmanager
def _broadcast(subscribers: int) -> Iterator[tuple[int, Send]]:
    """The smallest possible fan-out: no journal, no resume, and no limit on the cost of a slow client."""
    loop, started, connections, ports = (
        asyncio.new_event_loop(),
        threading.Event(),
        set[ServerConnection](),
        list[int](),
    )

    async def handle(ws: ServerConnection) -> None:
        connections.add(ws)
        await ws.wait_closed()
        connections.discard(ws)

    async def main() -> None:
        async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=512) as server:
            ports.append(server.sockets[0].getsockname()[1])
            started.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait()
    sequence = 0

    def send(events: list[Event]) -> list[float]:
        nonlocal sequence
        ready_s = []
        for event in events:
            sequence += 1
            text = encode(event_message(event, "01J00000000000000000000000", sequence))
            ready_s.append(time.monotonic())
            loop.call_soon_threadsafe(lambda text=text: broadcast(connections, text))
        return ready_s

    yield ports[0], send
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)


class _Subscriber(asyncio.Protocol):
    """Reads frames and notes the time at which each was complete."""

    def __init__(self, skip: int) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.arrived_s: list[float] = []
        self._skip = skip
        self._buffer = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(UPGRADE)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        self._buffer += data
        if not self._open:
            _, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._open, self._buffer = True, rest
            if not self._skip:
                self.ready.set_result(None)
        while len(self._buffer) >= 2:
            size, start = self._buffer[1], 2
            if size == 126:
                if len(self._buffer) < 4:
                    return
                size, start = int.from_bytes(self._buffer[2:4]), 4
            if len(self._buffer) < start + size:
                return
            self._buffer = self._buffer[start + size :]
            if self._skip:
                self._skip -= 1
                self.ready.set_result(None)
            else:
                self.arrived_s.append(now_s)


def _subscribe(port: int, count: int, skip: int, events: int, pipe: Connection) -> None:
    """A process of subscribers. It reports how many were accepted, then twice the times at which each got each
    event."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 256)), hard))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        clients = []
        for _ in range(count):
            _, client = await loop.create_connection(lambda: _Subscriber(skip), "127.0.0.1", port)
            clients.append(client)
        await asyncio.wait([client.ready for client in clients], timeout=START_S)
        pipe.send(sum(client.ready.done() for client in clients))
        for part in (1, 2):
            deadline_s = time.monotonic() + START_S
            while any(len(client.arrived_s) < part * events for client in clients):
                if time.monotonic() > deadline_s:
                    raise TimeoutError("not every event reached every subscriber")
                await asyncio.sleep(0.05)
            pipe.send(np.array([client.arrived_s[(part - 1) * events : part * events] for client in clients]))

    asyncio.run(main())


def _event(number: int) -> Event:
    return Event(
        phase=Phase.END,
        id=f"01J{number:023d}",
        source="benchmark",
        face=1,
        onset_s=2.0 * number,
        apex_s=2.0 * number + 0.16,
        offset_s=2.0 * number + 0.4,
        score=0.87,
        regions={"brows": 0.8, "eyes": 0.1, "cheeks": 0.0, "mouth": 0.1},
        time="2026-11-23T02:57:01.234Z",
        latency_ms=84.0,
        quality={"fps": 29.7, "yaw_deg": 4.1, "blur": 0.2},
        suppressed=None,
    )
