"""The command line as its user meets it: bad input is one line and an exit code, never a traceback, never a hang."""

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from clips import face_video
from program import run, said

from engine.model import Model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with all kinds of what is no video."""
    place = tmp_path_factory.mktemp("bad")
    (place / "empty.mp4").write_bytes(b"")
    (place / "notes.pdf").write_text("not a video\n" * 100)
    face_video(place / "whole.mp4", length_s=1)
    whole = (place / "whole.mp4").read_bytes()
    (place / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    with av.open(str(place / "audio.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    return place


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port where nobody answers: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The single line that was said; anything more, or less, is a failure of the test."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    lines = said(done.stderr)
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--camera 0", 1, ("camera 0", "--demo")),
        ("--camera /dev/video77", 1, ("/dev/video77",)),
        ("--source missing.mp4", 1, ("missing.mp4", "no such file")),
        ("--source .", 1, ("director",)),
        ("--source empty.mp4", 1, ("empty.mp4",)),
        ("--source notes.pdf", 1, ("notes.pdf",)),
        ("--source truncated.mp4", 1, ("truncated.mp4",)),
        ("--source audio.mp4", 1, ("audio.mp4", "video")),
        ("--source gopher://example.org/", 2, ("gopher",)),
        ("--source whole.mp4 --model nowhere", 1, ("nowhere", "--model")),
        ("--source whole.mp4 --face-model notes.pdf", 2, ("--face-model notes.pdf",)),
        ("--source whole.mp4 --runtime cuda", 1, ("cuda", "--runtime auto")),
        ("--source whole.mp4 --offline --events .", 2, ("--events", "folder")),
        ("--source whole.mp4 --offline --events none/e.jsonl", 2, ("--events", "no folder none", "make it first")),
        ("--frobnicate", 2, ("--frobnicate", "--help")),
        ("", 2, ("no source", "--demo")),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(folder, eager_model, arguments, code, says):
    words = arguments.split()
    model = [] if "--model" in words else ["--model", eager_model.directory]
    if "cuda" in words:
        pytest.importorskip("torch")
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU here")
    line = one_line(run(folder, *words, *(model if words else [])), code)
    for word in says:
        assert word.lower() in line.lower()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_dead_url_is_one_line_without_its_password(folder, eager_model, dead_port, scheme):
    url = f"{scheme}://me:hunter2@127.0.0.1:{dead_port}/cam?key=hunter3"
    line = one_line(run(folder, "--source", url, "--model", eager_model.directory), 1)
    assert str(dead_port) in line
    assert "hunter" not in line


@pytest.mark.slow
def test_a_taken_port_is_named(folder, eager_model: Model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(folder, "--source", "whole.mp4", "--model", eager_model.directory, "--port", port)
        line = one_line(done, 1)
    assert f"port {port} is taken" in line
    assert "--port" in line


def test_what_goes_wrong_comes_as_json_when_asked(folder):
    done = run(folder, "--source", "missing.mp4", "--log-format", "json")
    line = json.loads(done.stderr)
    assert line["level"] == "error"
    assert "missing.mp4" in line["message"]


def test_help_and_version_go_to_stdout(folder):
    done = run(folder, "--help")
    assert done.returncode == 0
    for flag in ("--camera", "--source", "--demo", "--offline", "--doctor", "--record", "--config", "--calibration"):
        assert flag in done.stdout
    assert run(folder, "--version").stdout.startswith("mestream ")


@pytest.mark.slow
def test_the_doctor_says_what_is_there_and_what_is_not(folder, eager_model, dead_port):
    done = run(folder, "--doctor", "--model", eager_model.directory, "--port", dead_port, "--log-format", "json")
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert eager_model.sha256[:16] in found["weights"]["says"]
    assert found["telemetry"]["ok"]
    assert "would run" in " ".join(finding["says"] for what, finding in found.items() if what.startswith("runtime"))
    assert not found["port"]["ok"], "the port is bound by this test"
    assert done.returncode == 1


def test_the_doctor_says_whether_telemetry_is_off(folder, eager_model):
    """Off unless the user's own environment turns it on, which is kept and said."""
    asked = ("--doctor", "--model", eager_model.directory, "--port", 0, "--log-format", "json")
    for value, ok, says in (
        ("1", True, "off (ORT_"),
        ("0", False, "is on: ORT_DISABLE_TELEMETRY=0 in your environment"),
    ):
        done = run(folder, *asked, ORT_DISABLE_TELEMETRY=value)
        found = next(finding for finding in json.loads(done.stdout) if finding["what"] == "telemetry")
        assert found["ok"] is ok
        assert says in found["says"]


@pytest.mark.slow
def test_the_doctor_is_content_where_the_program_would_run(folder, eager_model):
    done = run(folder, "--doctor", "--model", eager_model.directory, "--port", 0, "--runtime", "onnx")
    assert done.returncode == 0, done.stdout
    assert "ready" in done.stdout
    assert "MISSING" not in done.stdout


@pytest.mark.slow
def test_the_doctor_measures_the_rate_of_a_source(folder, eager_model):
    arguments = ("--doctor", "--source", "whole.mp4", "--model", eager_model.directory, "--port", 0)
    done = run(folder, *arguments, "--log-format", "json", "--runtime", "onnx")
    rate = next(finding for finding in json.loads(done.stdout) if finding["what"] == "file:whole.mp4")
    assert rate["ok"]
    assert "320x320 at 30.0 fps" in rate["says"]


def test_cameras_are_listed_one_a_line(folder):
    done = run(folder, "--list-cameras")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert said(done.stderr) == []
