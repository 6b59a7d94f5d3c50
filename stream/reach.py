"""Who can reach the event service: where it listens, and which token that requires. Settings and server both use it."""

import ipaddress
import secrets
import socket
from pathlib import Path

from stream.errors import UserError

TOKEN_LENGTH = 16
"""The least length of a token off loopback. A patient stranger can guess a shorter one."""
_SECRET_FILE_BYTES = 4096


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a service on `host`. Raises OSError for an unknown name."""
    found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return all(ipaddress.ip_address(str(info[4][0]).split("%")[0]).is_loopback for info in found)


def check_bind(host: str, port: int, token: str | None) -> bool:
    """Whether `host` is on loopback. Raises UserError if it can't be bound, or must not be without a good token."""
    if not 0 <= port <= 65535:
        raise UserError(f"--port {port}: a port is a number from 0 to 65535", 2)
    try:
        loopback = is_loopback(host)
    except (OSError, UnicodeError):
        raise UserError(f"--host {host}: no such host; use an address of this machine", 2) from None
    if token is not None and not token.strip():
        raise UserError("--token is empty: give a long random one, or leave it out on 127.0.0.1", 2)
    if not loopback and (token is None or len(token) < TOKEN_LENGTH):
        lacks = "without a token" if token is None else f"with a token of less than {TOKEN_LENGTH} characters"
        raise UserError(
            f"--host {host}: other machines could watch, {lacks}; put this new one into a file for --token-file "
            f"(or into MESTREAM_TOKEN), or listen on 127.0.0.1: {secrets.token_urlsafe(24)}",
            2,
        )
    return loopback


def read_secret(path: Path, flag: str) -> str:
    """Returns the token or password in the file that `flag` names, without surrounding white space. Raises UserError
    without one.
    """
    try:
        with path.open("rb") as file:
            secret = file.read(_SECRET_FILE_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{flag} {path}: {reason}; give a file that holds the secret alone", 2) from None
    if not secret or len(secret.splitlines()) > 1 or len(secret) > _SECRET_FILE_BYTES:
        raise UserError(f"{flag} {path}: one line with the secret is expected, and nothing else", 2)
    return secret
