"""Finds face landmarks with MediaPipe's networks on LiteRT. MediaPipe's own tracking is not used: its low-pass filter
removes MEs.

Points are float32[478, 3] in px of the image. The centre of the image's first pixel is (0, 0). z has the scale of x and
is negative towards the camera.

The networks are BlazeFace short range (Bazarevsky et al. 2019, arXiv 1907.05047) and the attention mesh (Grishchenko et
al. 2020, arXiv 2006.10962).
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.errors import UserError

POINTS = 478
OUTER_EYE_CORNERS = (33, 263)
PRESENT = 0.5
"""From this probability on a face counts as present (MediaPipe's own threshold)."""
DETECTOR_PX = 128
MESH_PX = 256
ROI_SCALE = 1.5
DETECTION_SCORE = 0.5
NMS_IOU = 0.3

Image = NDArray[np.uint8]
Points = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Roi:
    """A rotated square around a face: centre and side in px of the image, and its roll (clockwise as seen)."""

    x: float
    y: float
    side: float
    roll_rad: float

    def matrix(self, out_px: int) -> NDArray[np.float64]:
        """Returns the float64[2, 3] that maps pixel centres of an out_px square on this ROI to px of the image."""
        step = self.side / out_px
        cos, sin = step * math.cos(self.roll_rad), step * math.sin(self.roll_rad)
        middle = (out_px - 1) / 2
        return np.array(
            [
                [cos, -sin, self.x - middle * (cos - sin)],
                [sin, cos, self.y - middle * (sin + cos)],
            ]
        )


def roi_of(points: Points) -> Roi:
    """Returns the square in which to look for the face at `points`: upright by the eyes, 1.5 x the box of
    the points.
    """
    right, left = points[OUTER_EYE_CORNERS[0], :2], points[OUTER_EYE_CORNERS[1], :2]
    roll = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
    cos, sin = math.cos(roll), math.sin(roll)
    upright = points[:, :2].astype(np.float64) @ np.array([[cos, -sin], [sin, cos]])
    low, high = upright.min(axis=0), upright.max(axis=0)
    u, v = (low + high) / 2
    return Roi(float(cos * u - sin * v), float(sin * u + cos * v), ROI_SCALE * float((high - low).max()), roll)


def warp_down(image: Image, to_image: NDArray[np.float64], out_px: int, grey: bool = False) -> Image:
    """Returns uint8[out_px, out_px(, 3)]: `image` sampled through `to_image` (float64[2, 3], output px -> image px).

    `image` is uint8[H, W] or uint8[H, W, 3] BGR. With `grey` it is converted to grey before any interpolation. An image
    that is finer than the output is averaged down first, so that texture does not alias into motion. Pixels outside the
    image are black.
    """
    scale = math.sqrt(abs(to_image[0, 0] * to_image[1, 1] - to_image[0, 1] * to_image[1, 0]))
    part, to_part = _cut(image, to_image, out_px)
    if part.size == 0:
        return np.zeros((out_px, out_px) if grey else (out_px, out_px, *image.shape[2:]), np.uint8)
    if grey and part.ndim == 3:
        part = np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), np.uint8)
    factor = int(scale / 1.4)
    if factor > 1 and min(part.shape[:2]) >= factor:
        height, width = part.shape[0] // factor * factor, part.shape[1] // factor * factor
        size = (width // factor, height // factor)
        part = np.asarray(cv2.resize(part[:height, :width], size, interpolation=cv2.INTER_AREA), np.uint8)
        to_part = to_part / factor
        to_part[:, 2] -= (factor - 1) / (2 * factor)
        scale /= factor
    if scale > 1.2:
        sigma = 0.45 * math.sqrt(scale * scale - 1)
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(part, to_part, (out_px, out_px), flags=flags), np.uint8)


def _cut(image: Image, to_image: NDArray[np.float64], out_px: int) -> tuple[Image, NDArray[np.float64]]:
    """Returns the part of `image` that the output can touch, and the matrix into that part."""
    last = out_px - 1
    corners = np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])
    reach = to_image @ corners
    margin = 8
    # an even origin, so that averaging down starts on the same pixels while the face moves by less than a few px
    x0, y0 = (max(0, int(low - margin) // 8 * 8) for low in np.clip(reach.min(axis=1), -1e6, 1e6))
    x1, y1 = (max(0, int(high + margin)) for high in np.clip(reach.max(axis=1), -1e6, 1e6))
    shifted = to_image.copy()
    shifted[:, 2] -= (x0, y0)
    return image[y0:y1, x0:x1], shifted


def _anchors() -> NDArray[np.float32]:
    """Returns float32[896, 2]: the centres of the SSD anchors, as shares of the side. There are 2 per cell of 8 px and
    6 per cell of 16 px.
    """
    centres = []
    for cells, per_cell in ((16, 2), (8, 6)):
        grid = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(grid, grid, indexing="ij")
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), per_cell, axis=0))
    return np.concatenate(centres).astype(np.float32)


class Landmarker:
    """Both networks of a `face_landmarker.task` zip, held in memory. Not thread-safe.

    Raises UserError if `model` is not such a file.
    """

    def __init__(self, model: Path, threads: int = 1) -> None:
        try:
            with zipfile.ZipFile(model) as archive:
                detector, mesh = (
                    archive.read(name) for name in ("face_detector.tflite", "face_landmarks_detector.tflite")
                )
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"--face-model {model}: not a face_landmarker.task ({error}); give that file or leave the flag out",
                code=2,
            ) from error
        self._detector = _Network(detector, threads)
        self._mesh = _Network(mesh, threads)
        self._anchors = _anchors()

    def detect(self, image: Image, wanted: int = 1) -> list[Roi]:
        """Returns a square around each face of `image` (uint8[H, W, 3] BGR), best first, to look for its landmarks in.

        The network sees 128 px. If it finds fewer than `wanted` faces, it also looks at overlapping parts of the image.
        """
        height, width = image.shape[:2]
        side = max(height, width)
        found = self._faces_in(image, (width - side) / 2, (height - side) / 2, side)
        if len(found) < wanted and side > DETECTOR_PX:
            part = side / 2
            for y in _starts(height, part):
                for x in _starts(width, part):
                    found += self._faces_in(image, x, y, part)
        return [_detected(face) for face in _suppress(found)]

    def _faces_in(self, image: Image, x: float, y: float, side: float) -> list[tuple[float, NDArray[np.float64]]]:
        """Returns (score, float64[8, 2]) per face: centre, size and six key points. The square's first corner is (x,
        y).
        """
        to_image = Roi(x + (side - 1) / 2, y + (side - 1) / 2, side, 0.0).matrix(DETECTOR_PX)
        rgb = cv2.cvtColor(warp_down(image, to_image, DETECTOR_PX), cv2.COLOR_BGR2RGB)
        boxes, logits = self._detector(rgb.astype(np.float32)[None] / 127.5 - 1)
        score = 1 / (1 + np.exp(-np.clip(logits[0, :, 0].astype(np.float64), -80, 80)))
        keep = np.flatnonzero(score >= DETECTION_SCORE)
        faces = boxes[0, keep].reshape(-1, 8, 2).astype(np.float64) / DETECTOR_PX
        faces[:, [0, 2, 3]] += self._anchors[keep][:, None]
        faces *= side
        faces[:, [0, 2, 3]] += (x - 0.5, y - 0.5)
        return list(zip(score[keep].tolist(), faces, strict=True))

    def track(self, image: Image, roi: Roi) -> tuple[Points, float]:
        """Returns the landmarks of the face within `roi`, and the probability that there is one."""
        to_image = roi.matrix(MESH_PX)
        rgb = cv2.cvtColor(warp_down(image, to_image, MESH_PX), cv2.COLOR_BGR2RGB)
        outputs = self._mesh(rgb.astype(np.float32)[None] * np.float32(1 / 255))
        raw, logit = outputs[0].reshape(POINTS, 3).astype(np.float64), float(outputs[1].ravel()[0])
        points = np.empty((POINTS, 3), np.float32)
        # the network counts from the corner of its first pixel
        points[:, :2] = (raw[:, :2] - 0.5) @ to_image[:, :2].T + to_image[:, 2]
        points[:, 2] = raw[:, 2] * roi.side / MESH_PX
        return points, 1 / (1 + math.exp(-min(max(logit, -80.0), 80.0)))

    def find(self, image: Image) -> list[Points]:
        """Returns the landmarks of every face in a still image, best detection first. A second pass starts from the
        first's points.
        """
        faces = []
        for roi in self.detect(image):
            points, presence = self.track(image, roi)
            if presence >= PRESENT:
                points, presence = self.track(image, roi_of(points))
            if presence >= PRESENT:
                faces.append(points)
        return faces


def _starts(length: float, part: float) -> list[float]:
    """Returns the starts of parts that cover `length` and overlap by half."""
    if length <= part:
        return [(length - part) / 2]
    steps = math.ceil((length - part) / (part / 2))
    return [i * (length - part) / steps for i in range(steps + 1)]


def _suppress(found: list[tuple[float, NDArray[np.float64]]]) -> list[NDArray[np.float64]]:
    """Non-maximum suppression that averages overlapping boxes by score, as BlazeFace does against jitter.
    Best first.
    """
    if not found:
        return []
    found = sorted(found, key=lambda face: -face[0])
    score, face = np.array([s for s, _ in found]), np.stack([f for _, f in found])
    low, high = face[:, 0] - face[:, 1] / 2, face[:, 0] + face[:, 1] / 2
    area = np.prod(face[:, 1], axis=1)
    left, merged = np.arange(len(face)), []
    while len(left):
        best = left[0]
        shared = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        overlap = np.prod(np.clip(shared, 0, None), axis=1)
        same = overlap / np.maximum(area[best] + area[left] - overlap, 1e-9) > NMS_IOU
        same[0] = True
        merged.append(np.average(face[left[same]], axis=0, weights=score[left[same]]))
        left = left[~same]
    return merged


def _detected(face: NDArray[np.float64]) -> Roi:
    """Returns the square for the landmarks: 1.5 x the detected box, upright by the eyes."""
    centre, size, right, left = face[:4]
    roll = math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))
    return Roi(float(centre[0]), float(centre[1]), ROI_SCALE * float(size.max()), roll)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's messages off stderr, which is meant for the user. LiteRT has no setting for it."""
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class _Network:
    """A tflite network with one input, callable as a function. Returns copies of its outputs, in the file's order."""

    def __init__(self, content: bytes, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with _quiet():
            self._interpreter: Any = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, value: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, value)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]
