"""Exports weights as the two ONNX graphs, in float32. `engine.precision` derives the other precisions from these."""

import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from engine.errors import EngineError
from engine.mesnet import MESNet
from engine.model import HALVES, Model, check_weights, save_description, save_graph_hashes
from engine.spec import ModelSpec

OPSET = 20
"""onnxruntime 1.17, OpenVINO 2024, TensorRT 10 and later versions support it."""
INPUTS = {"2d": ("crops",), "1d": ("features", "valid")}
OUTPUT = {"2d": "features", "1d": "proposals"}


class _Part(nn.Module):
    """One half of the network as its own module, since torch.export calls `forward`."""

    def __init__(self, net: MESNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, first: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.net.features(first) if valid is None else self.net.heads(first, valid)


def load_network(model: Model) -> MESNet:
    """The network with its weights, in eval mode. Raises EngineError when the weights do not match `mesnet.json`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_weights(model)
    net = MESNet(model.spec)
    try:
        net.load_state_dict(load_file(model.weights))
    except (RuntimeError, SafetensorError) as error:  # torch lists the mismatches
        why = " ".join(str(error).split())[:200]
        raise EngineError(f"{model.weights} does not fit mesnet.json: {why}") from None
    return net.eval()


def save_model(net: MESNet, directory: Path) -> Model:
    """Writes a complete model directory (see `engine.model`): weights, description, graphs."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, directory / "mesnet.safetensors")
    model = save_description(directory, net.spec)
    export(load_network(model), directory, model.sha256)
    return model


def export(net: MESNet, directory: Path, sha256: str, halves: Iterable[str] = HALVES) -> dict[str, Path]:
    """Writes `mesnet_2d.onnx` and `mesnet_1d.onnx`, and a file with their hashes. The batch size is free, all else is
    fixed. The graphs carry the hash of the weights."""
    directory.mkdir(parents=True, exist_ok=True)
    made = {half: _export_half(net, half, directory / f"mesnet_{half}.onnx", sha256) for half in halves}
    save_graph_hashes(directory, made)
    return made


def _export_half(net: MESNet, half: str, path: Path, sha256: str) -> Path:
    spec = net.spec
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    inputs = _example(spec, half)
    # These warnings (torchvision is missing, tree specs will change) leave the user nothing to do.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Part(net).eval(),
            inputs,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(INPUTS[half]),
            output_names=[OUTPUT[half]],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
        )
        assert program is not None  # only the old exporter returns nothing
        program.save(Path(scratch) / "graph.onnx", external_data=False)
        proto = onnx.load(Path(scratch) / "graph.onnx")
    _tidy(proto)
    mark(proto, weights_sha256=sha256, precision="fp32", model=spec.name)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def _example(spec: ModelSpec, half: str) -> tuple[Tensor, ...]:
    if half == "2d":
        return (torch.zeros(2, 1 + len(spec.lags), spec.crop_px, spec.crop_px, dtype=torch.uint8),)
    return torch.zeros(2, spec.clip_frames, spec.channels), torch.ones(2, spec.clip_frames)


def _tidy(proto: onnx.ModelProto) -> None:
    """Names each node after its module (`spatial.down1/Conv`) and drops traces. Ranges and tests use these names."""
    taken: dict[str, int] = {}
    for node in proto.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        inside = [s for s in scopes.strip("[]").replace("'", "").split(", ")[:-1] if s.startswith("net.")]
        stem = f"{inside[-1].removeprefix('net.') if inside else 'net'}/{node.op_type}"
        taken[stem] = taken.get(stem, 0) + 1
        node.name = stem if taken[stem] == 1 else f"{stem}_{taken[stem]}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info, *proto.graph.initializer):
        del value.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]  # stale after precision edits; every reader infers shapes itself


def mark(proto: onnx.ModelProto, **metadata: str) -> None:
    """Set entries of the graph's metadata."""
    kept = {p.key: p.value for p in proto.metadata_props} | metadata
    onnx.helper.set_model_props(proto, kept)
