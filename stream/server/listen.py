"""Where and how to listen. Every error is one line."""

import errno
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from stream.errors import UserError
from stream.server.access import Network
from stream.server.retention import Retention
from stream.server.session import Limits


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where to listen, who may connect, and how much clients may cost.

    `port`: 0 takes a free one. `journal_path`: None is the user's state directory. `allowed_origins`: other pages than
    the dashboard that may connect. `allowed_hosts`: names under which a proxy serves it. `trusted_proxies`: whose
    X-Forwarded-For is trusted. `connections_max`: limit of clients that are in. `waiting_max`, `waiting_share`: limits
    of sockets that have not shown their token, in total and from one address (`connections_max` if no token is needed).
    `tail_events`: newest events kept in memory.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    journal_path: Path | None = None
    retention: Retention = field(default_factory=Retention)
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    heartbeat_s: float = 5.0
    handshake_timeout_s: float = 5.0
    connections_max: int = 800
    waiting_max: int = 128
    waiting_share: int = 64
    tail_events: int = 4096
    limits: Limits = field(default_factory=Limits)


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Returns a TLS context (1.2 or newer) with this certificate (PEM; `key` may be in the same file). Raises
    UserError.
    """
    if cert is None and key is None:
        return None
    if cert is None:
        raise UserError(f"--tls-key {key} needs --tls-cert", 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        files = f"--tls-cert {cert}" + (f" --tls-key {key}" if key else "")
        raise UserError(f"{files}: cannot be used ({reason}); both must be PEM and belong together", 2) from None
    return context


def bind_error(host: str, port: int, error: OSError) -> UserError:
    """Returns why listening failed, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return UserError(f"port {port} is taken on {host}: stop the other program or give another --port")
        case errno.EACCES:
            return UserError(f"--port {port}: not permitted; use a port above 1023")
        case errno.EADDRNOTAVAIL:
            return UserError(f"--host {host} is not an address of this machine; use 127.0.0.1 or one that is")
    return UserError(f"cannot listen on {host} port {port}: {error.strerror or error}")
