"""The live program on real video and a real network camera: what subscribers get, and how it ends."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from clips import face_in_camera, face_video
from live_program import live
from program import lines_of_json, run, said, start
from servers import MjpegCamera
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from engine.model import Model
from stream.sessions.delete import delete_session
from stream.sessions.session import State, sessions_in

pytestmark = pytest.mark.slow


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as served:
        served.next_image = face_in_camera
        yield served


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_video(tmp_path_factory.mktemp("video") / "face.mp4")


ENOUGH = {"video.mkv": 100_000, "trace.bin": 20 * 10, "track.bin": 36 * 30, "events.jsonl": 1000}
"""Bytes of a recording by which a second or so has been seen."""
SETTLED = ("phase", "face", "onset_s", "apex_s", "offset_s", "score", "regions")


def settled(events: list[dict]) -> list[tuple]:
    return [tuple(json.dumps(event[key]) for key in SETTLED) for event in events if event["phase"] == "end"]


def test_a_file_in_real_time_ends_as_it_does_offline(tmp_path, video, eager_model):
    """The same `end` events, socket and file alike; hello first; status, score trace and preview for who asked.

    Meanwhile a page that --allow-origin names is let in, another one is not.
    """
    arguments = ("--source", video, "--model", eager_model.directory, "--runtime", "onnx")
    run(tmp_path, *arguments, "--offline", "--events", tmp_path / "offline.jsonl")
    page = ("https://lab.example",)
    with live(tmp_path, eager_model, video, events=tmp_path / "live.jsonl", allow_origin=page) as running:
        assert running.pipeline.serving.wait(30)
        url = f"ws://127.0.0.1:{running.pipeline.server.port}/events"
        with connect(url, origin=page[0], proxy=None) as socket:
            assert json.loads(socket.recv())["type"] == "hello"
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, origin="https://other.example", proxy=None)
        running.finish()
    expected = settled(lines_of_json(tmp_path / "offline.jsonl"))
    written = lines_of_json(tmp_path / "live.jsonl")
    assert len(expected) >= 3
    assert settled(written) == expected

    hello, epoch = running.messages[0], written[0]["epoch"]
    assert (hello["type"], hello["source"], hello["runtime"]) == ("hello", "file:face.mp4", "onnx")
    assert hello["model"]["sha256"] == eager_model.sha256
    sent = running.of_type("event")
    assert [event["seq"] for event in sent] == list(range(sent[0]["seq"], len(written) + 1))
    assert sent == written[sent[0]["seq"] - 1 :], "file and socket disagree"
    assert {event["epoch"] for event in sent} == {epoch}
    assert all(0 <= event["latency_ms"] < 5000 for event in sent)
    statuses = running.of_type("status")
    assert statuses[-1]["faces"] == [{"face": 1, "state": "watching", "reason": None}]
    assert statuses[-1]["fps"] == pytest.approx(30, abs=0.5)
    assert statuses[-1]["dropped"]["capture"] == 0
    assert statuses[-1]["latency_ms"]["p50"] <= statuses[-1]["latency_ms"]["p99"]
    scores = running.of_type("scores")
    assert len(scores) >= 10
    assert [score["time_s"] for score in scores] == sorted(score["time_s"] for score in scores)
    assert running.of_type("preview")


def read_until_serving(program: subprocess.Popen[str]) -> str:
    """The lines said until it serves."""
    assert program.stderr is not None
    heard = ""
    for line in program.stderr:
        heard += line
        if "events and dashboard on" in line:
            return heard
    raise AssertionError(f"it ended before it served: {heard}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_within_two_seconds_with_everything_settled(tmp_path, camera, eager_model, number):
    events = tmp_path / "events.jsonl"
    arguments = ("--source", camera.url(), "--model", eager_model.directory, "--runtime", "onnx", "--port", 0)
    program = start(tmp_path, *arguments, "--events", events)
    try:
        read_until_serving(program)
        give_up_s = time.monotonic() + 20
        while events.stat().st_size < 2000 and time.monotonic() < give_up_s:
            time.sleep(0.02)  # nothing here can wake us: it is another process's file
        asked_s = time.monotonic()
        program.send_signal(number)
        _, rest = program.communicate(timeout=20)
        took_s = time.monotonic() - asked_s
    finally:
        program.kill()
    assert program.returncode == 0, rest
    assert took_s < 2.0
    assert "Traceback" not in rest
    assert "frames" in said(rest)[-1]
    last = {event["id"]: event["phase"] for event in lines_of_json(events)}
    assert last
    assert set(last.values()) <= {"end", "retract"}


def test_a_recording_that_ends_in_order_is_complete_and_in_step_with_its_events(tmp_path, video, eager_model):
    """A file played to its end: each frame is in the session, or counted; the last line but one tells which."""
    arguments = ("--source", video, "--model", eager_model.directory, "--runtime", "onnx", "--port", 0)
    done = run(tmp_path, *arguments, "--record", tmp_path / "kept", "--events", tmp_path / "events.jsonl")
    assert done.returncode == 0, done.stderr
    (session,) = sessions_in(tmp_path / "kept")
    assert session.state is State.COMPLETE
    with av.open(str(session.about.videos[0].path)) as container:
        stored = sum(1 for _ in container.decode(video=0))
    lost = sum(session.about.dropped.values())
    assert stored + lost == 90
    assert f"{lost} frames are missing" in done.stderr or (lost == 0 and "90 frames, none is missing" in done.stderr)
    assert (session.folder / "events.jsonl").read_bytes() == (tmp_path / "events.jsonl").read_bytes()
    assert session.ends_s - session.about.starts_s == pytest.approx(89 / 30, abs=1e-3)


def test_a_recording_survives_being_killed_and_nothing_else_holds_an_image(tmp_path, camera, eager_model):
    """kill -9: a session that opens, whose video, scores, crops and events are readable and of one clock, and private.

    Without --record: no image.
    """
    folder = tmp_path / "kept"
    arguments = ("--source", camera.url(), "--model", eager_model.directory, "--runtime", "onnx", "--port", 0)
    program = start(tmp_path, *arguments, "--record", folder, "--consent", "unterschrieben ✓")
    try:
        read_until_serving(program)
        began_s = time.monotonic()
        while time.monotonic() < began_s + 20:
            sizes = {name: sum(path.stat().st_size for path in folder.rglob(name)) for name in ENOUGH}
            if all(sizes[name] > enough for name, enough in ENOUGH.items()):
                break
            time.sleep(0.02)
    finally:
        program.kill()
        program.communicate(timeout=10)
    (session,) = sessions_in(folder)
    assert session.state is State.CUT_SHORT
    assert (session.about.source, session.about.consent) == (f"http://127.0.0.1:{camera.port}/cam", "unterschrieben ✓")
    (video,) = session.about.videos
    with av.open(str(video.path)) as container:
        times_s = [float(picture.time) for picture in container.decode(video=0)]
    assert len(times_s) >= 15
    assert times_s[0] == 0
    assert times_s == sorted(set(times_s))
    # event times are rounded to 0.1 ms, the video's to 1 ms
    moments = [*session.trace()["time_s"], *session.track()["time_s"], *(i.onset_s for i in session.intervals())]
    assert len(session.trace()) >= 5
    assert len(session.track()) >= 15
    assert video.starts_s - 0.001 <= min(moments)
    assert max(moments) == session.ends_s < video.starts_s + 60
    assert 0 <= session.ends_s - (video.starts_s + times_s[-1]) < 1.0, (
        "the video lacks what waited for the encoder, at most"
    )
    assert delete_session(session) == ()
    others = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.name.startswith("journal.sqlite") for path in others), others


def test_a_camera_that_stalls_closes_what_was_open_and_goes_on(tmp_path, camera, eager_model: Model):
    """No event spans the silence; the status is there all along; the face comes back under a number of its own."""
    with live(tmp_path, eager_model, camera.url()) as running:
        running.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end")
        camera.stalled.set()
        silent_s = time.monotonic()
        running.wait_for(lambda m: m["type"] == "status" and any(f["reason"] == "stalled" for f in m["faces"]))
        camera.stalled.clear()
        back_s = time.monotonic()
        running.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end" and m["onset_s"] > back_s - 0.1)
    events = running.of_type("event")
    assert not [event for event in events if event["onset_s"] < silent_s + 0.1 and (event["offset_s"] or 0) > back_s]
    last = {event["id"]: event for event in events}
    assert {event["phase"] for event in last.values() if event["onset_s"] < silent_s} <= {"end", "retract"}


def test_a_status_says_which_faces_are_not_watched(tmp_path, camera, eager_model):
    """Two faces before the camera and --max-faces 1: the status is degraded by name."""
    camera.next_image = lambda number: np.concatenate([face_in_camera(number)] * 2, axis=1)
    with live(tmp_path, eager_model, camera.url(), max_faces=1) as running:
        words = "1 face is not watched, beyond the limit of 1; --max-faces 2 makes room for all"
        running.wait_for(lambda m: m["type"] == "status" and words in m["degraded"])


def test_a_camera_that_toggles_its_size_says_so_now_and_then(tmp_path, camera, eager_model):
    """Ten gaps a second are one line in ten seconds, which tells how many there were."""
    camera.next_image = lambda number: face_in_camera(number)[: 320 - 2 * (number // 3 % 2)]
    arguments = ("--source", camera.url(), "--port", 0, "--model", eager_model.directory, "--runtime", "onnx")
    process = start(tmp_path, *arguments)
    assert camera.ended.wait(13) is False
    process.send_signal(signal.SIGTERM)
    lines = said(process.communicate(timeout=30)[1])
    gaps = [line for line in lines if "resolution_changed" in line]
    assert 1 <= len(gaps) <= 2
    assert any("times since this was last said)" in line for line in gaps) or len(gaps) == 1
    assert len(lines) < 12, lines
