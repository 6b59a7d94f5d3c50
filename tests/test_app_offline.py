"""Offline: real videos through the whole program, as a user runs it."""

import hashlib
import json
import re
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import blank, face_image, face_video
from program import lines_of_json, run, said, start
from videos import write_video

from engine.model import Model
from stream.faces.align import extract
from stream.protocol.messages import VERSION
from stream.sessions.delete import delete_session
from stream.sessions.session import State, sessions_in

pytestmark = pytest.mark.slow


def spot(folder: Path, source: Path, model: Model, name: str = "events.jsonl", **more: str) -> tuple[list[dict], str]:
    """Events and what was said."""
    arguments = ("--offline", "--force", "--source", source, "--events", folder / name, "--model", model.directory)
    done = run(folder, *arguments, "--runtime", "onnx", **more)
    assert done.returncode == 0, done.stderr
    return lines_of_json(folder / name), done.stderr


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_video(tmp_path_factory.mktemp("video") / "face.mp4")


def test_the_same_file_gives_the_same_bytes_with_one_thread_or_eight(tmp_path, video, eager_model):
    """Byte-identical run after run: ids, times and latencies come from the media, and no thread changes a number."""
    first, _ = spot(tmp_path, video, eager_model, "first.jsonl", OMP_NUM_THREADS="1")
    spot(tmp_path, video, eager_model, "second.jsonl", OMP_NUM_THREADS="8")
    assert (tmp_path / "first.jsonl").read_bytes() == (tmp_path / "second.jsonl").read_bytes()
    assert sum(event["phase"] == "end" for event in first) >= 3


def test_each_line_is_one_event_and_every_interval_is_settled(tmp_path, video, eager_model):
    events, stderr = spot(tmp_path, video, eager_model)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {(event["type"], event["v"], event["source"]) for event in events} == {("event", VERSION, "file:face.mp4")}
    for event in events:
        assert event["latency_ms"] == 0
        assert event["time"].startswith("1970-01-01T00:00:0")
    by_id: dict[str, list[dict]] = {}
    for event in events:
        by_id.setdefault(event["id"], []).append(event)
    assert {history[-1]["phase"] for history in by_id.values()} <= {"end", "retract"}
    assert all(event["phase"] in ("start", "update") for history in by_id.values() for event in history[:-1])
    for event in events:
        if event["phase"] == "end":
            assert 0 <= event["onset_s"] <= event["apex_s"] <= event["offset_s"] <= 3.0
            assert event["quality"]["face_px"] > 60
    ends = sum(event["phase"] == "end" for event in events)
    assert re.search(rf"face.mp4: 90 frames, 1 faces, {ends} events in [\d.]+ s, [\d.]+ x real time", said(stderr)[-1])


def test_figures_come_as_json_for_scripts(tmp_path, video, eager_model):
    _, stderr = spot(tmp_path, video, eager_model, MESTREAM_LOG_FORMAT="json")
    figures = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")][-1]
    assert (figures["frames"], figures["faces"]) == (90, 1)
    assert figures["media_s"] == pytest.approx(89 / 30, abs=1e-3)
    assert figures["speed"] > 0


@pytest.mark.parametrize("copy", [(), ("--copy",)])
def test_offline_a_session_is_made_of_a_file_with_the_very_events(tmp_path, video, eager_model, copy):
    """`--offline --record` alone: the events of `--events` byte for byte, the file untouched, referred to or copied."""
    before = video.read_bytes()
    spot(tmp_path, video, eager_model)
    arguments = ("--offline", "--source", video, "--model", eager_model.directory, "--runtime", "onnx")
    done = run(tmp_path, *arguments, "--record", "rec", *copy)
    assert done.returncode == 0, done.stderr
    (session,) = sessions_in(tmp_path / "rec")
    assert session.state is State.COMPLETE
    assert (session.folder / "events.jsonl").read_bytes() == (tmp_path / "events.jsonl").read_bytes()
    assert len(session.intervals()) >= 3
    assert session.about.file_sha256 == hashlib.sha256(before).hexdigest()
    assert session.about.videos[0].path == (session.folder.resolve() / "video.mp4" if copy else video)
    assert session.about.videos[0].path.read_bytes() == video.read_bytes() == before
    assert session.track()["time_s"].tolist() == pytest.approx([k / 30 for k in range(90)], abs=1e-3)
    assert session.ends_s == pytest.approx(89 / 30, abs=1e-3)
    moment_s = session.trace()["time_s"]
    assert (np.diff(moment_s) > 0).all()
    assert moment_s[-1] > 2


def test_the_track_shows_where_the_face_was_cropped(tmp_path, video, eager_model):
    """Cut out of the session's own video by the stored matrices, the crops show a face that stays where it is."""
    arguments = ("--offline", "--source", video, "--model", eager_model.directory, "--runtime", "onnx")
    assert run(tmp_path, *arguments, "--record", "rec").returncode == 0
    (session,) = sessions_in(tmp_path / "rec")
    with av.open(str(session.about.videos[0].path)) as container:
        images = [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]
    crops = [extract(images[round(30 * row["time_s"])], row["matrix"].astype(float)) for row in session.track()]
    stay = np.stack(crops).astype(float).std(axis=0).mean()
    assert np.stack(crops)[0].std() > 20, "something is to be seen"
    first = session.track()[0]["matrix"].astype(float)
    sways = np.stack([extract(image, first) for image in images]).astype(float)
    assert stay < 0.5 * sways.std(axis=0).mean()


def test_a_folder_of_pictures_becomes_a_session_with_a_video(tmp_path, eager_model):
    """What is no single file is encoded, every picture of it, however slow that is."""
    (tmp_path / "pictures").mkdir()
    for k in range(40):
        cv2.imwrite(str(tmp_path / "pictures" / f"{k:03}.png"), face_image(k / 30))
    arguments = ("--offline", "--source", tmp_path / "pictures", "--fps", 30, "--model", eager_model.directory)
    done = run(tmp_path, *arguments, "--runtime", "onnx", "--record", "rec")
    assert done.returncode == 0, done.stderr
    (session,) = sessions_in(tmp_path / "rec")
    assert (session.state, session.about.file_sha256) == (State.COMPLETE, None)
    with av.open(str(session.about.videos[0].path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40
    assert set(session.about.dropped.values()) == {0}


@pytest.mark.parametrize("copy", [(), ("--copy",)])
def test_killed_offline_a_session_can_still_be_opened(tmp_path, eager_model, copy):
    """kill -9 in the middle of a file: what was found so far, and the video at its place."""
    video = face_video(tmp_path / "long.mp4", length_s=12)
    arguments = ("--offline", "--source", video, "--model", eager_model.directory, "--runtime", "onnx")
    program = start(tmp_path, *arguments, "--record", tmp_path / "rec", *copy)
    try:
        give_up_s = time.monotonic() + 30
        while sum(path.stat().st_size for path in tmp_path.rglob("trace.bin")) < 400:
            assert time.monotonic() < give_up_s
            assert program.poll() is None
            time.sleep(0.01)  # nothing here can wake us: it is another process's file
    finally:
        program.kill()
        program.communicate(timeout=10)
    (session,) = sessions_in(tmp_path / "rec")
    assert session.state is State.CUT_SHORT
    assert len(session.trace()) >= 20
    assert session.about.videos[0].path.read_bytes() == video.read_bytes()
    assert delete_session(session) == ()
    assert video.exists()


def test_a_face_that_leaves_and_comes_back_has_no_event_over_the_gap(tmp_path, eager_model):
    """Away for a second: the same number; for three: a new one. Nothing open is bridged."""
    for until_s, faces in ((3.0, {1}), (5.0, {1, 2})):
        video = face_video(tmp_path / "away.mp4", length_s=until_s + 1.5, away=(2.0, until_s))
        events, _ = spot(tmp_path, video, eager_model)
        ends = [event for event in events if event["phase"] == "end"]
        assert {event["face"] for event in ends} == faces
        assert any(event["offset_s"] <= 2.0 for event in ends)
        assert any(event["onset_s"] >= until_s for event in ends)
        assert not [event for event in events if event["onset_s"] < 2.0 < (event["offset_s"] or 0) - 0.05]


@pytest.mark.parametrize(
    ("change", "reason"), [({"fps": 10}, "low_fps (10.0 fps, 11.5 are needed)"), ({"light": 0.1}, "too_dark")]
)
def test_it_says_that_it_cannot_spot_instead_of_guessing(tmp_path, eager_model, change, reason):
    events, stderr = spot(tmp_path, face_video(tmp_path / "bad.mp4", **change), eager_model)
    assert not [event for event in events if event["phase"] == "end"]
    assert f"stream: face 1: cannot spot: {reason}" in stderr


def test_no_face_in_the_whole_video_is_said(tmp_path, eager_model):
    video = write_video(tmp_path / "empty.mp4", [k / 30 for k in range(30)], images=[blank()] * 30)
    events, stderr = spot(tmp_path, video, eager_model)
    assert events == []
    assert "30 frames, 0 faces, 0 events" in stderr
    assert said(stderr)[-1].startswith("stream: file:empty.mp4: no face was seen")


def gallery_image() -> np.ndarray:
    face = face_image(0.0, side_px=240)
    return np.concatenate([np.concatenate([face] * 3, axis=1)] * 3)


def test_faces_that_are_not_watched_are_said_once_and_at_the_end(tmp_path, eager_model):
    """A 3x3 gallery with room for four: five are not watched, and the number that would do is named."""
    video = write_video(tmp_path / "nine.mp4", [k / 30 for k in range(20)], images=[gallery_image()] * 20)
    _, stderr = spot(tmp_path, video, eager_model)
    words = "5 faces are not watched, beyond the limit of 4; --max-faces 9 makes room for all"
    assert [line for line in said(stderr) if "not watched" in line] == [f"stream: {words}", said(stderr)[-1]]
    assert said(stderr)[-1].endswith(f"x real time; {words}")
    _, stderr = spot(tmp_path, video, eager_model, MESTREAM_MAX_FACES="9")
    assert "not watched" not in stderr
    assert "9 faces" in said(stderr)[-1]


def test_frames_of_one_pixel_are_survived(tmp_path, eager_model):
    images = [blank(1)] * 10
    video = write_video(tmp_path / "dot.mkv", [k / 30 for k in range(10)], images=images, codec="ffv1", pix_fmt="bgr0")
    events, stderr = spot(tmp_path, video, eager_model)
    assert events == []
    assert "10 frames, 0 faces" in stderr


def test_a_truncated_file_gives_what_it_held_then_one_line_and_a_failure(tmp_path, eager_model):
    whole = face_video(tmp_path / "whole.mkv", length_s=2)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    events = tmp_path / "events.jsonl"
    done = run(tmp_path, "--offline", "--source", cut, "--events", events, "--model", eager_model.directory)
    assert done.returncode in (0, 1), "Matroska may also end anywhere"
    assert len(said(done.stderr)) >= 1
    assert "Traceback" not in done.stderr
    history = {event["id"]: event["phase"] for event in lines_of_json(events)}
    assert set(history.values()) <= {"end", "retract"}, "what was open was left open"


def test_the_images_are_real():
    """The videos show what they claim: a brow that moves, a face that is not there."""
    assert abs(face_image(0.0, 1.0).astype(int) - face_image(0.0, 0.0)).max() > 20
    assert blank().std() == 0
