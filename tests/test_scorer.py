"""Promise of engine.scorer: scoring incrementally equals scoring every clip afresh, whatever the faces go through."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.mesnet import MESNet
from engine.model import Model
from engine.rings import Step, with_lags
from engine.runtimes import Runtime
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.torch_cuda import torch_runtime
from engine.scorer import Scorer, score_afresh
from engine.spec import ModelSpec

FACES = 3
MAKERS: dict[str, Callable[[Model, int], Runtime]] = {
    "onnx": OnnxRuntime,
    "torch": lambda model, faces: torch_runtime(model, faces, "cpu"),
}


@pytest.fixture(params=MAKERS)
def runtime(request: pytest.FixtureRequest, tiny_model: Model) -> Runtime:
    return MAKERS[request.param](tiny_model, FACES)


# A life of all faces: per round, face -> number of its new crops, or None where a gap ends what was known of it.
rounds = st.lists(
    st.dictionaries(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 11)), max_size=4), min_size=1, max_size=12
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=rounds, seed=st.integers(0, 3))
def test_equals_scoring_afresh(runtime: Runtime, moving_crops, life: list[dict[int, int | None]], seed: int) -> None:
    """Any stride, any gaps, any faces coming and going: equal to 1e-5 in float32."""
    spec = runtime.spec
    stock = moving_crops(140, spec.crop_px, seed)
    scorer: Scorer[int] = Scorer(runtime, spec)
    since_gap: dict[int, list[np.ndarray]] = {}
    taken = 0
    for events in life:
        for face in [f for f, n in events.items() if n is None]:
            scorer.forget(face)
            since_gap.pop(face, None)
        new = {}
        for face, n in events.items():
            if n is None or (face not in since_gap and len(since_gap) == FACES):
                continue
            new[face] = stock[np.arange(taken, taken + n) % len(stock)]
            taken += n
            since_gap.setdefault(face, []).extend(new[face])
        heads = scorer.heads(new)
        assert list(heads) == list(new)
        for face, got in heads.items():
            if since_gap[face]:
                want = score_afresh(runtime, spec, np.stack(since_gap[face]))
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_afresh_is_what_the_network_itself_says(tiny_model: Model, moving_crops) -> None:
    """The yardstick of the test above, against MESNet called by hand on a young and on a full clip."""
    from engine.export import load_network

    net, spec = load_network(tiny_model), tiny_model.spec
    runtime = torch_runtime(tiny_model, 1, "cpu")
    for n in (1, 7, spec.clip_frames, spec.clip_frames + 9):
        crops = moving_crops(n, spec.crop_px, 5)
        stacks = np.stack([[crops[max(i - lag, 0)] for lag in (0, *spec.lags)] for i in range(n)])
        known = min(n, spec.clip_frames)
        with torch.no_grad():
            features = torch.zeros(1, spec.clip_frames, spec.channels)
            features[0, -known:] = net.features(torch.from_numpy(stacks))[-known:]
            valid = torch.zeros(1, spec.clip_frames)
            valid[0, -known:] = 1
            want = net.heads(features, valid)[0].numpy()
        np.testing.assert_allclose(score_afresh(runtime, spec, crops), want, rtol=1e-5, atol=1e-5)


def test_the_2d_half_sees_each_crop_once(tiny_model: Model, moving_crops) -> None:
    """What makes overlapping clips cheap: crops through the 2D half = crops given, however clips overlap."""

    class Counting(OnnxRuntime):
        seen = 0

        def features(self, crops: np.ndarray) -> np.ndarray:
            self.seen += len(crops)
            return super().features(crops)

    runtime = Counting(tiny_model, 2)
    scorer: Scorer[str] = Scorer(runtime, tiny_model.spec)
    crops = moving_crops(60, tiny_model.spec.crop_px, 1)
    for i in range(0, 60, 4):
        scorer.score({"a": crops[i : i + 4], "b": crops[i : i + 4]})
    assert runtime.seen == 120


def test_all_faces_of_a_hop_are_one_batch(tiny_model: Model, moving_crops) -> None:
    steps: list[Step] = []

    class Watched(OnnxRuntime):
        def step(self, step: Step) -> np.ndarray:
            steps.append(step)
            return super().step(step)

    scorer: Scorer[int] = Scorer(Watched(tiny_model, 3), tiny_model.spec)
    scorer.score({face: moving_crops(4, tiny_model.spec.crop_px, face) for face in range(3)})
    assert [(len(s.crops), len(s.clip_read)) for s in steps] == [(12, 3)]


def test_too_many_faces_is_one_line_and_harms_nobody(tiny_model: Model, moving_crops) -> None:
    runtime = OnnxRuntime(tiny_model, 1)
    scorer: Scorer[str] = Scorer(runtime, tiny_model.spec)
    crops = moving_crops(12, tiny_model.spec.crop_px, 2)
    scorer.score({"a": crops[:8]})
    with pytest.raises(EngineError, match="more than 1 faces at once; start with a higher --max-faces"):
        scorer.score({"a": crops[8:], "b": crops})
    got = scorer.heads({"a": crops[8:]})["a"]
    np.testing.assert_allclose(got, score_afresh(runtime, runtime.spec, crops), rtol=1e-5, atol=1e-5)
    scorer.forget("a")
    assert "b" in scorer.score({"b": crops})


def test_wrong_crops_are_named(tiny_model: Model) -> None:
    scorer: Scorer[str] = Scorer(OnnxRuntime(tiny_model, 1), tiny_model.spec)
    with pytest.raises(ValueError, match=r"crops of face a must be uint8\[n, 32, 32\], not float64\[2, 32, 32\]"):
        scorer.score({"a": np.zeros((2, 32, 32))})  # type: ignore[dict-item]


def test_the_oldest_crop_stands_in_for_missing_history() -> None:
    crops = np.arange(4, dtype=np.uint8)[:, None, None]
    assert with_lags(crops, (1, 3))[..., 0, 0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 0]]


@settings(max_examples=20, deadline=None)
@given(
    stride=st.sampled_from((1, 2)), coarser=st.sampled_from((1, 2, 4)), oldest=st.integers(0, 40), n=st.integers(1, 64)
)
def test_anchors_left_out_change_none_that_stay(stride: int, coarser: int, oldest: int, n: int) -> None:
    """Same weights, fewer anchors: what is proposed is a subset of what all anchors propose, row by row."""
    full = ModelSpec(channels=8, stride=stride)
    less = dataclasses.replace(full, stride=stride * coarser, oldest_centre=oldest)
    assert_subset(full, less, n)


def test_the_live_model_proposes_a_subset_of_the_trained_one() -> None:
    spec = ModelSpec()
    live = spec.live()
    assert (spec.proposals, live.proposals) == (128, 40)
    assert_subset(spec, live, 64)


def assert_subset(full: ModelSpec, less: ModelSpec, frames: int) -> None:
    """The rows of `less` are those of `full` at its centres, for a clip of so many frames and random weights."""
    torch.manual_seed(frames)
    whole, part = MESNet(full).eval(), MESNet(less).eval()
    part.load_state_dict(whole.state_dict())
    features, valid = torch.randn(2, full.clip_frames, full.channels), torch.ones(2, full.clip_frames)
    valid[:, : full.clip_frames - frames] = 0
    with torch.no_grad():
        want, got = whole.heads(features, valid), part.heads(features, valid)
    anchors = range(len(full.anchors))
    kept = [full.centres.index(centre) * len(anchors) + a for centre in less.centres for a in anchors]
    assert got.shape[1] == less.proposals == len(kept)
    torch.testing.assert_close(got, want[:, kept], rtol=1e-5, atol=1e-5)
