"""Our running of MediaPipe's networks against the `mediapipe` package, and the package as `--landmarks mediapipe`."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.errors import UserError
from stream.faces import model_file
from stream.faces.finder import Faces, open_landmarker
from stream.faces.landmarks import Landmarker, roi_of
from stream.faces.landmarks_mediapipe import MediapipeLandmarker
from stream.types import FaceCrop, Frame

FACE = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))


@pytest.fixture(scope="module")
def reference() -> MediapipeLandmarker:
    pytest.importorskip("mediapipe", reason="the reference is the mediapipe package: pip install '.[mediapipe]'")
    return MediapipeLandmarker(model_file.locate())


@pytest.fixture(scope="module")
def ours() -> Landmarker:
    return Landmarker(model_file.locate())


def turned(index: int) -> np.ndarray:
    """Frame `index` of a made video: the face sways, rolls and nears."""
    matrix = cv2.getRotationMatrix2D((280, 280), 12 * np.sin(index / 5), 0.8 + 0.1 * np.sin(index / 7))
    matrix[:, 2] += 30 * np.sin(index / 6), 15 * np.cos(index / 4)
    return cv2.warpAffine(FACE, matrix, (560, 560), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def test_a_portrait_has_the_same_landmarks_within_a_pixel(reference, ours, record_property):
    (theirs,), (points,) = reference.find(FACE), ours.find(FACE)
    distance = np.linalg.norm((points - theirs)[:, :2], axis=1).mean()
    record_property("mean_px", float(distance))
    assert distance < 1


def test_a_video_has_the_same_landmarks_within_a_pixel(reference, ours, record_property):
    (points,), distances = ours.find(turned(0)), []
    for index in range(30):
        points, _ = ours.track(turned(index), roi_of(points))
        (theirs,) = reference.find(turned(index))
        distances.append(np.linalg.norm((points - theirs)[:, :2], axis=1).mean())
    record_property("mean_px", float(np.mean(distances)))
    assert np.mean(distances) < 1


def test_faces_come_out_of_it_too(reference):
    faces = Faces(reference)
    out = [faces.update(Frame(i, i / 25, turned(i))) for i in range(5)]
    assert [[(type(item), item.face_id) for item in items] for items in out] == [[(FaceCrop, 1)]] * 5
    assert faces.update(Frame(5, 0.2, np.zeros_like(FACE)))[0].reason == "lost"


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(UserError, match=r"\[mediapipe\]") as error:
        open_landmarker("mediapipe", Path("any.task"), 1)
    assert error.value.code == 2
    assert "\n" not in str(error.value)


def test_the_flag_chooses_which(reference):
    model = model_file.locate()
    assert isinstance(open_landmarker("mediapipe", model, 1), MediapipeLandmarker)
    assert isinstance(open_landmarker("litert", model, 1), Landmarker)
