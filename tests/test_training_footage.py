"""Real video made into training sequences: what is played, when, and that the injected is where the truth says."""

import dataclasses

import numpy as np
import pytest
from clips import face_video
from hypothesis import given
from hypothesis import strategies as st

from engine.spec import ModelSpec
from engine.training.film import aligned, footage
from engine.training.film.encode import write_film
from engine.training.film.film import CENTRE
from engine.training.film.footage import Take, make_sequence, takes_of
from engine.training.film.injection import movement
from engine.training.generator.nuisances import CALM
from engine.training.pools.pool import LENGTH, truth_rows
from engine.training.pools.truth import UNKNOWN
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

pytestmark = pytest.mark.slow

SPEC = ModelSpec()
FRAMES = LENGTH + max(SPEC.lags)


@pytest.fixture(scope="module")
def landmarker():
    return Landmarker(locate())


@pytest.fixture(scope="module")
def found(landmarker, tmp_path_factory):
    """Two stretches: the room is empty from 1.0 to 1.3 s. Nobody moves."""
    path = face_video(tmp_path_factory.mktemp("video") / "a.mp4", away=(1.0, 1.3), raise_s=99.0)
    return takes_of(path, "a.mp4", landmarker)


def test_a_take_is_a_stretch_with_a_face_cut_to_its_surroundings(found):
    assert [round(t.time_s[-1], 1) for t in found] == pytest.approx([1.0, 1.6], abs=0.11)
    for take in found:
        assert len(take.images) == len(take.matrices) == len(take.time_s)
        for image, matrix in zip(take.images, take.matrices, strict=True):
            x, y = np.linalg.solve(matrix[:, :2], CENTRE - matrix[:, 2])  # the face's middle, in the part
            assert 0.25 * image.shape[1] < x < 0.75 * image.shape[1]
            assert 0.25 * image.shape[0] < y < 0.75 * image.shape[0]


@given(seed=st.integers(0, 10_000), frames=st.integers(20, 400), fps=st.sampled_from([24.0, 25.0, 30.0, 60.0]))
def test_every_frame_is_played_once_in_order_and_held_at_the_ends_only(seed, frames, fps):
    """For takes shorter and longer than a sequence; the time asked for is covered, stamps rise and start at 0."""
    take = Take("a", [], np.arange(frames) / fps, [], None)
    shown, time_s = footage._played(take, np.random.default_rng(seed), FRAMES / SPEC.fps)
    assert time_s[0] == 0
    assert (np.diff(time_s) > 0).all()
    assert time_s[-1] >= (FRAMES - 1) / SPEC.fps
    steps = np.abs(np.diff(shown))
    inner = steps[np.flatnonzero(steps)[0] : np.flatnonzero(steps)[-1] + 1] if steps.any() else steps
    assert (inner == 1).all()
    assert len(set(np.sign(np.diff(shown))) - {0}) <= 1, "it turned round"


def test_injected_movements_lie_where_the_truth_says(found, landmarker, monkeypatch):
    """The same sequence with and without them: the crops differ within their intervals and hardly anywhere else."""
    fine = dataclasses.replace(CALM, codec="none")  # a coarse codec carries a movement on into what comes after it
    monkeypatch.setattr(aligned, "write_film", lambda *film: write_film(*film[:3], fine))
    monkeypatch.setattr(footage, "usual_amplitude", lambda rng: 5.0)
    index = next(i for i in range(20) if whole_ones(make_sequence(i, 0, found, landmarker, SPEC)))
    moved = make_sequence(index, 0, found, landmarker, SPEC)

    def in_words_only(*arguments):
        injection, label = movement(*arguments)
        return dataclasses.replace(injection, curve=0 * injection.curve), label

    monkeypatch.setattr(footage, "movement", in_words_only)
    plain = make_sequence(index, 0, found, landmarker, SPEC)
    assert plain.labels == moved.labels
    assert moved.crops.shape == (FRAMES, SPEC.crop_px, SPEC.crop_px)
    cells = (moved.crops.astype(float) - plain.crops).reshape(FRAMES, 16, 8, 16, 8).mean(axis=(2, 4))  # less noise
    off = np.abs(cells).max(axis=(1, 2))
    time_s = np.arange(FRAMES) / SPEC.fps
    micros = [label for label in moved.labels if label.kind == "micro"]
    inside = np.zeros(FRAMES, bool)
    for label in micros:
        inside |= (time_s >= label.onset_s - 0.05) & (time_s <= label.offset_s + 0.05)
    for label in whole_ones(moved):
        apex = off[(time_s >= label.onset_s) & (time_s <= label.offset_s)].max()
        assert apex > 3 * np.median(off[~inside]), (label, off.round(1).tolist())


def whole_ones(sequence):
    return [a for a in sequence.labels if a.kind == "micro" and a.onset_s > 0.2 and a.offset_s < 4.4]


def test_what_people_do_of_themselves_is_not_asked_for(found, landmarker):
    truth = truth_rows(make_sequence(0, 0, found, landmarker, SPEC).labels, SPEC)
    assert (truth[:, 0] == UNKNOWN).sum() == 1


def test_no_codec_wipes_out_what_is_asked_for(found, landmarker, monkeypatch):
    """H.264 at rates that a face still moves at, whatever codec the drawn camera had; a JPEG's quality is no CRF."""
    cameras = []

    def noted(images, script, *rest):
        cameras.append(script.camera)
        return np.zeros((FRAMES, SPEC.crop_px, SPEC.crop_px), np.uint8)

    monkeypatch.setattr(footage, "filmed", noted)
    for index in range(60):
        make_sequence(index, 0, found, landmarker, SPEC)
    assert {camera.codec for camera in cameras} == {"h264", "none"}
    assert all(16 <= camera.quality <= 30 for camera in cameras if camera.codec == "h264")


def test_a_folder_without_known_videos_is_refused(tmp_path, capsys):
    assert footage.main(["--data", str(tmp_path), "--out", str(tmp_path / "pool")]) == 2
    assert "video/ holds none of the videos of the train split" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()


def test_a_video_in_which_nobody_is_seen_ends_in_one_line_too(tmp_path, capsys):
    """Found out by a worker, in another process."""
    path = tmp_path / "video" / "asl" / "no.mkv"
    path.parent.mkdir(parents=True)
    path.write_bytes(face_video(tmp_path / "empty.mp4", away=(0.0, 9.0)).read_bytes())
    asked = ["--data", str(tmp_path), "--out", str(tmp_path / "pool"), "--sequences", "1", "--workers", "1"]
    assert footage.main(asked) == 2
    assert "no face in video/ of the train split" in capsys.readouterr().err


def test_nobody_is_seen_is_one_line(found, landmarker):
    """A take in which the live path finds no face: black frames."""
    dark = [dataclasses.replace(take, images=[0 * image for image in take.images]) for take in found]
    with pytest.raises(UserError, match="sequence 0 of seed 0: no face seen in 8 tries"):
        make_sequence(0, 0, dark, landmarker, SPEC)
