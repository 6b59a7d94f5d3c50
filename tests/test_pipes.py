"""A reader of the output who has seen enough, and an output that is full: real pipes, real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from clips import face_video
from program import command, environment, run, said
from serving import event, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")


def read_a_line_and_go(folder: Path, *arguments: object) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The first line of standard output, after which its reader closes the pipe; and how the program took it."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder, PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    process.stdout.close()
    try:
        process.wait(30)
    finally:
        process.kill()
    errors = process.stderr.read()
    process.stderr.close()
    return line, subprocess.CompletedProcess(arguments, process.returncode, "", errors)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_watching_ends_with_its_reader_even_when_nothing_more_happens(tmp_path, form):
    """No event follows the one that was read: only the closed pipe itself can tell."""
    with serving(tmp_path) as server:
        server.publish(event(1))
        line, done = read_a_line_and_go(tmp_path, "watch", server.url, "--after", "0", *form)
        assert line
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "trying again" not in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_watching_ends_quietly_when_its_reader_goes_amid_many_events(tmp_path, form):
    with serving(tmp_path) as server:
        for number in range(3000):
            server.publish(event(number))
        _, done = read_a_line_and_go(tmp_path, "watch", server.url, "--after", "0", *form)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "trying again" not in done.stderr


def test_offline_events_can_be_piped_into_head(tmp_path, eager_model):
    video = face_video(tmp_path / "face.mp4", length_s=6)
    arguments = ("--offline", "--source", video, "--events", "/dev/stdout", "--model", eager_model.directory)
    line, done = read_a_line_and_go(tmp_path, *arguments, "--runtime", "onnx")
    assert json.loads(line)["phase"] == "start"
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert said(done.stderr) == []


@pytest.mark.parametrize("arguments", [("--help",), ("--list-cameras",), ("train", "--help")])
def test_what_is_printed_at_once_can_be_left_unread(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command(*arguments), stdout=writing, stderr=subprocess.PIPE, text=True, env=environment(tmp_path), timeout=60
    )
    os.close(writing)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_full
def test_a_full_disk_behind_watch_is_one_line(tmp_path):
    with serving(tmp_path) as server, Path("/dev/full").open("w") as full:
        server.publish(event(1))
        words = command("watch", server.url, "--after", "0", "--json")
        done = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(tmp_path), timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["stream: standard output: No space left on device"]


@needs_full
def test_a_full_disk_behind_the_events_file_is_one_line(tmp_path, eager_model):
    video = face_video(tmp_path / "face.mp4")
    done = run(tmp_path, "--offline", "--source", video, "--events", "/dev/full", "--model", eager_model.directory)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert said(done.stderr) == ["stream: --events /dev/full: No space left on device"]


@needs_full
def test_a_full_disk_behind_a_list_is_one_line(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("--list-cameras"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["stream: standard output: No space left on device"]
