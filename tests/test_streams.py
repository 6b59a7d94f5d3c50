"""Regional streams: what each sees and is asked for, how they join, and that the live path may run them."""

import dataclasses

import numpy as np
import pytest
import torch

from engine.decode import decode
from engine.export import load_network
from engine.mesnet import MESNet
from engine.model import load_model
from engine.runtimes.onnx import OnnxRuntime
from engine.scorer import Scorer, score_afresh
from engine.spec import REGIONS, STREAMS, ModelSpec
from engine.streams import CUTS
from engine.training.learn.loss import total_loss
from engine.training.learn.relative import MIRROR, WINDOWS, per_stream, seen_by
from engine.training.learn.trainer import anchors_of
from engine.training.pools.truth import ABSENT, BLINK, HEAD, MICRO, SPEECH

SPEC = ModelSpec.regional()
LAGS, NAMES = len(SPEC.lags), list(STREAMS)
UPPER, LOWER = slice(0, 6), slice(10, 16)  # rows of the motion grid: brows, mouth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from conftest import make_model

    return make_model(tmp_path_factory.mktemp("regional"), dataclasses.replace(SPEC.live(), clip_frames=32))


@pytest.fixture(scope="module")
def net(model):
    return load_network(model)


def grids(seed=0):
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5 * LAGS, 16, 16, generator=chance), torch.randn(3, 6 * LAGS, generator=chance)


@torch.no_grad()
def test_a_mouth_that_moves_leaves_the_brows_streams_alone(net):
    """The brows' features stay to the bit, the mouth's and the context's change: a talking mouth hides no brow."""
    local, affine = grids()
    moved = local.clone()
    moved[:, :, LOWER] += 3
    before, after = (net.spatial(x, affine).reshape(3, len(NAMES) + 1, -1) for x in (local, moved))
    changed = [not torch.equal(before[:, k], after[:, k]) for k in range(len(NAMES) + 1)]
    assert changed == [not name.startswith("brows") for name in NAMES] + [True]


@torch.no_grad()
def test_proposals_are_a_streams_own_and_classes_know_the_whole_face(net):
    """What changes in the mouth's feature moves no brow's proposal, but what the brow's candidates are taken for."""
    spec = net.spec
    feats = torch.randn(1, spec.clip_frames, spec.channels, generator=torch.Generator().manual_seed(3))
    spoken, width = feats.clone(), spec.stream_channels
    mouth = NAMES.index("mouth_l")
    spoken[..., mouth * width : (mouth + 1) * width] += 2
    valid = torch.ones(1, spec.clip_frames)
    quiet, loud = (net.raw_heads(f, valid) for f in (feats, spoken))
    for k, name in enumerate(NAMES):
        assert torch.equal(quiet.objectness[k], loud.objectness[k]) == (k != mouth), name
        assert not torch.equal(quiet.classes[k], loud.classes[k]), name


def test_the_live_path_runs_streams_as_exactly_as_one_network(model, moving_crops):
    """Crops in any portions: what is cached gives what the whole clip gives afresh, in ONNX Runtime."""
    runtime = OnnxRuntime(model, 2)
    scorer = Scorer(runtime, model.spec)
    crops = moving_crops(75, model.spec.crop_px, 1)
    taken = 0
    for n in (1, 7, 0, 4, 33, 11, 19):
        heads = scorer.heads({"face": crops[taken : taken + n]})
        taken += n
    assert heads["face"].shape == (model.spec.proposals, 13)
    np.testing.assert_allclose(heads["face"], score_afresh(runtime, model.spec, crops[:taken]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_overlapping_streams_join_into_one_interval_that_says_where_it_was_seen(net):
    """Both brows see one movement: one proposal is left, and its regions are the streams' evidence."""
    spec = net.spec
    feats, valid = torch.zeros(1, spec.clip_frames, spec.channels), torch.ones(1, spec.clip_frames)
    raw = net.raw_heads(feats, valid)
    logits = torch.full_like(raw.objectness, -9.0)
    classes = torch.zeros_like(raw.classes)
    at = raw.objectness.shape[1] // 2
    times = raw.times.clone()
    for k in (0, 1):
        logits[k, at], classes[k, at, MICRO] = 9.0, 9.0
        times[k, at] = torch.tensor([10.0 + k, 15.0, 22.0])
    with_them = raw._replace(objectness=logits, classes=classes, times=times)
    net.raw_heads = lambda *_: with_them
    try:
        heads = net.heads(feats, valid)[0].numpy()
    finally:
        del net.raw_heads
    np.testing.assert_allclose(heads[:, 3:9].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(heads[:, 9:].sum(axis=1), 1, rtol=1e-5)
    (found,) = decode(heads, spec.clip_frames)
    assert found.regions[REGIONS.index("brows")] > 0.99
    assert (found.start_frame, found.end_frame) in {(10.0 - 31, 22.0 - 31), (11.0 - 31, 22.0 - 31)}


def test_a_model_from_before_there_were_shapes_is_whole(model, tmp_path):
    """Its description lacks the word and still loads; its network is today's shape."""
    assert load_model(model.directory).spec.shape == "regional"
    assert load_model().spec == ModelSpec().live()
    assert not hasattr(MESNet(load_model().spec), "shown")


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"shape": "round"}, "not one of whole, regional"), ({"channels": 96}, "multiple of 7"), ({"crop_px": 64}, "128")],
)
def test_a_shape_that_can_not_be_is_refused(changed, why):
    with pytest.raises(ValueError, match=why):
        dataclasses.replace(SPEC, **changed)


def rows_of(*rows):
    truth = np.zeros((1, 6, 9), np.float32)
    truth[..., 0], truth[..., 1:4] = ABSENT, -1e3
    for k, (kind, onset, offset, shares) in enumerate(rows):
        truth[0, k] = [kind, onset, (onset + offset) / 2, offset, 1, *shares]
    return truth


def test_speech_is_the_mouths_a_blink_the_eyes_and_a_turn_everybodys():
    nothing = (0, 0, 0, 0)
    rows = rows_of(
        (SPEECH, 0, 60, nothing), (BLINK, 5, 15, nothing), (HEAD, 0, 20, nothing), (MICRO, 30, 42, (1, 0, 0, 0))
    )
    seen = torch.as_tensor(seen_by(rows[0]))[None]
    truth, valid = per_stream(torch.as_tensor(rows), seen, torch.ones(1, SPEC.clip_frames))
    assert valid.shape == (len(NAMES), SPEC.clip_frames)
    asked = {name: {int(k) for k in truth[i, :, 0] if k != ABSENT} for i, name in enumerate(NAMES)}
    assert asked["brows_r"] == asked["brows_l"] == {HEAD, MICRO}
    assert asked["eyes"] == {BLINK, HEAD}
    assert asked["cheeks"] == asked["mouth_l"] == asked["mouth_r"] == {SPEECH, HEAD}


def test_what_a_stream_sees_a_part_of_is_neither_asked_for_nor_wrong_to_find():
    """Objectness at the movement: its loss pulls up where the stream sees it all, not at all where it sees some."""
    rows = torch.as_tensor(rows_of((MICRO, 30, 42, (1, 0, 0, 0))))
    seen = torch.ones(1, 6, len(NAMES))
    seen[0, 0] = torch.tensor([1.0, 0.4, 0.1, 0, 0, 0])
    truth, valid = per_stream(rows, seen, torch.ones(1, SPEC.clip_frames))
    anchors = anchors_of(SPEC)
    n, p = len(NAMES), len(anchors)
    clips = anchors.expand(n, p, 2).clone()
    objectness = torch.zeros(n, p, requires_grad=True)
    raw = MESNet(SPEC).raw_heads(torch.zeros(1, SPEC.clip_frames, SPEC.channels), torch.ones(1, SPEC.clip_frames))
    raw = raw._replace(objectness=objectness, clips=clips)
    total_loss(raw, truth, valid, anchors)["cpn"].backward()
    best = int(((anchors[:, 0] - 30).abs() + (anchors[:, 1] - 42).abs()).argmin())
    mine, some, none = (float(objectness.grad[k, best]) for k in range(3))
    assert mine < 0
    assert some == 0
    assert none > 0


def test_left_and_right_change_sides_in_a_mirror():
    """A stream's window, mirrored, is the window of the stream on the other side; so is its cut, to within a cell."""
    for name, other in zip(NAMES, (NAMES[k] for k in MIRROR), strict=True):
        rows, columns = WINDOWS[name]
        assert WINDOWS[other] == (rows, slice(16 - columns.stop, 16 - columns.start))
        (top, here), (same, there) = CUTS[name], CUTS[other]
        assert top == same
        assert abs(8 - here.stop - there.start) <= 1
        assert here.stop - here.start == there.stop - there.start
