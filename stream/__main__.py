"""The `mestream` command: command line -> Config -> run. Every error is one line on stderr and an exit code."""

import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType

from engine.extras import not_installed
from stream.config import Config, parse
from stream.errors import UserError
from stream.text import printable
from stream.workers import one_line

log = logging.getLogger("stream")


TOOLS = {
    "calibrate": "calibration.__main__",
    "train": "engine.train",
    "evaluate": "engine.evaluate",
    "build": "engine.build",
}
"""Commands that are separate programs. They are imported by name, because the live program runs without them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 1 failed at run time, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _speak(Config())
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # a failure at exit would print a traceback
    except UserError as error:
        log.error("%s", " ".join(str(error).split()))
        log.debug("where it happened", exc_info=error)
        return error.code
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        _forget_output()
        return 0  # the reader of the output has closed it
    except ModuleNotFoundError as error:
        log.error("%s", not_installed(error) or _mistake(error))
        log.debug("where it happened", exc_info=error)
        return 1
    except OSError as error:
        _forget_output()
        log.error("%s: %s", error.filename or "standard output", error.strerror or error)
        log.debug("where it happened", exc_info=error)
        return 1
    except Exception as error:
        log.error("%s", _mistake(error))
        log.debug("where it happened", exc_info=error)
        return 1


def _mistake(error: Exception) -> str:
    return f"a mistake in this program: {one_line(error)} (--log-level debug tells where)"


def _forget_output() -> None:
    """Discard what standard output still holds, since it can't be written. Python would try again at exit
    and complain.
    """
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    command = arguments[0] if arguments else ""
    if command in TOOLS:
        return int(importlib.import_module(TOOLS[command]).main(arguments[1:]))
    if command == "watch":
        from stream.watch import main as watch

        return watch(arguments[1:])
    if command == "agree":
        from stream.sessions.agree import main as agree

        return agree(arguments[1:])
    if command in ("export", "import"):
        from stream.sessions.exchange import main as exchange

        return exchange(arguments)
    if command == "review":
        from stream.server.review import main as review

        return review(arguments[1:], _stop_at_signals())
    if command == "sessions":
        from stream.sessions.listing import main as sessions

        return sessions(arguments[1:])
    config = parse(arguments)
    _speak(config)
    return _watch(config)


def _watch(config: Config) -> int:
    if config.list_cameras:
        from stream.doctor import list_cameras

        return list_cameras()
    if config.doctor:
        from stream.doctor import diagnose

        return diagnose(config)
    from stream.app import run
    from stream.paths import check_outputs

    check_outputs(config)
    return run(config, _stop_at_signals())


def _stop_at_signals() -> threading.Event:
    """Returns an event that Ctrl-C, SIGTERM or a closed terminal sets. A second signal of the same kind ends the
    program at once.
    """
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask_to_stop)
    return stop


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return f"stream: {printable(record.message)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": printable(record.getMessage()),
            **getattr(record, "figures", {}),
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said)


def _speak(config: Config) -> None:
    """Send all messages to stderr through logging, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.log_format == "json" else _Text())
    log.handlers[:] = [handler]
    log.setLevel(config.log_level.upper())
    log.propagate = False


if __name__ == "__main__":
    sys.exit(main())
