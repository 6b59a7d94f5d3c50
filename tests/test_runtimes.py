"""Promises of engine.runtimes: the same call, the same numbers, an honest survey, and no graph of other weights."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine import build, runtimes
from engine.decode import decode
from engine.errors import EngineError
from engine.flavour import gpu_capability
from engine.model import Model, save_graph_hashes
from engine.precision import to_half
from engine.ranges import observe_ranges
from engine.rings import with_lags
from engine.runtimes.onnx import OnnxRuntime
from engine.runtimes.torch_cuda import BATCHES, PART, batches, torch_runtime
from engine.scorer import Scorer, score_afresh


@pytest.mark.slow
def test_onnx_equals_torch_in_float32(full_model: Model, moving_crops) -> None:
    """Parity in the network's real size, on both halves and on what is decoded."""
    spec = full_model.spec
    reference, runtime = torch_runtime(full_model, 1, "cpu"), OnnxRuntime(full_model, 1)
    crops = moving_crops(spec.clip_frames + 12, spec.crop_px, 3)
    stacks = with_lags(crops, spec.lags)
    features = reference.features(stacks[:16])
    np.testing.assert_allclose(runtime.features(stacks[:16]), features, rtol=1e-4, atol=1e-4 * np.abs(features).max())
    want, got = (score_afresh(r, spec, crops) for r in (reference, runtime))
    np.testing.assert_allclose(got[:, :3], want[:, :3], atol=1e-2)  # frames
    np.testing.assert_allclose(got[:, 3:], want[:, 3:], atol=1e-4)  # probabilities
    assert len(decode(got, spec.clip_frames, 0.02)) == len(decode(want, spec.clip_frames, 0.02))


@pytest.mark.slow
def test_fp16_and_int8_stay_near_float32(full_model: Model, moving_crops, tmp_path: Path) -> None:
    """Probabilities of the converted graphs, run for real by onnxruntime, with ranges measured on the same crops."""
    spec = full_model.spec
    crops = moving_crops(spec.clip_frames + 12, spec.crop_px, 4)
    reference = OnnxRuntime(full_model, 1)
    want = score_afresh(reference, spec, crops)
    ranges = observe_ranges(full_model, [crops])
    for precision, tolerance in (("fp16", 0.02), ("int8", 0.15)):
        build.write_onnx(full_model, precision, tmp_path / precision, ranges)
        got = score_afresh(OnnxRuntime(full_model, 1, directory=tmp_path / precision), spec, crops)
        error = np.abs(got[:, 3:] - want[:, 3:]).max()
        assert 0 < error < tolerance, precision


def test_fp16_leaves_the_motion_stem_in_float32(full_model: Model) -> None:
    graph = to_half(onnx.load(full_model.onnx("2d")))
    half = {i.name for i in graph.graph.initializer if i.data_type == onnx.TensorProto.FLOAT16}
    convolutions = {n.name: n.input[1] in half for n in graph.graph.node if n.op_type == "Conv"}
    assert {name.split("/")[0].split(".")[0]: is_half for name, is_half in convolutions.items()} == {
        "stem": False,
        "spatial": True,
    }
    assert {o.type.tensor_type.elem_type for o in graph.graph.output} == {onnx.TensorProto.FLOAT}


def test_graphs_of_other_weights_are_refused(tiny_model: Model) -> None:
    other = dataclasses.replace(tiny_model, sha256="f" * 64)
    with pytest.raises(EngineError, match=r"not ffffffffffff; run: mestream build --runtime onnx --model"):
        OnnxRuntime(other, 1)


def test_graphs_of_other_anchors_are_refused(tiny_model: Model) -> None:
    """The same weights, so the hash can't tell."""
    made, spec = tiny_model.spec.proposals, dataclasses.replace(tiny_model.spec, oldest_centre=8)
    with pytest.raises(EngineError, match=f"makes {made} proposals, mesnet.json expects {spec.proposals}; run: mes"):
        OnnxRuntime(dataclasses.replace(tiny_model, spec=spec), 1)


def test_missing_and_broken_graphs_are_one_line(tiny_model: Model, tmp_path: Path) -> None:
    home = Path(shutil.copytree(tiny_model.directory, tmp_path / "m"))
    model = dataclasses.replace(tiny_model, directory=home)
    (home / "mesnet_2d.onnx").write_bytes(b"not a graph")
    save_graph_hashes(home)
    with pytest.raises(EngineError, match=r"mesnet_2d.onnx can't be loaded .*; run: mestream build") as broken:
        OnnxRuntime(model, 1)
    assert "\n" not in str(broken.value)
    (home / "mesnet_2d.onnx").unlink()
    with pytest.raises(EngineError, match=r"mesnet_2d.onnx is missing; run: mestream build"):
        OnnxRuntime(model, 1)


def test_weights_that_do_not_belong_are_refused(tiny_model: Model, tmp_path: Path) -> None:
    home = Path(shutil.copytree(tiny_model.directory, tmp_path / "m"))
    (home / "mesnet.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(EngineError, match=r"mesnet\.json expects"):
        torch_runtime(dataclasses.replace(tiny_model, directory=home), 1, "cpu")


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "mesnet.json is missing"), ("{", "is not a model description"), ('{"sha256": "x"}', "lacks anchors")],
)
def test_no_model_is_one_line(tmp_path: Path, text: str | None, why: str) -> None:
    from engine.model import load_model

    if text is not None:
        (tmp_path / "mesnet.json").write_text(text)
    with pytest.raises(EngineError, match=why):
        load_model(tmp_path)


def test_the_survey_gives_a_reason_for_each(tiny_model: Model) -> None:
    found = runtimes.survey()
    assert [s.name for s in found] == ["tensorrt", "cuda", "onnx"]
    assert all(s.why for s in found)
    assert found[-1].ok
    best = next(s.name for s in found if s.ok)
    chosen = runtimes.select("auto", tiny_model, faces=2)
    assert chosen.faces == 2
    assert chosen.name == best or (best == "tensorrt" and chosen.name.startswith("tensorrt"))


def test_auto_passes_over_what_fails_and_says_so(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A survey can't know all: a GPU that TensorRT refuses shows only when the engine is built."""
    monkeypatch.setitem(runtimes._SURVEYS, "tensorrt", lambda: runtimes.Survey("tensorrt", True, "looks well"))
    monkeypatch.setitem(runtimes._SURVEYS, "cuda", lambda: runtimes.Survey("cuda", False, "none"))
    monkeypatch.setitem(runtimes._MAKERS, "tensorrt", refuse)
    assert runtimes.select("auto", tiny_model, faces=1).name == "onnx"
    assert "runtime tensorrt is passed over: no such GPU" in caplog.text


def refuse(model: Model, faces: int, device: str) -> runtimes.Runtime:
    raise EngineError("no such GPU")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_its_runtimes_say_so(tiny_model: Model) -> None:
    for name in ("cuda", "tensorrt"):
        with pytest.raises(EngineError, match=f"runtime {name} can't run here: .*; use --runtime auto"):
            runtimes.select(name, tiny_model)
    with pytest.raises(EngineError, match="runtime 'abacus' is not known; choose one of auto, tensorrt, cuda, onnx"):
        runtimes.select("abacus", tiny_model)


def test_batch_sizes_cover_any_number_of_faces() -> None:
    assert batches(1) == [1]
    assert batches(5) == [1, 8]
    assert batches(64) == [1, 8, 64]
    assert batches(10_000) == [*BATCHES, 20 * PART]


# On a GPU. The same rings and the same halves as above; what is new is capture, padding and the compiled engines.

GPU = ("cuda", "tensorrt")


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", GPU)
def test_gpu_equals_the_cpu(full_model: Model, moving_crops, name: str) -> None:
    """FP32 on the GPU, incrementally, with faces coming and going across batch sizes, against onnxruntime."""
    spec = full_model.spec
    runtime = gpu_runtime(full_model, name, 9, "fp32")
    cpu = OnnxRuntime(full_model, 9)
    gpu_scorer: Scorer[int] = Scorer(runtime, spec)
    cpu_scorer: Scorer[int] = Scorer(cpu, spec)
    crops = moving_crops(120, spec.crop_px, 6)
    for hop in range(24):
        faces = range(9) if hop % 3 == 0 else range(1 + hop % 2)
        if hop == 12:
            gpu_scorer.forget(0)
            cpu_scorer.forget(0)
        new = {face: crops[(hop * 4 + face) % 100 :][: 4 + hop % 3] for face in faces}
        want, got = cpu_scorer.heads(new), gpu_scorer.heads(new)
        for face in faces:
            np.testing.assert_allclose(got[face][:, :3], want[face][:, :3], atol=2e-2)
            np.testing.assert_allclose(got[face][:, 3:], want[face][:, 3:], atol=5e-4)


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", GPU)
def test_the_hot_loop_allocates_nothing(full_model: Model, moving_crops, name: str) -> None:
    """Device memory stands still, and so does the allocator, from the second hop on."""
    runtime = gpu_runtime(full_model, name, 8, "fp16")
    scorer: Scorer[int] = Scorer(runtime, full_model.spec)
    new = {face: moving_crops(4, full_model.spec.crop_px, face) for face in range(8)}
    scorer.heads(new)
    before = torch.cuda.memory_stats()["allocation.all.allocated"], torch.cuda.memory_allocated()
    for _ in range(20):
        scorer.heads(new)
    assert (torch.cuda.memory_stats()["allocation.all.allocated"], torch.cuda.memory_allocated()) == before


@pytest.mark.needs_cuda
@pytest.mark.parametrize("name", GPU)
def test_a_graph_writes_into_nobody_elses_memory(full_model: Model, moving_crops, name: str) -> None:
    """What is allocated after capture, in pieces of all sizes, stays as it was through hops of every batch size."""
    runtime = gpu_runtime(full_model, name, 64, "fp32")
    scorer: Scorer[int] = Scorer(runtime, full_model.spec)
    sizes = [1 << k for k in range(4, 26)] * 4
    others = [torch.full((size,), 7, dtype=torch.uint8, device="cuda") for size in sizes]
    for faces in (1, 8, 64):
        scorer.heads({face: moving_crops(4, full_model.spec.crop_px, face) for face in range(faces)})
    assert all(bool((other == 7).all()) for other in others)


@pytest.mark.needs_cuda
def test_more_faces_than_a_part(full_model: Model, moving_crops) -> None:
    runtime = torch_runtime(full_model, PART + 3, "cuda")
    scorer: Scorer[int] = Scorer(runtime, full_model.spec)
    crops = moving_crops(8, full_model.spec.crop_px, 1)
    heads = scorer.heads({face: crops[face % 4 :][:4] for face in range(PART + 3)})
    for face in (0, 1, PART - 1, PART, PART + 2):
        np.testing.assert_allclose(heads[face][:, 3:], heads[face % 4][:, 3:], atol=1e-4)


def gpu_runtime(model: Model, name: str, faces: int, precision: str) -> runtimes.Runtime:
    if name == "cuda":
        return torch_runtime(model, faces, "cuda", precision)
    from engine.runtimes.tensorrt import installed, tensorrt_runtime

    found, capability = installed(), gpu_capability() or ""
    try:
        return tensorrt_runtime(model, faces, "cuda", precision)
    except EngineError as error:
        if (
            capability
            and found.name == "tensorrt-rtx"
            and f"SM{capability.replace('.', '')}" not in dir(found.trt.ComputeCapability)
        ):
            pytest.skip(f"{found.name} {found.version} was not made for capability {capability}: {error}")
        raise
