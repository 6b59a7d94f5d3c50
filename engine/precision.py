"""Precision is a property of the ONNX graph: TensorRT builds strongly typed networks, so nothing else decides it.

fp16: the learnt layers (convolutions, matrix products and what joins them) are float16. The motion stem stays float32,
since its least squares would lose small differences. All box arithmetic and probabilities stay float32 too.

int8: the learnt convolutions stand between explicit QuantizeLinear/DequantizeLinear pairs. Activations have one scale
per tensor, from the ranges that calibration measured. Weights have one scale per output channel. All scales are
symmetric, as TensorRT requires.
"""

import copy
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engine.errors import EngineError
from engine.sidecar import PRECISIONS

_LEARNT = ("spatial", "temporal", "cpn", "crn")
_HEAVY = ("Conv", "Gemm", "MatMul", "BatchNormalization")
_JOINS = ("Relu", "Add")


def convert(graph: ModelProto, precision: str, ranges: Mapping[str, float | None] | None = None) -> ModelProto:
    """Converts a float32 graph of `engine.export` to another precision. `ranges` is as in `to_int8`. Raises
    EngineError."""
    if precision == "fp32":
        return graph
    if precision == "fp16":
        return to_half(graph)
    if precision == "int8":
        return to_int8(graph, ranges or {})
    raise EngineError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")


def to_half(graph: ModelProto) -> ModelProto:
    """Learnt layers in float16, with casts where a value enters or leaves them."""
    out = copy.deepcopy(graph)
    weights = {i.name: i for i in out.graph.initializer}
    half_nodes = _half_nodes(out, set(weights))
    half_values = {name for node in out.graph.node if node.name in half_nodes for name in node.output}
    shared = {name for node in out.graph.node if node.name not in half_nodes for name in node.input} & weights.keys()
    nodes: list[NodeProto] = []
    cast_to_half: dict[str, str] = {}
    cast_to_float: dict[str, str] = {}
    for node in out.graph.node:
        inside = node.name in half_nodes
        for i, name in enumerate(node.input):
            if inside and name in weights:
                node.input[i] = _half_weight(out, weights[name], name in shared)
            elif inside and name and name not in half_values:
                node.input[i] = _cast(nodes, cast_to_half, name, TensorProto.FLOAT16)
            elif not inside and name in half_values:
                node.input[i] = _cast(nodes, cast_to_float, name, TensorProto.FLOAT)
        nodes.append(node)
    for output in out.graph.output:
        if output.name in half_values:
            _return_as_float(nodes, output.name)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return _marked(out, "fp16")


def _half_nodes(graph: ModelProto, weights: set[str]) -> set[str]:
    """Names of the learnt layers, and of the ReLUs and sums that take only learnt results and weights as input."""
    half: set[str] = set()
    values: set[str] = set()
    for node in graph.graph.node:
        learnt = node.name.startswith(_LEARNT)
        joins = node.op_type in _JOINS and set(node.input) <= values | weights and not values.isdisjoint(node.input)
        if learnt and (node.op_type in _HEAVY or joins):
            half.add(node.name)
            values.update(node.output)
    return half


def _half_weight(graph: ModelProto, weight: TensorProto, keep: bool) -> str:
    name = f"{weight.name}.half" if keep else weight.name
    if weight.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(weight)
        if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise EngineError(
                f"weight {weight.name} reaches {np.abs(array).max():.3g}, beyond float16; use --precision fp32"
            )
        half = numpy_helper.from_array(array.astype(np.float16), name)
        if not keep:
            weight.CopyFrom(half)
        elif name not in {i.name for i in graph.graph.initializer}:
            graph.graph.initializer.append(half)
    return name


def _cast(nodes: list[NodeProto], done: dict[str, str], name: str, to: int) -> str:
    if name not in done:
        done[name] = f"{name}.{'half' if to == TensorProto.FLOAT16 else 'float'}"
        nodes.append(helper.make_node("Cast", [name], [done[name]], name=f"{done[name]}/Cast", to=to))
    return done[name]


def _return_as_float(nodes: list[NodeProto], output: str) -> None:
    """Keeps outputs float32 under their own name, so that every precision has the same interface."""
    inner = f"{output}.half"
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == output:
                    names[i] = inner
    nodes.append(helper.make_node("Cast", [inner], [output], name=f"{output}/Cast", to=TensorProto.FLOAT))


def quantised_inputs(graph: ModelProto) -> dict[str, str]:
    """Node name -> name of its input activation, for every layer that int8 quantises. Calibration measures these."""
    weights = {i.name for i in graph.graph.initializer}
    return {
        node.name: node.input[0]
        for node in graph.graph.node
        if node.op_type == "Conv" and node.name.startswith(_LEARNT) and node.input[1] in weights
    }


def to_int8(graph: ModelProto, ranges: Mapping[str, float | None]) -> ModelProto:
    """Learnt convolutions in int8. `ranges`: node name (see `quantised_inputs`) -> largest |activation| of its input.

    A layer with range None stays in floating point. Raises EngineError when a range is missing, not finite or not
    positive.
    """
    out = copy.deepcopy(graph)
    weights = {i.name: i for i in out.graph.initializer}
    limits = {name: ranges.get(name, 0.0) for name in quantised_inputs(out)}
    wanted = {name: limit for name, limit in limits.items() if limit is not None}
    if missing := sorted(name for name, limit in wanted.items() if not 0 < limit < np.inf):
        raise EngineError(
            f"no INT8 range for {missing[0]} ({len(missing)} layers lack one); run: mestream calibrate int8"
        )
    nodes: list[NodeProto] = []
    for node in out.graph.node:
        if node.name in wanted:
            scale = np.float32(wanted[node.name] / 127)
            node.input[0] = _quantised_activation(out, nodes, node, scale)
            node.input[1] = _quantised_weight(out, nodes, weights[node.input[1]])
        nodes.append(node)
    del out.graph.node[:]
    out.graph.node.extend(nodes)
    return _marked(out, "int8")


def _quantised_activation(graph: ModelProto, nodes: list[NodeProto], node: NodeProto, scale: np.float32) -> str:
    name = node.name
    constants = [f"{name}.scale", f"{name}.zero"]
    graph.graph.initializer.append(numpy_helper.from_array(np.array(scale), constants[0]))
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), constants[1]))
    nodes.append(
        helper.make_node("QuantizeLinear", [node.input[0], *constants], [f"{name}.q"], name=f"{name}/Quantize")
    )
    nodes.append(
        helper.make_node("DequantizeLinear", [f"{name}.q", *constants], [f"{name}.dq"], name=f"{name}/Dequantize")
    )
    return f"{name}.dq"


def _quantised_weight(graph: ModelProto, nodes: list[NodeProto], weight: TensorProto) -> str:
    """int8[K, ...] with one scale per output channel K, which replaces the float weight."""
    array, name = numpy_helper.to_array(weight), weight.name
    largest = np.abs(array).reshape(len(array), -1).max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)  # any scale suits a dead channel
    codes = np.rint(array / scale.reshape(-1, *[1] * (array.ndim - 1))).clip(-127, 127).astype(np.int8)
    weight.CopyFrom(numpy_helper.from_array(codes, name))
    constants = [f"{name}.scale", f"{name}.zero"]
    graph.graph.initializer.append(numpy_helper.from_array(scale, constants[0]))
    graph.graph.initializer.append(numpy_helper.from_array(np.zeros(len(scale), np.int8), constants[1]))
    nodes.append(
        helper.make_node("DequantizeLinear", [name, *constants], [f"{name}.dq"], name=f"{name}/Dequantize", axis=0)
    )
    return f"{name}.dq"


def _marked(graph: ModelProto, precision: str) -> ModelProto:
    kept = {p.key: p.value for p in graph.metadata_props} | {"precision": precision}
    helper.set_model_props(graph, kept)
    onnx.checker.check_model(graph)
    return graph
