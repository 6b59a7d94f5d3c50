"""What --record stores: each frame at its own time, a new file when the size changes; it never stops the spotting."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from serving import event as happened
from videos import number_in, numbered

from stream.errors import UserError
from stream.protocol.ulid import new_ulid
from stream.sinks.record import Recorder
from stream.types import Event, Frame


def recorded(folder: Path, frames: list[Frame], event: Event | None = None) -> Path:
    """The session's folder after these frames, given as slowly as the encoder takes them."""
    recorder = Recorder(folder, "camera:0", new_ulid())
    for frame in frames:
        recorder._frames.put(frame)
    if event is not None:
        recorder.put(event)
    recorder._frames.close()
    recorder._worker.join(20)
    recorder.close()
    assert recorder.trouble is None
    (session,) = folder.iterdir()
    return session


def pictures(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(picture.time), picture.to_ndarray(format="bgr24")) for picture in container.decode(video=0)]


def test_each_frame_is_stored_at_its_own_time(tmp_path):
    """A camera's jitter and a dropped frame are in the file as they were."""
    times_s = [1000.0, 1000.033, 1000.07, 1000.1, 1000.3, 1000.333]
    session = recorded(tmp_path, [Frame(k, time_s, numbered(k)) for k, time_s in enumerate(times_s)])
    (about,) = json.loads((session / "session.json").read_text())["videos"]
    stored = pictures(session / about["file"])
    assert [about["starts_s"] + time_s for time_s, _ in stored] == pytest.approx(times_s, abs=1e-3)
    assert [number_in(image) for _, image in stored] == list(range(6))


def test_a_new_size_is_a_new_file(tmp_path):
    frames = [Frame(k, k / 30, numbered(k, *((192, 64) if k < 5 else (97, 51)))) for k in range(10)]
    session = recorded(tmp_path, frames)
    about = json.loads((session / "session.json").read_text())["videos"]
    assert [video["file"] for video in about] == ["video.mkv", "video-2.mkv"]
    assert about[1]["starts_s"] == pytest.approx(5 / 30)
    first, second = (pictures(session / video["file"]) for video in about)
    assert (len(first), len(second)) == (5, 5)
    assert second[0][1].shape == (50, 96, 3), "odd sides lose their last row and column"


def test_a_frame_of_one_pixel_stops_nothing(tmp_path):
    session = recorded(tmp_path, [Frame(k, k / 30, np.zeros((1, 1, 3), np.uint8)) for k in range(3)])
    assert (session / "session.json").exists()


def test_events_lie_beside_the_video(tmp_path):
    event = happened(1, onset_s=1.0, apex_s=1.2, offset_s=1.4)
    session = recorded(tmp_path, [Frame(0, 0.0, numbered(0))], event)
    (line,) = (session / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["onset_s"] == 1.0


def test_an_encoder_that_is_behind_costs_frames_of_the_recording_only(tmp_path):
    """`put` never waits, however many come at once; what does not fit is counted."""
    recorder = Recorder(tmp_path, "camera:0", new_ulid())
    image = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    for k in range(60):
        recorder.put(Frame(k, k / 30, image))
    recorder.close()
    assert recorder.dropped["record"] >= 20


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--record .*file: cannot be written"):
        Recorder(tmp_path / "file", "camera:0", new_ulid())
