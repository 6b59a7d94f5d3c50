"""`python -m benchmarks codecs`: the same pictures, stamps and truth in every row, whatever the encoder."""

from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import codecs
from benchmarks.same_films import Change, remade
from engine.datasets.truth import TruthInterval, TruthVideo, save_truth
from engine.training.film.encode import webcam, write_video
from engine.training.film.injection import read_frames
from stream.errors import UserError
from stream.sources import open_source

TIME_S = np.array([0, 0.031, 0.068, 0.1, 0.166, 0.2, 0.232, 0.267, 0.3, 0.335, 0.366, 0.4])


@pytest.fixture
def bench(tmp_path):
    """A face that stands still for 0.4 s, at irregular stamps, and a claim that it did not."""
    face = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    face = cv2.copyMakeBorder(cv2.resize(face, (240, 240)), 0, 0, 40, 40, cv2.BORDER_REPLICATE)
    write_video(tmp_path / "a.mp4", [face] * len(TIME_S), TIME_S, webcam(6))
    told = (TruthInterval(0.1, None, 0.3, amplitude_px=1.0), TruthInterval(0.1, None, 0.3, amplitude_px=2.0))
    videos = [
        TruthVideo("a.mp4", "x", 30, 0.4, "tune", told, tags={"codec": "none"}),
        TruthVideo("b.mp4", "x", 30, 0.4, "test", told, tags={"codec": "h264"}),
    ]
    save_truth(tmp_path / "truth.json", videos)
    return tmp_path


def options(bench, split=None):
    return Namespace(bench=bench, split=split, model=None, encoders=list(codecs.ENCODERS))


@pytest.mark.slow
@pytest.mark.parametrize("name", codecs.ENCODERS)
def test_an_encoder_keeps_every_picture_and_its_stamp(bench, tmp_path, name):
    film = bench / "a.mp4"
    before = list(read_frames(str(film)))
    encoder = codecs.ENCODERS[name]
    path = film if encoder is None else remade(Change(encoder=encoder), before, tmp_path)
    read = list(iter(open_source(str(path), paced=False).read, None))
    assert np.abs([f.time_s for f in read] - TIME_S).max() <= 1e-3
    assert all(abs(f.image.astype(int) - g.image).mean() < 6 for f, g in zip(read, before, strict=True))


@pytest.mark.slow
def test_every_encoder_is_asked_for_the_same(bench, capsys):
    """What is not there is not found, for all of them; a film that had a codec already is left out."""
    rows = codecs.run(options(bench))["rows"]
    assert [r["encoder"] for r in rows] == list(codecs.ENCODERS)
    assert {(r["found"], r["mes"], r["large_found"], r["large"], r["f1"]) for r in rows} == {(0, 2, 0, 1, 0.0)}
    by_name = {r["encoder"]: r["kbit_s"] for r in rows}
    assert by_name["H.264 of a webcam, CRF 28"] < by_name["H.264 of a webcam, CRF 18"] < by_name["none"]
    assert capsys.readouterr().out.count("found 0 of 2, from 1.5 px 0 of 1") == len(rows)


def test_a_bench_without_such_a_film_is_refused(bench):
    with pytest.raises(UserError, match="no film without a codec"):
        codecs.run(options(bench, "test"))
