"""Promises of stream/faces/landmarks.py, with the real networks on a composite face (no real person)."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.faces import model_file
from stream.faces.landmarks import PRESENT, Landmarker, Roi, roi_of

FACE = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker(model_file.locate())


def test_finds_the_one_face_with_its_eyes_where_they_are(landmarker):
    (points,) = landmarker.find(FACE)
    assert points.shape == (478, 3)
    assert points.dtype == np.float32
    # corners of the mouth and the tip of the nose, read off the picture by eye at 4x magnification
    assert np.abs(points[[61, 291, 4], :2] - [[245.5, 346], [315, 346], [279, 296]]).max() < 4


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (700, 1, 3), (480, 640, 3)])
def test_no_face_is_an_empty_list(landmarker, shape):
    assert landmarker.find(np.full(shape, 127, np.uint8)) == []
    assert landmarker.detect(np.full(shape, 127, np.uint8), wanted=2) == []


def test_presence_tells_an_empty_square(landmarker):
    (points,) = landmarker.find(FACE)
    assert landmarker.track(FACE, roi_of(points))[1] > PRESENT
    assert landmarker.track(np.zeros_like(FACE), roi_of(points))[1] < PRESENT
    assert landmarker.track(FACE, Roi(-5000.0, -5000.0, 100.0, 0.0))[1] < PRESENT
