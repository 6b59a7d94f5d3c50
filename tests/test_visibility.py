"""How visible a movement is, who is on which video, and that recorded motion drives a face: what the bench rests on."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.datasets.truth import load_truth, save_truth
from engine.evaluation.matching import Detection, Truth, VideoResult
from engine.evaluation.metrics import count_asked, from_size, is_visible, recall_at_rate
from engine.spec import ModelSpec
from engine.training.film.film import Film, Injection, Setting
from engine.training.film.people import BY_HAND, FOLDERS, files_of, person_of, speaks, split_of_video
from engine.training.film.truth import truth_of
from engine.training.film.visibility import clean_crops, visibilities
from engine.training.generator import mocap
from engine.training.generator.actors import build_actor
from engine.training.generator.nuisances import CALM
from engine.training.generator.render import fields_of
from engine.training.generator.script import Label, still_script
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

FRAMES, FPS = 60, 30


@pytest.fixture(scope="module")
def portrait():
    return cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))


@pytest.fixture(scope="module")
def actor(portrait):
    return build_actor(portrait, Landmarker(locate()).find(portrait)[0], "london:001")


def moving(actor, channel, px, at_s=1.0, length_s=0.4):
    """A script of one action that comes and goes about `at_s`."""
    script = still_script(np.arange(FRAMES) / FPS, replace(CALM, noise=0.5))
    curve = np.clip(1 - np.abs(script.time_s - at_s) / (length_s / 2), 0, 1).astype(np.float32)
    if px:
        script.add(channel, px * curve)
    return script, curve


def seen(actor, portrait, own, own_px, px, at_s=1.0):
    """Visibility of `px` of AU1_L about 1 s amid `own_px` of the face's own action at `at_s`."""
    script, _ = moving(actor, own, own_px, at_s)
    unit, curve = moving(actor, "AU1_L", 1.0)
    field = fields_of(unit, actor, np.random.default_rng(0), "cpu")[0].numpy()[FPS]
    field = field / np.hypot(*field).max()
    film = Film(script, actor, portrait, Setting(320, 240, 110, 160, 115), np.random.default_rng(0))
    crops = clean_crops(film, film.crop_matrices())
    (found,) = visibilities(
        crops, script.time_s, [(Injection(field, px * curve), 1.0)], actor.crop_px(1.0), ModelSpec()
    )
    return found


def test_visibility_is_the_movement_over_the_faces_own_in_that_place_and_second(actor, portrait):
    """It falls with what the same place does within half a second and grows with the movement; what another place or
    another second does hardly matters."""
    still = seen(actor, portrait, "AU1_L", 0, 2.0)
    amid = seen(actor, portrait, "AU1_L", 4.0, 2.0)
    assert still > 3
    assert amid == pytest.approx(0.5, rel=0.35)
    assert seen(actor, portrait, "AU1_L", 4.0, 4.0) == pytest.approx(2 * amid, rel=0.01)
    assert seen(actor, portrait, "AU15_R", 4.0, 2.0) > 2 * amid
    assert seen(actor, portrait, "AU1_L", 4.0, 2.0, at_s=0.2) > 2 * amid


def test_visibility_comes_back_from_truth_json(tmp_path):
    script = still_script(np.arange(FRAMES) / FPS, CALM)
    script.labels = [Label("micro", 0.5, 0.7, 0.9, 2.0, (1.0, 0, 0, 0), 0.71), Label("micro", 1.2, 1.4, 1.6, 2.0)]
    save_truth(tmp_path / "truth.json", [truth_of(script, "a.mp4", "p", "test", {})])
    (video,) = load_truth(tmp_path / "truth.json")
    assert [i.visibility for i in video.intervals] == [0.71, None]


def result(*truths, found=(), duration_s=60.0):
    return VideoResult("p", "v", 30.0, duration_s, truths, tuple(Detection(*d) for d in found))


def test_a_less_visible_me_counts_neither_way():
    """Found or not; one of unknown visibility is asked for; what fits none is a false alarm as ever."""
    mes = (Truth(10, 20, visibility=0.4), Truth(40, 50, visibility=0.5), Truth(80, 90), Truth(120, 130, visibility=2.0))
    video = result(*mes, found=[(10, 20, 0.9), (40, 50, 0.8), (80, 90, 0.7), (200, 210, 0.95)])
    counts = count_asked([video], is_visible)
    assert (counts.tp, counts.fp, counts.fn) == (2, 1, 1)
    assert count_asked([result(mes[0])], is_visible).fn == 0
    quiet = result(found=[(5, 9, 0.75)], duration_s=60.0)
    assert recall_at_rate([video, quiet], 0.0, [quiet], is_visible) == pytest.approx(1 / 3)
    assert recall_at_rate([video, quiet], 60.0, [quiet], is_visible) == pytest.approx(2 / 3)
    assert count_asked([video], from_size(1.0)).tp == 3  # of unknown size


def test_a_person_is_in_one_split_whatever_the_video(tmp_path):
    """Folders and prefixes name people; two of them are on an older clip, too; nobody is on both sides."""
    assert person_of("grid_s1/bbal7s.mpg") == person_of("grid/bbaf2n.mpg") == "grid_s1"
    assert person_of("grid2/s30_ex2.mpg") == person_of("grid2/s30_bwwy5n.mpg") != person_of("grid2/s33_ex1.mpg")
    assert person_of("pexels2/woman_green.mp4") == "woman_green"
    names = [*BY_HAND, "grid/bbaf2n.mpg", "grid/lwbsza.mpg", "grid2/s30_a.mpg", "grid2/s30_b.mpg", "auduno/c.mp4"]
    names += ["grid_s1/a.mpg", "grid_lady/b.mpg", "grid2/m_heavy_a.mpg", "grid2/f_blondecurl_a.mpg"]
    for name in names:
        (tmp_path / "video" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "video" / name).touch()
    splits = {split: files_of(tmp_path, split) for split in ("train", "tune", "test")}
    assert sorted(name for files in splits.values() for name in files) == sorted(names)
    people = [{person_of(name) for name in files} for files in splits.values()]
    assert not people[0] & people[1] | people[0] & people[2] | people[1] & people[2]
    assert split_of_video("grid_s1/any.mpg") == "tune"  # the hash must not move
    assert split_of_video("auduno/any.mp4") == "train"
    assert split_of_video("grid2/m_heavy_any.mpg") == "test"
    assert speaks("auduno/a.mp4")
    assert not speaks("asl/no.mkv")
    assert len(FOLDERS) == 5


def take(folder, name, **curves):
    time_s = np.arange(0, 6, 1 / 30)
    names = [*curves, "TongueOut"]
    values = np.stack([*(c(time_s) for c in curves.values()), 0 * time_s], axis=1)
    np.savez(folder / f"{name}.npz", time_s=time_s, values=values.astype(np.float16), names=np.array(names))


def test_recorded_motion_moves_the_face_and_is_labelled(tmp_path):
    """A blink where the lid shut, speech while the mouth moved, no micro-expression; left and right are kept or both
    changed; other splits see nothing of it."""
    blink = {
        "EyeBlinkLeft": lambda t: np.exp(-(((t - 2) / 0.1) ** 2)),
        "EyeBlinkRight": lambda t: np.exp(-(((t - 2) / 0.1) ** 2)),
    }
    take(tmp_path, "arkit_S07-001", **blink, JawOpen=lambda t: 0.3 * (t > 3) * np.sin(12 * t) ** 2,
         MouthSmileLeft=lambda t: 0.6 * np.exp(-((t - 4) ** 2)))  # fmt: skip
    sides = set()
    for seed in range(6):
        script = mocap.recorded_script(np.random.default_rng(seed), 6.0, tmp_path, "train")
        kinds = {label.kind for label in script.labels}
        assert kinds == {"blink", "speech"}
        t = script.time_s
        (shut,) = [label for label in script.labels if label.kind == "blink"]
        assert t[script.actions["blink_L"].argmax()] == pytest.approx(shut.apex_s, abs=0.1)
        spoken = [label for label in script.labels if label.kind == "speech"]
        assert all(label.onset_s > shut.offset_s for label in spoken)
        sides.add(next(name for name in ("smile_L", "smile_R") if name in script.actions))
        assert max(script.actions["jaw_open"]) <= 1
    assert sides == {"smile_L", "smile_R"}
    with pytest.raises(UserError, match="no recorded motion of the tune split"):
        mocap.takes(tmp_path, "tune")


def test_a_take_is_cut_where_frames_lack(tmp_path):
    time_s = np.concatenate([np.arange(0, 3, 1 / 30), np.arange(5, 9, 1 / 30)])
    np.savez(
        tmp_path / "arkit_facial.npz", time_s=time_s, values=np.zeros((len(time_s), 1), np.float16), names=["JawOpen"]
    )
    assert [round(float(t.time_s[-1])) for t in mocap.takes(tmp_path, "tune")] == [3, 4]
