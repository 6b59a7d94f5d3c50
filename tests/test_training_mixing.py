"""Clips mixed by region, and imprints of a drawn visibility: the motion is where and as visible as the truth says."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.mesnet import MotionStem
from engine.spec import STREAMS, ModelSpec
from engine.training.generator.actors import build_actor
from engine.training.learn.batches import Draws, seen
from engine.training.learn.imprint import Imprinter, imprinted, moved_by, together
from engine.training.learn.mixing import mixed, true_of_mixed
from engine.training.learn.relative import ASKED, LAG, WINDOWS, imprints, scaled, seen_of, weighed
from engine.training.pools.pool import LENGTH, Pool, prepare, write_shard
from engine.training.pools.stemmed import join_stem, split_stem, squashed, unsquashed
from engine.training.pools.truth import ABSENT, BLINK, HEAD, MACRO, MICRO, SPEECH, UNKNOWN
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SPEC = ModelSpec()
FRAMES, LAGS, STEM = SPEC.clip_frames, len(SPEC.lags), MotionStem(SPEC)


@pytest.fixture(scope="module")
def imprinter(tmp_path_factory):
    image = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    path = tmp_path_factory.mktemp("actors") / "x.npz"
    build_actor(image, Landmarker(locate()).find(image)[0], "congress:X").save(path)
    return Imprinter([path], SPEC, (0.3, 4.0))


def clip(upper_px, lower_px, frames=FRAMES):
    """Stem rows [1, T, features] of a face whose upper and lower half move by so much, everywhere and always."""
    px = torch.full((frames, 2 * LAGS, 16, 16), float(upper_px))
    px[:, :, 8:] = float(lower_px)
    rest = torch.full((frames, 3 * LAGS, 16, 16), 0.9)
    return join_stem(torch.cat([squashed(px), rest], dim=1), torch.zeros(frames, 6 * LAGS))[None]


def motion_of(rows):
    """[T, G, G] px over the lag by which visibility is measured."""
    local, _ = split_stem(rows, SPEC)
    return torch.hypot(unsquashed(local[:, LAG]), unsquashed(local[:, LAGS + LAG]))


def test_above_the_seam_moves_one_clip_below_it_the_other():
    """With a soft passage of some rows; whoever is above, nothing of the other's mouth shows in the brows."""
    made = motion_of(mixed(clip(0.1, 9.0), clip(7.0, 1.0), torch.tensor([8.0]), SPEC))
    root2 = 2**0.5
    np.testing.assert_allclose(made[:, :4], 0.1 * root2, atol=0.1)
    np.testing.assert_allclose(made[:, 12:], 1.0 * root2, atol=0.1)
    assert (made[0, 4:8, 0].diff() > 0).all()


def rows_of(*rows):
    truth = np.zeros((8, 9), np.float32)
    truth[:, 0], truth[:, 1:4] = ABSENT, -1e3
    for k, (kind, *shares) in enumerate(rows):
        truth[k] = [kind, 10, 15, 20, 1, *(shares or (0, 0, 0, 0))]
    return truth


def test_truth_goes_with_its_half():
    """The upper clip's blink and the lower one's speech stay; a movement of the half that is gone goes with it."""
    above = rows_of((BLINK,), (SPEECH,), (MICRO, 1, 0, 0, 0), (MICRO, 0, 0, 0, 1), (UNKNOWN,))
    below = rows_of(
        (BLINK,), (SPEECH,), (MICRO, 0.8, 0.2, 0, 0), (MICRO, 0, 0, 0.4, 0.6), (HEAD,), (MACRO,), (UNKNOWN,)
    )
    truth = true_of_mixed(above, below)
    kinds = sorted(truth[truth[:, 0] != ABSENT, 0].astype(int).tolist())
    assert kinds == sorted([BLINK, MICRO, UNKNOWN, SPEECH, MICRO, HEAD, MACRO])
    shares = truth[truth[:, 0] == MICRO, 5:9]
    assert shares[:, :2].sum(axis=1).tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize("seed", range(4))
def test_an_imprint_is_as_visible_as_was_drawn_and_weighs_by_it(imprinter, seed):
    """Measured afresh on the clip with it: its peak over the face's own in its place, where the face moves a lot and
    where it hardly does; capped at what a micro-expression can be; too faint ones are not asked for."""
    rng = np.random.default_rng(seed)
    truth = rows_of()
    truth[3] = [BLINK, 5, 8, 14, 1, 0, 0, 0, 0]
    moving, truth = [], truth
    while not any(m.row >= 0 and 8 < m.apex < FRAMES - 8 for m in moving):
        moving, after = imprinter.draw(truth, rng)
    moving = [next(m for m in moving if m.row >= 0 and 8 < m.apex < FRAMES - 8)]
    plain = clip(0.2, 0.6)
    courses, cells = together([moving], SPEC)
    tables = imprints([moving])
    scaled_courses, visibility = scaled(plain, courses, cells, tables, SPEC)
    moved = moved_by(scaled_courses, cells)[0, :, LAG]
    length = torch.hypot(moved[:, 0], moved[:, 1])
    place = length.amax(dim=0) >= 0.5 * length.max()
    own = float(motion_of(plain)[:, place].max())
    assert float(visibility[0, 0]) == pytest.approx(float(length.max()) / own, rel=1e-3)
    assert 0.1 * 0.99 <= float(length.max()) <= 2.8 * 1.01
    if 0.11 < moving[0].wanted * own < 2.7:
        assert float(visibility[0, 0]) == pytest.approx(moving[0].wanted, rel=1e-3)
    weight = float(weighed(torch.as_tensor(after)[None], visibility, tables)[0, moving[0].row, 4])
    assert (weight == 0) == (float(visibility[0, 0]) < ASKED)
    assert not torch.allclose(imprinted(plain, moved_by(scaled_courses, cells), STEM, SPEC), plain, atol=1e-3)


def test_a_stream_sees_of_a_movement_what_moves_in_its_window(imprinter):
    cells = np.zeros((1, 2, 16, 16), np.float32)
    cells[0, 0, 2, 12] = 2.0  # in the left brow alone
    _, movement = imprinter.movement(np.random.default_rng(0), 10.0, FRAMES)
    movement = movement._replace(courses=movement.courses[:1], cells=cells)
    shares = dict(zip(STREAMS, seen_of(movement), strict=True))
    assert shares == {name: float(name == "brows_l") for name in STREAMS}


def test_mixed_batches_keep_each_movement_where_the_truth_has_it(imprinter, tmp_path):
    """Of a still pool: whatever is asked for moves between its onset and offset in a stream that is asked for it."""
    prepare(tmp_path, SPEC)
    still = clip(0, 0, LENGTH).numpy().astype(np.float16)
    write_shard(tmp_path, 0, [still[0]] * 4, [rows_of()] * 4)
    pool = Pool([tmp_path], SPEC)
    draws = Draws(pool, 4, 24, imprinter, mix=True)
    assert {len(table) for table in (draws[0].changes.seam, draws[0].changes.under)} == {len(draws[0].pieces) - 24}
    checked = 0
    for step in range(3):
        batch = draws[step]
        quiet = batch._replace(changes=batch.changes._replace(noise=torch.zeros(24)), mirror=False)
        clips, truth = seen(quiet, pool, STEM)
        windows = [WINDOWS[name] for name in STREAMS]
        for rows, table, shares in zip(clips, truth, batch.seen, strict=True):
            if (table[:, 0] < ABSENT).sum() != 1 or not (table[:, 0] == MICRO).any():
                continue
            (at,) = torch.nonzero(table[:, 0] == MICRO).flatten().tolist()
            onset, offset = float(table[at, 1]), float(table[at, 3])
            if table[at, 4] == 0 or onset < 0 or offset > FRAMES - 1:
                continue
            moved = motion_of(rows[None])
            mine = [
                float(moved[max(int(onset), 0) : int(offset) + 1, r, c].max())
                for (r, c), share in zip(
                    windows, shares[at] if not batch.mirror else shares[at][[1, 0, 2, 3, 5, 4]], strict=True
                )
                if share >= 0.6
            ]
            assert min(mine) > 0.03
            checked += 1
    assert checked >= 3
