"""What --record stores: each frame at its own time, what the spotter made of it; it never stops the spotting."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from program import ROOT, environment
from serving import event as happened
from videos import number_in, numbered, write_video

from engine.spec import ModelSpec
from stream.errors import UserError
from stream.protocol.ulid import new_ulid
from stream.sessions.session import State, load_session
from stream.sinks import Item, Run
from stream.sinks.record import Recorder
from stream.sources.info import SourceInfo
from stream.types import CROP_PX, FaceCrop, Frame, Quality, TracePoint

CAMERA = SourceInfo("camera:0", True, 192, 64, 30.0, "test", 0.01)
EVENT = happened(1)


def a_run(source: SourceInfo = CAMERA, *, live: bool = True) -> Run:
    return Run(source, new_ulid(), live, ModelSpec(), "ab" * 32, "onnx", 4, 0.47, 9.2, None)


def a_crop(time_s: float, face: int = 1) -> FaceCrop:
    matrix = np.array([[0.5, -0.1, time_s], [0.1, 0.5, 7.25]])
    return FaceCrop(face, time_s, np.zeros((CROP_PX, CROP_PX), np.uint8), Quality(100, 0, 0, 0, 120), matrix)


def recorded(folder: Path, items: list[Item], consent: str = "") -> Path:
    """The session's folder after these items, frames given as slowly as the encoder takes them."""
    recorder = Recorder(folder, a_run(live=False), consent)
    for item in items:
        recorder.put(item)
    recorder.close()
    assert recorder.trouble is None
    return recorder.folder


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(picture.time), picture.to_ndarray(format="bgr24")) for picture in container.decode(video=0)]


def test_each_frame_is_stored_at_its_own_time(tmp_path):
    """A camera's jitter and a dropped frame are in the file as they were."""
    times_s = [1000.0, 1000.033, 1000.07, 1000.1, 1000.3, 1000.333]
    session = load_session(recorded(tmp_path, [Frame(k, time_s, numbered(k)) for k, time_s in enumerate(times_s)]))
    (video,) = session.about.videos
    stored = pictures(video.path)
    assert [video.starts_s + time_s for time_s, _ in stored] == pytest.approx(times_s, abs=1e-3)
    assert [number_in(image) for _, image in stored] == list(range(6))
    assert (session.about.starts_s, session.about.ends_s) == (1000.0, 1000.333)
    assert session.media_s(1000.1) == (video, pytest.approx(0.1))
    assert session.state is State.COMPLETE


def test_a_new_size_is_a_new_file(tmp_path):
    frames = [Frame(k, k / 30, numbered(k, *((192, 64) if k < 5 else (97, 51)))) for k in range(10)]
    videos = load_session(recorded(tmp_path, frames)).about.videos
    assert [video.path.name for video in videos] == ["video.mkv", "video-2.mkv"]
    assert videos[1].starts_s == pytest.approx(5 / 30)
    first, second = (pictures(video.path) for video in videos)
    assert (len(first), len(second)) == (5, 5)
    assert second[0][1].shape == (50, 96, 3), "odd sides lose their last row and column"


def test_a_frame_of_one_pixel_stops_nothing_and_is_counted(tmp_path):
    session = recorded(tmp_path, [Frame(k, k / 30, np.zeros((1, 1, 3), np.uint8)) for k in range(3)])
    assert load_session(session).about.dropped == {"capture": 0, "record": 3}


def test_scores_crops_and_events_lie_beside_the_video(tmp_path):
    """All that a review shows comes back as it was given, whatever the faces' numbers."""
    point = TracePoint(12, 1.4, 0.8, 0.9, 0.47)
    session = load_session(recorded(tmp_path, [Frame(0, 1.0, numbered(0)), a_crop(1.0, 12), point, EVENT]))
    assert session.trace().tolist() == [(1.4, 12, np.float32(0.8), np.float32(0.47))]
    (time_s, face, matrix) = session.track()[0]
    assert (time_s, face) == (1.0, 12)
    assert matrix.tolist() == a_crop(1.0).matrix.astype(np.float32).tolist()
    (interval,) = session.intervals()
    assert (interval.id, interval.face, interval.score) == (EVENT.id, EVENT.face, EVENT.score)
    times_s = (interval.onset_s, interval.apex_s, interval.offset_s)
    assert times_s == (EVENT.onset_s, EVENT.apex_s, EVENT.offset_s)


def test_it_says_what_was_run_and_under_whose_consent(tmp_path):
    about = load_session(recorded(tmp_path, [], "signed by Zoë ✓ 2026-11-29")).about
    assert (about.model_sha256, about.runtime, about.threshold, about.false_alarms_per_hour) == (
        *("ab" * 32, "onnx", 0.47, 9.2),
    )
    assert about.consent == "signed by Zoë ✓ 2026-11-29"
    assert about.program.startswith("mestream")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_only_its_user_can_read_it(tmp_path):
    """Faces are nobody else's business, under any umask."""
    old = os.umask(0)
    try:
        session = recorded(tmp_path / "new", [Frame(0, 1.0, numbered(0)), a_crop(1.0), EVENT])
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in session.iterdir()}
    files = ("events.jsonl", "session.json", "trace.bin", "track.bin", "video.mkv")
    assert modes == dict.fromkeys(files, 0o600)
    assert [path.stat().st_mode & 0o777 for path in (session, tmp_path / "new")] == [0o700, 0o700]


def test_an_encoder_that_is_behind_costs_frames_of_the_recording_only(tmp_path, caplog):
    """`put` never waits; what does not fit is counted, said at the end and stored, as is what the camera lost."""
    caplog.set_level(logging.INFO, "stream")
    logging.getLogger("stream").propagate = True
    recorder = Recorder(tmp_path, a_run())
    image = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    for k in range(60):
        recorder.put(Frame(2 * k, k / 30, image))
    recorder.close()
    session = load_session(recorder.folder)
    kept = len(pictures(session.about.videos[0].path))
    assert session.about.dropped == {"capture": 59, "record": 60 - kept}
    assert 60 - kept >= 20
    assert f"{119 - kept} frames are missing (59 in capture, {60 - kept} in record)" in caplog.text
    assert session.state is State.COMPLETE


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--record .*file: cannot be written"):
        Recorder(tmp_path / "file", a_run())


def a_file(path: Path) -> SourceInfo:
    write_video(path, [k / 30 for k in range(10)])
    return SourceInfo(f"file:{path.name}", False, 192, 64, 30.0, "test", 0.0, file=path)


@pytest.mark.parametrize("copy", [False, True])
def test_a_file_run_offline_is_referred_to_or_copied(tmp_path, copy):
    """The session's video is the file, bit for bit, and the session says which file that is."""
    source = a_file(tmp_path / "Gespräch 日本.mp4")
    recorder = Recorder(tmp_path / "rec", a_run(source, live=False), copy=copy)
    recorder.put(Frame(0, 0.0, numbered(0)))
    recorder.close()
    session = load_session(recorder.folder)
    (video,) = session.about.videos
    assert video.path == (recorder.folder / "video.mp4" if copy else source.file)
    assert video.path.read_bytes() == source.file.read_bytes()
    assert session.about.file_sha256 == hashlib.sha256(source.file.read_bytes()).hexdigest()
    names = {path.name for path in recorder.folder.iterdir()}
    assert names == {"session.json", "events.jsonl", "trace.bin", "track.bin"} | ({"video.mp4"} if copy else set())
    assert session.state is State.COMPLETE


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from test_record import EVENT, Frame, Recorder, TracePoint, a_crop, a_file, a_run
    import numpy as np
    parent, what = Path(sys.argv[1]), sys.argv[2]
    source = a_file(parent / "source.mp4")
    run = a_run(source, live=False) if what == "copy" else a_run(live=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))  # as if the disk were full
    recorder = Recorder(parent / "rec", run, copy=what == "copy")
    noise = np.random.default_rng(0)
    for k in range(90):
        recorder.put(Frame(k, k / 30, noise.integers(0, 255, (96, 96, 3), dtype=np.uint8)))
        for item in (a_crop(k / 30), TracePoint(1, k / 30, 0.5, 0.5, 0.47), EVENT):
            recorder.put(item)
    recorder.close()
    print(recorder.trouble)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limits")
@pytest.mark.parametrize("what", ["frames", "copy"])
def test_a_full_disk_is_said_and_what_was_written_stays_whole(tmp_path, what):
    """Nothing is raised; no record, line or file is there in half; the session is known to be cut short."""
    (tmp_path / "child.py").write_text(textwrap.dedent(FULL_DISK))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "child.py", str(tmp_path), what]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path, PYTHONPATH=paths), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--record ")
    assert "File too large" in done.stdout
    (folder,) = (tmp_path / "rec").iterdir()
    session = load_session(folder)
    assert session.state is State.CUT_SHORT
    assert len(session.trace()) == 1500 // 20
    assert len(session.track()) == 1500 // 36
    assert (folder / "trace.bin").stat().st_size == 1500 // 20 * 20
    assert (folder / "track.bin").stat().st_size == 1500 // 36 * 36
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\n") and json.loads(line) for line in lines)
    assert 1 <= len(session.events()) == len(lines) <= 5
    if what == "frames":
        assert session.about.dropped["record"] > 0
    else:
        assert (tmp_path / "source.mp4").stat().st_size > 1500
        assert session.about.videos[0].path == tmp_path / "source.mp4", "it refers to the file that it could not copy"
        assert not list(folder.glob("video*"))


HEADER_BYTES = 600
"""A video that is no longer has been begun, and holds no frame yet."""
KILLED = """
    import os, sys
    from pathlib import Path
    from test_record import EVENT, Frame, Recorder, TracePoint, a_crop, a_file, a_run
    import numpy as np
    parent = Path(sys.argv[1])
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)

    def record_until(moment):
        recorder = Recorder(parent / str(moment), a_run(live=False))
        for k in range(moment):
            size = 96 if k < 50 else 64  # a second video begins
            for item in (Frame(k, k / 30, image[:size]), a_crop(k / 30), TracePoint(1, k / 30, 0.5, 0.5, 0.47), EVENT):
                recorder.put(item)
        os.kill(os.getpid(), 9)

    for moment in range(0, 100, 4):
        child = os.fork()
        if child == 0:
            record_until(moment)
        os.waitpid(child, 0)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no kill -9")
def test_killed_at_any_moment_all_that_was_given_is_readable(tmp_path):
    """kill -9 after any number of frames: every score, crop and event is there, and each frame that was encoded."""
    (tmp_path / "child.py").write_text(textwrap.dedent(KILLED))
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "child.py", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, env=environment(tmp_path, PYTHONPATH=paths), check=True, timeout=60)
    seen = []
    for moment in range(0, 100, 4):
        (folder,) = (tmp_path / str(moment)).iterdir()
        session = load_session(folder)
        assert session.state is State.CUT_SHORT
        assert len(session.track()) == len(session.trace()) == len(session.events()) == moment
        seen.append(
            sum(len(pictures(path)) for path in session.folder.glob("video*.mkv") if path.stat().st_size > HEADER_BYTES)
        )
        assert moment - 20 <= seen[-1] <= moment, "all but what waited for the encoder, and the frame after it"
    assert seen[-1] >= 75, "both videos can be read"
