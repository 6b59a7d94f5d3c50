"""Shared parts of network cameras: connecting in a way that can be interrupted, and error reasons without secrets."""

import errno
import http.client
import os
import select
import socket
import threading
import time

import av
import numpy as np
from numpy.typing import NDArray

from stream.sources.info import SourceInfo, redact
from stream.sources.multipart import BadMultipart

CONNECT_S = 5.0
POLL_S = 0.1
"""How often a wait checks whether to end."""
NETWORK_UNCERTAINTY_S = 0.1
"""Assumed, not measured: this end can't see the delay that encoder and network add between exposure and arrival."""


def describe_stream(url: str, backend: str, nominal_fps: float | None, image: NDArray[np.uint8]) -> SourceInfo:
    """Returns what a network stream delivers."""
    return SourceInfo(
        name=redact(url),
        live=True,
        width_px=image.shape[1],
        height_px=image.shape[0],
        nominal_fps=nominal_fps,
        backend=backend,
        time_uncertainty_s=NETWORK_UNCERTAINTY_S,
    )


def dial(host: str, port: int, timeout_s: float, interrupted: threading.Event) -> socket.socket:
    """Connect a TCP socket like socket.create_connection, but end soon after `interrupted` is set.

    Raises:
        OSError: no address of the host could be reached in time.
    """
    failure = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    deadline_s = time.monotonic() + timeout_s
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connecting = socket.socket(family, kind, protocol)
        connecting.setblocking(False)
        try:
            connecting.connect_ex(address)
            while not (ready := select.select([], [connecting], [connecting], POLL_S))[1] and not ready[2]:
                if interrupted.is_set() or time.monotonic() > deadline_s:
                    raise TimeoutError("timed out")
            if code := connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
        except OSError as error:
            connecting.close()
            failure = error
            continue
        connecting.settimeout(timeout_s)
        return connecting
    raise failure


def why(error: object) -> str:
    """Returns one plain reason. For errors of other libraries it uses only `strerror`, because their text may hold the
    URL's secrets.
    """
    if isinstance(error, socket.gaierror):
        return "the host's name is not known"
    if isinstance(error, TimeoutError | av.error.ExitError):
        return "nothing came in time"
    if isinstance(error, BadMultipart):
        return str(error)
    if isinstance(error, ValueError | http.client.InvalidURL | str):
        return "the address is malformed"
    return str(getattr(error, "strerror", None) or type(error).__name__)
