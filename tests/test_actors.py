"""Actors: a portrait's texture and maps say what they promise, seen by the landmark networks where pixels decide."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.spec import REGIONS
from engine.training.generator import actions, actors, warps
from engine.training.generator.actors import Actor
from stream.faces import model_file
from stream.faces.align import extract
from stream.faces.landmarks import Landmarker
from stream.faces.template import RIGID

FACE = Path(__file__).parent / "data" / "face.jpg"
LIDS = {"L": (386, 374), "R": (159, 145)}


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker(model_file.locate())


@pytest.fixture(scope="module")
def actor(landmarker: Landmarker) -> Actor:
    image = cv2.imread(str(FACE))
    return actors.build_actor(image, landmarker.find(image)[0], "composite:f_multi", "face.jpg")


def motion_at(actor: Actor, name: str, landmark: int) -> np.ndarray:
    """Forward motion (x, y) crop px of the skin at a landmark, for one unit of a linear map: minus the backward map."""
    x, y = warps.to_samples(actor.points[landmark, :2], warps.MAP_SIZE)
    moved = actor.maps[actor.index[name][0]].astype(np.float32)
    return -cv2.remap(moved, np.float32([[x]]), np.float32([[y]]), cv2.INTER_LINEAR)[0, 0]


def seen(landmarker: Landmarker, actor: Actor, amounts: dict[str, float]) -> np.ndarray:
    """What the landmark networks find in a rendered frame, float32[478, 3], crop px."""
    frame = actors.render(actor, amounts, actors.TEXTURE_PX)
    return landmarker.find(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))[0] / 2


def lid_gap(points: np.ndarray, side: str) -> float:
    upper, lower = LIDS[side]
    return float(np.linalg.norm(points[upper, :2] - points[lower, :2]))


def test_texture_is_the_live_crop_at_twice_its_scale(actor: Actor) -> None:
    """Averaged down, the texture's middle is the crop that the live program would cut, to a small part of a pixel."""
    crop = extract(cv2.imread(str(FACE)), actor.matrix).astype(np.float32)
    inner = actor.texture[48:304, 48:304].astype(np.float32).reshape(128, 2, 128, 2).mean((1, 3))
    shift, _ = cv2.phaseCorrelate(crop, inner, cv2.createHanningWindow((128, 128), cv2.CV_32F))
    assert np.hypot(*shift) < 0.05
    assert np.abs(crop - inner)[8:-8, 8:-8].mean() < 3


def test_units_move_one_px_at_most_and_exactly(actor: Actor) -> None:
    """One unit of an action unit is 1 crop px of peak motion, so amplitudes mean what they say."""
    units = [k for k, name in enumerate(actor.names) if name.startswith("AU")]
    assert {actor.names[k] for k in units} == {f"{au}_{s}" for au, sides in actions.ACTION_UNITS.items() for s in sides}
    assert np.allclose(actor.peaks_px[units], 1, atol=2e-3)
    assert np.allclose(np.linalg.norm(actor.maps[units].astype(np.float32), axis=-1).max((1, 2)), 1, atol=2e-3)


def test_nothing_moves_at_the_border(actor: Actor) -> None:
    """Motion fades out towards the background: the outermost samples are all but still."""
    rim = np.ones((warps.MAP_SIZE, warps.MAP_SIZE), bool)
    rim[1:-1, 1:-1] = False
    reach = np.abs(actor.maps[:, rim]).max((1, 2))
    assert reach.max() < 2  # a jaw wide open draws the neck along
    assert (reach[actor.levels == 0] < 0.12).all()


@pytest.mark.parametrize(("name", "here", "there"), [("AU12_L", 291, 61), ("AU12_R", 61, 291)])
def test_a_smile_on_one_side_lifts_that_corner_alone(actor: Actor, name: str, here: int, there: int) -> None:
    moved = motion_at(actor, name, here)
    outwards = 1 if here == 291 else -1
    assert moved[1] < -0.25
    assert outwards * moved[0] > 0.15
    assert np.linalg.norm(motion_at(actor, name, there)) < 0.1 * np.linalg.norm(moved)


@pytest.mark.parametrize(
    ("name", "landmark", "down"),
    [("AU1_R", 107, -1), ("AU2_R", 105, -1), ("AU4_R", 105, 1), ("AU5_R", 159, -1), ("AU7_R", 145, -1),
     ("AU6_R", 50, -1), ("AU9_R", 129, -1), ("AU15_R", 61, 1), ("AU17_B", 199, -1), ("AU26_B", 152, 1)],
)  # fmt: skip
def test_units_move_their_landmark_the_right_way(actor: Actor, name: str, landmark: int, down: int) -> None:
    assert down * motion_at(actor, name, landmark)[1] > 0.15


def test_small_motion_does_not_fold_the_skin(actor: Actor) -> None:
    """At 2 px every unit still maps neighbours to neighbours: the Jacobian of target -> source stays positive."""
    for k, name in enumerate(actor.names):
        if name.startswith("AU"):
            field = 2 * actor.maps[k].astype(np.float64) / (warps.EXTENT_PX / warps.MAP_SIZE)
            (xy, xx), (yy, yx) = (np.gradient(field[..., c]) for c in range(2))
            assert ((1 + xx) * (1 + yy) - xy * yx).min() > 0, name


def test_blinks_shut_the_eye_by_degrees(actor: Actor, landmarker: Landmarker) -> None:
    """Seen by the landmark networks, a shut eye has less than a third of its opening left, half a blink about half."""
    neutral = seen(landmarker, actor, {})
    half = seen(landmarker, actor, {"blink_L": 0.5, "blink_R": 0.5})
    shut = seen(landmarker, actor, {"blink_L": 1.0, "blink_R": 1.0})
    for side in "LR":
        open_px = lid_gap(neutral, side)
        assert lid_gap(shut, side) < 0.33 * open_px
        assert 0.3 * open_px < lid_gap(half, side) < 0.85 * open_px


def test_a_shut_lid_hides_the_eyeball(actor: Actor) -> None:
    """Wherever the map of a shut eye still looks at the iris, the seam of the lids is painted over it."""
    shut = actor.index["blink_R"][-1]
    iris = actor.points[list(actions.IRISES["R"]), :2]
    centres = warps.sample_centres(warps.EXTENT_PX)
    distance = np.linalg.norm(np.stack(np.meshgrid(centres, centres), -1) - iris[0], axis=-1)
    eye = (distance < np.linalg.norm(iris[1:] - iris[0], axis=1).mean()).astype(np.float32)
    seen_iris = warps.warped(eye, actor.maps[shut].astype(np.float32))
    cover = actor.paint[actor.paint_of[shut]] / 255
    assert eye.sum() > 40
    assert (seen_iris * (1 - cover)).sum() < 0.1 * eye.sum()


def test_a_wink_leaves_the_other_eye(actor: Actor, landmarker: Landmarker) -> None:
    """The networks themselves see a wink as half a blink of that eye."""
    neutral, wink = seen(landmarker, actor, {}), seen(landmarker, actor, {"blink_L": 1.0})
    assert lid_gap(wink, "L") < 0.6 * lid_gap(neutral, "L")
    assert lid_gap(wink, "R") > 0.8 * lid_gap(neutral, "R")  # the networks believe a little in symmetry


def test_the_jaw_opens_by_degrees_and_shows_a_dark_inside(actor: Actor, landmarker: Landmarker) -> None:
    def opening(level: float) -> float:
        points = seen(landmarker, actor, {"jaw_open": level})
        return float(points[14, 1] - points[13, 1])

    gaps = [opening(level) for level in (0.0, 0.25, 0.5, 1.0)]
    assert gaps == sorted(gaps)
    assert gaps[-1] - gaps[0] > 6
    frame = actors.render(actor, {"jaw_open": 1.0})
    cover = actor.paint[actor.paint_of[actor.index["jaw_open"][-1]]] == 255
    assert cover.sum() > 100
    assert np.abs(frame[cover] - actor.paint_grey[actor.paint_of[actor.index["jaw_open"][-1]]]).max() <= 1


def test_gaze_moves_the_irises_only(actor: Actor, landmarker: Landmarker) -> None:
    aside = seen(landmarker, actor, {"gaze_x": 3.0}) - seen(landmarker, actor, {})
    assert all(1.5 < aside[iris, 0] < 4 for iris in (468, 473))
    assert np.abs(motion_at(actor, "gaze_x", 61)).max() == 0
    assert np.allclose(motion_at(actor, "gaze_x", 468), (1, 0), atol=0.1)


@pytest.mark.parametrize(("name", "axis", "sign"), [("yaw", 0, 1), ("pitch", 1, -1)])
def test_head_turns_are_what_the_aligner_leaves(actor: Actor, name: str, axis: int, sign: int) -> None:
    """The nose goes to the image's right (yaw) or up (pitch); over the rigid landmarks no similarity is left."""
    assert sign * motion_at(actor, name, 4)[axis] > 0.1
    moved = np.stack([motion_at(actor, name, int(i)) for i in RIGID])
    assert np.abs(moved.mean(0)).max() < 0.1


def test_own_smile_goes_where_the_smiling_picture_has_the_landmarks(landmarker: Landmarker) -> None:
    """A second picture's landmarks are reached at level 1, half-way at half; without one there is no such action."""
    image = cv2.imread(str(FACE))
    points = landmarker.find(image)[0]
    smile = points.copy()
    around = np.exp(-(np.linalg.norm(points[:, :2] - points[291, :2], axis=1) ** 2) / (2 * 30.0**2))
    smile[:, 1] -= 12 * around  # px of the picture; the left corner of the mouth goes up
    plain = actors.build_actor(image, points, "london:x")
    own = actors.build_actor(image, points, "london:x", smiling=(image, smile))
    assert "own_smile" not in plain.index
    half, full = (own.coefficients({"own_smile": amount}) @ own.maps.astype(np.float32).reshape(len(own.names), -1)
                  for amount in (0.5, 1.0))  # fmt: skip
    wanted = -12 * np.sqrt(abs(np.linalg.det(own.matrix[:, :2])))
    to = own.points[291, :2] + (0, wanted)
    x, y = warps.to_samples(to, warps.MAP_SIZE).round().astype(int)
    moved = -full.reshape(warps.MAP_SIZE, warps.MAP_SIZE, 2)[y, x]
    assert moved == pytest.approx((0, wanted), abs=0.8)
    assert np.abs(half).max() == pytest.approx(np.abs(full).max() / 2, rel=0.15)


def test_levels_are_interpolated_linear_maps_are_scaled(actor: Actor) -> None:
    blink = actor.index["blink_L"]
    assert np.allclose(actor.levels[blink], (0.25, 0.5, 0.75, 1))
    assert np.allclose(actor.coefficients({"blink_L": 0.6})[blink], (0, 0.6, 0.4, 0))
    assert np.allclose(actor.coefficients({"blink_L": 0.1})[blink], (0.4, 0, 0, 0))
    assert actor.coefficients({"AU4_R": -2.5})[actor.index["AU4_R"]] == pytest.approx(-2.5)
    assert not actor.coefficients({}).any()
    with pytest.raises(KeyError):
        actor.coefficients({"AU99_L": 1})


def test_region_shares_say_where_an_action_is(actor: Actor) -> None:
    assert np.allclose(actor.regions.sum(1), 1, atol=1e-3)
    for name, region in {"AU1_L": "brows", "AU4_R": "brows", "AU5_L": "eyes", "AU7_R": "eyes", "AU6_L": "cheeks",
                         "AU12_R": "mouth", "AU15_L": "mouth", "blink_L": "eyes",
                         "jaw_open": "mouth"}.items():  # fmt: skip
        assert REGIONS[int(actor.regions[actor.index[name][0]].argmax())] == region, name


def test_an_actor_survives_the_disk(actor: Actor, tmp_path: Path) -> None:
    actor.save(tmp_path / "a.npz")
    again = actors.load_actor(tmp_path / "a.npz")
    assert (again.identity, again.split, again.source, again.names) == (
        "composite:f_multi",
        "demo",
        "face.jpg",
        actor.names,
    )
    assert again.face_width_px == pytest.approx(actor.face_width_px)
    assert np.array_equal(actors.render(again, {"AU12_L": 2.0}), actors.render(actor, {"AU12_L": 2.0}))


def test_amplitudes_are_on_a_face_256_px_wide(actor: Actor) -> None:
    assert actor.crop_px(256) == pytest.approx(actor.face_width_px)
    assert 80 < actor.face_width_px < 120


def test_people_are_split_once_and_for_all() -> None:
    """70/10/20 by identity alone; portraits of other sources never come into tuning or test."""
    splits = [actors.split_of(f"london:{n:03d}") for n in range(2000)]
    assert splits == [actors.split_of(f"london:{n:03d}") for n in range(2000)]
    shares = [splits.count(s) / 2000 for s in ("train", "tune", "test")]
    assert np.allclose(shares, (0.7, 0.1, 0.2), atol=0.03)
    assert actors.split_of("congress:A000109") == "train"
    assert actors.split_of("composite:f_multi") == "demo"


def test_both_pictures_of_a_person_are_one_identity(tmp_path: Path) -> None:
    folder = tmp_path / "portraits" / "london"
    folder.mkdir(parents=True)
    for name in ("001_neutral.jpg", "001_smiling.jpg", "004_neutral.jpg"):
        (folder / name).touch()
    assert [identity for identity, _ in actors.portraits(tmp_path)] == ["london:001", "london:001", "london:004"]


def test_command_line_names_what_has_no_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "portraits" / "composite"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(FACE.read_bytes())
    cv2.imwrite(str(folder / "blank.jpg"), np.full((200, 200, 3), 128, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert actors.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["composite_a.npz"]
    said = capsys.readouterr().out
    assert "blank.jpg: no face found" in said
    assert "broken.jpg: no face found" in said


@pytest.mark.parametrize("main", [actors.main, actions.main])
def test_a_wrong_data_folder_is_one_line_and_code_2(main, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["--data", str(tmp_path / "nowhere"), *out]) == 2
    said = capsys.readouterr().err.strip()
    assert "nowhere" in said
    assert "\n" not in said


def test_shipped_actions_are_what_the_script_makes(tmp_path: Path) -> None:
    data = os.environ.get("MESTREAM_DATA")
    if not data:
        pytest.skip("needs ICT-FaceKit: set MESTREAM_DATA to the folder that holds face3d/")
    assert actions.main(["--data", data, "--out", str(tmp_path / "actions.npz")]) == 0
    made, shipped = actions.load_actions(tmp_path / "actions.npz"), actions.load_actions()
    assert made.names == shipped.names
    assert np.allclose(made.displacement, shipped.displacement, atol=2e-4)
    assert actions.SHIPPED.stat().st_size < 1_000_000
