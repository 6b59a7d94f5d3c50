"""Sessions on disk, as a recording leaves them, of times and intervals that a test names."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stream.sessions.coding import ActionUnit, Coding, Mark, Verdict, save_coding
from stream.sessions.session import TRACK, Session, load_session

FPS = 30.0
REGIONS = {"brows": 0.7, "eyes": 0.1, "cheeks": 0.1, "mouth": 0.1}


def session(
    folder: Path,
    found: Iterable[tuple[str, int, float, float, float]] = (),
    codings: Iterable[Coding] = (),
    *,
    videos: Sequence[tuple[str, float]] = (("video.mkv", 0.0),),
    ends_s: float | None = 10.0,
    seen: dict[int, tuple[float, float]] | None = None,
) -> Session:
    """A session whose machine found (id, face, onset, apex, offset); `seen`: by face, from when to when."""
    folder.mkdir(parents=True)
    starts_s = videos[0][1] if videos else 0.0
    about = {
        "version": 1, "source": "camera:0", "epoch": "E", "program": "0.1.0", "started": "2026-11-29T09:00:00+00:00",
        "starts_s": starts_s, "model_name": "m", "model_sha256": "0" * 64, "model_fps": FPS, "runtime": "onnx",
        "threshold": 0.5, "false_alarms_per_hour": 9.2, "ends_s": ends_s, "complete": ends_s is not None,
        "videos": [{"file": name, "starts_s": at} for name, at in videos],
    }  # fmt: skip
    (folder / "session.json").write_text(json.dumps(about))
    for name, _ in videos:
        (folder / name).write_bytes(b"")
    with (folder / "events.jsonl").open("w") as file:
        for id, face, onset_s, apex_s, offset_s in found:
            event = {"type": "event", "phase": "end", "id": id, "face": face, "onset_s": onset_s, "apex_s": apex_s,
                     "offset_s": offset_s, "score": 0.87, "regions": REGIONS}  # fmt: skip
            file.write(json.dumps(event) + "\n")
    times = [(t, face, 0) for face, (a, b) in (seen or {}).items() for t in np.arange(a, b, 1 / FPS)]
    np.array(times, TRACK).tofile(folder / "track.bin")
    for coding in codings:
        save_coding(folder / "codings", coding)
    return load_session(folder)


def added(id: str, onset_s: float, offset_s: float, face: int = 1, units: Iterable[int] = (), **more: object) -> Mark:
    """An interval that only the coder saw."""
    coded = tuple(ActionUnit(unit) for unit in units)
    return Mark(id, face, onset_s, more.pop("apex_s", None), offset_s, Verdict.ADDED, units=coded, **more)
