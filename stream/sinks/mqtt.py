"""Sends events to an MQTT broker (`--mqtt mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/PREFIX`, extra `mqtt`).

The topics under `PREFIX/<source>/` are `event` (each stored event, QoS 1) and the retained `status`, `state` and
`availability`. Home Assistant discovers them. See docs/outputs.md.

The journal is the outbox. A thread reads the stored events after a bookmark and publishes them. It moves the bookmark
once the broker has confirmed all of them. So the broker may be away, and the program may restart meanwhile: stored
events still arrive in order, sometimes twice. Connections follow one another, and none inherits messages of the last.
"""

import hashlib
import json
import logging
import math
import re
import socket
import ssl
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stream.config import Config
from stream.errors import UserError
from stream.protocol.log import Cursor, Entry, Missing, message_of
from stream.protocol.messages import Status, encode
from stream.sinks import Item, Run
from stream.sinks.home_assistant import discovery
from stream.sinks.mqtt_link import Broker, BrokerError, Link
from stream.sinks.outbox import Bookmark, Outbox
from stream.sources.info import redact
from stream.types import Event, Phase
from stream.workers import Worker, one_line

log = logging.getLogger("stream")

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
LOOK_S = 1.0
CLOSE_S = 0.5
"""How long the last events may take. The next run sends what is left."""
FORM = "mqtt[s]://[USER:PASSWORD@]HOST[:PORT]/PREFIX"


def open_mqtt(config: Config, run: Run) -> "MqttOutput | None":
    """See `stream.sinks.OpenSink`. Offline nothing is stored, so it opens nothing."""
    if not config.mqtt or run.outbox is None:
        return None
    if run.outbox.path is None:
        raise UserError("--mqtt: events can't be stored, and so not be sent later; add --journal FILE", 2)
    name = hashlib.sha256(str(broker := broker_of(config)).encode()).hexdigest()[:8]
    bookmark = Bookmark(Path(f"{run.outbox.path}.mqtt-{name}"), Cursor(run.epoch, 0))
    return MqttOutput(broker, run, run.outbox, bookmark)


def broker_of(config: Config) -> Broker:
    """Returns the broker that the settings name. Raises UserError, which shows no password."""
    url = config.mqtt or ""
    shown = f"--mqtt {redact(url)}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UserError(f"{shown}: is malformed; give {FORM}, with % codes for signs in the password", 2) from None
    prefix = unquote(parts.path).strip("/")
    odd = parts.query or parts.fragment or "@" in parts.path
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or odd:
        raise UserError(f"{shown}: is not {FORM}; write signs such as / # ? @ in a password as % codes", 2)
    if not prefix or prefix.startswith("$") or re.search(r"[+#\x00-\x1f\x7f]|//", prefix):
        raise UserError(f"{shown}: the prefix is no topic; give a path such as /lab/room3, without + and #", 2)
    user = None if parts.username is None else unquote(parts.username)
    password = config.mqtt_password or (None if parts.password is None else unquote(parts.password))
    if password is not None and not user:
        raise UserError(f"{shown}: a password without a user; give mqtt://USER@HOST/PREFIX", 2)
    secure = parts.scheme == "mqtts"
    if config.mqtt_ca and not secure:
        raise UserError(f"{shown}: --mqtt-ca is for a connection by TLS; give mqtts://", 2)
    tls = _tls(config.mqtt_ca) if secure else None
    return Broker(parts.hostname, port or (8883 if secure else 1883), prefix, user, password, tls)


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError too
        reason = "holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UserError(f"--mqtt-ca {ca}: {reason}; give a PEM file with the broker's CA", 2) from None


def topic_name(source: str) -> str:
    """Returns a source's name as one level of a topic: letters, digits, `-` and `_`, at most the last 64 of them."""
    return re.sub(r"[^\w-]+", "_", source).strip("_")[-64:] or "source"


class MqttOutput:
    """One run's output to one broker. Raises UserError without paho-mqtt."""

    def __init__(self, broker: Broker, run: Run, outbox: Outbox, bookmark: Bookmark) -> None:
        try:
            import paho.mqtt.client
        except ImportError:
            raise UserError("--mqtt: paho-mqtt is missing; install the extra mqtt", 2) from None
        self.dropped: dict[str, int] = {}
        self._mqtt = paho.mqtt.client
        self._broker, self._run, self._outbox, self._bookmark = broker, run, outbox, bookmark
        self._trouble: str | None = None
        self._since = ""
        self._unwanted: set[str] = set()
        self._wait_s = FIRST_WAIT_S
        self._moving: set[str] = set()
        self._counts = {"events": 0, "retracted": 0}
        self._published = 0
        self._discovery, message = discovery(run.source.name, self._topic("").rstrip("/"))
        self._retained = {
            self._topic("availability"): "online",
            self._discovery: message,
            self._topic("state"): self._state(),
            self._topic("status"): "",
        }
        self._wake_out, self._wake_in = socket.socketpair()
        self._wake_out.setblocking(False)
        self._wake_in.setblocking(False)
        self._closing = threading.Event()
        if broker.password and broker.tls is None and broker.host not in ("localhost", "127.0.0.1", "::1"):
            log.warning("--mqtt %s: the password and all events travel in the clear; mqtts:// is safer", broker)
        outbox.listen(self._wake)
        self._worker = Worker("mqtt", self._work, lambda: None)
        self._worker.start()

    @property
    def trouble(self) -> str | None:
        """What is wrong with the broker and since when, in words without secrets."""
        return self._trouble or self._bookmark.trouble

    def put(self, item: Item) -> None:
        """Remember the newest status and which movements go on. Events come from the outbox once they are stored."""
        if isinstance(item, Event):
            self._published += 1
            over = item.phase in (Phase.END, Phase.RETRACT)
            (self._moving.discard if over else self._moving.add)(item.id)
            self._counts["events"] += item.phase is Phase.END
            self._counts["retracted"] += item.phase is Phase.RETRACT
            self._retained[self._topic("state")] = self._state()
        elif isinstance(item, Status):
            self._retained[self._topic("status")] = encode(item)
        else:
            return
        self._wake()

    def close(self) -> None:
        """Send stored events for a moment. The bookmark tells the next run what is left."""
        self._closing.set()
        self._wake()
        self._worker.join(CLOSE_S)

    def _state(self) -> str:
        return json.dumps({"movement": bool(self._moving), **self._counts})

    def _wake(self) -> None:
        with suppress(OSError):  # if full, the thread is awake already; if closed, it has ended
            self._wake_in.send(b"!")

    def _topic(self, name: str, source: str | None = None) -> str:
        return f"{self._broker.prefix}/{topic_name(source or self._run.source.name)}/{name}"

    # --- the thread that talks to the broker -------------------------------------------------------------------------

    def _work(self) -> None:
        with self._wake_in, self._wake_out:
            while not self._closing.is_set():
                try:
                    with closing(self._connect()) as link:
                        self._talk(link)
                except BrokerError as error:
                    self._fail(error.what, error.why)
                except Exception as error:  # the output reports any error and tries again
                    self._fail("output failed", one_line(error))
                self._closing.wait(self._wait_s)
                self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def _connect(self) -> Link:
        name = f"mestream-{self._run.epoch}"
        return Link(self._mqtt, self._broker, name, self._topic("availability"), self._unwanted)

    def _talk(self, link: Link) -> None:
        """Publish stored and new events until `close`, or until the link breaks (BrokerError)."""
        while not link.connected:
            link.poll(self._wake_out, LOOK_S)
            if self._closing.is_set():
                return
        shown: dict[str, str] = {}
        end = self._bookmark.cursor
        give_up_s = math.inf
        while time.monotonic() < give_up_s:
            if not link.waiting:
                self._arrived(end)
                if not self._show(link, shown):
                    items, end = self._outbox.read_after(end, 1 if self._trouble else link.batch)
                    for item in items:
                        link.publish(self._topic("event", _source_of(item)), message_of(item), retain=False)
                    if not items:
                        self._arrived(end)
                        self._recover()
                        if self._closing.is_set() and end.epoch == self._run.epoch and end.seq >= self._published:
                            break
            if self._closing.is_set():
                give_up_s = min(give_up_s, time.monotonic() + CLOSE_S)
            link.poll(self._wake_out, min(LOOK_S, max(0.0, give_up_s - time.monotonic())))
        link.publish(self._topic("availability"), "offline")
        link.goodbye()

    def _arrived(self, end: Cursor) -> None:
        """Note that the broker has everything up to `end`."""
        if end != self._bookmark.cursor:
            self._bookmark.move(end)
            self._recover()

    def _show(self, link: Link, shown: dict[str, str]) -> bool:
        """Publish one of the retained texts that differs from `shown`. Returns False if there is none.

        Only one is sent at a time. A broker that refuses one may close the connection, and with more under way its
        reason is lost.
        """
        for topic, text in self._retained.items():
            if text and shown.get(topic) != text and topic not in self._unwanted:
                shown[topic] = text
                if topic == self._topic(
                    "status"
                ):  # published again, since the last will of an earlier connection may come late
                    shown.pop(self._topic("availability"))
                link.publish(topic, text, optional=topic == self._discovery)
                return True
        return False

    def _recover(self) -> None:
        self._wait_s = FIRST_WAIT_S
        if self._trouble is not None:
            log.info("--mqtt %s: works again", self._broker)
            self._trouble = None

    def _fail(self, what: str, why: object) -> None:
        if self._trouble is None:
            self._since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        trouble = f"--mqtt {self._broker}: {what} since {self._since} ({why}); events wait in the journal"
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble


def _source_of(item: Entry | Missing) -> str | None:
    """Returns the source that an event of this or an earlier run names."""
    return str(json.loads(item.body)["source"]) if isinstance(item, Entry) else None
