"""Records a look at a camera for measuring: some seconds of frames, faces and landmarks, as the live path sees them."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.app import assemble, open_named_source
from stream.config import Config
from stream.decide.baseline import Baseline, BaselineLaw
from stream.decide.odds import log_odds
from stream.errors import UserError
from stream.faces.finder import Faces, LandmarkSource, open_landmarker
from stream.faces.landmarks import Image, Points, Roi
from stream.faces.model_file import locate
from stream.faces.template import RIGID
from stream.sources.info import Source, SourceInfo
from stream.types import FaceCrop, Frame, Quality

ROWS = 64
"""A frame's brightness is stored as this many bands from top to bottom."""
LEAST_S = 2.0


@dataclass(slots=True)
class Look:
    """The recorded data. Per frame: `time_s`, brightness of its bands float32[ROWS], `blocks` (see `blockiness`).

    Per frame with a face: `face_s`, its crop uint8[S, S], quality, rigid landmarks float32[n, 2] (px of the image).
    """

    info: SourceInfo
    time_s: list[float] = field(default_factory=list)
    bands: list[NDArray[np.float32]] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    face_s: list[float] = field(default_factory=list)
    crops: list[Image] = field(default_factory=list)
    quality: list[Quality] = field(default_factory=list)
    rigid: list[NDArray[np.float32]] = field(default_factory=list)


class _Noting:
    """A landmarker that also keeps its last result."""

    def __init__(self, inner: LandmarkSource) -> None:
        self._inner = inner
        self.points: Points | None = None

    def detect(self, image: Image, wanted: int = 1) -> list[Roi]:
        return self._inner.detect(image, wanted)

    def track(self, image: Image, roi: Roi) -> tuple[Points, float]:
        self.points, presence = self._inner.track(image, roi)
        return self.points, presence


@contextmanager
def opened(config: Config) -> Iterator[Source]:
    """The camera or file of --camera, --source. It is closed at the end. Raises UserError."""
    source = open_named_source(config, threading.Event())
    try:
        yield source
    finally:
        source.close()


def look(source: Source, config: Config, seconds: float) -> Look:
    """Watches for that long, or to the end of a file. Raises UserError when there was no face for LEAST_S."""
    landmarker = _Noting(open_landmarker(config.landmarks, locate(config.face_model), 1))
    faces, seen = Faces(landmarker, max_faces=1), Look(source.info)
    while (item := source.read()) is not None:
        if not isinstance(item, Frame):
            faces.gap(item.time_s, item.reason)
            continue
        if seen.time_s and item.time_s - seen.time_s[0] > seconds:
            break
        found = [one for one in faces.update(item) if isinstance(one, FaceCrop)]
        _note(seen, item, found[0] if found else None, landmarker.points)
    span_s = seen.time_s[-1] - seen.time_s[0] if seen.time_s else 0.0
    watched_s = span_s * len(seen.face_s) / max(len(seen.time_s), 1)
    if watched_s < LEAST_S:
        raise UserError(f"{source.info.name}: a face was seen for {watched_s:.1f} s; {LEAST_S:g} s are needed")
    return seen


@dataclass(frozen=True, slots=True)
class Followed:
    """The baseline of the first face, and its history.

    `trace`: (time in s, log-odds of the hop, level so far). `baseline` is None when no face was seen.
    """

    baseline: Baseline | None
    trace: tuple[tuple[float, float, float], ...]


def follow(source: Source, config: Config, seconds: float, law: BaselineLaw) -> Followed:
    """Runs the live path's own steps over that many seconds of a source. `law` is the law of the faces' baselines."""
    parts = assemble(config, source, law)
    first_s: float | None = None
    face_id: int | None = None
    baseline: Baseline | None = None
    trace: list[tuple[float, float, float]] = []
    while (item := source.read()) is not None:
        if isinstance(item, Frame):
            first_s = item.time_s if first_s is None else first_s
            if item.time_s - first_s > seconds:
                break
        for hop in parts.faces.step(item, captured_s=0.0):
            for point in parts.scores.step(hop).trace:
                face_id = point.face_id if face_id is None else face_id
                if point.face_id == face_id and (known := parts.scores.baseline(face_id)) is not None:
                    baseline, odds = known, log_odds(point.level)
                    trace.append((point.time_s, odds, odds if known.level is None else known.level))
    return Followed(baseline, tuple(trace))


def _note(seen: Look, frame: Frame, crop: FaceCrop | None, points: Points | None) -> None:
    grey = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY), np.uint8)
    seen.time_s.append(frame.time_s)
    seen.bands.append(cv2.resize(grey, (1, ROWS), interpolation=cv2.INTER_AREA)[:, 0].astype(np.float32))
    if crop is not None and points is not None:
        seen.face_s.append(crop.time_s)
        seen.crops.append(crop.image)
        seen.quality.append(crop.quality)
        seen.rigid.append(points[RIGID, :2].copy())
        seen.blocks.append(blockiness(_around(grey, points)))


def _around(grey: Image, points: Points) -> Image:
    """The part of the picture around the face, cut on the codec's 8-px grid."""
    height, width = grey.shape
    x0, y0 = (max(0, int(v) // 8 * 8) for v in points[:, :2].min(axis=0))
    x1, y1 = (int(v) for v in points[:, :2].max(axis=0))
    return grey[y0 : min(y1, height), x0 : min(x1, width)]


def blockiness(grey: Image) -> float:
    """How much larger the steps across the borders of 8-px blocks are than elsewhere, as a share. It is 0 without a
    codec.

    The first px of uint8[H, W] begins a block. The median over phases gives the steps without blocks.
    """
    shares = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey.astype(np.float32), axis=axis)).mean(axis=1 - axis)
        if len(steps) < 2 * 8:
            return math.nan
        by_phase = np.array([steps[phase::8].mean() for phase in range(8)])  # borders lie after px 7, 15, ...
        usual = float(np.median(by_phase[:7]))
        shares.append(float(by_phase[7]) / usual - 1 if usual > 0 else 0.0)
    return max(0.0, float(np.mean(shares)))
