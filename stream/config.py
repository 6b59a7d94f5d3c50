"""The user's settings: flags over environment (MESTREAM_*) over a TOML file (--config) over defaults.

Every setting is one field of `Config`. Its flag, its variable and its key in the file are derived from the field, so
they always agree. This module opens nothing but the token's file. A Config is well-formed, but may still be impossible
to run.
"""
# ruff: noqa: RUF009 -- `_set` returns dataclasses.field(), which the rule cannot see

import argparse
import ipaddress
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from engine.small_file import read_text
from stream.errors import UserError
from stream.reach import check_bind, read_secret

ENV_PREFIX = "MESTREAM_"
MAX_PIXELS = 7680 * 4320
"""8K. A picture of a few MB can claim any size; decoding one of 16,000 x 16,000 px takes 2 GB."""


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    if "\0" in value:
        raise ValueError("holds a NUL character")
    return value


def _switch(value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError("is neither true nor false")
    return words[value.lower()]


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.strip().isascii() or not value.strip().isdigit() or not low <= int(value) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(value)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise ValueError(f"is not a number from {low:g} to {high:g}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return value

    return parse


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/").lower() for part in value.split(","))
    for origin in origins:
        parts = urlsplit(origin)  # as a browser sends it: scheme, host and port only
        if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError("is not an origin such as https://lab.example or http://localhost:3000")
        if "@" in parts.netloc:
            raise ValueError("holds a name before @, which no origin has")
    return origins


def _host(value: str) -> str:
    return _text(value).strip("[]")


def _hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in value.split(","))
    for host in hosts:
        if not host or urlsplit(f"//{host}").hostname != host:
            raise ValueError("is not a name such as lab.example, without scheme, port and path")
    return hosts


def _networks(value: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in value.split(","))
    except ValueError:
        raise ValueError("is not an address or network such as 127.0.0.1 or 10.0.0.0/8") from None


def _path(value: str) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, but no home directory is known (HOME is not set)") from None


def _set(default: Any, parse: Callable[[str], Any], metavar: str | None, text: str, **more: Any) -> Any:
    return field(default=default, metadata={"parse": parse, "metavar": metavar, "help": text, **more})


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one run; see `mestream --help`. Its repr shows no secrets."""

    config: Path | None = _set(None, _path, "FILE.toml", "settings from a file", command=True)
    camera: str | None = _set(None, _text, "CAMERA", "camera by index, name or /dev/v4l/by-id path")
    source: str | None = _set(
        None, _text, "FILE|URL", "video file, folder of pictures, http MJPEG or rtsp URL, or a /dev/v4l/by-id path"
    )
    demo: bool = _set(False, _switch, None, "no camera needed: a shipped clip, looped")
    offline: bool = _set(False, _switch, None, "every frame, as fast as it goes, no server; exit when done")
    list_cameras: bool = _set(False, _switch, None, "say which cameras there are, and exit", command=True)
    doctor: bool = _set(False, _switch, None, "say what is there and what would run where, and exit", command=True)

    host: str = _set("127.0.0.1", _host, "HOST", "address to listen on; off loopback a token is required")
    port: int = _set(8765, _whole(0, 65535), "PORT", "port of events and dashboard; 0 takes a free one")
    token: str | None = _set(
        None, _text, "TOKEN", "what clients must present; others see it in `ps`: better --token-file", secret=True
    )
    token_file: Path | None = _set(None, _path, "FILE", "file that holds the token alone")
    tls_cert: Path | None = _set(None, _path, "FILE", "certificate (PEM): serve wss and https")
    tls_key: Path | None = _set(None, _path, "FILE", "its private key (PEM)")
    allow_origin: tuple[str, ...] = _set(
        (), _origins, "ORIGIN,...", "pages other than the dashboard that may connect, as https://lab.example"
    )
    allow_host: tuple[str, ...] = _set(
        (), _hosts, "NAME,...", "names under which a proxy serves the page, as lab.example"
    )
    trusted_proxy: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = _set(
        (), _networks, "ADDRESS,...", "proxies whose X-Forwarded-For says who the client is, as 127.0.0.1"
    )

    max_faces: int = _set(4, _whole(1, 64), "N", "faces to follow at most")
    landmarks: str = _set(
        "litert", _one_of("litert", "mediapipe"), "litert|mediapipe", "what runs the landmark network"
    )
    face_model: Path | None = _set(None, _path, "FILE", "face_landmarker.task, if it is not to be fetched")
    width_px: int | None = _set(None, _whole(1, 16384), "PX", "frame width to ask the camera for", flag="width")
    height_px: int | None = _set(None, _whole(1, 16384), "PX", "frame height to ask the camera for", flag="height")
    fps: float | None = _set(None, _number(1, 1000), "HZ", "rate to ask the camera for, or of a folder of pictures")
    video_stream: int | None = _set(None, _whole(0, 255), "N", "video stream of a file, from 0, if not the best one")
    capture_fps: float | None = _set(None, _number(1, 10_000), "HZ", "rate at which a slow-motion file was taken")
    max_pixels: int = _set(MAX_PIXELS, _whole(1, 2**30), "N", "pixels that one picture may have")

    runtime: str = _set(
        "auto", _one_of("auto", "tensorrt", "cuda", "onnx"), "auto|tensorrt|cuda|onnx", "what runs the network"
    )
    device: int = _set(0, _whole(0, 63), "N", "number of the GPU")
    model: Path | None = _set(None, _path, "DIR", "weights other than the shipped ones")
    threshold: float | None = _set(None, _number(0, 1), "P", "score from which an interval is reported")
    calibration: Path | None = _set(None, _path, "FILE", "what `mestream calibrate` wrote")

    record: Path | None = _set(
        None, _path, "DIR", "store sessions here: video, events, scores (else no image is stored)"
    )
    consent: str | None = _set(None, _text, "TEXT", "a note on consent that --record keeps with the session")
    copy: bool = _set(False, _switch, None, "with --offline --record: copy the file instead of referring to it")
    events: Path | None = _set(None, _path, "FILE", "write each event as one line of JSON; live, events are appended")
    force: bool = _set(False, _switch, None, "with --offline: overwrite the --events file of an earlier run")
    journal: Path | None = _set(None, _path, "FILE", "event journal (default: the user's state directory)")
    lsl: str | None = _set(
        None, _text, "NAME", "events and scores on the Lab Streaming Layer (extra `lsl`)", alone="mestream"
    )
    mqtt: str | None = _set(
        None, _text, "URL", "events on an MQTT broker, as mqtts://USER@HOST/PREFIX (extra `mqtt`)", secret=True
    )
    mqtt_password: str | None = _set(
        None, _text, "PASSWORD", "its password; others see it in `ps`: better --mqtt-password-file", secret=True
    )
    mqtt_password_file: Path | None = _set(None, _path, "FILE", "file that holds the broker's password alone")
    mqtt_ca: Path | None = _set(None, _path, "FILE", "CA of the broker's certificate (PEM), if not one of the system's")
    log_format: str = _set("text", _one_of("text", "json"), "text|json", "form of what is said on stderr")
    log_level: str = _set("info", _one_of("debug", "info", "warning"), "debug|info|warning", "how much is said")

    def __repr__(self) -> str:
        shown = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if not f.metadata.get("secret"))
        return f"Config({', '.join(shown)})"


_FIELDS: dict[str, Field[Any]] = {f.name: f for f in fields(Config)}
_SOURCES = ("camera", "source", "demo")
_TOKENS = ("token", "token_file")
_PASSWORDS = ("mqtt_password", "mqtt_password_file")
_HEADINGS = ("source", "faces", "scoring", "server", "outputs", "log", "instead of watching")
_UNDER = {
    "camera": "source",
    "list_cameras": "instead of watching",
    "host": "server",
    "max_faces": "faces",
    "width_px": "source",
    "runtime": "scoring",
    "record": "outputs",
    "log_format": "log",
}
"""Headings of --help. Each heading covers the settings from this one up to the next one named here."""
_EXAMPLES = """\
examples:
  mestream --demo                                    no camera needed; then open http://127.0.0.1:8765/
  mestream --camera 0 --record recordings            watch a camera, keep what it saw
  mestream --source F --offline --events out.jsonl   a file, as fast as it goes

other commands, each with its own --help:
  mestream watch [URL]      events of a running program, in this terminal
  mestream sessions DIR     what --record stored in a folder
  mestream review DIR       recorded sessions in the browser, to look at and to code
  mestream agree ...        agreement of coders, with each other and with the machine
  mestream export ...       a session in a format of another program
  mestream import ...       a coding that was made in another program
  mestream calibrate ...    fit a threshold or a person's baseline, check a camera
  mestream train ...        train the network
  mestream evaluate ...     measure how good it is
  mestream build ...        compile it for a GPU
"""


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Config:
    """Returns the settings from the command line, `environ` and the file that either of them names.

    Raises UserError(code=2) with one line if anything is wrong with them.
    """
    given = _flags(argv)
    if "config" not in given and (named := environ.get(ENV_PREFIX + "CONFIG")):
        given["config"] = _read("config", named, f"{ENV_PREFIX}CONFIG=")
    settings: dict[str, Any] = {}
    for layer in (_file(given["config"]) if "config" in given else {}, _environment(environ), given):
        for rivals in (_SOURCES, _TOKENS, _PASSWORDS):
            if any(layer.get(name) for name in rivals):
                # a source named in a higher layer replaces one named in a lower layer, without a conflict
                for name in rivals:
                    settings.pop(name, None)
        settings |= layer
    for secret, file in (_TOKENS, _PASSWORDS):
        if file in settings:
            if secret in settings:
                raise UserError(f"--{_flag(secret)} and --{_flag(file)}: give one of them", code=2)
            settings[secret] = read_secret(settings[file], f"--{_flag(file)}")
    config = Config(**settings)
    _check(config)
    return config


def _read(name: str, value: str, said: str) -> Any:
    """Parse one value with its field's parser. `said` is how the user wrote it, without the value."""
    setting = _FIELDS[name]
    try:
        return setting.metadata["parse"](value)
    except ValueError as error:
        shown = said if setting.metadata.get("secret") else f"{said}{value}"
        raise UserError(f"{shown}: {error} ({setting.metadata['help']})", code=2) from None


def _flags(argv: Sequence[str]) -> dict[str, Any]:
    given = vars(_parser().parse_args(argv))
    return {name: value if value is True else _read(name, value, f"--{_flag(name)} ") for name, value in given.items()}


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    layer = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable == ENV_PREFIX + "CONFIG":
            continue
        name = _known(variable.removeprefix(ENV_PREFIX).lower(), variable)
        layer[name] = _read(name, environ[variable], f"{variable}=")
    return layer


def _file(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--config {path}: {reason}; give a readable TOML file", code=2) from None
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"--config {path}: is not TOML: {error}", code=2) from None
    layer = {}
    for key, value in table.items():
        name = _known(key.replace("-", "_"), f"{path}: {key}")
        if isinstance(value, dict | list):
            raise UserError(f"{path}: {key}: one value is expected, not a table or list", code=2)
        layer[name] = _read(name, str(value), f"{path}: {key} = ")
    return layer


def _known(name: str, said: str) -> str:
    names = [known for known, setting in _FIELDS.items() if not setting.metadata.get("command")]
    for known in names:
        if name in (known, _flag(known).replace("-", "_")):
            return known
    near = get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    raise UserError(f"{said}: no such setting; {hint}", code=2)


def _flag(name: str) -> str:
    return str(_FIELDS[name].metadata.get("flag", name)).replace("_", "-")


def _check(config: Config) -> None:
    """Check the rules that involve more than one setting."""
    named = [f"--{name}" for name in _SOURCES if getattr(config, name)]
    if not (config.list_cameras or config.doctor):
        if not named:
            raise UserError(
                "no source: give --camera 0, --source FILE|URL, or --demo to try it without a camera", code=2
            )
        if len(named) > 1:
            raise UserError(f"{' and '.join(named)}: one source at a time", code=2)
    if config.offline and config.camera:
        raise UserError("--offline --camera: a camera cannot be read faster than it runs; leave --offline out", code=2)
    if config.offline and not (config.events or config.record):
        raise UserError("--offline: nobody would see the events; add --events FILE or --record DIR", code=2)
    if config.copy and not (config.offline and config.record):
        raise UserError("--copy: it is for --offline --record DIR, which refers to the file; leave it out", code=2)
    if config.consent and not config.record:
        raise UserError("--consent: nothing is recorded; add --record DIR, or leave it out", code=2)
    if config.offline and config.lsl:
        raise UserError("--offline --lsl: a stamp is a moment of now, which offline has none; leave one out", code=2)
    if config.offline and config.mqtt:
        raise UserError("--offline --mqtt: only what a live run stores is sent; leave one of them out", code=2)
    if bool(config.tls_cert) != bool(config.tls_key):
        raise UserError("--tls-cert and --tls-key: one needs the other", code=2)
    if not config.offline:
        check_bind(config.host, config.port, config.token)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see mestream --help)", code=2)


def _parser() -> argparse.ArgumentParser:
    try:
        release = version("mestream")
    except PackageNotFoundError:
        release = "not installed"
    parser = _Parser(
        prog="mestream",
        usage="mestream (--camera CAMERA | --source FILE|URL | --demo) [options]",
        description="Spot micro-expressions: camera in, onset/apex/offset intervals out over a WebSocket.\n\n"
        f"A setting can also be given as {ENV_PREFIX}<NAME> in the environment or as a key of the TOML file:\n"
        "flag over environment over file over default.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"mestream {release}")
    groups = {heading: parser.add_argument_group(heading) for heading in _HEADINGS}
    group: argparse._ActionsContainer = parser  # --config stands before all headings
    for name, setting in _FIELDS.items():
        if name in _UNDER:
            group = groups[_UNDER[name]]
        text = setting.metadata["help"]
        if setting.metadata["parse"] is _switch:
            group.add_argument(f"--{_flag(name)}", dest=name, action="store_true", help=text)
            continue
        if setting.default not in (None, ()):
            text += f" (default {setting.default})"
        # `alone`: what the flag means without a value
        alone = {"nargs": "?", "const": setting.metadata["alone"]} if "alone" in setting.metadata else {}
        group.add_argument(f"--{_flag(name)}", dest=name, metavar=setting.metadata["metavar"], help=text, **alone)
    return parser
