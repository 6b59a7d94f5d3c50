"""Tickets: how a media element, which can't send a header, shows that its page has the token. Pure.

A ticket is a cookie that says until when it holds, signed with a key that only this run of the program knows. It opens
the videos alone, for some minutes; a page renews it as long as it is open.
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
        # two servers on one machine share the browser's cookies, whatever their ports
        self._name = f"mestream-{secrets.token_hex(4)}"

    def cookie(self, now_s: float, secure: bool) -> str:
        """The Set-Cookie header of a new ticket; it comes back to the folder of the URL that gave it."""
        until = str(int(now_s + HELD_S))
        rest = f"Max-Age={HELD_S:.0f}; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        return f"{self._name}={until}.{self._signature(until)}; {rest}"

    def holds(self, cookie_header: str | None, now_s: float) -> bool:
        """Whether a request's cookies have a ticket that is still good."""
        try:
            found = SimpleCookie(cookie_header or "").get(self._name)
        except CookieError:
            return False
        until, _, signature = found.value.partition(".") if found else ("", "", "")
        signed = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return signed and until.isascii() and until.isdigit() and now_s < int(until)

    def _signature(self, until: str) -> str:
        return hmac.new(self._key, until.encode(), sha256).hexdigest()
