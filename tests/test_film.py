"""Films: that pictures move as they are told, to fractions of a px, and that what is written is what is read."""

import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import bench_data
from engine.datasets.truth import load_truth
from engine.spec import CLASSES, ModelSpec
from engine.training.film import aligned, bench, coded, demo
from engine.training.film.__main__ import main
from engine.training.film.aligned import crops_of, make_sequence
from engine.training.film.encode import encoder_of, mjpeg, write_video
from engine.training.film.film import Film, Setting
from engine.training.film.injection import (
    WAYS,
    dragged_field,
    follow,
    injected,
    movement,
    peak,
    read_frames,
    warp_frame,
)
from engine.training.film.truth import truth_of
from engine.training.generator.actors import build_actor, build_all, split_of
from engine.training.generator.camera import Camera
from engine.training.generator.curves import there_and_back
from engine.training.generator.nuisances import NUISANCES, lone_nuisance, step_exposure
from engine.training.generator.scenes import draw_script
from engine.training.generator.script import Label, Script
from engine.training.pools.pool import Pool
from stream.errors import UserError
from stream.faces.align import extract
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate
from stream.sources import open_source

PORTRAIT = Path(__file__).parent / "data" / "face.jpg"
CAMERA = Camera(fps=30, dropped=0, resolution=1, noise=0, smear=0, codec="none", quality=20, flicker=0, flicker_hz=1)
SETTING = Setting(320, 240, face_px=110, x_px=160, y_px=110)


@pytest.fixture(scope="module")
def landmarker():
    return Landmarker(locate())


@pytest.fixture(scope="module")
def portrait():
    return cv2.imread(str(PORTRAIT))


@pytest.fixture(scope="module")
def actor(landmarker, portrait):
    return build_actor(portrait, landmarker.find(portrait)[0], "composite:f_multi", "face.jpg")


def still(frames: int = 12, camera: Camera = CAMERA) -> Script:
    light = np.tile(np.array([1, 0, 0, 0], np.float32), (frames, 1))
    return Script(np.arange(frames) / camera.fps, camera, np.zeros((frames, 4), np.float32), light)


def frames_of(script, actor, portrait, injections=(), setting=SETTING):
    return list(Film(script, actor, portrait, setting, np.random.default_rng(0), injections))


def shift_between(before, after, box):
    """By how much `after` is moved against `before` within the box, px: one step of least squares on gradients."""
    y0, y1, x0, x1 = box
    grey = [cv2.cvtColor(i, cv2.COLOR_BGR2GRAY).astype(np.float32) for i in (before, after)]
    a, b = (cv2.GaussianBlur(i, (0, 0), 1.5) for i in grey)
    gy, gx = (g[y0:y1, x0:x1].ravel() for g in np.gradient((a + b) / 2))
    return np.linalg.lstsq(np.stack([gx, gy], 1), (a - b)[y0:y1, x0:x1].ravel(), rcond=None)[0]


FACE = (90, 150, 125, 195)


def test_a_head_moves_by_fractions_of_a_px_as_told(actor, portrait):
    """Steps of 0.1 px in the picture are even to 0.01 px: lookups are finer than any movement that matters."""
    script = still()
    told = np.arange(12) * 0.1
    script.pose[:, 0] = told * 256 / SETTING.face_px
    frames = frames_of(script, actor, portrait)
    found = np.array([shift_between(frames[0], frame, FACE) for frame in frames])
    gain = found[:, 0] @ told / (told @ told)
    assert gain == pytest.approx(1, abs=0.07), "central differences see some 5 % too much"
    assert np.abs(found[:, 0] - gain * told).max() < 0.01
    assert np.abs(found[:, 1]).max() < 0.01


def test_skin_moves_as_the_actors_map_says(actor, portrait):
    """A dragged brow: the largest motion in the picture is the one told, in px on a 256-px face."""
    script, size_px = still(), 3.0
    injection, label = movement("landmarks", script, actor, np.random.default_rng(5), 0.05, size_px)
    field = np.zeros_like(injection.field)
    field[1] = 1.0  # everything up or down alike, so that it can be measured
    frames = frames_of(script, actor, portrait, [replace(injection, field=field)])
    k = int(np.argmax(injection.curve))
    told = injection.curve[k] * SETTING.face_px / 256
    assert -shift_between(frames[0], frames[k], FACE)[1] == pytest.approx(told, rel=0.08)
    assert label.kind == "micro"


def test_nothing_moves_where_nothing_is_told(actor, portrait):
    frames = frames_of(still(4), actor, portrait)
    assert all((frame == frames[0]).all() for frame in frames)


def test_the_room_stays_while_the_head_moves(actor, portrait):
    script = still(3)
    script.pose[1:] = (12, -8, 3, 0.03)
    first, moved, _ = frames_of(script, actor, portrait)
    assert (first[:, :20] == moved[:, :20]).all()
    assert (first[:, -20:] == moved[:, -20:]).all()
    y0, y1, x0, x1 = FACE
    assert abs(first[y0:y1, x0:x1].astype(int) - moved[y0:y1, x0:x1]).mean() > 1


def test_light_noise_and_a_hand_do_what_their_curves_say(actor, portrait):
    script = still(6, replace(CAMERA, noise=3.0))
    script.light[3:, 0] = 0.5
    frames = [f.astype(float) for f in frames_of(script, actor, portrait)]
    assert frames[4].mean() == pytest.approx(0.5 * frames[0].mean(), rel=0.03)
    noise = (frames[1] - frames[0])[:40].std() / np.sqrt(2)
    assert 1.5 < noise < 6
    covered = still(6)
    covered.occluder = (0.0, 0.2)
    assert (np.array(frames_of(covered, actor, portrait)[3]) != frames_of(still(6), actor, portrait)[3]).any()


@pytest.mark.parametrize(("codec", "name", "off_s"), [("h264", "a.mp4", 1e-4), ("mjpeg", "a.mkv", 1e-3)])
def test_stamps_and_pictures_survive_the_file(tmp_path, actor, portrait, codec, name, off_s):
    """Irregular stamps and dropped frames come back from the live program's reader as they were written."""
    script = still(8, replace(CAMERA, codec=codec, quality=80 if codec == "mjpeg" else 20))
    time_s = np.array([0, 0.031, 0.068, 0.1, 0.166, 0.2, 0.232, 0.267])
    frames = frames_of(script, actor, portrait)
    write_video(tmp_path / name, frames, time_s, encoder_of(script.camera))
    source = open_source(str(tmp_path / name), paced=False)
    read = list(iter(source.read, None))
    assert np.abs([f.time_s for f in read] - time_s).max() <= off_s
    assert all(abs(f.image.astype(int) - g).mean() < 4 for f, g in zip(read, frames, strict=True))


@pytest.mark.parametrize("quality", [45, 50, 60, 70, 80, 90, 95])
def test_mjpeg_has_the_quality_that_it_is_asked_for(tmp_path, portrait, quality):
    """The stream is about as large as JPEG pictures of that quality, not ever the finest; and the same bytes twice."""
    noise = np.random.default_rng(0).normal(0, 2, portrait.shape)
    picture = np.clip(portrait + noise, 0, 255).astype(np.uint8)
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / name, [picture] * 5, np.arange(5) / 30, mjpeg(quality))
    size = (tmp_path / "a.mkv").stat().st_size / 5
    jpeg = len(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    assert 0.6 < size / jpeg < 2, (size, jpeg)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


@pytest.mark.slow
def test_the_live_path_sees_what_was_acted(tmp_path, actor, portrait, landmarker):
    """Through codec, landmark networks and aligner: the brow's rise is in the crop, the nose stays within 0.25 px."""
    script = still(45, replace(CAMERA, codec="h264", noise=0.5))
    curve = there_and_back(script.time_s, 0.5, 0.75, 1.0)
    for unit in ("AU1_L", "AU1_R", "AU2_L", "AU2_R"):
        script.add(unit, 4.0 * curve)
    script.pose[:, 0] = 5 * np.sin(2 * np.pi * 0.4 * script.time_s)
    setting = Setting(480, 360, face_px=190, x_px=240, y_px=165)
    frames = frames_of(script, actor, portrait, setting=setting)
    write_video(tmp_path / "f.mp4", frames, script.time_s, encoder_of(script.camera))
    crops = crops_of(tmp_path / "f.mp4", landmarker, ModelSpec(), 45)
    assert crops is not None
    rest, apex = (cv2.cvtColor(c, cv2.COLOR_GRAY2BGR) for c in (crops[12], crops[23]))
    brows, nose = shift_between(rest, apex, (26, 42, 26, 102)), shift_between(rest, apex, (56, 74, 52, 76))
    assert brows[1] < -0.5, "up"
    assert np.abs(nose).max() < 0.25


def test_a_video_without_a_steady_face_gives_no_sequence(tmp_path, landmarker):
    blank = [np.full((120, 160, 3), 90, np.uint8)] * 6
    write_video(tmp_path / "b.mp4", blank, np.arange(6) / 30, encoder_of(CAMERA))
    assert crops_of(tmp_path / "b.mp4", landmarker, ModelSpec(), 6) is None


def test_truth_is_cut_to_the_film_and_tells_mes_from_nuisances():
    script = still(60)
    script.labels = [
        Label("micro", 0.4, 0.6, 0.9, 1.5, (0.8, 0.2, 0, 0)),
        Label("blink", -0.2, 0.0, 0.2),
        Label("speech", 1.0, 2.0, 3.0),
        Label("macro", 5.0, 6.0, 7.0),
    ]
    truth = truth_of(script, "a.mp4", "x", "tune", {"part": "mixed"})
    assert [(i.kind, i.onset_s, i.offset_s) for i in truth.intervals] == [("blink", 0.0, 0.2), ("micro", 0.4, 0.9)]
    assert truth.intervals[1].regions == ("brows",)
    assert [(n.kind, n.offset_s) for n in truth.nuisances] == [("speech", pytest.approx(59 / 30, abs=1e-3))]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(4))
def test_a_movement_is_exactly_as_large_and_as_long_as_its_label_says(actor, way, seed):
    script = still(60, replace(CAMERA, fps=200))
    injection, label = movement(way, script, actor, np.random.default_rng(seed), 0.05, 1.5)
    assert peak(injection.field) == pytest.approx(1.0, abs=1e-4)
    rest = (script.time_s <= label.onset_s) | (script.time_s >= label.offset_s + 0.001)
    late = script.time_s > label.offset_s
    assert np.abs(injection.curve[rest & ~late]).max() < 1e-3
    assert np.abs(injection.curve[late]).max(initial=0) <= 0.3 * 1.5, "an ME may leave a rest behind"
    assert injection.curve.max() == pytest.approx(1.5, rel=0.03)
    assert label.amplitude_px == 1.5
    assert label.onset_s < label.apex_s < label.offset_s


def test_the_two_ways_are_no_others(actor):
    with pytest.raises(ValueError, match="way other"):
        movement("other", still(), actor, np.random.default_rng(0), 0.0, 1.0)


def test_a_dragged_brow_leaves_the_mouth_and_the_other_side(actor):
    field = dragged_field(actor, (107, 66, 105), np.pi / 2, "R")
    at = np.round((actor.points[:, :2] + 24.5) / 2 - 0.5).astype(int)
    size = np.hypot(*field)
    right, left, mouth = (size[at[k, 1], at[k, 0]] for k in (66, 296, 17))
    assert right > 0.6
    assert max(left, mouth) < 0.15
    assert field[1][at[66, 1], at[66, 0]] > 0, "it comes from below: the brow goes up"


def test_injection_into_a_frame_moves_only_the_face(actor, portrait):
    field = np.zeros((2, 88, 88), np.float32)
    field[0, 30:60, 30:60] = -2.0
    moved = warp_frame(portrait, actor.matrix, field)
    changed = np.argwhere((moved != portrait).any(-1)) @ actor.matrix[:, 1::-1].T + actor.matrix[:, 2]
    assert len(changed)
    assert changed.min() > 30
    assert changed.max() < 100  # 30..60 map samples are crop px 36.5 to 94.5
    assert (warp_frame(portrait, actor.matrix, 0 * field) == portrait).all()


@pytest.mark.parametrize("nuisance", NUISANCES)
def test_a_nuisance_comes_alone(nuisance):
    script = lone_nuisance(np.random.default_rng(3), nuisance, 12.0)
    kind = {"flicker": "exposure"}.get(nuisance, nuisance)
    assert {label.kind for label in script.labels} == {kind}
    lit, plain = script.light[:, 0].std() > 1e-3, nuisance not in ("exposure", "flicker")
    assert lit != plain
    looks = any(np.ptp(script.actions.get(g, np.zeros(1))) > 0 for g in ("gaze_x", "gaze_y"))
    assert looks == (nuisance == "gaze")
    assert len(script.time_s) == len(script.pose) == len(script.light)
    assert all(len(curve) == len(script.time_s) for curve in script.actions.values())


@pytest.fixture
def folders(tmp_path, actor, portrait):
    """Data with one person of the test split."""
    number = next(n for n in range(1, 200) if split_of(f"london:{n:03d}") == "test")
    (tmp_path / "data" / "portraits" / "london").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "data" / "portraits" / "london" / f"{number:03d}_neutral.jpg"), portrait)
    table = f"face_id,face_age,face_gender,face_eth\n{number:03d},24,female,black\n"
    (tmp_path / "data" / "portraits" / "london" / "info.csv").write_text(table)
    (tmp_path / "out").mkdir()
    return bench.Folders(tmp_path / "data", tmp_path / "out", tmp_path / "out" / "actors", locate())


@pytest.fixture
def actors(folders):
    """That person's."""
    ((_, who),) = bench.people(folders.data, "test").items()
    folders.actors.mkdir()
    build_all([who], folders.data, folders.actors, folders.face_model)
    return sorted(folders.actors.glob("*.npz"))


@pytest.mark.slow
@pytest.mark.usefixtures("actors")
def test_the_bench_is_the_same_for_the_same_seed_and_knows_its_people(folders):
    """One video twice, bit for bit; another seed is another video."""
    (person,) = bench.people(folders.data, "test")
    job = bench.Job("nuisance", "test", 0, person, "gaze", 1.5)
    made = []
    for seed in (0, 0, 1):
        truth = bench.make(job, folders, seed)
        made.append(((folders.out / truth.file).read_bytes(), truth))
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert (truth.tags["nuisance"], truth.tags["face"]) == ("gaze", "from 120 px")  # films have no smaller ones
    assert (truth.tags["age"], truth.tags["ethnicity"]) == ("under 30", "black")
    assert split_of(truth.subject) == "test"


def test_the_plan_covers_every_nuisance_way_and_size():
    videos = ["single_face.mp4", *(f"grid_lady/{k}.mpg" for k in range(6))]
    jobs = bench.plan("test", [f"london_{i:03d}_neutral.npz" for i in range(20)], videos, bench.MINUTES)
    assert len({job.name for job in jobs}) == len(jobs)
    assert {job.what for job in jobs if job.part == "nuisance"} == set(NUISANCES)
    assert {job.what for job in jobs if job.part in ("portraits", "video")} == set(WAYS)
    films = [job for job in jobs if job.part == "portraits"]
    sizes = [size for job in films for size in np.roll(bench.SIZES_PX, -3 * job.number)[:3]]
    counts = [sizes.count(size) for size in bench.SIZES_PX]
    assert max(counts) - min(counts) <= 2
    assert not {job.subject for job in bench.plan("tune", ["a.npz"], [], 24)} & {job.subject for job in jobs}
    assert {job.what for job in jobs if job.part == "talk"} == {"", *WAYS}
    real = [job.subject for job in jobs if job.part == "video"]
    assert real.count("single_face.mp4") == 4
    assert [real.count(video) for video in videos[1:]] == [1] * 6  # one person, on many videos
    assert [job.subject for job in jobs if job.part == "untouched"] == videos


@pytest.fixture
def real_video(folders, actor, portrait):
    """Three seconds of somebody, in the place of a video of the test split."""
    path = folders.data / "video" / "single_face.mp4"
    path.parent.mkdir()
    script = still(90, replace(CAMERA, codec="h264"))
    write_video(path, frames_of(script, actor, portrait), script.time_s, encoder_of(script.camera))
    return path


@pytest.mark.slow
def test_real_video_moves_when_told_and_is_else_untouched(real_video, actor, landmarker):
    """Bit for bit the same outside the MEs; within them the face moves."""
    take = follow(str(real_video), landmarker)
    assert take is not None
    assert take.seen(0, 3)
    script = replace(still(90), time_s=take.time_s)
    injection, label = movement("landmarks", script, actor, np.random.default_rng(1), 1.0, 4.0)
    images = zip(injected(str(real_video), take, [injection], actor.crop_px), read_frames(str(real_video)), strict=True)
    for made, frame in images:
        moved = (made != frame.image).any()
        if label.onset_s + 0.04 < frame.time_s < label.offset_s - 0.04:
            assert moved
        elif not label.onset_s < frame.time_s < label.offset_s:
            assert not moved


@pytest.mark.slow
def test_the_bench_knows_what_it_put_into_real_video(real_video, folders):
    job = bench.Job("video", "test", 0, real_video.name, "landmarks")
    truth, plain = (bench.make(j, folders, 0) for j in (job, replace(job, part="untouched", what="")))
    assert truth.intervals
    assert not plain.intervals
    assert all(i.kind == "micro" and i.amplitude_px >= 0.8 for i in truth.intervals)
    assert all(i.visibility > 2 for i in truth.intervals)  # nobody moves
    assert truth.intervals[-1].offset_s < truth.duration_s == pytest.approx(3.0, abs=0.01)
    assert len(list(read_frames(str(folders.out / truth.file)))) == 90
    assert (truth.tags["way"], truth.tags["face"]) == ("landmarks", "below 120 px")  # SETTING: 110 px


@pytest.mark.parametrize(("face_px", "tag"), [(48, "below 80 px"), (80, "below 120 px"), (120, "from 120 px")])
def test_faces_are_told_apart_by_their_width(face_px, tag):
    assert bench._width(face_px) == tag


@pytest.mark.slow
def test_the_whole_bench_is_written_with_its_truth(folders, monkeypatch, capsys):
    """The command itself, cut short: every video that truth.json names is there, and bench.json adds them up."""
    (folders.data / "video").mkdir()
    (folders.data / "video" / "single_face.mp4").touch()  # left out of this plan
    monkeypatch.setattr(bench, "plan", lambda split, actors, videos, minutes: [
        bench.Job("nuisance", split, 0, actors[0], what, 0.7) for what in ("blink", "noise")])  # fmt: skip
    where = ["--data", str(folders.data), "--out", str(folders.out), "--face-model", str(locate())]
    assert bench_data.main([*where, "--split", "test", "--minutes", "1", "--workers", "1"]) == 0
    videos = load_truth(folders.out / "truth.json")
    assert len(videos) == 2
    assert all((folders.out / v.file).stat().st_size > 1000 for v in videos)
    assert "test nuisance: 2 videos" in capsys.readouterr().out


def test_bad_input_gets_one_line(folders, tmp_path, capsys):
    assert bench_data.main(["--data", str(tmp_path / "no"), "--out", str(tmp_path / "o")]) == 2
    assert "--data" in capsys.readouterr().err
    assert bench_data.main(["--data", "x", "--out", "y", "--minutes", "0"]) == 2
    assert "--minutes 0.0" in capsys.readouterr().err
    assert main(["--real-aligner", "1", "--data", str(folders.data), "--out", str(tmp_path / "o")]) == 2
    assert "--actors" in capsys.readouterr().err
    coded = ["--coded", "1", "--data", str(folders.data), "--out", str(tmp_path / "o")]
    assert main(coded) == 2
    assert "--coded needs --actors" in capsys.readouterr().err
    assert main([*coded, "--actors", str(tmp_path), "--lively"]) == 2
    assert "leave out --small, --lively" in capsys.readouterr().err
    with pytest.raises(UserError, match="m_multi"):
        demo.make(tmp_path, tmp_path / "o")


@pytest.mark.slow
def test_scripts_with_an_hour_of_everything_can_be_filmed(actor, portrait):
    """Any script that the generator draws: no name, shape or size that a film does not know."""
    for seed in range(3):
        script = draw_script(np.random.default_rng(seed), 0.6)
        frames = frames_of(script, actor, portrait)
        assert len(frames) == len(script.time_s)
        assert all(f.shape == (240, 320, 3) and f.dtype == np.uint8 for f in itertools.islice(frames, 3))


@pytest.mark.slow
def test_an_unsteady_camera_changes_the_light_and_not_the_truth(folders, actors, landmarker):
    """The same happenings; the face gets lighter or darker by steps, through codec and aligner."""
    steady, unsteady = (
        make_sequence(0, 3, actors, folders.data, landmarker, ModelSpec(), change) for change in (None, step_exposure)
    )
    assert steady.labels == unsteady.labels
    assert {label.kind for label in unsteady.labels} <= set(CLASSES)
    light = [np.ptp(one.crops.mean(axis=(1, 2))) for one in (steady, unsteady)]
    assert light[1] > light[0] + 8


@pytest.mark.slow
def test_a_small_picture_is_of_the_same_happenings_and_shows_less(folders, actors, landmarker):
    """Through codec and aligner: a crop of the same size, with less detail in it."""
    large, small = (
        make_sequence(0, 3, actors, folders.data, landmarker, ModelSpec(), small=small) for small in (False, True)
    )
    assert large.labels == small.labels
    assert large.crops.shape == small.crops.shape
    detail = [np.abs(cv2.Laplacian(one.crops[50].astype(np.float32), -1)).mean() for one in (large, small)]
    assert detail[1] < 0.9 * detail[0]


def test_the_true_pose_crops_a_head_that_moves_to_where_it_was(actor, portrait):
    """What moves, turns and grows in the picture stands still in the crops, to hundredths of a px."""
    script = still()
    script.pose[:] = np.linspace(0, 1, 12)[:, None] * (6, -4, 5, 0.06)
    film = Film(script, actor, portrait, SETTING, np.random.default_rng(0))
    images = list(film)
    crops = [extract(image, matrix) for image, matrix in zip(images, film.crop_matrices(), strict=True)]
    moved, kept = (
        [np.abs(shift_between(seen[0], one, box)).max() for one in seen]
        for seen, box in ((images, FACE), ([cv2.merge([c] * 3) for c in crops], (40, 100, 30, 98)))
    )
    assert max(moved) > 1
    assert max(kept) < 0.06


@pytest.mark.slow
def test_coded_films_show_the_same_happenings_worse_and_worse(folders, actors):
    """As it was, then at three qualities: the same labels and faces in the same place, errors that grow."""
    fine, *worse = coded.make_sequences(1, 3, actors, folders.data, ModelSpec())
    assert len(worse) == len(coded.CRFS)
    assert all(one.labels == fine.labels and one.crops.shape == fine.crops.shape for one in worse)
    off = [np.abs(one.crops.astype(float) - fine.crops).mean() for one in worse]
    assert 0 < off[0] < off[1] < off[2] < 6
    again = coded.make_sequences(1, 3, actors, folders.data, ModelSpec())
    assert all(np.array_equal(a.crops, b.crops) for a, b in zip([fine, *worse], again, strict=True))


def test_as_many_pictures_come_back_as_were_recorded(actor, portrait):
    """Also where the first is stamped before 0, as a camera's jitter has it: a player would leave that out."""
    script = still()
    script.time_s[0] = -0.0002
    images = frames_of(script, actor, portrait)
    back = coded.recorded(images, script, 20)
    assert len(back) == len(images)
    assert all(0 < np.abs(a.astype(float) - b).mean() < 4 for a, b in zip(images, back, strict=True))


@pytest.mark.slow
def test_coded_films_are_pools_that_know_what_was_before(folders, actors, monkeypatch):
    """From the command line, by workers of their own: equal truths, and every coded pool leads to the fine one."""
    monkeypatch.setattr(coded, "actors_of", lambda folder, split: actors)
    out = folders.out / "pools"
    words = ["--coded", 1, "--data", folders.data, "--actors", folders.actors, "--out", out, "--workers", 1]
    assert main([str(word) for word in words]) == 0
    fine = np.load(out / "fine" / "000000.npy")
    for k in range(len(coded.CRFS)):
        pool = Pool([out / f"coded-{k}"], ModelSpec())
        assert not np.array_equal(pool[3][0], fine[3])
        assert np.array_equal(pool.before()[3][0], fine[3])
        assert np.array_equal(pool.before()[3][1], pool[3][1])


@given(st.integers(0, 2**32 - 1))
def test_a_small_picture_has_sides_that_encoders_take_and_the_shape_of_a_large_one(seed):
    script = draw_script(np.random.default_rng(seed), 0.2)
    fps, times = script.camera.fps, script.time_s
    width, height = aligned.small_picture(script, np.random.default_rng(seed))
    assert width % 2 == height % 2 == 0
    assert 0.41 < width / aligned.PICTURE_PX[0] < 0.81
    assert width / height == pytest.approx(4 / 3, rel=0.02)
    assert script.camera.codec == "h264"
    assert 15 <= script.camera.quality <= 27
    assert script.camera.fps == fps
    assert script.time_s is times
