"""Promise of every runtime: the same events as PyTorch float32. On the shipped clip, whose faces are found once."""

from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.parity import Watched, agreement, ends_of, watch
from engine import build
from engine.datasets.truth import load_truth
from engine.model import Model, load_model
from engine.precision import PRECISIONS
from engine.ranges import observe_ranges
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.torch_cuda import torch_runtime
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate
from stream.types import Event

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),  # about 12 s of processor time, more by the wall of a busy machine
]
DEMO = Path(__file__).parent.parent / "stream" / "demo"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


@pytest.fixture(scope="module")
def clip(model: Model) -> Watched:
    (truth,) = load_truth(DEMO / "truth.json")
    return watch(DEMO / truth.file, model, Landmarker(locate(None)), truth)


@pytest.fixture(scope="module")
def reference(model: Model, clip: Watched) -> list[Event]:
    torch.set_num_threads(1)  # as onnxruntime here; more only wait for each other where cores are few
    return ends_of(clip, torch_runtime(model, 1, "cpu"), model)


@pytest.fixture(scope="module")
def graphs(model: Model, clip: Watched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ONNX graphs per precision; INT8 ranges observed on the clip's crops."""
    out, ranges = tmp_path_factory.mktemp("graphs"), observe_ranges(model, clip.stretches)
    for precision in PRECISIONS:
        build.write_onnx(model, precision, out / precision, ranges)
    return out


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_says_the_same(
    model: Model, clip: Watched, reference: list[Event], graphs: Path, precision: str
) -> None:
    """FP32: identical intervals. FP16 and INT8: F1 within 0.01, which on few MEs means the same ones found."""
    against_reference = partial(agreement, [clip], wanted=[reference])
    best = against_reference([reference])
    assert best.f1 > 0.5, "a clip on which nothing is found compares nothing"
    ends = ends_of(clip, OnnxRuntime(model, 1, directory=graphs / precision), model)
    got = against_reference([ends])
    assert got.f1 == pytest.approx(best.f1, abs=0.01)
    if precision == "fp32":
        assert (got.ends, got.identical) == (best.ends, best.ends)
        assert got.apart_frames < 0.02
        assert [event.score for event in ends] == pytest.approx([event.score for event in reference], abs=1e-3)


def test_an_event_that_moves_is_noticed(model: Model, clip: Watched, reference: list[Event]) -> None:
    """What the test above rests on: what is scored without the clip's first 6 s differs."""
    late = Watched(clip.name, clip.hops[45:], clip.fps, clip.truths)
    got = agreement([clip], [ends_of(late, OnnxRuntime(model, 1), model)], [reference])
    assert got.ends < len(reference)
    assert got.f1 < agreement([clip], [reference], [reference]).f1
