"""`mestream watch ws://...`: shows the events of a running stream in a terminal. It reconnects and resumes where it
was.
"""

import argparse
import asyncio
import contextlib
import json
import os
import stat
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus, InvalidURI

from stream.errors import UserError
from stream.reach import read_secret

_DEFAULT_URL = "ws://127.0.0.1:8765/events"
_BACKOFF_S = (0.5, 1.0, 2.0, 5.0)
_STYLES = {"start": "yellow", "update": "dim", "end": "bold cyan", "retract": "dim"}
_SIGNS = {"start": "◇ begun", "update": "  changed", "end": "◆ settled", "retract": "✕ taken back"}


class Watcher:
    """Follows one server. `after` is where it will resume."""

    def __init__(self, url: str, token: str | None, console: Console, after: str | None, as_json: bool = False) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._console = console
        self._as_json = as_json
        self.after = after

    async def run(self, count: int | None = None) -> None:
        """Show events until `count` of them have come (None: for ever).

        Raises UserError if the server refuses for good; it waits for a server that is away. Raises OSError if standard
        output fails.
        """
        async with contextlib.aclosing(self._messages()) as messages:
            async for message in messages:
                self._show(message)
                count = count - 1 if count and message.get("type") == "event" else count
                if count == 0:
                    return

    async def _messages(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yields the server's messages without end. After a lost connection it reconnects and resumes."""
        failures = 0
        while True:
            try:
                query = f"?after={self.after}" if self.after else ""
                async with connect(self._url + query, additional_headers=self._headers, proxy=None) as server:
                    while True:
                        text = await server.recv()
                        failures = 0
                        yield json.loads(text)
            except ConnectionClosedOK:
                self._note(f"{self._url}: the server stopped; trying again")
            except InvalidStatus as error:
                self._give_up_if_refused(error)
                failures += 1
            except (OSError, EOFError, InvalidHandshake, ConnectionClosed) as error:
                if failures == 0:
                    self._note(f"{self._url}: {_reason(error)}; trying again")
                failures += 1
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])

    def _give_up_if_refused(self, error: InvalidStatus) -> None:
        status, body = error.response.status_code, (error.response.body or b"").decode(errors="replace").strip()
        if status == 401:
            raise UserError(f"{self._url}: {body or 'not let in'}; give --token-file (or MESTREAM_TOKEN)") from None
        if 400 <= status < 500 and status != 429:
            raise UserError(f"{self._url}: refused with HTTP {status} ({body})") from None
        self._note(f"{self._url}: HTTP {status} ({body}); trying again")

    def _show(self, message: dict[str, Any]) -> None:
        if message.get("type") == "event":
            self.after = f"{message['epoch']}:{message['seq']}"
        elif message.get("type") == "hello" and self.after is None:
            # if a server restarts before its first event, all events of that run must be requested
            self.after = f"{message['epoch']}:{message['seq_newest']}"
        if self._as_json:
            self._console.file.write(json.dumps(message) + "\n")
            self._console.file.flush()
        elif message.get("type") == "event":
            self._console.print(_event_line(message), soft_wrap=True)
        elif message.get("type") == "hello":
            model = message["model"]["name"]
            self._note(f"{message['source']} · {model} on {message['runtime']} · event {message['seq_newest']}")
        elif message.get("type") == "gap":
            self._note(f"events {message['from']} to {message['to'] or '?'} could not be had any more")
        elif message.get("type") == "error":
            self._note(f"{message['code']}: {message['message']}")

    def _note(self, text: str) -> None:
        Console(stderr=True).print(Text(text, style="dim"), soft_wrap=True)


class _Terminal(Console):
    """A console that lets its caller handle a closed output. By default rich ends the program with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


async def _while_read(watching: Coroutine[Any, Any, None]) -> None:
    """Await `watching`, but only while somebody reads standard output, if that is a pipe."""
    task = asyncio.ensure_future(watching)
    # suppressed: there is no descriptor, or it can't be watched
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            # the writing end becomes "readable" when the other end is closed
            asyncio.get_running_loop().add_reader(sys.stdout.fileno(), task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _event_line(event: dict[str, Any]) -> Text:
    style = _STYLES.get(event["phase"], "")
    span = f"{event['onset_s']:9.3f} s"
    if event["offset_s"] is not None:
        span += f" – {event['offset_s']:.3f} s ({1000 * (event['offset_s'] - event['onset_s']):3.0f} ms)"
    place = max(event["regions"].items(), key=lambda item: item[1], default=("", 0.0))[0]
    line = Text.assemble(
        (f"{event['time'][11:23]}  ", "dim"),
        (f"{_SIGNS.get(event['phase'], event['phase']):<13}", style),
        f" face {event['face']}  {span:<38} ",
        (f"{place:<7}", style),
        f" score {event['score']:.2f}",
    )
    if event["suppressed"]:
        line.append(f"  ({event['suppressed'].replace('_', ' ')})", "dim")
    return line


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionClosed):
        return (error.rcvd.reason or "the server went away") if error.rcvd else "the connection was lost"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _url_of(text: str) -> str:
    """Returns the events URL for what the user gave: host:port, http(s)://... or ws(s)://... Raises UserError."""
    if "://" not in text:
        text = f"ws://{text}"
    try:
        parts = urlsplit(text)
        valid = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme if valid else "")
    if not scheme:
        raise UserError(f"{text}: not an address; give one like {_DEFAULT_URL}", 2)
    if parts.query or "@" in parts.netloc:
        raise UserError("no token or query in the address: use --token and --after", 2)
    path = parts.path.rstrip("/") + "/events" if parts.path.endswith("/") else parts.path or "/events"
    return f"{scheme}://{parts.netloc}{path}"


def _parser() -> argparse.ArgumentParser:
    about = "Print the events of a running program. Reconnects, and resumes where it was."
    parser = argparse.ArgumentParser(prog="mestream watch", description=about)
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", default=_DEFAULT_URL, help=f"default: {_DEFAULT_URL}")
    add("--token", metavar="TOKEN", default=os.environ.get("MESTREAM_TOKEN"), help="default: MESTREAM_TOKEN")
    add("--token-file", type=Path, metavar="FILE", help="file that holds the token alone")
    add("--after", metavar="EPOCH:SEQ", help="where to resume; :0 is the running epoch, 0 all there is")
    add("--count", type=int, metavar="N", help="end after so many events")
    add("--json", action="store_true", help="one message per line, as received")
    return parser


def main(argv: Sequence[str]) -> int:
    """Watch until Ctrl-C or until the output is closed. Returns the exit code: 0 done, 1 refused, 2 usage."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.count is not None and arguments.count < 1:
            raise UserError(f"--count {arguments.count}: give a number from 1", 2)
        token = read_secret(arguments.token_file, "--token-file") if arguments.token_file else arguments.token
        watcher = Watcher(_url_of(arguments.url), token, _Terminal(highlight=False), arguments.after, arguments.json)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_while_read(watcher.run(arguments.count)))
    except InvalidURI:
        print(f"{arguments.url}: not an address; give one like {_DEFAULT_URL}", file=sys.stderr)
        return 2
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0
