"""Promises of stream/faces/finder.py, with the real networks on videos made of a composite face (no real person)."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.faces import model_file
from stream.faces.finder import CENSUS_S, SEARCH_MORE_S, Faces, Limits, extract
from stream.faces.landmarks import Landmarker
from stream.types import FaceCrop, FaceGap, Frame

FACE = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
FPS = 25.0


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker(model_file.locate())


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


def places(out) -> dict[int, list[int]]:
    """Frames in which each number had a crop."""
    seen: dict[int, list[int]] = {}
    for index, items in enumerate(out):
        for item in items:
            if isinstance(item, FaceCrop):
                seen.setdefault(item.face_id, []).append(index)
    return seen


def test_a_moving_face_keeps_its_number_and_never_lapses(landmarker):
    """200 px either way at half a turn a second: up to 25 px a frame."""
    images = [scene((320 + 200 * np.sin(np.pi * i / FPS), 240, 0.6)) for i in range(40)]
    _, out = run(landmarker, images)
    assert places(out) == {1: list(range(40))}


@pytest.mark.slow
@pytest.mark.parametrize("first_in_front", [True, False])
@pytest.mark.parametrize("frames", [30, 60])
def test_two_faces_that_cross_keep_their_numbers(landmarker, first_in_front, frames):
    """The two are the same picture, so only their courses tell them apart; one passes before the other."""
    faces = Faces(landmarker, max_faces=2)
    numbers = {}
    for i in range(frames + 1):
        one = (160 + 320 * i / frames, 240, 0.6)
        two = (480 - 320 * i / frames, 250, 0.56)
        faces.update(Frame(i, i / FPS, scene(*((two, one) if first_in_front else (one, two)))))
        centres = {track.face_id: track.roi.x for track in faces._tracks if not track.lost}
        assert len(centres) <= 2
        if i in (0, frames):
            numbers[i] = sorted(centres, key=centres.__getitem__)
    assert len(numbers[0]) == 2
    assert numbers[frames] == numbers[0][::-1]


def test_no_more_than_max_faces_are_given(landmarker):
    image = scene((150, 240, 0.5), (330, 240, 0.5), (510, 240, 0.5))
    for most in (1, 2, 3):
        _, out = run(landmarker, [image] * 2, max_faces=most)
        assert [len(items) for items in out] == [most, most]


def test_faces_beyond_the_limit_are_counted_without_changing_what_is_given(landmarker):
    """Nine faces, four of them followed: five others, while they are there. Crops are those of a scene of any count."""
    nine = scene(*((x, y, 0.33) for y in (90, 240, 390) for x in (120, 320, 520)))
    faces, counted = Faces(landmarker, max_faces=4), []
    for i in range(3):
        assert len(faces.update(Frame(i, i / FPS, nine))) == 4
        counted.append(faces.unwatched)
    assert counted == [5, 5, 5]
    kept = scene(*((track.roi.x, track.roi.y, 0.33) for track in faces._tracks))
    faces.update(Frame(3, CENSUS_S / 2, kept))
    assert faces.unwatched == 5, "it is counted only now and then"
    faces.update(Frame(4, CENSUS_S + 0.1, kept))
    assert faces.unwatched == 0
    enough = Faces(landmarker, max_faces=10)
    enough.update(Frame(0, 0.0, nine))
    assert enough.unwatched == 0


def test_a_face_that_comes_later_is_found_within_the_search_interval(landmarker):
    alone, both = scene((180, 240, 0.6)), scene((180, 240, 0.6), (470, 240, 0.5))
    _, out = run(landmarker, [alone] * 8 + [both] * 14, max_faces=2)
    second = places(out)[2]
    assert 8 <= second[0] <= 8 + SEARCH_MORE_S * FPS
    assert second == list(range(second[0], 22))


def test_a_far_face_is_found_too(landmarker):
    """45 px wide in 640x480: the detector sees 9 px of it unless it looks closer."""
    assert len(Faces(landmarker).update(Frame(0, 0.0, scene((420, 200, 0.25))))) == 1


def test_a_small_face_is_one_gap_until_it_is_near_enough(landmarker):
    scales = [0.22] * 6 + [0.4] * 4
    _, out = run(landmarker, [scene((320, 240, scale)) for scale in scales])
    assert [(g.reason, g.final) for items in out for g in items if isinstance(g, FaceGap)] == [("too_small", False)]
    assert places(out) == {1: [6, 7, 8, 9]}


def test_a_turned_face_is_a_gap_with_its_reason(landmarker):
    """The limits are moved, not the head: the picture is frontal to within a few degrees."""
    faces = Faces(landmarker, limits=Limits(max_yaw_deg=0.01, max_pitch_deg=0.01))
    out = [faces.update(Frame(i, i / FPS, FACE)) for i in range(4)]
    assert out == [[FaceGap(1, 0.0, "turned_away")], [], [], []]


def test_a_source_gap_closes_every_face_once_and_the_number_comes_back(landmarker):
    faces, _ = run(landmarker, [FACE] * 2)
    assert faces.gap(0.1, "reconnecting") == [FaceGap(1, 0.1, "reconnecting")]
    assert faces.gap(0.2, "reconnecting") == []
    (crop,) = faces.update(Frame(2, 1.0, FACE))
    assert (type(crop), crop.face_id) == (FaceCrop, 1)
    assert faces.close(1.1) == [FaceGap(1, 1.1, "closed", final=True)]
    assert faces.close(1.2) == []


def test_a_clock_that_jumps_back_spends_the_number(landmarker):
    faces, _ = run(landmarker, [FACE] * 2, start_s=100.0)
    faces.gap(101.0, "clock_jump")
    gap, crop = faces.update(Frame(2, 5.0, FACE))
    assert gap == FaceGap(1, 5.0, "clock_jump", final=True)
    assert (type(crop), crop.face_id) == (FaceCrop, 2)


def test_the_same_frames_give_the_same_crops(landmarker):
    images = [scene((320 + 3 * i, 240, 0.6)) for i in range(6)]
    one, two = run(landmarker, images)[1], run(landmarker, images)[1]
    assert all(
        np.array_equal(a.image, b.image) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_extract_outside_the_image_and_on_grey_is_a_crop_all_the_same():
    away = np.array([[1.0, 0, -9000], [0, 1.0, 0]])
    assert not extract(FACE, away).any()
    near = np.array([[0.3, 0.1, -30], [-0.1, 0.3, -10]])
    grey = cv2.cvtColor(FACE, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(extract(FACE, near), extract(grey, near))
    assert extract(np.zeros((1, 1, 3), np.uint8), near).shape == (128, 128)


@pytest.mark.parametrize("scale", [0.2, 0.45, 0.9, 1.7])
def test_extract_puts_every_point_where_the_matrix_says_at_any_scale(scale):
    """The centre of gravity of a blob lands within 0.05 px; half a pixel's slip in a scale-down would fail this."""
    y, x = np.mgrid[:480, :640]
    image = (200 * np.exp(-((x - 301.3) ** 2 + (y - 222.6) ** 2) / (2 * (8 / scale) ** 2))).astype(np.uint8)
    matrix = np.array([[scale, 0.02, 60.4 - scale * 301.3], [-0.02, scale, 70.7 - scale * 222.6]])
    crop = extract(image, matrix).astype(np.float64)
    rows, columns = np.mgrid[:128, :128]
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    assert np.abs(found - matrix @ [301.3, 222.6, 1]).max() < 0.05
