"""A real mosquitto, whose life a test has in its hands, and a reader that misses nothing the broker was given."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import paho.mqtt.client as mqtt

LIMIT_S = 30.0
MOSQUITTO = which("mosquitto") or which("mosquitto", path="/usr/sbin")
READER = "reader"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Mosquitto:
    """A broker on one port. It keeps what it stores in `folder`; `settings` are lines of its configuration."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._stored = folder / "mosquitto.db"
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self.settings(folder, *settings)

    def settings(self, folder: Path, *settings: str) -> None:
        """Change the configuration, for the next start."""
        common = (f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/", "user root")
        unbounded = ("max_queued_messages 0", "log_type all")
        self._config.write_text("\n".join((*common, *unbounded, *(settings or ("allow_anonymous true",)))) + "\n")

    def start(self) -> None:
        seen = len(self._lines)
        command = [str(MOSQUITTO), "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        self.wait_for("running", seen)

    def wait_for(self, words: str, seen: int = 0) -> None:
        """Until the broker's log holds `words` in a line behind the first `seen`."""
        with self._news:
            found = self._news.wait_for(lambda: any(words in line for line in self._lines[seen:]), LIMIT_S)
        assert found, f"mosquitto never said {words!r}: {self._lines[-5:]}"

    def save(self) -> None:
        """Have the broker store its sessions and messages now."""
        self._stored.unlink(missing_ok=True)
        self.signal(signal.SIGUSR1)
        wait_until(self._stored.exists)  # it is complete before it takes the name

    def signal(self, number: int) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        for line in process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()


class Reader:
    """Subscribes to everything in a session that the broker keeps; `messages`: what came, in order, twice or not."""

    def __init__(self, port: int, user: str | None = None, password: str | None = None, ca: Path | None = None) -> None:
        self.messages: list[tuple[str, Any, bool]] = []
        self._news = threading.Condition()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, READER, clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_subscribe = lambda *_: self._take("subscribed", None, False)
        self._client.on_message = lambda _, __, message: self._take(message.topic, message.payload, message.retain)
        self._client.reconnect_delay_set(1, 1)
        if user:
            self._client.username_pw_set(user, password)
        if ca:
            self._client.tls_set(str(ca))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_for(lambda messages: any(topic == "subscribed" for topic, _, _ in messages))

    def _take(self, topic: str, payload: bytes | None, retained: bool) -> None:
        text = (payload or b"").decode()
        with self._news:
            self.messages.append((topic, json.loads(text) if text.startswith("{") else text, retained))
            self._news.notify_all()

    def wait_for(self, what: Callable[[list[tuple[str, Any, bool]]], object], limit_s: float = LIMIT_S) -> None:
        with self._news:
            assert self._news.wait_for(lambda: what(self.messages), limit_s), f"only {self.messages[-3:]} came"

    def wait_for_events(self, count: int) -> None:
        self.wait_for(lambda _: len(self.events()) >= count)

    def events(self) -> list[dict[str, Any]]:
        """What a consumer that knows (epoch, seq) makes of it: each event once, in the order in which it came."""
        once: dict[tuple[str, int], dict[str, Any]] = {}
        for topic, message, _ in self.messages:
            if topic.endswith("/event"):
                once.setdefault((message["epoch"], message.get("seq", 0)), message)
        return list(once.values())

    def newest(self, topic: str) -> Any:
        return next((payload for name, payload, _ in reversed(self.messages) if name == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def reading(broker: Mosquitto, **who: Any) -> Iterator[Reader]:
    reader = Reader(broker.port, **who)
    try:
        yield reader
    finally:
        reader.close()


def wait_until(what: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """For what has nobody to tell of it."""
    until_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until_s, "it never happened"
        threading.Event().wait(0.02)
