"""`mestream review DIR|SESSION`: recorded sessions in the browser, without camera and model."""

import argparse
import logging
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from stream.errors import UserError
from stream.protocol.messages import Model, Spotter
from stream.reach import read_secret
from stream.server.listen import ServerConfig
from stream.server.reviews import Reviews
from stream.server.service import EventServer
from stream.server.session import Limits
from stream.sessions.shelf import Shelf

log = logging.getLogger("stream")

CODING_BYTES_MAX = 1 << 20
"""The largest coding that a page may send; 2 h with 3000 marks is half of it."""
_NOTHING_LIVE = Spotter(source="sessions", model=Model("none", "", 0.0, 0), runtime="none", latency_s=0.0)
_LOOK_EVERY_S = 0.2


def main(argv: Sequence[str], stop: threading.Event) -> int:
    """Serve sessions until `stop` is set. Returns 0. Raises UserError: no session, port in use, no token
    off loopback.
    """
    arguments = _parser().parse_args(argv)
    shelf = Shelf(arguments.folder)
    file = arguments.token_file
    token = read_secret(file, "--token-file") if file else os.environ.get("MESTREAM_TOKEN")
    with tempfile.TemporaryDirectory(prefix="mestream-") as scratch:
        server = EventServer(
            ServerConfig(
                host=arguments.host,
                port=arguments.port,
                token=token,
                tls_cert=arguments.tls_cert,
                tls_key=arguments.tls_key,
                journal_path=Path(scratch) / "journal.sqlite",  # the live program's journal stays untouched
                limits=Limits(message_bytes_max=CODING_BYTES_MAX),
            ),
            _NOTHING_LIVE,
            Reviews(shelf, alone=True),
        )
        server.start()
        log.info("review at %sreview/ (Ctrl-C ends it)", server.url)
        try:
            while not stop.wait(_LOOK_EVERY_S):
                if server.failure is not None:
                    raise server.failure
        finally:
            server.stop()
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (see mestream review --help)", 2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mestream review",
        description="Review and code recorded sessions in the browser, without camera and model.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, metavar="DIR|SESSION", help="a session, or the folder that holds them")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; off loopback a token is required")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default 8765)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file that holds the token (or MESTREAM_TOKEN)")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM): serve https")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    return parser
