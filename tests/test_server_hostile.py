"""Hostile and heavy clients, on loopback and in bounded numbers; meanwhile an honest subscriber misses nothing."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serving import event, http, joined, receive, seqs, serving
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from stream.protocol.log import EVERYTHING
from stream.server.journal import Journal
from stream.server.session import Limits
from stream.types import Phase

ROOT = Path(__file__).parent.parent
UPGRADE = (
    "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Honest:
    """A subscriber that reads all along; leaving the block checks that it got every event, once, in order."""

    def __init__(self, server, pause_s=0.01, **fields):
        self.server, self.pause_s, self.fields, self.published, self.got = server, pause_s, fields, 0, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.publish), threading.Thread(target=self.read)]

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.client = self.stack.enter_context(joined(self.server))
        receive(self.client)
        for thread in self.threads:
            thread.start()
        return self

    def publish(self):
        while not self.stopping.wait(self.pause_s):
            self.published += 1
            self.server.publish(event(self.published, **self.fields))
        self.published += 1
        self.server.publish(event(self.published, Phase.START))  # the last one, for `read` to know

    def read(self):
        while not self.got or self.got[-1]["phase"] != "start":
            self.got += receive(self.client)

    def __exit__(self, *failure):
        if failure[0] is None:
            until(lambda: self.published > 10)
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)
        self.stack.close()
        if failure[0] is None:
            assert seqs(self.got) == list(range(1, self.published + 1))


def raw(server, sent=UPGRADE):
    """A socket whose handshake is done by hand."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(sent.encode())
    if sent.endswith("\r\n\r\n"):
        while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
            pass
    return connection


def frame(payload, opcode=1, fin=True):
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + b"\0\0\0\0" + payload


def ended(connection, timeout_s=10):
    """Whether the server closes this socket in time."""
    connection.settimeout(timeout_s)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


def until(condition, timeout_s=30):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def test_a_client_that_never_reads_is_closed_as_too_slow_and_nobody_else_notices(tmp_path):
    limits = Limits(pending_events_max=50, stall_s=0.3)
    big = {f"region {n}": 0.5 for n in range(500)}
    with serving(tmp_path, limits=limits, tail_events=64) as server, socket.socket() as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.connect(("127.0.0.1", server.port))
        sleeper.sendall(UPGRADE.encode())
        with Honest(server, pause_s=0.004, regions=big):
            until(lambda: b'closed_total{code="too_slow"} 1.0' in http(server, "/metrics")[1])
        until(lambda: b"mestream_subscribers 0.0" in http(server, "/metrics")[1])


def test_a_slow_client_loses_telemetry_first_and_no_event(tmp_path):
    """It reads nothing for a while: of 600 previews the oldest are gone, of 20 events none."""
    limits = Limits(telemetry_max=8)
    with serving(tmp_path, limits=limits) as server, joined(server, max_queue=1) as client:
        receive(client)
        client.send(json.dumps({"type": "subscribe", "topics": ["events", "preview"]}))
        until(lambda: server.wants("preview"))
        for n in range(600):
            server.publish_preview(1, b"x" * 10_000, float(n))
            if n % 30 == 0:
                server.publish(event(n))
            time.sleep(0.0005)
        until(lambda: b'telemetry_dropped_total{topic="preview"}' in http(server, "/metrics")[1])
        messages = []
        while len([message for message in messages if message["type"] == "event"]) < 20:
            messages += receive(client)
        previews = [message["time_s"] for message in messages if message["type"] == "preview"]
        assert seqs([message for message in messages if message["type"] == "event"]) == list(range(1, 21))
        assert len(previews) < 600
        assert previews == sorted(previews)


@pytest.mark.parametrize(
    "attack",
    [
        frame(b"[" * 16_000),
        frame(b'{"type":"subscribe","topics":[' + b"9" * 16_000 + b"]}"),
        frame(b"\xff\xfe\xfd"),
        frame(b"\x00\x01\x02", opcode=2),
        frame(b"{}", opcode=3),
        frame(b"x" * 20_000),
        frame(b"{", fin=False) + frame(b"", opcode=0, fin=False) * 5000,
        frame(b"{", fin=False) + frame(b"}", opcode=1),
        frame(b"", opcode=0),
        frame(b"x" * 126, opcode=9),
        b"\x81\x05hello",  # not masked
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0",  # announces 2^64 bytes
        b"\xf1\x80\0\0\0\0",  # reserved bits
        b"\x00" * 4096,
        random.Random(7).randbytes(4096),
    ],
    ids=["deep", "huge number", "not utf-8", "binary", "unknown opcode", "too big", "endless fragments",
         "torn fragments", "stray continuation", "long ping", "unmasked", "2^64", "reserved", "zeros", "noise"],
)  # fmt: skip
def test_malformed_frames_hurt_only_their_sender(tmp_path, attack):
    with serving(tmp_path) as server, Honest(server):
        attackers = [raw(server) for _ in range(3)]
        for attacker in attackers:
            with contextlib.suppress(OSError):
                attacker.sendall(attack * 3)
        time.sleep(0.02)
        for attacker in attackers:
            attacker.close()
        with joined(server) as later:
            assert receive(later)[0]["type"] == "hello"


def test_a_flood_of_requests_and_of_nonsense_is_cut_off(tmp_path):
    with serving(tmp_path) as server, Honest(server):
        for text, code in (('{"type":"subscribe","topics":["events"]}', "flood"), ("nonsense", "bad_message")):
            with joined(server) as flooder:
                receive(flooder)
                with pytest.raises(ConnectionClosed) as closed:
                    flood(flooder, text)
            assert closed.value.rcvd.reason == code


def flood(client, text):
    for _ in range(5000):
        client.send(text)
    while True:
        client.recv(timeout=10)


def test_stalled_handshakes_are_dropped(tmp_path):
    with serving(tmp_path, handshake_timeout_s=0.4) as server, Honest(server):
        halves = [raw(server, sent) for sent in ("", "GET", "GET / HTTP/1.1\r\n", UPGRADE[:-2]) for _ in range(10)]
        assert all(ended(half) for half in halves)


def test_sockets_beyond_the_limit_are_refused_and_come_back_when_there_is_room(tmp_path):
    with serving(tmp_path, connections_max=20) as server, Honest(server):
        idle = [raw(server) for _ in range(19)]
        with pytest.raises((OSError, EOFError, InvalidHandshake, ConnectionClosed)):
            joined(server, open_timeout=5)
        idle.pop().close()

        def comes_back():
            with (
                contextlib.suppress(OSError, EOFError, InvalidHandshake, ConnectionClosed),
                joined(server, open_timeout=5) as client,
            ):
                return receive(client)[0]["type"] == "hello"

        until(comes_back)
        for connection in idle:
            connection.close()


def test_two_hundred_idle_connections_and_strangers_knocking(tmp_path):
    """The full five hundred are held in benchmarks/service.py."""
    with serving(tmp_path, token="correct horse battery") as guarded:
        knocks = [
            raw(guarded, f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {n}\r\n\r\n")
            for n in range(50)
        ]
        for knock in knocks:
            knock.close()
    (tmp_path / "open").mkdir()
    with serving(tmp_path / "open") as server, Honest(server, pause_s=0.05):
        idle = [raw(server) for _ in range(200)]
        assert b"mestream_subscribers 201.0" in http(server, "/metrics")[1]
        for n in range(30):
            assert http(server, f"/../../etc/passwd{n}")[0].status == 404
            assert http(server, "/", Host="evil.example")[0].status == 421
        for connection in idle:
            connection.close()


SERVICE = """
import sys, time
from pathlib import Path
from serving import SPOTTER, event
from stream.server.listen import ServerConfig
from stream.server.service import EventServer
server = EventServer(ServerConfig(port=0, journal_path=Path(sys.argv[1])), SPOTTER)
server.start()
print(server.port, flush=True)
number = 0
while True:
    server.publish(event(number))
    number += 1
    time.sleep(0.0005)
"""


def test_killing_the_service_loses_no_event_that_a_client_saw(tmp_path):
    """SIGKILL to a real process in mid-stream, four times; the client resumes each time where it was."""
    path, chance, seen = tmp_path / "journal.sqlite", random.Random(11), []
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}

    class Address:
        port = 0

    for _ in range(4):
        service = subprocess.Popen(
            [sys.executable, "-c", SERVICE, path], stdout=subprocess.PIPE, text=True, env=environ
        )
        Address.port = int(service.stdout.readline())
        after = f"{seen[-1]['epoch']}:{seen[-1]['seq']}" if seen else ":0"
        with joined(Address, after=after, close_timeout=0.01) as client:
            receive(client)
            seen += receive(client, chance.randrange(20, 300))
            service.send_signal(signal.SIGKILL)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    seen += receive(client)
        service.wait(10)
        service.stdout.close()
    journal = Journal(path)
    stored = {(item.epoch, item.seq): json.loads(item.body) for item in journal.read_after(EVERYTHING, 10**6)[0]}
    journal.close()
    keys = [(message["epoch"], message["seq"]) for message in seen]
    assert len({epoch for epoch, _ in keys}) == 4
    assert keys == sorted(set(keys))  # in order, none twice
    assert [stored[key] for key in keys] == seen
    for epoch in {epoch for epoch, _ in keys[:-1]}:
        numbers = [seq for own, seq in keys if own == epoch]
        assert numbers == list(range(1, len(numbers) + 1))  # none left out, across the kill
