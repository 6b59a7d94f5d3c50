"""Records the live path over a file or a folder of images, so that decisions can be replayed without the network.

Frames go through the same steps as in `stream.app`, and the input of each face's tracker is recorded. A replay at any
threshold gives exactly the events of a run at that threshold.
"""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.datasets import DatasetError, Video
from engine.evaluation.events import Said
from stream.app import assemble, offline_steps
from stream.config import Config
from stream.decide.baseline import BaselineLaw
from stream.decide.decider import Step, replay, score_at
from stream.decide.odds import log_odds, probability
from stream.decide.tracker_config import TrackerConfig
from stream.errors import UserError
from stream.sources import open_source
from stream.sources.info import Source, SourceInfo
from stream.types import Frame, ScoredInterval, SourceGap, TrackerEvent

VERSION = 1


@dataclass(slots=True)
class Recording:
    """A run over one video: the inputs of each face's tracker, in order. `model`: sha256 of the weights."""

    model: str
    frames: int = 0
    faces: list[list[Step]] = field(default_factory=list)

    def replay(self, config: TrackerConfig, baselines: bool = False) -> list[Said]:
        """The events of a run with this tracker, in order of emission.

        With `baselines`, each face's baseline moves its threshold. Scores are then relative to the common threshold, so
        every event reaches it and a sweep over thresholds is valid.
        """
        told: list[tuple[float, int, Said]] = []
        for face, steps in enumerate(self.faces):
            given = steps if baselines else [replace(step, shift=0.0) for step in steps]
            for step, event in replay(given, config):
                told.append((step.now_s, face, _said(event, face, step.now_s, step.shift)))
        return [one for _, _, one in sorted(told, key=lambda one: one[:2])]

    def trace(self, latency_s: float) -> list[tuple[float, float]]:
        """(time, score) `latency_s` before every hop. The score is that of the best proposal at that time. It comes
        from a clip that extends past it."""
        points: dict[float, float] = {}
        for steps in self.faces:
            for step in (s for s in steps if s.reason is None):
                t = round(step.now_s - latency_s, 4)
                points[t] = max(points.get(t, 0.0), score_at(step.intervals, t))
        return sorted(points.items())

    def save(self, path: Path) -> None:
        """Write it as compressed JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": VERSION, **asdict(self)})
        path.write_bytes(gzip.compress(text.encode(), mtime=0))

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Read what `save` wrote. Raises UserError."""
        try:
            said = json.loads(gzip.decompress(path.read_bytes()))
            if said["version"] != VERSION:
                raise ValueError(f"version {said['version']}")
            faces = [[_step(s) for s in steps] for steps in said["faces"]]
            return cls(said["model"], said["frames"], faces)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a recording ({error!r}); make it again without --recordings") from None


class FolderSource:
    """A data set's video as a source: images with times from its own frame numbers. See
    `stream.sources.info.Source`."""

    def __init__(self, video: Video, fps: float) -> None:
        self.dropped = self.corrupt = 0
        self._frames: Iterator[tuple[int, float, NDArray[np.uint8]]] = video.read(fps)
        self._first = next(self._frames, None)
        height, width = self._first[2].shape[:2] if self._first else (0, 0)
        self.info = SourceInfo(
            f"{video.subject}/{video.name}", False, width, height, video.fps, "images", 0.5 / video.fps
        )

    def read(self) -> Frame | SourceGap | None:
        """Returns the next frame, or None at the end. Raises UserError for a file that is no image."""
        try:
            item, self._first = self._first or next(self._frames, None), None
        except DatasetError as error:
            raise UserError(str(error)) from None
        return None if item is None else Frame(*item)

    def close(self) -> None:
        """Nothing is held."""


def record_file(path: Path, config: Config, law: BaselineLaw | None = None) -> Recording:
    """Runs a video file through the live path. `law` replaces the model's law of each face's baseline. Raises
    UserError."""
    with closing(open_source(str(path), paced=False, stop=threading.Event())) as source:
        return _record(source, config, law)


def record_video(video: Video, config: Config, fps: float) -> Recording:
    """Runs a data set's video through the live path, thinned to about `fps`. Raises UserError."""
    return _record(FolderSource(video, fps), config)


def recording_path(folder: Path, name: str) -> Path:
    """Place of the recording of video `name` in `folder`: readable, and different for different names."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return folder / f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json.gz"


def _record(source: Source, config: Config, law: BaselineLaw | None = None) -> Recording:
    parts = assemble(config, source, law)
    faces: dict[int, list[Step]] = {}
    for scored in offline_steps(parts):
        for face_id, step in scored.steps:
            faces.setdefault(face_id, []).append(step)
    return Recording(parts.model.sha256, parts.faces.frames, list(faces.values()))


def _said(event: TrackerEvent, face: int, now_s: float, shift: float) -> Said:
    return Said(
        event.phase.value,
        f"{face}:{event.key}",
        event.onset_s,
        event.apex_s,
        event.offset_s,
        probability(log_odds(event.score) - shift) if shift else event.score,
        now_s,
        event.suppressed,
        face,
    )


def _step(said: dict[str, Any]) -> Step:
    intervals = tuple(
        ScoredInterval(**{**i, "kinds": tuple(i["kinds"]), "regions": tuple(i["regions"])}) for i in said["intervals"]
    )
    return Step(said["now_s"], intervals, said["reason"], said["shift"])
