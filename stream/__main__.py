"""`python -m stream`: command line -> Config -> run. Whatever goes wrong is one line on stderr and an exit code."""

import json
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import FrameType

from stream.config import Config, parse
from stream.errors import UserError
from stream.workers import one_line

log = logging.getLogger("stream")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 1 failed at run time, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _speak(Config())
    try:
        if arguments[:1] == ["watch"]:
            from stream.watch import main as watch

            return watch(arguments[1:])
        config = parse(arguments)
        _speak(config)
        return _run(config)
    except UserError as error:
        log.error("%s", " ".join(str(error).split()))
        log.debug("where it happened", exc_info=error)
        return error.code
    except KeyboardInterrupt:
        return 0
    except Exception as error:
        log.error("a mistake in this program: %s (--log-level debug tells where)", one_line(error))
        log.debug("where it happened", exc_info=error)
        return 1


def _run(config: Config) -> int:
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
    """An event that Ctrl-C, SIGTERM or a closed terminal sets; a second signal of the kind ends the program at once."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask_to_stop)
    return stop


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"stream: {super().format(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "figures", {}),
        }
        if record.exc_info:
            said["trace"] = self.formatException(record.exc_info)
        return json.dumps(said)


def _speak(config: Config) -> None:
    """Everything that is said goes to stderr through logging, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.log_format == "json" else _Text())
    log.handlers[:] = [handler]
    log.setLevel(config.log_level.upper())
    log.propagate = False


if __name__ == "__main__":
    sys.exit(main())
