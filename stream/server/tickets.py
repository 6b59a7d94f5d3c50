"""Tickets let a media element, which can't send a header, prove that its page has the token. Pure.

A ticket is a cookie with its expiry time, signed with a key that only this run of the program knows. It opens only the
videos, for some minutes. A page renews it while it is open.
"""

import hmac
import secrets
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie

HELD_S = 600.0


class Tickets:
    """Makes and checks the tickets of one run. Times are any monotonic clock, s."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        # servers on one machine share the browser's cookies, even on different ports
        self._name = f"mestream-{secrets.token_hex(4)}"

    def cookie(self, now_s: float, secure: bool) -> str:
        """Returns the Set-Cookie header of a new ticket. The browser sends it back only to the folder of the URL that
        set it.
        """
        until = str(int(now_s + HELD_S))
        rest = f"Max-Age={HELD_S:.0f}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        return f"{self._name}={until}.{self._signature(until)}; {rest}"

    def holds(self, cookie_header: str | None, now_s: float) -> bool:
        """Whether a request's cookies hold a valid ticket."""
        try:
            found = SimpleCookie(cookie_header or "").get(self._name)
        except CookieError:
            return False
        until, _, signature = found.value.partition(".") if found else ("", "", "")
        signed = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return signed and until.isascii() and until.isdigit() and now_s < int(until)

    def _signature(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), sha256).hexdigest()
