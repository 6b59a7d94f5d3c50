"""No network at run time but what the user asked for: the kernel kills the program if it reaches for one."""

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

import pytest
from clips import face_in_camera, face_video
from no_internet import supported
from servers import MjpegCamera
from videos import write_video
from websockets.sync.client import connect

from engine.model import Model
from stream.faces.model_file import locate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not supported(), reason="the rule is one of the Linux kernel, on x86_64 and aarch64"),
]

TESTS = Path(__file__).parent
READ_ALL = """
import sys
from stream.sources import list_cameras, open_source
source, frames = open_source(sys.argv[1], paced=False), 0
while source.read() is not None:
    frames += 1
list_cameras()
print(frames)
"""
LONG_S = 34.0
"""Longer than the timers of what phones home: onnxruntime's first upload begins after 9.5 s."""
EXTRAS = """
import sys, time
import matplotlib.pyplot, numpy, onnx, onnxscript, openpyxl, safetensors, scipy.stats, torch, xlrd
from engine.flavour import flavour
from engine.model import load_model
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.torch_cuda import torch_runtime
flavour("tensorrt-rtx")
model, until_s = load_model(), time.monotonic() + float(sys.argv[1])
spec = model.spec
crops = numpy.zeros((1, 1 + len(spec.lags), spec.crop_px, spec.crop_px), numpy.uint8)
both = OnnxRuntime(model, 1), torch_runtime(model, 1, "cpu")
while time.monotonic() < until_s:
    [runtime.features(crops) for runtime in both]
    time.sleep(0.2)  # leaves the processor to the programs beside it
"""
OWN_PLACES = ("home-*/.local/state/mestream/journal.sqlite*", "home-*/.cache/matplotlib/fontlist-*.json")
"""Where programs may write unasked: the journal; matplotlib's list of fonts, which only the extra `train` brings."""


def start(rule: str, folder: Path, *arguments: object, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, TESTS / "no_internet.py", rule, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": f"{TESTS.parent}:{folder}", "PATH": "", "HOME": str(folder), **more},
    )


def run(rule: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    with start(rule, folder, *arguments) as program:
        try:
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    (tmp_path / "read_all.py").write_text(READ_ALL)
    return tmp_path


def test_a_file_is_read_without_a_single_internet_socket(reader: Path) -> None:
    """Not from Python and not from the native code of FFmpeg and OpenCV, which an audit hook would not see."""
    done = run("sockets", reader, "read_all", write_video(reader / "v.mp4", [i / 30 for i in range(20)]))
    assert (done.returncode, done.stdout.strip()) == (0, "20"), done.stderr


def test_a_file_cannot_send_the_reader_to_a_network(reader: Path) -> None:
    """A playlist, which FFmpeg knows how to follow, names an address: it is not followed, the file is refused."""
    playlist = reader / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    done = run("sockets", reader, "read_all", playlist)
    assert done.returncode == 1
    assert "UserError" in done.stderr


@pytest.mark.parametrize(
    ("rule", "scheme"),
    [("sockets", "http"), ("connect", "http"), ("sockets", "rtsp"), ("connect", "rtsp"), ("names", "http")],
)
def test_the_rule_bites(reader: Path, rule: str, scheme: str) -> None:
    """The same program, asked for a network camera, is killed: the tests above can fail."""
    host = "cam.invalid" if rule == "names" else "127.0.0.1"
    assert run(rule, reader, "read_all", f"{scheme}://{host}:9/cam").returncode == -signal.SIGSYS


def test_the_whole_program_spots_in_a_file_without_a_single_internet_socket(tmp_path: Path, eager_model: Model) -> None:
    """Landmarks, network, events: all of it, once the landmark networks are in the cache."""
    video, events = face_video(tmp_path / "face.mp4"), tmp_path / "events.jsonl"
    networks = ("--model", eager_model.directory, "--face-model", locate(), "--runtime", "onnx")
    done = run("sockets", tmp_path, "stream", "--offline", "--source", video, "--events", events, *networks)
    assert done.returncode == 0, done.stderr
    assert events.read_text().count('"end"') >= 3


def test_the_live_program_is_called_but_calls_nobody(tmp_path: Path, eager_model: Model) -> None:
    """It serves events on loopback, as asked, to a client in another process, and makes no connection of its own."""
    networks = ("--model", eager_model.directory, "--face-model", locate(), "--runtime", "onnx")
    video = face_video(tmp_path / "face.mp4", length_s=5.0)
    with start("connect", tmp_path, "stream", "--source", video, "--port", 0, *networks) as program:
        try:
            assert program.stderr is not None
            address = next(line for line in program.stderr if "events and dashboard on" in line).split()[-1]
            with connect(address.replace("http", "ws") + "events", proxy=None) as client:
                assert json.loads(client.recv(timeout=10))["type"] == "hello"
                kinds = [json.loads(text)["type"] for text in client]
            assert "event" in kinds
            assert program.wait(30) == 0
        finally:
            program.kill()


@pytest.mark.timeout(240)
def test_nothing_phones_home_after_a_while_nor_leaves_files_where_it_should_not(tmp_path: Path) -> None:
    """The live program, calibration and what the extras bring, side by side for longer than any known timer.

    The same network code with telemetry allowed is killed in that time: so the silence of the others means something.
    """
    (tmp_path / "extras.py").write_text(EXTRAS)
    for folder in ("tmp", "other"):
        (tmp_path / folder).mkdir()
    networks, look = ("--face-model", locate()), ("--seconds", LONG_S)
    with MjpegCamera() as camera, ExitStack() as ends:
        camera.next_image = face_in_camera
        begun: list[subprocess.Popen[str]] = []

        def begin(rule: str, *arguments: object, **more: str) -> subprocess.Popen[str]:
            places = {"HOME": str(tmp_path / f"home-{len(begun)}"), "TMPDIR": str(tmp_path / "tmp")}
            program = start(rule, tmp_path, *arguments, **{**places, **more})
            begun.append(program)
            ends.enter_context(program)
            ends.callback(program.kill)
            return program

        serving = [
            begin("connect", "stream", "--demo", "--port", 0, "--runtime", "onnx", *networks),
            begin("names", "stream", "--source", camera.url(), "--port", 0, "--runtime", "onnx", *networks),
        ]
        ending = [
            begin("names", "calibration", command, "--source", camera.url(), *look, *networks)
            for command in ("camera", "baseline")
        ]
        ending.append(begin("sockets", "extras", LONG_S))
        elsewhere = {"HOME": str(tmp_path / "other"), "TMPDIR": str(tmp_path / "other")}
        loud = begin("sockets", "extras", LONG_S, **elsewhere, ORT_DISABLE_TELEMETRY="0")
        quiet_until_s = time.monotonic() + LONG_S
        for program in serving:
            with pytest.raises(subprocess.TimeoutExpired):
                pytest.fail(f"ended: {program.communicate(timeout=max(0.1, quiet_until_s - time.monotonic()))}")
            program.terminate()
        for program in (*serving, *ending):
            _, said = program.communicate(timeout=60)
            # on a busy machine calibration may look to the end and see too few frames: it was silent all the same
            assert program.returncode == 0 or "s are needed" in said, (program.args, program.returncode, said)
        assert loud.wait(60) == -signal.SIGSYS, "onnxruntime no longer phones home? Then the variable can go"
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("[ht]*/**/*") if path.is_file()]
    assert [path for path in left if not any(fnmatch(path, place) for place in OWN_PLACES)] == []
