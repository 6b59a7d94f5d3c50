"""`--doctor` and `--list-cameras`: show what is there, what would run where, and what is missing."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.table import Table

from engine import TELEMETRY_OFF
from engine.errors import EngineError
from engine.extras import pip_install
from engine.model import load_model
from engine.runtimes import survey
from stream.config import Config
from stream.errors import UserError
from stream.faces import model_file
from stream.faces.condition import MIN_FPS, RateMeter
from stream.server import journal
from stream.sources import cameras
from stream.types import Frame

PACKAGES = ("numpy", "opencv-python", "av", "ai-edge-litert", "onnxruntime", "websockets", "prometheus-client")
MEASURE_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report. `ok` False means trouble. `needed`: with this trouble the main job can't be done."""

    what: str
    ok: bool
    says: str
    needed: bool = False


def list_cameras() -> int:
    """Print the cameras, one line each."""
    found = cameras.list_cameras()
    for camera in found:
        state = "" if camera.opens else "  (does not open: in use, or not permitted)"
        print(f"{camera.index}  {camera.name}  {camera.path or ''}{state}".rstrip())
    if not found:
        print("no cameras here; --demo needs none")
    return 0


def diagnose(config: Config) -> int:
    """Print a table of findings (JSON with --log-format json). Returns 0 if the main job can be done."""
    findings = [finding for check in CHECKS for finding in check(config)]
    if config.log_format == "json":
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("", "", "", show_header=False, box=None, pad_edge=False)
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "-"
            table.add_row(finding.what, mark, finding.says)
        Console(soft_wrap=True).print(table, highlight=False, markup=False)
    able = all(finding.ok for finding in findings if finding.needed)
    if config.log_format == "text":
        print("ready: try `mestream --demo`" if able else "not ready: see MISSING above")
    return 0 if able else 1


def _python(config: Config) -> Iterator[Finding]:
    says = f"{sys.version.split()[0]} on {sys.platform}, {os.cpu_count()} cores"
    yield Finding("Python", sys.version_info >= (3, 11), says, needed=True)


def _packages(config: Config) -> Iterator[Finding]:
    for package in PACKAGES:
        try:
            yield Finding(package, True, version(package), needed=True)
        except PackageNotFoundError:
            yield Finding(package, False, f"not installed ({pip_install()})", needed=True)


def _telemetry(config: Config) -> Iterator[Finding]:
    value = os.environ.get(TELEMETRY_OFF, "")
    if value.lower() in ("1", "true"):
        yield Finding("telemetry", True, f"off ({TELEMETRY_OFF}={value})")
    else:
        yield Finding(
            "telemetry", False, f"onnxruntime's is on: {TELEMETRY_OFF}={value} in your environment; set it to 1"
        )


def _face_model(config: Config) -> Iterator[Finding]:
    try:
        path = config.face_model or model_file.cached_path()
        if config.face_model is None and not path.is_file():
            yield Finding("face model", False, f"fetched into {path.parent} at the first start (3.8 MB, once)")
            return
        yield Finding("face model", True, str(model_file.locate(path)), needed=True)
    except UserError as error:
        yield Finding("face model", False, str(error), needed=True)


def _weights(config: Config) -> Iterator[Finding]:
    try:
        model = load_model(config.model)
    except EngineError as error:
        yield Finding("weights", False, str(error), needed=True)
    else:
        yield Finding("weights", True, f"{model.spec.name}, sha256 {model.sha256[:16]}", needed=True)


def _runtimes(config: Config) -> Iterator[Finding]:
    found = survey()
    if config.runtime == "auto":
        chosen = next((runtime.name for runtime in found if runtime.ok), None)
    else:
        chosen = config.runtime
    for runtime in found:
        says = f"{runtime.why} (would run)" if runtime.ok and runtime.name == chosen else runtime.why
        yield Finding(f"runtime {runtime.name}", runtime.ok, says, needed=runtime.name == chosen)
    if chosen is None:
        yield Finding("runtime", False, "none runs here", needed=True)


def _cameras(config: Config) -> Iterator[Finding]:
    found = cameras.list_cameras()
    for camera in found:
        yield Finding(f"camera {camera.index}", camera.opens, f"{camera.name} {camera.path or ''}".rstrip())
    if not found:
        yield Finding("cameras", False, "none; --demo needs none")
    if config.camera or config.source:
        yield _rate(config)


def _rate(config: Config) -> Finding:
    """Measure the frame rate of the named source."""
    from stream.app import open_named_source

    meter, stop = RateMeter(), threading.Event()
    name = config.camera or "source"
    timer = threading.Timer(MEASURE_S + 0.5, stop.set)
    try:
        with closing(open_named_source(config, stop)) as source:
            name, until_s = source.info.name, time.monotonic() + MEASURE_S
            timer.start()
            while time.monotonic() < until_s and (item := source.read()) is not None:
                if isinstance(item, Frame):
                    meter.add(item.time_s)
            size = f"{source.info.width_px}x{source.info.height_px}"
    except UserError as error:
        return Finding(name, False, str(error), needed=True)
    finally:
        timer.cancel()
    if meter.fps is None:
        return Finding(name, False, f"{size}, fewer frames than a rate can be measured by", needed=True)
    enough = meter.fps >= MIN_FPS
    return Finding(name, enough, f"{size} at {meter.fps:.1f} fps ({MIN_FPS:g} are needed)", needed=True)


def _port(config: Config) -> Iterator[Finding]:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host.strip("[]"), config.port))
        except OSError as error:
            says = f"{config.host} port {config.port}: {error.strerror}; give another --port"
            yield Finding("port", False, says, needed=True)
        else:
            yield Finding("port", True, f"{config.host} port {config.port} is free", needed=True)


def _journal(config: Config) -> Iterator[Finding]:
    path = config.journal or journal.default_path()
    if path is None:
        yield Finding("journal", False, "no home directory (HOME, XDG_STATE_HOME): events will not survive a restart")
        return
    folder = next(parent for parent in path.parents if parent.exists())
    ok = os.access(path if path.exists() else folder, os.W_OK)
    yield Finding("journal", ok, f"{path}{'' if ok else ' cannot be written: events will not survive a restart'}")


CHECKS: tuple[Callable[[Config], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _telemetry,
    _face_model,
    _weights,
    _runtimes,
    _cameras,
    _port,
    _journal,
)
