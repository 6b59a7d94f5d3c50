"""INT8: ranges of known distributions, fake quantisation as ONNX does it, and what stays in floating point."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from calibration import int8
from calibration.int8 import Histogram, choose, in_int8, layers_of
from engine.errors import EngineError
from engine.mesnet import MESNet
from engine.model import HALVES, Model
from engine.precision import quantised_inputs, to_int8
from engine.ranges import load_ranges
from engine.spec import ModelSpec

pytestmark = pytest.mark.slow

TINY = ModelSpec(name="t", clip_frames=16, crop_px=32, lags=(1, 2), channels=8, anchors=(5, 9))


def seen(values: np.ndarray, parts: int = 5) -> Histogram:
    histogram = Histogram()
    for part in np.array_split(values.astype(np.float32), parts):
        histogram.add(part)
    return histogram


def test_ranges_of_a_distribution_with_outliers():
    """Max takes the outlier, percentile and entropy clip it; neither clips the body."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 200_000), [80.0]])
    histogram = seen(values)
    assert int8.by_max(histogram) == pytest.approx(80)
    assert 3.5 < int8.by_percentile(histogram) < 5
    assert 2.5 < int8.by_entropy(histogram) < 20


def test_the_histogram_widens_without_losing_a_count():
    rng = np.random.default_rng(1)
    parts = [rng.uniform(0, top, 1000).astype(np.float32) for top in (0.1, 3.0, 50.0)]
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    assert int(histogram.counts.sum()) == 3000
    assert histogram.top >= histogram.largest == pytest.approx(max(float(p.max()) for p in parts))
    near = np.quantile(np.concatenate(parts), 0.5)
    share = histogram.counts[: int(near / histogram.top * int8.BINS) + 1].sum() / 3000
    assert share == pytest.approx(0.5, abs=0.02)


def test_what_never_fires_has_a_range_of_nothing():
    assert int8.by_max(seen(np.zeros(100))) == 0


def test_fake_quantisation_is_that_of_onnx():
    """Against QuantizeLinear and DequantizeLinear themselves, saturation and ties included."""
    x = np.concatenate([np.linspace(-3, 3, 1001), (np.arange(-5, 5) + 0.5) * 0.02]).astype(np.float32)
    scale = np.float32(0.02)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [float(scale)]),
        helper.make_tensor("zero", TensorProto.INT8, [], [0]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [len(x)]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(int8.quantised(torch.as_tensor(x), float(scale)).numpy(), session.run(None, {"x": x})[0])


def test_the_layers_are_those_that_the_engine_quantises(tiny_model: Model):
    names = {name for half in HALVES for name in quantised_inputs(onnx.load(tiny_model.onnx(half)))}
    assert set(layers_of(MESNet(tiny_model.spec))) == names


def test_inside_the_block_only():
    """Weights and results are back to the bit afterwards; inside they are not the same."""
    torch.manual_seed(0)
    net = MESNet(TINY).eval()
    crops = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    before = net.features(crops)
    with in_int8(net, dict.fromkeys(layers_of(net), 4.0)):
        inside = net.features(crops)
    assert not torch.equal(inside, before)
    assert torch.equal(net.features(crops), before)
    with in_int8(net, dict.fromkeys(layers_of(net), None)):
        assert torch.equal(net.features(crops), before)


def test_a_layer_that_costs_too_much_stays_in_floating_point():
    """F1 is scripted: one layer in INT8 costs 0.2, all others nothing. It alone is left out, and all is told."""
    net = MESNet(TINY)
    costly = "spatial.norm2/Conv"
    histograms = {name: seen(np.linspace(0, 1, 5000)) for name in layers_of(net)}
    weight = layers_of(net)[costly].weight.detach().clone()

    def f1() -> float:
        now = layers_of(net)[costly].weight
        return 0.8 if torch.equal(now, weight) else 0.6

    chosen = choose(net, histograms, f1)
    assert [name for name, value in chosen.ranges.items() if value is None] == [costly]
    assert (chosen.f1_float, chosen.f1_int8) == (0.8, 0.8)
    assert [what for what, _ in chosen.tried][:4] == ["float", "max", "percentile", "entropy"]
    rows = {row["layer"]: row for row in int8.rows(histograms, chosen)}
    assert rows[costly]["precision"] == "float"
    assert {row["precision"] for name, row in rows.items() if name != costly} == {"int8"}


def test_the_file_builds_a_graph_in_which_that_layer_is_not_quantised(tmp_path: Path, tiny_model: Model):
    """What the command writes is what the engine reads."""
    graph = onnx.load(tiny_model.onnx("2d"))
    left, *others = sorted(quantised_inputs(graph))
    path = tmp_path / "ranges.json"
    path.write_text(json.dumps({"kind": "int8_ranges", "ranges": {left: None, **dict.fromkeys(others, 3.0)}}))
    assert load_ranges(path, "any")[left] is None
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_sha256": "ab" * 32}))
    with pytest.raises(EngineError, match=r"other weights \(abababababab\)"):
        load_ranges(path, tiny_model.sha256)
    nodes = {node.name for node in to_int8(graph, load_ranges(path)).graph.node}
    assert f"{left}/Quantize" not in nodes
    assert all(f"{name}/Quantize" in nodes for name in others)
