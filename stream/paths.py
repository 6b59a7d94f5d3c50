"""Checks, before anything is opened, that a run will not overwrite its inputs or existing files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.model import DEFAULT_DIRECTORY
from engine.paths import Named, clash, model_files
from stream.app import DEMO
from stream.config import Config
from stream.decide.policy import BESIDE_WEIGHTS
from stream.errors import UserError
from stream.server import journal

_FIRST_LINE_BYTES = 1 << 16


def check_outputs(config: Config) -> None:
    """Raises UserError(code=2) if a run with `config` would overwrite an input, or an existing file without
    permission.
    """
    if why := clash(_writes(config), _reads(config)):
        raise UserError(why, code=2)
    if config.events is not None:
        _check_events(config.events, config.offline, config.force)


def _writes(config: Config) -> Iterator[Named]:
    yield "--events", config.events
    yield "--record", config.record
    if not config.offline and (kept := config.journal or journal.default_path()):
        for ending in ("", "-wal", "-shm"):  # SQLite's side files
            yield "--journal", kept.with_name(kept.name + ending)


def _reads(config: Config) -> Iterator[Named]:
    yield "--source", source_path(config.source)
    yield "--demo", DEMO if config.demo else None
    home = config.model or DEFAULT_DIRECTORY
    yield from model_files(home)
    yield "--model", home / BESIDE_WEIGHTS
    for name in (
        "config",
        "calibration",
        "face_model",
        "tls_cert",
        "tls_key",
        "token_file",
        "mqtt_ca",
        "mqtt_password_file",
    ):
        yield f"--{name.replace('_', '-')}", getattr(config, name)


def source_path(source: str | None) -> Path | None:
    """Returns the file or folder that --source names, if it can be one."""
    if source is None or re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://", source, re.IGNORECASE):
        return None
    return Path(unquote(urlsplit(source).path) if source.casefold().startswith("file://") else source)


def _check_events(path: Path, offline: bool, force: bool) -> None:
    if not path.parent.is_dir():
        raise UserError(f"--events {path}: there is no folder {path.parent}; make it first", code=2)
    if path.is_dir():
        raise UserError(f"--events {path}: is a folder; name a file in it", code=2)
    if not path.is_file() or path.stat().st_size == 0:  # new, or a device or pipe
        return
    if offline and not force:
        raise UserError(f"--events {path}: exists already; add --force to overwrite it, or give another file", code=2)
    if not offline and not _holds_events(path):
        raise UserError(f"--events {path}: holds something else than events to append to; give another file", code=2)


def _holds_events(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(_FIRST_LINE_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.get("type") == "event"
