"""One connection to an MQTT 5 broker: paho-mqtt in the caller's thread, without its own reconnects and repeats."""

import logging
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger("stream")

ANSWER_S = 5.0
"""A broker that does not respond for this long counts as gone."""
BATCH = 20
"""Messages that paho-mqtt sends without a response. At most this many events come twice after a broken connection."""
KEEPALIVE_S = 15
"""A broker that hears nothing for one and a half times this long publishes the last will."""


class BrokerError(Exception):
    """What is wrong with the broker, in words without secrets: `what` happened, and `why`."""

    def __init__(self, what: str, why: object) -> None:
        super().__init__(what, why)
        self.what, self.why = what, why


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker's address and our credentials. Its `str` holds no secret. `tls`: None if the connection is not
    encrypted.
    """

    host: str
    port: int
    prefix: str
    user: str | None
    password: str | None = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.prefix}"


class Link:
    """An open connection. Its methods raise BrokerError once the broker is gone or refuses something.

    `connected`: the broker has accepted us. `batch`: how many messages it takes at once. `waiting`: topics, by number,
    of unconfirmed messages. `unwanted`: collects the optional topics that the broker refuses.
    """

    def __init__(self, mqtt: Any, broker: Broker, client_id: str, will_topic: str, unwanted: set[str]) -> None:
        self.connected = False
        self.batch = BATCH
        self.waiting: dict[int, str] = {}
        self._optional: set[str] = set()
        self._unwanted = unwanted
        self._trouble: BrokerError | None = None
        self._heard_s = time.monotonic()
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
        client.on_connect, client.on_publish, client.on_disconnect = self._on_connect, self._on_publish, self._on_gone
        client.connect_timeout = ANSWER_S
        client.will_set(will_topic, "offline", qos=1, retain=True)
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        self._client = client
        try:
            client.connect(broker.host, broker.port, KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            raise BrokerError("the broker's certificate is not trusted", error.verify_message) from None
        except OSError as error:
            raise BrokerError("broker unreachable", error.strerror or error) from None

    def publish(self, topic: str, text: str, *, retain: bool = True, optional: bool = False) -> None:
        """Send a message. It stays in `waiting` until the broker confirms it.

        `optional`: if the broker refuses the topic, it becomes `unwanted`. Otherwise a refusal ends the link.
        """
        if not self.waiting:
            self._heard_s = time.monotonic()
        if optional:
            self._optional.add(topic)
        self.waiting[self._client.publish(topic, text.encode(), 1, retain).mid] = topic

    def poll(self, wake: socket.socket, timeout_s: float) -> None:
        """Wait for the broker or for bytes on `wake`, at most `timeout_s`, and handle what arrived."""
        client, connection = self._client, self._client.socket()
        if connection is None:
            raise self._trouble or BrokerError("broker unreachable", "the connection is closed")
        unread = bool(getattr(connection, "pending", lambda: 0)())  # TLS may hold a packet that select can't see
        writing = [connection] if client.want_write() else []
        readable, writable, _ = select.select([connection, wake], writing, [], 0 if unread else timeout_s)
        if unread or connection in readable:
            client.loop_read()
        if writable:
            client.loop_write()
        client.loop_misc()
        if self._trouble is not None:
            raise self._trouble
        if (self.waiting or not self.connected) and time.monotonic() - self._heard_s > ANSWER_S:
            raise BrokerError("broker unreachable", "it does not answer")
        if wake in readable:
            wake.recv(4096)

    def goodbye(self) -> None:
        """Tell the broker that this is the end, so that it does not publish the last will."""
        self._client.disconnect()

    def close(self) -> None:
        """Close the connection. Without a goodbye the broker publishes the last will."""
        if (connection := self._client.socket()) is not None:
            connection.close()

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble = BrokerError("the broker refuses the connection", f"{reason}; check user and password")
            return
        self.connected = True
        self.batch = min(BATCH, getattr(properties, "ReceiveMaximum", BATCH))

    def _on_publish(self, client: Any, userdata: Any, number: int, reason: Any, properties: Any) -> None:
        self._heard_s = time.monotonic()
        topic = self.waiting.pop(number, None)
        if topic is None or not reason.is_failure:
            return
        if topic in self._optional:
            log.warning("--mqtt: the broker refuses %s (%s); it is left out", topic, reason)
            self._unwanted.add(topic)
        else:
            self._trouble = BrokerError(f"the broker refuses {topic}", reason)

    def _on_gone(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._trouble = self._trouble or BrokerError("broker unreachable", f"it closed the connection: {reason}")
