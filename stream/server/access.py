"""The rules for who may talk to the server: Host, Origin and token. Pure: addresses, headers and times are
arguments.
"""

import hmac
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[Network, ...]) -> str:
    """Returns the address that a request counts for: the peer, or the client that a trusted proxy names (last in
    X-Forwarded-For).

    An IPv6 client counts with its whole /64, because one customer gets that much.
    """
    address = _ip(peer)
    for named in reversed((forwarded_for or "").split(",")):
        hop = _ip(named.strip())
        if hop is None or not trusts(address, trusted):
            break
        address = hop
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer if address is None else str(address)


def trusts(address: Address | str | None, trusted: tuple[Network, ...]) -> bool:
    """Whether `address` belongs to a trusted proxy."""
    known = _ip(address) if isinstance(address, str) else address
    return known is not None and any(known in network for network in trusted)


def _ip(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def host_allowed(
    host_header: str | None, bind_host: str, own_names: frozenset[str], loopback: bool, extra: tuple[str, ...] = ()
) -> bool:
    """Whether a request's Host names this server, rather than a page's domain that was rebound to its address.

    Rebinding needs a DNS name, so addresses are allowed (only loopback ones if the server is bound there). Also allowed
    are `localhost`, the name it is bound to, the machine's `own_names`, and `extra`: the names under which a proxy
    serves it.
    """
    try:
        name = urlsplit("//" + (host_header or "")).hostname
    except ValueError:
        return False
    if not name:
        return False
    if name in extra:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in {"localhost", bind_host.lower()} or (not loopback and name in own_names)
    return address.is_loopback or not loopback


def origin_allowed(origin: str | None, host_header: str | None, extra: tuple[str, ...]) -> bool:
    """Whether a page at `origin` may connect. Allowed are the dashboard itself, those in `extra`, and no page at all
    (None).
    """
    if origin is None or origin in extra:
        return True
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and _with_port(parts.netloc, parts.scheme) == _with_port(
            host_header or "", parts.scheme
        )
    except ValueError:
        return False


def _with_port(netloc: str, scheme: str) -> tuple[str | None, int]:
    parts = urlsplit("//" + netloc)
    return parts.hostname, parts.port or (443 if scheme == "https" else 80)


def token_matches(given: str, expected: str) -> bool:
    """Compare two tokens in constant time. Any text works, even with surrogates."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


def bearer_token(authorization: str | None) -> str | None:
    """Returns the token of an `Authorization: Bearer` header. None without one; "" (which never matches) for another
    scheme.
    """
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass
class FailureLimiter:
    """Token bucket of wrong tokens per address: `burst` at once, then one per `refill_s`. It tracks the newest
    `remember`.

    An address without failures left is refused before its token is checked, right or not. Otherwise the response to a
    right guess would still come at full speed.
    """

    burst: int = 10
    refill_s: float = 2.0
    remember: int = 4096
    _spent: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def allowed(self, address: str, now_s: float) -> bool:
        """Whether a token from `address` may be checked now. `now_s`: any monotonic clock."""
        return self._spent_now(address, now_s) <= self.burst - 1

    def failed(self, address: str, now_s: float) -> None:
        """Record a wrong token from `address`."""
        self._spent[address] = (self._spent_now(address, now_s) + 1, now_s)
        self._spent.move_to_end(address)
        if len(self._spent) > self.remember:
            self._spent.popitem(last=False)

    def _spent_now(self, address: str, now_s: float) -> float:
        spent, at_s = self._spent.get(address, (0.0, now_s))
        return max(0.0, spent - (now_s - at_s) / self.refill_s)


class RefusedError(Exception):
    """A client is refused. `code` is the protocol's word for the reason; the text explains it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Gate:
    """Checks tokens. If it has no token itself, it lets everybody in."""

    def __init__(self, token: str | None, limiter: FailureLimiter) -> None:
        self._token = token
        self._limiter = limiter

    @property
    def open(self) -> bool:
        """Whether no token is needed."""
        return self._token is None

    def check(self, token: str | None, address: str, now_s: float) -> None:
        """Return if `token` is right. Raises RefusedError: auth_required (None), rate_limited, bad_token."""
        if self._token is None:
            return
        if token is None:
            raise RefusedError("auth_required", "a token is required")
        if not self._limiter.allowed(address, now_s):
            raise RefusedError("rate_limited", "too many wrong tokens came from this address; wait some seconds")
        if not token_matches(token, self._token):
            self._limiter.failed(address, now_s)
            raise RefusedError("bad_token", "the token is wrong")
