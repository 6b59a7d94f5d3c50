"""What is written is never what is read: refused in one line, exit code 2, every file as it was."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from clips import face_video
from program import run, said
from videos import write_video

from calibration.__main__ import main as calibration
from engine import bench_data, build
from engine.evaluate import main as evaluate
from engine.model import Model
from engine.paths import clash
from engine.train import main as train


def prints(folder: Path) -> dict[str, str]:
    """Every file below `folder` and the hash of what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mp4", [i / 30 for i in range(10)])


def symlink(video: Path) -> Path:
    link = video.with_name("link")
    link.symlink_to(video)
    return link


def hard_link(video: Path) -> Path:
    link = video.with_name("hard")
    os.link(video, link)
    return link


def roundabout(video: Path) -> Path:
    (video.parent / "sub").mkdir()
    return video.parent / "sub" / ".." / video.name


def relative(video: Path) -> Path:
    return Path(video.name)


SPELLINGS = [Path, symlink, hard_link, roundabout, relative]


@pytest.mark.parametrize("spelled", SPELLINGS)
@pytest.mark.parametrize(
    "how", ["--offline --force --events", "--offline --events", "--port 0 --events", "--port 0 --journal"]
)
def test_the_source_is_never_an_output_however_it_is_spelled(tmp_path, video, eager_model, spelled, how):
    """Offline it would be emptied, live it would grow lines of JSON or become a database."""
    out = spelled(video)
    before = prints(tmp_path)
    arguments = ("--source", video, "--model", eager_model.directory, "--runtime", "onnx")
    done = run(tmp_path, *arguments, *how.split(), out)
    assert done.returncode == 2, done.stderr
    (line,) = said(done.stderr)
    assert f"would overwrite what --source {video} reads" in line
    assert prints(tmp_path) == before


def test_other_inputs_and_other_outputs_are_held_against_each_other(tmp_path, video, eager_model):
    """Weights, settings, a file:// source; two outputs into one file; a picture in a folder that is the source."""
    model = Path(shutil.copytree(eager_model.directory, tmp_path / "m"))
    (tmp_path / "set.toml").write_text("max-faces = 1\n")
    (tmp_path / "pictures").mkdir()
    picture = tmp_path / "pictures" / "1.jsonl"
    picture.write_text('{"type":"event"}\n')
    os.link(picture, tmp_path / "linked")
    before = prints(tmp_path)
    for arguments, why in (
        (("--source", video, "--events", model / "mesnet_1d.onnx"), "--model"),
        (("--source", video, "--events", tmp_path / "set.toml", "--config", tmp_path / "set.toml"), "--config"),
        (("--source", f"file://{video}", "--events", video), "--source"),
        (("--source", tmp_path / "pictures", "--events", picture), "--source"),
        (("--source", tmp_path / "pictures", "--events", tmp_path / "linked"), "--source"),
        (("--source", video, "--events", tmp_path / "e", "--journal", tmp_path / "e"), "is also what --events"),
    ):
        done = run(tmp_path, *arguments, "--model", model, "--port", 0, "--force")
        assert done.returncode == 2, (arguments, done.stderr)
        (line,) = said(done.stderr)
        assert why in line
    assert prints(tmp_path) == before


def test_an_events_file_of_before_is_overwritten_only_when_that_is_asked_for(tmp_path, eager_model):
    """Offline a second run refuses, with --force it writes the same bytes again; folders are not made."""
    video = face_video(tmp_path / "face.mp4", length_s=3.0)
    arguments = ("--offline", "--source", video, "--model", eager_model.directory, "--runtime", "onnx", "--events")
    events = tmp_path / "e.jsonl"
    assert run(tmp_path, *arguments, events).returncode == 0
    first = events.read_bytes()
    assert first
    again = run(tmp_path, *arguments, events)
    assert again.returncode == 2
    assert "exists already; add --force to overwrite it" in again.stderr
    assert events.read_bytes() == first
    assert run(tmp_path, *arguments, events, "--force").returncode == 0
    assert events.read_bytes() == first
    missing = run(tmp_path, *arguments, tmp_path / "no" / "such" / "e.jsonl")
    assert missing.returncode == 2
    assert "make it first" in missing.stderr
    assert not (tmp_path / "no").exists()
    assert run(tmp_path, *arguments, "/dev/stdout").stdout.encode() == first, "a device or pipe may be written to"


def test_live_events_are_appended_to_events_and_to_nothing_else(tmp_path, eager_model):
    """A program that starts anew goes on with its file; a file of anything else stays as it is."""
    video, events = face_video(tmp_path / "face.mp4", length_s=3.0), tmp_path / "e.jsonl"
    arguments = ("--source", video, "--model", eager_model.directory, "--runtime", "onnx", "--port", 0, "--events")
    assert run(tmp_path, *arguments, events).returncode == 0
    first = events.read_bytes()
    assert run(tmp_path, *arguments, events).returncode == 0
    assert events.read_bytes().startswith(first)
    assert len(events.read_bytes()) > len(first)
    for text in ("my notes\n", '{"truth": 1}\n', "[1]\n"):
        notes = tmp_path / "notes"
        notes.write_text(text)
        done = run(tmp_path, *arguments, notes, "--force")
        assert done.returncode == 2
        assert "holds something else than events" in done.stderr
        assert notes.read_text() == text


@pytest.mark.parametrize("option", ["--out", "--plot"])
@pytest.mark.parametrize("spelled", SPELLINGS)
def test_calibration_writes_over_none_of_its_inputs(tmp_path, video, capsys, monkeypatch, option, spelled):
    monkeypatch.chdir(tmp_path)
    out = spelled(video)
    before = prints(tmp_path)
    assert calibration(["camera", "--source", str(video), option, str(out)]) == 2
    assert f"would overwrite what --source {video} reads" in capsys.readouterr().err
    assert prints(tmp_path) == before


def test_calibration_writes_over_no_pool_and_no_weights_nor_by_its_temporary_file(tmp_path, full_model, capsys):
    home = Path(shutil.copytree(full_model.directory, tmp_path / "m"))
    (tmp_path / "pool").mkdir()
    shard = tmp_path / "pool" / "shard.npz"
    shard.write_bytes(b"crops")
    (tmp_path / "x.part").write_bytes(b"film")
    before = prints(tmp_path)
    for arguments in (
        ["threshold", "--pool", tmp_path / "pool", "--out", shard],
        ["int8", "--data", tmp_path / "pool", "--out", shard],
        ["threshold", "--out", home / "operating_point.json"],
        ["probability", "--pool", tmp_path / "pool", "--plot", home / "mesnet.safetensors"],
        ["camera", "--source", tmp_path / "x.part", "--out", tmp_path / "x"],
        ["threshold", "--out", tmp_path / "new", "--plot", tmp_path / "new"],
    ):
        assert calibration([*map(str, arguments), "--model", str(home)]) == 2, arguments
        assert capsys.readouterr().err.count("\n") == 1
    assert prints(tmp_path) == before


def test_the_tools_of_the_engine_write_over_none_of_their_inputs(tmp_path, full_model: Model, capsys):
    home = Path(shutil.copytree(full_model.directory, tmp_path / "m"))
    data = tmp_path / "data"
    (data / "portraits").mkdir(parents=True)
    (tmp_path / "r.onnx").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "evaluation.json").write_text("[]")
    (tmp_path / "out" / "mesnet_2d.engine").symlink_to(tmp_path / "r.onnx")
    (data / "portraits" / "truth.json").write_text("{}")
    before = prints(tmp_path)
    truth = tmp_path / "out" / "evaluation.json"
    for tool, arguments in (
        (build.main, ["--runtime", "onnx", "--precision", "fp16", "--model", home, "--out", home]),
        (build.main, ["--runtime", "tensorrt-rtx", "--capability", "8.9", "--ranges", tmp_path / "r.onnx",
                      "--out", tmp_path / "out", "--model", home]),
        (train, ["--pool", home, "--tune", home, "--out", tmp_path / "t",
                 "--start", tmp_path / "t" / "mesnet.safetensors"]),
        (train, ["--pool", home, "--tune", home, "--out", home]),
        (evaluate, ["--truth", truth, "--events", tmp_path / "r.onnx", "--out", tmp_path / "out"]),
        (bench_data.main, ["--data", data, "--out", data / "portraits"]),
    ):  # fmt: skip
        assert tool([str(a) for a in arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert "would overwrite what" in error
        assert error.count("\n") == 1
    assert prints(tmp_path) == before


def test_what_does_not_clash_is_let_through(tmp_path, video):
    """New files, also in a folder that is read; devices and pipes; names that are no path at all."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({}))
    for out in (tmp_path / "new.jsonl", other, "/dev/null", pipe, "a\0b", "x" * 300):
        assert clash([("--events", out)], [("--source", video), ("--config", "/dev/null"), ("--a", pipe)]) is None
    assert clash([("--events", tmp_path / "new.jsonl")], [("--source", tmp_path)]) is None
    assert clash([("--events", None)], [("--source", None)]) is None
    assert clash([("--events", tmp_path / "new")], [("--out", tmp_path / "sub" / ".." / "new")]) is not None
