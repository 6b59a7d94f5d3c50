"""Pools and the run that trains on them: the same whoever makes them, resumed as if never killed, ending in a model."""

import json
import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from engine import train
from engine.mesnet import MESNet, MotionStem
from engine.model import load_model
from engine.runtimes.onnx import OnnxRuntime
from engine.spec import HEAD_FIELDS, ModelSpec
from engine.training.generator.actors import build_actor
from engine.training.generator.script import Label
from engine.training.learn.batches import Draws, seen
from engine.training.learn.imprint import Imprinter
from engine.training.learn.online import Online, Spotted, Truth, clips_of, figures
from engine.training.learn.trainer import Plan, Trainer
from engine.training.pools import pool as pools
from engine.training.pools.pool import LENGTH, Order, Pool, make_shard, prepare, truth_rows, write_shard
from engine.training.pools.stemmed import split_stem, unsquashed
from engine.training.pools.truth import ABSENT, BLINK, MICRO, UNKNOWN
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SPEC = ModelSpec()
HISTORY, LAGS = max(SPEC.lags), len(SPEC.lags)
FEATURES = 5 * LAGS * 256 + 6 * LAGS
STEM = MotionStem(SPEC)
PLAN = Plan(steps=6, seed=1, batch=2)


def fill(folder, sequences=4, seed=0):
    """A pool of one shard: noise, with a local motion at a brow wherever a micro-expression is."""
    prepare(folder, SPEC)
    rng = np.random.default_rng(seed)
    rows, truths = [], []
    for _ in range(sequences):
        row = rng.normal(0, 0.05, (LENGTH, FEATURES)).astype(np.float32)
        onset = float(rng.integers(15, 90))
        row[int(onset) : int(onset) + 13].reshape(13, -1)[:, LAGS * 256 + 60 : LAGS * 256 + 100] += 2
        label = Label("micro", *((onset + a + HISTORY) / SPEC.fps for a in (0, 6, 12)), 3.0, (1.0, 0, 0, 0))
        rows.append(row.astype(np.float16))
        truths.append(truth_rows([label], SPEC))
    write_shard(folder, 0, rows, truths)
    return folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return Pool([fill(tmp_path_factory.mktemp("pool"))], SPEC)


@pytest.fixture(scope="module")
def actors(tmp_path_factory):
    """A folder with one actor of the training split."""
    image = cv2.imread(str(Path(__file__).parent / "data" / "face.jpg"))
    folder = tmp_path_factory.mktemp("actors")
    build_actor(image, Landmarker(locate()).find(image)[0], "congress:X").save(folder / "x.npz")
    return folder


@pytest.mark.slow
def test_two_workers_make_what_one_makes(actors, tmp_path, monkeypatch):
    """Byte for byte; and a run that was ended makes only what is missing."""
    monkeypatch.setattr(pools, "SHARD", 1)
    monkeypatch.setattr(pools, "LENGTH", 6)
    one, two = tmp_path / "one", tmp_path / "two"
    assert pools.main(["--actors", str(actors), "--out", str(two), "--sequences", "2", "--workers", "2"]) == 0
    one.mkdir()
    for number in (1, 0):
        make_shard((number, Order(0, [actors / "x.npz"], one, size=1, length=6)))
    names = ["000000.npy", "000000.truth.npy", "000001.npy", "000001.truth.npy"]
    assert sorted(p.name for p in one.iterdir()) == names
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    assert (one / names[0]).read_bytes() != (one / names[2]).read_bytes()
    assert Pool([two], SPEC)[1][0].shape == (6, FEATURES)


@pytest.mark.slow
def test_lively_people_are_the_same_people_who_never_rest(actors, tmp_path, monkeypatch):
    """The same micro-expressions and blinks by the same camera, in a face that moves all along."""
    monkeypatch.setattr(pools, "SHARD", 1)
    calm, lively = tmp_path / "calm", tmp_path / "lively"
    for folder, options in ((calm, []), (lively, ["--lively"])):
        where = ["--actors", str(actors), "--out", str(folder), "--seed", "1", "--workers", "1"]
        assert pools.main([*where, "--sequences", "1", *options]) == 0
    (still_rows, still_truth), (rows, truth) = Pool([calm], SPEC)[0], Pool([lively], SPEC)[0]
    known = still_truth[still_truth[:, 0] != ABSENT]
    assert len(known)
    assert all((truth == row).all(1).any() for row in known)
    moved = [np.abs(a[:, : 2 * LAGS * 256].astype(np.float32)).mean(1) for a in (still_rows, rows)]
    assert np.median(moved[1]) > 1.3 * np.median(moved[0])


def test_a_pool_needs_actors_of_its_split(actors, tmp_path, capsys):
    assert pools.main(["--actors", str(actors), "--out", str(tmp_path), "--split", "tune"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no actor of the tune split" in said


def test_labels_become_rows():
    """Frames count from the first with its history; MEs first, faint ones weigh less, down to a quarter."""
    labels = [
        Label("blink", 1.0, 1.1, 1.4),
        Label("unknown", 0, 0, 0),
        *(Label("micro", 1.0, 1.2, 1.5, size, (0.5, 0.5, 0, 0)) for size in (0.3, 0.95, 2.0)),
    ]
    rows = truth_rows(labels, SPEC)
    assert rows[:, 0].tolist()[:6] == [MICRO, MICRO, MICRO, BLINK, UNKNOWN, ABSENT]
    np.testing.assert_allclose(rows[0, 1:4], [30 - HISTORY, 36 - HISTORY, 45 - HISTORY], atol=1e-5)
    np.testing.assert_allclose(rows[:4, 4], [0.25, 0.5, 1, 1], atol=1e-5)
    assert rows[0, 5:].tolist() == [0.5, 0.5, 0, 0]
    many = truth_rows([Label("blink", 0, 1, 2)] * 40 + labels[-1:], SPEC)
    assert many[0, 0] == MICRO  # what does not fit are nuisances


def test_an_unfinished_shard_is_not_read(tmp_path):
    fill(tmp_path, 2)
    (tmp_path / "000001.part").write_bytes((tmp_path / "000000.npy").read_bytes())
    (tmp_path / "000001.truth.npy").write_bytes((tmp_path / "000000.truth.npy").read_bytes())
    pool = Pool([tmp_path], SPEC)
    assert len(pool) == 2
    (tmp_path / "000001.part").rename(tmp_path / "000001.npy")
    pool.refresh()
    assert len(pool) == 4
    assert np.array_equal(pool[3][0], pool[1][0])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "holds no pool"),
        ("{", "holds no pool"),
        ("[]", "holds no pool"),
        ('{"stem": "0"}', "another motion stem"),
    ],
)
def test_what_is_no_pool_of_this_stem_is_refused_in_one_line(tmp_path, said, why):
    fill(tmp_path, 1)
    (tmp_path / "pool.json").unlink() if said is None else (tmp_path / "pool.json").write_text(said)
    with pytest.raises(UserError, match=why) as error:
        Pool([tmp_path], SPEC)
    assert str(error.value).count("\n") == 0
    assert str(tmp_path) in str(error.value)


def test_clips_are_cut_with_their_truth(pool):
    """Where the truth of a clip says onset, the motion begins."""
    batch = Draws(pool, 0, 64)[0]
    (clips, truth), valid = seen(batch, pool, STEM), batch.valid
    assert clips.shape == (64, SPEC.clip_frames, FEATURES)
    assert set(valid.unique().tolist()) == {0, 1}
    assert (valid.diff(dim=1) >= 0).all()  # what is hidden is the beginning
    checked = 0
    for clip, rows in zip(clips, truth, strict=True):
        onset = int(rows[0, 1].round())
        if 1 <= onset < SPEC.clip_frames - 1:
            at = clip[:, LAGS * 256 + 60 : LAGS * 256 + 100].mean(dim=1)
            assert at[onset] - at[onset - 1] > 1
            checked += 1
    assert checked > 5


@pytest.mark.slow
def test_a_clip_played_backwards_or_laid_over_another_keeps_its_truth(pool, actors):
    """Nothing imprinted: where the truth says that a micro-expression lasts, and only there, the brow moves. To within
    the lag over which it is measured here: backwards, a motion is said of the other end of its lag."""
    imprinter = Imprinter([actors / "x.npz"], SPEC)
    imprinter.draw = lambda truth, rng: ([], truth)
    batch = Draws(pool, 0, 48, imprinter)[0]
    assert len(batch.changes.backwards)
    assert len(batch.changes.under)
    assert len(batch.pieces) == 48 + len(batch.changes.under)
    clips = seen(batch, pool, STEM)[0][:, :, LAGS * 256 + 60 : LAGS * 256 + 100].abs().mean(dim=2)
    t = torch.arange(SPEC.clip_frames)
    for clip, rows in zip(clips, batch.truth, strict=True):
        micro = rows[rows[:, 0] == MICRO]
        inner, outer = (
            ((t >= micro[:, 1:2] + margin) & (t <= micro[:, 3:4] - margin)).any(dim=0)
            for margin in (SPEC.lags[0] + 0.5, -SPEC.lags[0] - 0.5)
        )
        assert (clip[inner] > 0.4).all()
        assert (clip[~outer] < 0.4).all()


@pytest.mark.slow
def test_an_encoders_errors_are_seen_where_the_skin_shows_nothing_too(pool, actors):
    """Unlike a noisier camera's, in place of which they are; in every clip, as large as asked, and they last."""
    imprinter = Imprinter([actors / "x.npz"], SPEC)
    imprinter.draw = lambda truth, rng: ([], truth)
    noisy, erring = (Draws(pool, 3, 16, imprinter, errors_px=px)[7] for px in (None, (0.05, 0.13)))
    assert not noisy.coded
    assert not noisy.changes.memory.any()
    assert erring.coded
    assert (erring.changes.memory > 0).all()
    assert ((erring.changes.noise >= 0.05) & (erring.changes.noise <= 0.13)).all()
    for batch in (noisy, erring):
        quiet = batch._replace(changes=batch.changes._replace(noise=torch.zeros(16)))
        (local, _), (before, _) = (split_stem(seen(b, pool, STEM)[0], SPEC) for b in (batch, quiet))
        off = float((unsquashed(local[:, 0]) - unsquashed(before[:, 0])).abs().median())
        assert 0.03 < off < 0.2 if batch is erring else off < 0.003


@pytest.mark.slow
def test_another_process_draws_the_same(pool, actors):
    """Shards are named, not numbered by who saw them when; what is drawn depends on the seed and the step alone."""
    draws = Draws(pool, 3, 4, Imprinter([actors / "x.npz"], SPEC))
    (there,) = DataLoader(draws, batch_size=None, sampler=[7], num_workers=1, multiprocessing_context="spawn")
    here, other = draws[7], draws[8]
    for mine, theirs in zip(here, there, strict=True):
        if isinstance(mine, torch.Tensor):
            assert torch.equal(mine, theirs)
    assert all(map(torch.equal, here.changes, there.changes))
    assert here.mirror == there.mirror
    assert not torch.equal(here.pieces, other.pieces[: len(here.pieces)])
    assert torch.equal(seen(here, pool, STEM)[0], seen(there, pool, STEM)[0])


@pytest.mark.needs_cuda
def test_a_gpu_sees_what_the_cpu_sees_and_trains(pool, actors, tmp_path):
    """All but the noise, which every kind of device draws by itself; then a run, its clips drawn in another process."""
    imprinter = Imprinter([actors / "x.npz"], SPEC)
    batch = Draws(pool, 3, 8, imprinter)[7]
    batch = batch._replace(changes=batch.changes._replace(noise=torch.zeros(8)))
    there = Pool(pool.folders, SPEC, "cuda")
    torch.testing.assert_close(
        seen(batch, there, MotionStem(SPEC).cuda())[0].cpu(), seen(batch, pool, STEM)[0], atol=5e-3, rtol=5e-3
    )
    trainer = Trainer(tmp_path, there, pool, Plan(steps=4, device="cuda", batch=2, workers=1), imprinter)
    trainer.run(judge_every=2)
    assert [judged["step"] for judged in trainer.progress.judged] == [2, 4]


def test_clips_end_at_every_hop_as_the_live_programs():
    feats = torch.arange(1, 11).float()[:, None]
    spec = ModelSpec(clip_frames=6, hop_frames=4, stride=2)
    clips, valid = clips_of(feats, spec)
    assert clips[..., 0].tolist() == [[0, 0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8]]
    assert valid.tolist() == [[0, 0, 1, 1, 1, 1], [1] * 6]


def test_figures_by_hand():
    """Four MEs, one of them cut by the end, one faint; a hit, a faint hit, a duplicate, a miss, two alarms."""
    truth = [Truth(0, 20, 32, 1.0), Truth(0, 60, 72, 0.5), Truth(1, 30, 42, 1.0), Truth(1, 120, 132, 1.0)]
    spotted = [
        Spotted(0, 21, 33, 0.9), Spotted(0, 24, 36, 0.6),  # the same one twice: the second is an alarm
        Spotted(0, 61, 71, 0.8),
        Spotted(1, 70, 80, 0.3),  # nothing there
        Spotted(1, 119, 127, 0.95),  # on the cut one: neither hit nor alarm
    ]  # fmt: skip
    got = figures(spotted, truth, minutes=1.0)
    # at 0.8: 2 hits, 0 alarms, 3 wanted
    assert got["f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert 0.6 < got["threshold"] <= 0.8
    assert got["alarms_per_min"] == 0
    assert got["recall"] == pytest.approx(2 / 3)
    # large: 1 hit of 2 at 0.9
    assert got["f1_large"] == pytest.approx(2 / 3)
    # one alarm a minute is allowed: down to above 0.3
    assert got["recall_at_1_per_min"] == pytest.approx(2 / 3)
    assert got["recall_large_at_1_per_min"] == pytest.approx(1 / 2)
    assert figures(spotted, truth, minutes=0.1)["recall_at_1_per_min"] == pytest.approx(2 / 3)
    loud = [*spotted, *(Spotted(0, 5, 12, 0.99) for _ in range(3))]
    assert figures(loud, truth, minutes=1.0)["recall_at_1_per_min"] == 0


def test_figures_of_silence():
    got = figures([], [Truth(0, 20, 32, 1.0)], 1.0)
    assert (got["f1"], got["recall"], got["alarms_per_min"]) == (0, 0, 0)


@pytest.fixture(scope="module")
def trained(pool, tmp_path_factory):
    """A run of six steps, judged twice."""
    trainer = Trainer(tmp_path_factory.mktemp("run"), pool, pool, PLAN)
    trainer.run(judge_every=3)
    return trainer


@pytest.mark.slow
def test_a_run_learns(pool, tmp_path):
    trainer = Trainer(tmp_path, pool, pool, Plan(steps=400, batch=4, rate=6e-3))
    losses = []
    for step in range(24):
        trainer.progress.step = 4 * step  # a quick warm-up
        losses.append(float(sum(trainer.step(trainer.draws[step]).values())))
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:4])


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(trained, pool, tmp_path, monkeypatch):
    """Weights, average, optimiser, curves: bit for bit those of a run that nobody killed."""
    killed, step = Trainer(tmp_path, pool, pool, PLAN), Trainer.step

    def die(self, *arguments, **named):
        if self.progress.step == 5:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", die)
        with pytest.raises(KeyboardInterrupt):
            killed.run(judge_every=3)
    again = Trainer(tmp_path, pool, pool, PLAN)
    assert again.progress.step == 3
    again.run(judge_every=3)
    assert again.progress == trained.progress
    for name in ("net", "average"):
        mine, other = (getattr(t, name).state_dict() for t in (again, trained))
        assert all(torch.equal(mine[key], other[key]) for key in other), name
    moments = [next(iter(t.optimiser.state_dict()["state"].values()))["exp_avg"] for t in (again, trained)]
    assert torch.equal(*moments)


@pytest.mark.slow
def test_another_runs_checkpoint_is_refused(trained, pool, tmp_path):
    with pytest.raises(UserError, match=r"of another run \(seed 1, 6 steps\)"):
        Trainer(trained.out, pool, pool, Plan(steps=7, seed=1))
    state = torch.load(trained.out / "checkpoint.pt", weights_only=True)
    state["net"].pop("crn.mix.bias")
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="of another network"):
        Trainer(tmp_path, pool, pool, PLAN)


@pytest.mark.slow
def test_weights_to_start_from_are_taken_or_refused(trained, pool, tmp_path):
    weights = trained.out / "mesnet.safetensors"
    begun = Trainer(tmp_path / "a", pool, pool, Plan(steps=6, start=weights))
    wanted = load_file(weights)
    assert all(torch.equal(value, wanted[name]) for name, value in begun.net.state_dict().items())
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other", "text", "missing"):
        with pytest.raises(UserError, match="--start") as error:
            Trainer(tmp_path / "b", pool, pool, Plan(steps=6, start=tmp_path / f"{name}.safetensors"))
        assert "\n" not in str(error.value)


def test_a_pool_before_an_encoder_has_the_same_clips_in_the_same_places(tmp_path):
    """Piece by piece; a pool of which no such version is kept is its own."""
    fine, plain = fill(tmp_path / "fine", seed=1), fill(tmp_path / "plain", seed=2)
    coded = fill(tmp_path / "coded", seed=1)
    prepare(coded, SPEC, before="../fine")
    rows = np.load(coded / "000000.npy")
    write_shard(coded, 0, list(rows + np.float16(0.5)), list(np.load(coded / "000000.truth.npy")))
    both = Pool([plain, coded], SPEC)
    pieces = torch.tensor([[0, 0, 1, 7], [1, 0, 2, 9]])
    seen_after, seen_before = both.rows(pieces, 40), both.before().rows(pieces, 40)
    assert torch.equal(seen_after[0], seen_before[0])
    assert torch.equal(seen_before[1], Pool([fine], SPEC).rows(torch.tensor([[0, 0, 2, 9]]), 40)[0])
    assert (seen_after[1] - seen_before[1]).mean() == pytest.approx(0.5, abs=1e-2)


def test_what_several_pools_were_coded_from_is_read_once(tmp_path, monkeypatch):
    """Though it is also a pool beside them."""
    fine, one, two = (fill(tmp_path / name, seed=1) for name in ("fine", "one", "two"))
    for folder in (one, two):
        prepare(folder, SPEC, before="../fine")
    pool, read, load = Pool([fine, one, two], SPEC), [], np.load
    monkeypatch.setattr(np, "load", lambda path, **how: read.append(path) or load(path, **how))
    before = pool.before()
    read.clear()  # truth
    pieces = torch.tensor([[folder, 0, 1, 5] for folder in range(3)])
    for which in (pool, before):
        assert torch.equal(*which.rows(pieces, 40)[1:])
    assert sorted(path.parent.name for path in read) == ["fine", "one", "two"]


def test_pools_are_drawn_from_by_their_shares(tmp_path):
    """However many sequences each holds, by workers alike; the share of one that holds none yet falls to the others."""
    folders = [fill(tmp_path / "large", 12, seed=1), fill(tmp_path / "small", 2, seed=2), tmp_path / "unmade"]
    prepare(folders[2], SPEC)
    uneven = Pool(folders, SPEC, shares=[1, 3, 4])
    rng = np.random.default_rng(0)
    drawn = [uneven.piece(rng, 40)[0] for _ in range(4000)]
    assert np.mean([where[0] == 1 for where in drawn]) == pytest.approx(0.75, abs=0.03)
    of_large = np.bincount([where[2] for where in drawn if where[0] == 0], minlength=12)
    assert of_large.min() > 50  # of 83 on average
    theirs, rng = pickle.loads(pickle.dumps(uneven)), np.random.default_rng(0)
    assert [theirs.piece(rng, 40)[0] for _ in range(50)] == drawn[:50]


@pytest.mark.parametrize("shares", [["1"], ["1", "0"], ["1", "-1"], ["1", "1", "1"]])
def test_shares_that_do_not_fit_the_pools_are_refused_in_one_line(tmp_path, capsys, shares):
    a, b = str(fill(tmp_path / "a", 2)), str(fill(tmp_path / "b", 2))
    rest = ["--tune", a, "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert train.main(["--pool", a, b, "--shares", *shares, *rest]) == 2
    said = capsys.readouterr().err
    assert "--shares" in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_teacher_sees_what_was_there_before_the_encoder(tmp_path, monkeypatch):
    """A network taught by itself hears nothing new of clips as they were, and something of coded ones."""
    # a batch's own statistics, which the teacher does not take, would be news
    monkeypatch.setattr(MESNet, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    fine = fill(tmp_path / "fine", seed=1)
    coded = fill(tmp_path / "coded", seed=1)
    prepare(coded, SPEC, before="../fine")
    rows = np.load(coded / "000000.npy")
    write_shard(coded, 0, list(rows * np.float16(0.5)), list(np.load(coded / "000000.truth.npy")))
    weights = load_model().weights
    plan = Plan(steps=6, seed=1, batch=2, start=weights, teacher=weights)
    heard = {}
    for folder in (fine, coded):
        run = Trainer(tmp_path / f"run-{folder.name}", Pool([folder], SPEC), Pool([fine], SPEC), plan)
        losses = run.step(run.draws[0])
        heard[folder.name] = sum(float(value) for name, value in losses.items() if name.startswith("taught"))
    assert heard["fine"] == pytest.approx(0, abs=1e-5)
    assert heard["coded"] > 1e-3


def test_a_teacher_that_is_none_is_refused(pool, tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(UserError, match="--teacher") as error:
        Trainer(tmp_path, pool, pool, Plan(steps=6, teacher=tmp_path / "text.safetensors"))
    assert "\n" not in str(error.value)


def test_a_pool_without_a_finished_shard_is_refused(pool, tmp_path):
    prepare(tmp_path, SPEC)
    with pytest.raises(UserError, match="no finished shard"):
        Trainer(tmp_path, Pool([tmp_path], SPEC), pool, PLAN)


@pytest.mark.slow
def test_the_best_weights_are_the_averaged_ones_and_are_drawn(trained):
    """The folder holds the curves and the weights that were judged."""
    assert [judged["step"] for judged in trained.progress.judged] == [3, 6]
    assert (trained.out / "curves.png").read_bytes()[:4] == b"\x89PNG"
    best = max(trained.progress.judged, key=lambda j: j["f1"])
    assert trained.progress.best == best["f1"]
    saved = MESNet(SPEC)
    saved.load_state_dict(load_file(trained.out / "mesnet.safetensors"))
    if best is trained.progress.judged[-1]:
        assert torch.equal(saved.crn.mix.weight, trained.average.module.crn.mix.weight)
    rows = torch.as_tensor(np.array(trained.tune_pool[0][0]))
    assert all(s.onset <= s.offset for s in Online(saved.eval()).spot(0, rows))


@pytest.mark.slow
def test_a_run_whose_output_is_a_file_says_how_far_it_is(pool, tmp_path, capsys):
    """A progress bar is drawn there at the very end only."""
    trainer = Trainer(tmp_path, pool, pool, Plan(steps=50, batch=1))
    trainer.progress.step = 49
    trainer.run()
    assert re.search(r"^step 50 of 50: loss \d+\.\d+$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_a_run_ends_with_a_model_that_runs(tmp_path, capsys):
    """From the command line; the exported graphs give what the trained weights give."""
    folder, out = fill(tmp_path / "pool", 2), tmp_path / "out"
    words = ["--pool", folder, "--tune", folder, "--out", out, "--steps", 1, "--device", "cpu"]
    words += ["--workers", 1, "--batch", 2]
    assert train.main([str(word) for word in words]) == 0
    model = load_model(out)
    assert (model.spec.fps, model.spec.clip_frames, model.spec.channels) == (SPEC.fps, SPEC.clip_frames, SPEC.channels)
    assert json.loads((out / "mesnet.json").read_text())["sha256"] == model.sha256
    runtime = OnnxRuntime(model, 1)
    crops = np.random.default_rng(0).integers(0, 255, (1, 1 + LAGS, 128, 128), np.uint8)
    net = MESNet(SPEC).eval()
    net.load_state_dict(load_file(model.weights))
    with torch.no_grad():
        wanted = net.features(torch.as_tensor(crops)).numpy()
    np.testing.assert_allclose(runtime.features(crops), wanted, atol=1e-3)
    feats = np.zeros((1, SPEC.clip_frames, SPEC.channels), np.float32)
    assert runtime.heads(feats, np.ones((1, SPEC.clip_frames), np.float32)).shape == (
        1,
        model.spec.proposals,
        HEAD_FIELDS,
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give --data"),
        (["--pool", "here"], "--pool needs --tune"),
        (["--errors", "0.1", "0.05"], "TO no less than FROM"),
        (["--errors", "0.05", "0.1", "--pool", "here", "--tune", "there"], "--errors needs --imprint"),
        (["--pool", "here", "--tune", "there"], "here holds no pool"),
        (["--data", "nowhere"], "engine.training.generator.actors failed"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_one_line(tmp_path, capsys, words, why):
    assert train.main([*words, "--out", str(tmp_path / "out"), "--device", "cpu"]) in (1, 2)
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path, capsys):
    assert train.main(["--pool", "x", "--tune", "x", "--out", str(tmp_path), "--device", "cuda"]) == 2
    assert "--device cuda" in capsys.readouterr().err


@pytest.mark.parametrize("capable", [True, False])
def test_bfloat16_is_used_on_a_cpu_that_has_it_and_only_there(pool, tmp_path, monkeypatch, capable):
    """Where it is emulated a step takes ten times as long."""
    told = {"avx512_bf16": capable, "avx2": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    trainer = Trainer(tmp_path, pool, pool, PLAN)
    seen = []
    trainer.net.spatial.down1.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    trainer.step(trainer.draws[0])
    assert seen == [torch.bfloat16 if capable else torch.float32]
