"""The baselines' input, frame by frame: blendshape scores and optical flow of the live path's own crops.

Both use the live path's landmarks and its steadied crops, so that poor alignment puts them at no disadvantage.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.faces.finder import Faces
from stream.faces.landmarks import Image, Landmarker, Points, Roi
from stream.faces.model_file import locate
from stream.sources import open_source
from stream.types import CROP_PX, FaceCrop, Frame

BLENDSHAPE_POINTS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81,
    82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154,
    155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263,
    267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321,
    323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387,
    388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
"""Landmarks that the network reads, in its order (MediaPipe's face_blendshapes_graph.cc)."""
BLENDSHAPES = 52
NEUTRAL = 0
BLINK = (9, 10)
GAZE = tuple(range(11, 19))
"""Indices of `_neutral`, `eyeBlink*` and `eyeLook*` among the network's outputs."""

REGIONS = {
    # x0, y0, x1, y1 in px of the crop; the outer eye corners are at (31.5, 46) and (95.5, 46)
    "brow_right": (22, 26, 54, 42), "brow_left": (73, 26, 105, 42), "glabella": (54, 26, 73, 42),
    "cheek_right": (24, 58, 46, 80), "cheek_left": (81, 58, 103, 80), "mouth_right": (34, 84, 56, 104),
    "mouth_left": (71, 84, 93, 104), "lips": (52, 82, 75, 104), "chin": (48, 106, 79, 124), "nose": (54, 52, 73, 76),
}  # fmt: skip
"""Regions of interest as in the literature. The others are measured against `nose`."""


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals of one video, frame by frame. They are NaN when no face was watched.

    `time_s`: float64[F]. `blendshapes`: float32[F, 52]. `moved`: float32[F, R, 2], the motion of each of REGIONS since
    the frame before, in px of the crop.
    """

    time_s: NDArray[np.float64]
    blendshapes: NDArray[np.float32]
    moved: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write one .npz."""
        np.savez_compressed(path, time_s=self.time_s, blendshapes=self.blendshapes, moved=self.moved)

    @classmethod
    def load(cls, path: Path) -> "Signals":
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["time_s"], file["blendshapes"], file["moved"])


class Blendshapes:
    """MediaPipe's blendshape network on LiteRT: landmarks float32[478, 3] -> scores float32[52]."""

    def __init__(self, face_model: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with zipfile.ZipFile(face_model) as archive:
            network = archive.read("face_blendshapes.tflite")
        self._interpreter = Interpreter(model_content=network, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, points: Points) -> NDArray[np.float32]:
        """Score of every expression, 0 to 1."""
        self._interpreter.set_tensor(self._input, points[None, list(BLENDSHAPE_POINTS), :2].astype(np.float32))
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output), np.float32).reshape(BLENDSHAPES)


class _Noted:
    """A landmarker that keeps its last landmarks. They are those of the one face that is followed."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker
        self.points: Points | None = None

    def detect(self, image: Image, wanted: int = 1) -> list[Roi]:
        """See `stream.faces.finder.LandmarkSource`."""
        return self._landmarker.detect(image, wanted)

    def track(self, image: Image, roi: Roi) -> tuple[Points, float]:
        """See `stream.faces.finder.LandmarkSource`."""
        self.points, presence = self._landmarker.track(image, roi)
        return self.points, presence


def signals_of(video: Path, face_model: Path | None = None) -> Signals:
    """Runs one video through the live path's face room. Raises UserError."""
    model = locate(face_model)
    landmarker, blendshapes = _Noted(Landmarker(model)), Blendshapes(model)
    faces, source = Faces(landmarker, max_faces=1), open_source(str(video), paced=False)
    times, scores, moves = [], [], []
    before: Image | None = None
    try:
        while (item := source.read()) is not None:
            if not isinstance(item, Frame):
                before = None
                continue
            crop = next((one.image for one in faces.update(item) if isinstance(one, FaceCrop)), None)
            points = landmarker.points if crop is not None else None
            scores.append(np.full(BLENDSHAPES, np.nan, np.float32) if points is None else blendshapes(points))
            moves.append(flow(before, crop) if crop is not None and before is not None else _unknown(crop is not None))
            times.append(item.time_s)
            before = crop
    finally:
        source.close()
    return Signals(np.array(times), np.array(scores, np.float32), np.array(moves, np.float32))


def flow(before: Image, after: Image) -> NDArray[np.float32]:
    """Mean motion of each of REGIONS between two crops uint8[S, S], float32[R, 2] (Farneback 2003)."""
    assert before.shape == (CROP_PX, CROP_PX)
    field = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.1, 0)  # type: ignore[call-overload]
    return np.array([field[y0:y1, x0:x1].mean((0, 1)) for x0, y0, x1, y1 in REGIONS.values()], np.float32)


def _unknown(seen: bool) -> NDArray[np.float32]:
    """Motion of a frame without a frame before it: 0 for a face, NaN without one."""
    return np.full((len(REGIONS), 2), 0.0 if seen else np.nan, np.float32)
