"""Promises of stream/face.py, with the real networks on videos made of a composite face (no real person)."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream import face_model
from stream.face import Faces
from stream.landmarks import Landmarker
from stream.types import FaceCrop, FaceGap, Frame

FACE = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
FPS = 25.0


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker(face_model.locate())


def scene(*faces: tuple[float, float, float], size: tuple[int, int] = (480, 640)) -> np.ndarray:
    """uint8[480, 640, 3]: grey, with a face at each (x, y, scale); a later one hides an earlier one."""
    image = np.full((*size, 3), 110, np.uint8)
    oval = cv2.ellipse(np.zeros(FACE.shape[:2], np.uint8), (280, 275), (125, 170), 0, 0, 360, 255, -1)
    for x, y, scale in faces:
        matrix = np.array([[scale, 0, x - 280 * scale], [0, scale, y - 275 * scale]])
        warped = cv2.warpAffine(FACE, matrix, size[::-1], flags=cv2.INTER_AREA)
        mask = cv2.warpAffine(oval, matrix, size[::-1])[..., None] / 255
        image = (warped * mask + image * (1 - mask)).round().astype(np.uint8)
    return image


def test_one_face_gives_one_crop_with_its_eyes_in_place(landmarker):
    faces = Faces(landmarker)
    (crop,) = faces.update(Frame(0, 0.0, FACE))
    assert isinstance(crop, FaceCrop)
    assert crop.face_id == 1
    (points,) = landmarker.find(cv2.cvtColor(crop.image, cv2.COLOR_GRAY2BGR))
    assert np.abs(points[[33, 263], :2] - [[31.5, 46.1], [95.5, 46.1]]).max() < 3
    assert abs(crop.quality.yaw_deg) < 5
    assert abs(crop.quality.face_px - 180) < 25


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 900, 3), (480, 640, 3)])
def test_no_face_gives_nothing(landmarker, shape):
    faces = Faces(landmarker, max_faces=2)
    for index in range(4):
        assert faces.update(Frame(index, index / FPS, np.full(shape, 120, np.uint8))) == []


def run(landmarker, images, max_faces=1, fps=FPS, start_s=0.0):
    faces = Faces(landmarker, max_faces=max_faces)
    return faces, [faces.update(Frame(i, start_s + i / fps, image)) for i, image in enumerate(images)]


def test_a_face_lost_for_less_than_two_seconds_keeps_its_number_and_after_that_is_new(landmarker):
    face, empty = scene((320, 240, 0.7)), scene()
    _, out = run(landmarker, [face] * 2 + [empty] * 9 + [face] * 2 + [empty] * 12 + [face] * 2, fps=5.0)
    flat = [item for items in out for item in items]
    ids = [item.face_id for item in flat if isinstance(item, FaceCrop)]
    gaps = [(item.face_id, item.reason, item.final) for item in flat if isinstance(item, FaceGap)]
    assert ids == [1, 1, 1, 1, 2, 2]
    assert gaps == [(1, "lost", False), (1, "lost", False), (1, "lost", True)]
