"""What many tests share: models of known weights, and what a test that needs a GPU does without one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock
from hypothesis import settings
from onnx import numpy_helper

from engine.export import save_model
from engine.mesnet import MESNet
from engine.model import DEFAULT_DIRECTORY, Model, load_model, save_graph_hashes
from engine.spec import ModelSpec

if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores: more threads would only wait for each other
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the programs that tests start

# no example fails for being slow; found anew on every machine, the same on CI: a change is judged by what
# it changed, not by a die
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU, `needs_cuda` tests are skipped; with FAIL_WITHOUT_CUDA=1 they run, and so fail."""
    if torch.cuda.is_available() or os.environ.get("FAIL_WITHOUT_CUDA") == "1":
        return
    for item in items:
        if item.get_closest_marker("needs_cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU (FAIL_WITHOUT_CUDA=1 makes this a failure)"))


def make_model(directory: Path, spec: ModelSpec, seed: int = 0) -> Model:
    """A model on disk, exported, whose every weight and statistic is random: nothing cancels, nothing is skipped."""
    generator = torch.Generator().manual_seed(seed)
    net = MESNet(spec)
    state = net.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            fan_in = max(1, int(np.prod(value.shape[1:])))
            value.normal_(0, fan_in**-0.5 if value.ndim > 1 else 0.3, generator=generator)
    return save_model(net, directory)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same network with everything small, for tests that run it very often. Exported once for all workers."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny"
    spec = ModelSpec(
        name="tiny", clip_frames=16, hop_frames=4, crop_px=32, lags=(1, 2, 4), channels=8, stride=2, anchors=(5, 9)
    )
    with FileLock(home.with_suffix(".lock")):
        return load_model(home) if home.exists() else make_model(home, spec)


@pytest.fixture(scope="session")
def full_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The network in its real size: the shipped model; where none is shipped yet, an untrained one."""
    if (DEFAULT_DIRECTORY / "mesnet.json").exists():
        return load_model()
    return make_model(tmp_path_factory.mktemp("full"), ModelSpec())


@pytest.fixture(scope="session")
def eager_model(full_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """`full_model`, made to take about anything for a micro-expression: events to test the rest of the program with.

    The exported graph is changed, not the network: exporting it anew would take longer than the tests.
    """
    directory = tmp_path_factory.mktemp("eager")
    shutil.copytree(full_model.directory, directory, dirs_exist_ok=True)
    (directory / "operating_point.json").unlink(missing_ok=True)  # what was measured is no longer true of it
    graph = onnx.load(full_model.onnx("1d"))
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    made_by = {name: node for node in graph.graph.node for name in node.output}
    (classify,) = (node for node in graph.graph.node if "net.crn.classify.bias" in node.input)
    classes = next(name for name in classify.input if name in made_by)
    weight = next(name for name in made_by[classes].input if name in tensors)
    believed = {"net.crn.classify.bias": np.eye(1, 6)[0] * 2.5, "net.cpn.conv.bias": np.repeat([3, 0, 0], 4)}
    # what was learnt (or drawn) only flavours what is believed
    faint = {name: 0.1 * numpy_helper.to_array(tensors[name]) for name in (weight, "net.cpn.conv.weight")}
    for name, value in {**believed, **faint}.items():
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(graph, directory / "mesnet_1d.onnx")
    save_graph_hashes(directory)
    return load_model(directory)


@pytest.fixture(scope="session")
def moving_crops() -> Callable[[int, int, int], np.ndarray]:
    """(frames, side in px, seed) -> uint8[n, S, S]: a smooth texture that drifts, with sensor noise: real motion."""

    def make(frames: int, side: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:side, :side] / side * 2 * np.pi
        at = np.cumsum(rng.normal(0, 0.02, (frames, 2)), axis=0)
        waves = [(rng.uniform(1, side / 12, 2), rng.uniform(0, 6.28)) for _ in range(8)]
        images = [sum(np.sin(k[0] * (x + dx) + k[1] * (y + dy) + p) for k, p in waves) for dx, dy in at]
        return np.clip(128 + 20 * np.stack(images) + rng.normal(0, 2, (frames, side, side)), 0, 255).astype(np.uint8)

    return make
