"""The console command: one program with its tools behind it, which says what it needs where something is missing."""

import json
import os
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from importlib import import_module

import pytest
from clips import face_video
from program import ROOT, command, environment, lines_of_json, run, said

from engine.extras import pip_install

EXTRAS = ("torch", "onnx", "onnxscript", "safetensors", "scipy", "matplotlib", "openpyxl", "xlrd", "mediapipe")
TRAIN = "pip install -e '.[train]'"


def on_base_install(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m module` in a checkout where nothing of any extra can be imported."""
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({EXTRAS})); sys.argv[1:2] = []; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    words = [sys.executable, "-c", program, module, *map(str, arguments)]
    environ = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=60)


def test_the_command_that_is_installed_is_the_program():
    """.ci/wheel runs it; here it is only that the name in pyproject.toml leads to what `python -m stream` runs."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["mestream"].split(":")
    assert getattr(import_module(module), function) is import_module("stream.__main__").main


HELP = [
    ("stream", (), "usage: mestream ", ""),
    ("stream", ("watch",), "usage: mestream watch", ""),
    ("stream", ("review",), "usage: mestream review", ""),
    ("stream", ("calibrate",), "usage: mestream calibrate", ""),
    ("stream", ("calibrate", "baseline"), "usage: mestream calibrate baseline", TRAIN),
    ("stream", ("calibrate", "camera"), "usage: mestream calibrate camera", f"The command and --plot needs: {TRAIN}"),
    ("stream", ("calibrate", "int8"), "usage: mestream calibrate int8", TRAIN),
    ("stream", ("train",), "usage: mestream train", TRAIN),
    ("stream", ("evaluate",), "usage: mestream evaluate", TRAIN),
    ("stream", ("build",), "usage: mestream build", TRAIN),
    ("calibration", ("threshold",), "usage: mestream calibrate threshold", TRAIN),
    ("engine.train", (), "usage: mestream train", TRAIN),
    ("engine.evaluate", (), "usage: mestream evaluate", TRAIN),
    ("engine.build", (), "usage: mestream build", TRAIN),
    ("engine.bench_data", (), "usage: python -m engine.bench_data", TRAIN),
    ("engine.training.film", (), "usage: python -m engine.training.film", TRAIN),
]


@pytest.mark.parametrize(("module", "words", "usage", "needs"), HELP)
def test_help_needs_no_extra_and_says_which_one_the_command_needs(module, words, usage, needs):
    done = on_base_install(module, *words, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(usage)
    assert needs in done.stdout


@pytest.mark.parametrize(
    ("words", "purpose"),
    [
        (("train", "--data", "x", "--out", "y"), "training needs torch"),
        (("evaluate", "--bench", "x", "--out", "y"), "the report needs matplotlib"),
        (("build", "--runtime", "onnx"), "--runtime onnx needs onnx"),
        (("calibrate", "camera", "--camera", "0"), "camera needs torch"),
        (("calibrate", "probability"), "probability needs torch"),
        (("calibrate", "baseline", "--camera", "0", "--plot", "x.png"), "--plot needs matplotlib"),
    ],
)
def test_without_its_extra_a_command_ends_at_once_in_one_line_that_installs_it(words, purpose):
    done = on_base_install("stream", *words)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert purpose in line
    assert line.endswith(f"run: {TRAIN}")


def test_a_plot_that_cannot_be_is_refused_before_the_measurement(tmp_path):
    """The source does not exist: were it opened first, the error would be about it."""
    arguments = ("calibrate", "baseline", "--source", "none.mp4", "--out", "b.json", "--plot", "curve.txt")
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["calibration: --plot curve.txt: not one of .png, .svg, .pdf; name such a file"]
    assert list(tmp_path.iterdir()) == []


def test_the_install_hint_works_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert pip_install("train") == TRAIN
    assert pip_install() == "pip install -e ."
    monkeypatch.chdir(tmp_path)
    assert pip_install("train") == f"pip install -e '{ROOT}[train]'"


def test_an_installed_copy_hints_at_the_package_not_at_a_folder(tmp_path):
    (tmp_path / "engine").mkdir()
    for name in ("__init__.py", "errors.py", "extras.py"):
        (tmp_path / "engine" / name).write_bytes((ROOT / "engine" / name).read_bytes())
    program = "from engine.extras import pip_install; print(pip_install('train'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "pip install 'mestream[train]'\n"


@pytest.mark.parametrize(
    "arguments", [("--demo",), ("watch",), ("review", "x"), ("--doctor",), ("--list-cameras",), ("train",)]
)
def test_without_its_dependencies_the_program_says_how_to_get_them(tmp_path, arguments):
    """`-S`: this very Python, but for what is installed into it."""
    words = [sys.executable, "-S", *command(*arguments)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path), timeout=60)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"is not installed for {sys.executable}; activate the environment" in line
    assert line.endswith(f"run: pip install -e {ROOT}")
    assert "mistake" not in line


def test_flags_stand_under_headings_with_three_examples(tmp_path):
    text = run(tmp_path, "--help").stdout
    blocks = dict(block.split(":\n", 1) for block in text.split("\n\n") if ":\n" in block)
    home = {flag: heading for heading, block in blocks.items() for flag in block.split() if flag.startswith("--")}
    expected = {"source": "--fps", "faces": "--face-model", "scoring": "--threshold", "server": "--allow-origin"}
    expected |= {"outputs": "--events", "log": "--log-level"}
    examples = blocks.pop("examples")
    assert sum(line.strip().startswith("mestream ") for line in examples.splitlines()) == 3
    for heading, flag in expected.items():
        assert flag in blocks[heading].split(), f"{flag} is under {home.get(flag)}"
    assert "--face-model FILE" in text


def test_a_file_name_over_255_bytes_is_one_line(tmp_path):
    done = run(tmp_path, "--source", "x" * 300 + ".mp4")
    assert done.returncode == 1
    (line,) = said(done.stderr)
    assert "too long" in line
    assert "mistake" not in line


def test_a_nul_in_the_file_of_settings_is_wrong_usage(tmp_path):
    (tmp_path / "c.toml").write_text('source = "a\\u0000b"\n')
    done = run(tmp_path, "--config", "c.toml")
    assert done.returncode == 2
    assert "holds a NUL character" in done.stderr


NAMES = {
    b"caf\xe9.mp4": "caf\\xe9.mp4",
    "f\u00fcr.mp4".encode(): "f\u00fcr.mp4",
    b"a\n\x1b[31mstream: forged.mp4": "a\\n\\x1b[31mstream: forged.mp4",
    "a\u202e4pm.mp4".encode(): "a\\u202e4pm.mp4",
}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are always text")
@pytest.mark.parametrize("locale", ["C.UTF-8", "C", "ASCII"])
@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_can_be_watched_and_forges_no_line(tmp_path, eager_model, name, locale):
    """Events and log hold the same printable name, in whatever locale; `ASCII` is C without Python's own rescue."""
    video = os.fsencode(tmp_path) + b"/" + name
    os.rename(face_video(tmp_path / "face.mp4", length_s=2), video)
    environ = (
        {"LC_ALL": locale} if locale != "ASCII" else {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    )
    words = command(
        "--offline", "--events", "o.jsonl", "--model", eager_model.directory, "--runtime", "onnx", "--source"
    )
    done = subprocess.run([*words, video], capture_output=True, cwd=tmp_path, env=environment(tmp_path, **environ))
    assert done.returncode == 0, done.stderr
    events = lines_of_json(tmp_path / "o.jsonl")
    assert events
    assert {event["source"] for event in events} == {f"file:{NAMES[name]}"}
    lines = done.stderr.decode("ascii" if locale == "ASCII" else "utf-8").splitlines()
    about = [line for line in lines if line.startswith("stream: ")]
    assert all(line.startswith("stream: f") for line in about), "forged"
    shown = NAMES[name] if locale != "ASCII" else NAMES[name].replace("\u00fc", "\\xfc")
    assert f"file:{shown}: 60 frames" in about[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are always text")
def test_the_journal_and_the_recording_hold_the_same_printable_name(tmp_path, eager_model):
    """Live, with a name that is no UTF-8: nothing on its way fails, and everything calls the source the same."""
    video = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    os.rename(face_video(tmp_path / "face.mp4", length_s=2), video)
    kept = ("--record", "recordings", "--journal", "j.sqlite", "--events", "o.jsonl", "--port", 0)
    words = [*command(*kept, "--model", eager_model.directory, "--runtime", "onnx", "--source"), video]
    done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment(tmp_path), timeout=60)
    assert done.returncode == 0, done.stderr
    (session,) = (tmp_path / "recordings").iterdir()
    with closing(sqlite3.connect(tmp_path / "j.sqlite")) as journal:
        stored = [json.loads(body) for (body,) in journal.execute("SELECT body FROM events")]
    assert stored
    names = {event["source"] for event in stored + lines_of_json(tmp_path / "o.jsonl")}
    assert names == {json.loads((session / "session.json").read_text())["source"]} == {"file:caf\\xe9.mp4"}
