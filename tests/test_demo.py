"""What a newcomer does first: the shipped weights on the shipped clip. Its known intervals arrive, and no others."""

import json
import re
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from clips import face_video
from program import ROOT, lines_of_json, run, said, start
from websockets.sync.client import connect

from stream.app import assemble, offline_events, open_named_source
from stream.config import Config
from stream.sources import open_source
from stream.types import SourceGap

pytestmark = pytest.mark.slow

DEMO = ROOT / "stream" / "demo"


def known() -> list[tuple[float, float]]:
    """Onset and offset of the clip's micro-expressions, s."""
    (video,) = json.loads((DEMO / "truth.json").read_text())["videos"]
    return [(i["onset_s"], i["offset_s"]) for i in video["intervals"] if i["kind"] == "micro"]


def overlap(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union."""
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return max(0.0, shared) / (max(a[1], b[1]) - min(a[0], b[0]))


def matched(ends: list[dict], truth: list[tuple[float, float]]) -> set[int]:
    """Which of the known intervals an `end` meets with IoU >= 0.5."""
    found = [(event["onset_s"], event["offset_s"]) for event in ends]
    return {k for k, interval in enumerate(truth) if any(overlap(interval, other) >= 0.5 for other in found)}


def test_offline_finds_what_is_known_of_the_clip_and_nothing_else(tmp_path: Path):
    """Four micro-expressions among blinks, a smile and a turn of the head."""
    done = run(tmp_path, "--demo", "--offline", "--events", tmp_path / "events.jsonl", "--runtime", "onnx")
    assert done.returncode == 0, done.stderr
    ends = [event for event in lines_of_json(tmp_path / "events.jsonl") if event["phase"] == "end"]
    assert matched(ends, known()) == set(range(len(known())))
    assert len(ends) == len(known())
    assert "450 frames, 1 faces" in said(done.stderr)[-1]


def test_live_an_end_that_is_right_arrives_within_30_s(tmp_path: Path):
    program = start(tmp_path, "--demo", "--port", 0)
    try:
        began_s = time.monotonic()
        assert program.stderr is not None
        url = re.compile(r"events and dashboard on http://(127.0.0.1:\d+)/")
        place = next(found[1] for line in program.stderr if (found := url.search(line)))
        with connect(f"ws://{place}/events", proxy=None) as socket:
            event = {"phase": None}
            while event["phase"] != "end":
                message = json.loads(socket.recv(timeout=30))
                event = message if message["type"] == "event" else event
        assert time.monotonic() - began_s < 30
        assert matched([event], known())
    finally:
        program.kill()
        program.communicate(timeout=10)


@pytest.mark.parametrize(
    ("fps", "variable"),
    [*((fps, False) for fps in (12, 15, 24, 29.97, 30, 60, 120, 200)), (24, True), (30, True)],
)
def test_a_raised_brow_is_found_at_its_time_at_any_rate(tmp_path: Path, fps: float, variable: bool):
    """One brow goes up and down from 1.2 to 1.6 s: one `end`, its onset and offset within 50 ms, whatever the rate."""
    video = face_video(tmp_path / "brow.mp4", fps=fps, length_s=2.5, raise_s=1.2, variable=variable)
    config = Config(source=str(video), offline=True, runtime="onnx")
    with closing(open_named_source(config, threading.Event())) as source:
        ends = [event for event in offline_events(assemble(config, source)) if event.phase == "end"]
    assert len(ends) == 1
    assert ends[0].onset_s == pytest.approx(1.2, abs=0.05)
    assert ends[0].offset_s == pytest.approx(1.6, abs=0.05)
    assert max(ends[0].regions, key=ends[0].regions.__getitem__) == "brows"


def test_the_clip_is_looped_on_one_clock(tmp_path: Path):
    """Time goes on over the seam: what comes after it is later, and nothing spans it."""
    source = open_source(str(DEMO / "demo.mp4"), paced=False, loop=True)
    try:
        items = [source.read() for _ in range(460)]
    finally:
        source.close()
    times_s = [item.time_s for item in items if item is not None]
    assert len(times_s) == 460
    assert times_s == sorted(times_s)
    assert times_s[-1] > 15.0
    assert [item.reason for item in items if isinstance(item, SourceGap)] == ["loop"]


@pytest.mark.parametrize("name", ["demo.mp4", "truth.json", "ATTRIBUTION.md"])
def test_the_clip_is_shipped_with_its_truth_and_its_origin(name: str):
    assert (DEMO / name).stat().st_size > 0
