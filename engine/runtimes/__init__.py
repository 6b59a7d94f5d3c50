"""Runtimes of the network: one small class per runtime with a common interface, and the rule that chooses one.

A runtime's library is imported only when it is used. A program that scores on the CPU needs neither torch nor CUDA.
"""

import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.extras import pip_install
from engine.flavour import flavour
from engine.model import Model, load_model
from engine.rings import Step
from engine.spec import ModelSpec

DEFAULT_FACES = 16
log = logging.getLogger("engine")


class Runtime(Protocol):
    """The network's two halves and the rings of `faces` faces, on any device. Call it from one thread.

    `step` does all the work of a hop and returns float32[N, P, HEAD_FIELDS]. `features` and `heads` are the bare halves
    without rings (shapes in `engine.model.HALVES`), for parity checks and measurements.
    """

    name: str
    spec: ModelSpec
    faces: int

    def step(self, step: Step) -> NDArray[np.float32]:
        """Stores the step's crops, runs the 2D half on them and the 1D half on the step's clips."""

    def features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8[M, 1 + L, S, S] -> float32[M, C]."""

    def heads(self, features: NDArray[np.float32], valid: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, T, C] and float32[N, T] -> float32[N, P, HEAD_FIELDS]."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Whether a runtime would run here, with the reason in words."""

    name: str
    ok: bool
    why: str


def select(
    name: str = "auto", model: Model | None = None, *, faces: int = DEFAULT_FACES, device: str = "cuda"
) -> Runtime:
    """The runtime `name` (one of NAMES) for up to `faces` faces at once. `auto` takes the first that runs here. When
    one should run but fails, `auto` warns and tries the next.

    `device` is torch's name for it (`cuda`, `cuda:1`); the CPU runtime has none. Raises EngineError when the named
    runtime can't run here, or when something is wrong with the model.
    """
    if name not in NAMES:
        raise EngineError(f"runtime {name!r} is not known; choose one of {', '.join(NAMES)}")
    model = model or load_model()
    if name != "auto":
        if not (found := _SURVEYS[name]()).ok:
            raise EngineError(f"runtime {name} can't run here: {found.why}; use --runtime auto")
        return _MAKERS[name](model, faces, device)
    for found in survey():
        try:
            if found.ok:
                return _MAKERS[found.name](model, faces, device)
        except EngineError as error:
            if found.name == "onnx":
                raise
            log.warning("runtime %s is passed over: %s", found.name, error)
    raise AssertionError("onnxruntime is a dependency: its survey is always ok")


def survey() -> list[Survey]:
    """Every runtime in the order in which `auto` tries them. It is cheap: nothing is built or loaded onto a GPU."""
    return [look() for look in _SURVEYS.values()]


def _survey_tensorrt() -> Survey:
    found = flavour("tensorrt") or flavour("tensorrt-rtx")
    if found is None:
        return Survey(
            "tensorrt", False, f"neither tensorrt nor tensorrt-rtx is installed ({pip_install('tensorrt-rtx')})"
        )
    cuda = _survey_cuda()
    return Survey("tensorrt", cuda.ok, f"{found.name} {found.version}; {cuda.why}")


def _survey_cuda() -> Survey:
    if importlib.util.find_spec("torch") is None:
        return Survey("cuda", False, f"torch is not installed ({pip_install('train')})")
    import torch

    if not torch.cuda.is_available():
        why = "no CUDA GPU or driver" if torch.version.cuda else "this torch is built without CUDA"
        return Survey("cuda", False, f"torch {torch.__version__}: {why}")
    capability = "{}.{}".format(*torch.cuda.get_device_capability())
    return Survey("cuda", True, f"torch {torch.__version__} on {torch.cuda.get_device_name()}, capability {capability}")


def _survey_onnx() -> Survey:
    import onnxruntime

    return Survey("onnx", True, f"onnxruntime {onnxruntime.__version__} on the CPU, one thread")


def _make_tensorrt(model: Model, faces: int, device: str) -> Runtime:
    from engine.runtimes.tensorrt import tensorrt_runtime

    return tensorrt_runtime(model, faces, device)


def _make_cuda(model: Model, faces: int, device: str) -> Runtime:
    from engine.runtimes.torch_cuda import torch_runtime

    return torch_runtime(model, faces, device)


def _make_onnx(model: Model, faces: int, device: str) -> Runtime:
    from engine.runtimes.onnx import OnnxRuntime

    return OnnxRuntime(model, faces)


_MAKERS = {"tensorrt": _make_tensorrt, "cuda": _make_cuda, "onnx": _make_onnx}
_SURVEYS: dict[str, Callable[[], Survey]] = {"tensorrt": _survey_tensorrt, "cuda": _survey_cuda, "onnx": _survey_onnx}
NAMES = ("auto", *_SURVEYS)
