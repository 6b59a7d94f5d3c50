"""Sessions on disk as a recorder writes them: a real encoded video, events, a score trace, the faces' track."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from clips import face_image, raised_at

from stream.sessions.session import TRACE, TRACK

STARTS_S = 100.0
"""The source's clock when the recording begins: media time and source time are not the same."""
RAISES_S = (101.2, 104.0)


def make_session(
    folder: Path, *, length_s: float = 6.0, faces: int = 1, hours: float = 0.0, video: str = "video.mkv", **about: Any
) -> Path:
    """Write a session of a face that raises a brow twice. `hours`: length of trace and track, if not `length_s`."""
    folder.mkdir(parents=True)
    times_s = [i / 30 for i in range(round(length_s * 30))]
    raised = [max(raised_at(STARTS_S + t, onset_s) for onset_s in RAISES_S) for t in times_s]
    _write_video(folder / video, [face_image(t, r) for t, r in zip(times_s, raised, strict=True)])
    ends_s = STARTS_S + (hours * 3600 or length_s)
    message = {
        "version": 1,
        "source": "camera:0",
        "epoch": "01JDWQ00000000000000000000",
        "program": "0.1.0",
        "started": "2026-11-28T10:00:00.000Z",
        "starts_s": STARTS_S,
        "model_name": "mesnet-v1",
        "model_sha256": "00ff",
        "model_fps": 30.0,
        "runtime": "onnx",
        "threshold": 0.6,
        "false_alarms_per_hour": 40.0,
        "videos": [{"file": video, "starts_s": STARTS_S}],
        "dropped": {"capture": 0, "record": 0},
        "ends_s": ends_s,
        "complete": True,
        **about,
    }
    (folder / "session.json").write_text(json.dumps(message))
    events = [_end(number, onset_s) for number, onset_s in enumerate(RAISES_S, 1)]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    _write_records(folder, np.arange(STARTS_S, ends_s, 1 / 30), faces)
    return folder


def _write_video(path: Path, images: list[Any]) -> None:
    """30 Hz as `stream.sinks.record` writes it: ms, and no frame rate in the header, which browsers seek worse in."""
    with av.open(
        str(path), "w", format="matroska", options={"flush_packets": "1", "cluster_time_limit": "500"}
    ) as file:
        stream: Any = file.add_stream("libx264", options={"preset": "ultrafast", "tune": "zerolatency", "g": "30"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(images):
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts, picture.time_base = round(number * 1000 / 30), Fraction(1, 1000)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


def _end(number: int, onset_s: float) -> dict[str, Any]:
    return {
        "type": "event",
        "phase": "end",
        "id": f"01J{number:023d}",
        "face": 1,
        "onset_s": onset_s,
        "apex_s": onset_s + 0.2,
        "offset_s": onset_s + 0.4,
        "score": 0.87,
        "regions": {"brows": 0.8, "eyes": 0.1, "cheeks": 0.0, "mouth": 0.1},
    }


def _write_records(folder: Path, times_s: Any, faces: int) -> None:
    near = np.minimum.reduce([abs(times_s - onset_s - 0.2) for onset_s in RAISES_S])
    scores = 0.9 * np.exp(-((near / 0.15) ** 2)) + 0.1 + 0.04 * np.sin(times_s * 5)
    for name, kind in (("trace.bin", TRACE), ("track.bin", TRACK)):
        records = np.zeros((len(times_s), faces), kind)
        records["time_s"] = times_s[:, None]
        records["face"] = np.arange(1, faces + 1)
        if kind is TRACE:
            records["score"] = scores[:, None]
            records["threshold"] = np.where(times_s < STARTS_S + 3, 0.6, 0.7)[:, None]
        else:
            records["matrix"] = [[0.5, 0, -16], [0, 0.5, -16]]  # the middle 256 px of the 320 px picture
        (folder / name).write_bytes(records.tobytes())
