"""TensorRT and TensorRT for RTX: the compiled halves inside the torch runtime's rings and CUDA graph.

torch owns the device memory, the stream and the graph. A CUDA machine with this project has torch anyway, and one
implementation of rings and capture serves both GPU runtimes. TensorRT only enqueues.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import build, sidecar
from engine.errors import EngineError
from engine.extras import pip_install
from engine.flavour import Flavour, flavour
from engine.model import Model
from engine.runtimes.torch_cuda import PART, Features, Heads, TorchRuntime
from engine.sidecar import Target


class _Call:
    """A compiled half as a call on device tensors. It enqueues on the current stream. Output and scratch belong to
    torch.

    A new shape costs a call into TensorRT and an allocation. The same shape again costs neither.
    """

    def __init__(self, engine: Any, trt: Any, device: torch.device) -> None:
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        # The call's order (crops; features, valid) is alphabetical. An engine guarantees no order.
        self._inputs = sorted(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
        (self._output,) = (n for n in names if n not in self._inputs)
        self._context = _context(engine, trt)
        if self._context is None:
            raise EngineError("TensorRT can't make an execution context: not enough memory on the GPU?")
        self._device = device
        self._shapes: list[torch.Size] = []
        self._scratch = torch.empty(0, device=device)

    def __call__(self, *inputs: Tensor) -> Tensor:
        context = self._context
        if self._shapes != [tensor.shape for tensor in inputs]:
            self._reshape(inputs)
        out = torch.empty(tuple(context.get_tensor_shape(self._output)), device=self._device)
        held = [tensor.contiguous() for tensor in inputs]
        for name, tensor in zip((*self._inputs, self._output), (*held, out), strict=True):
            context.set_tensor_address(name, tensor.data_ptr())
        if not context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream):
            raise EngineError("TensorRT refused to run the engine")
        return out

    def _reshape(self, inputs: tuple[Tensor, ...]) -> None:
        for name, tensor in zip(self._inputs, inputs, strict=True):
            self._context.set_input_shape(name, tuple(tensor.shape))
        size = self._context.update_device_memory_size_for_shapes()
        torch.cuda.current_stream(self._device).synchronize()  # the old scratch may still be in use
        self._scratch = torch.empty(max(size, 256), dtype=torch.uint8, device=self._device)
        self._context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())
        self._shapes = [tensor.shape for tensor in inputs]


def _context(engine: Any, trt: Any) -> Any:
    """An execution context. torch provides its memory. TensorRT for RTX compiles all its kernels at the first call of a
    shape, which comes before capture. It leaves CUDA graphs to us."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return engine.create_execution_context(strategy)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(strategy)
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
    return engine.create_execution_context(config)


def tensorrt_runtime(
    model: Model,
    faces: int,
    device: str = "cuda",
    precision: str = "fp16",
    directory: Path | None = None,
    ranges: Mapping[str, float | None] | None = None,
) -> TorchRuntime:
    """MESNet's compiled engines on `device`. Engines in `directory` must match. Those in the user's cache are built
    again when they don't match (int8 with `ranges`, or the model's own). Raises EngineError."""
    found = installed()
    if not torch.cuda.is_available():
        raise EngineError(f"no CUDA GPU for --device {device}; use --runtime onnx")
    at = torch.device(device)
    target = Target(found.name, found.version, "{}.{}".format(*torch.cuda.get_device_capability(at)), precision)
    if directory is None:
        with build.progress_bars() as progress:
            directory = build.ensure(model, target, ranges, progress)
    else:
        sidecar.check(directory, model, target)
    trt = found.trt
    with torch.cuda.device(at):
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        plans = {half: sidecar.engine_path(directory, half).read_bytes() for half in ("2d", "1d")}
        engines = {half: runtime.deserialize_cuda_engine(plan) for half, plan in plans.items()}
        if None in engines.values():
            remedy = sidecar.command(model, target, directory)
            raise EngineError(f"{found.name} {found.version} can't load the engine in {directory}; run: {remedy}")

    def halves_for(batch: int) -> tuple[Features, Heads]:
        assert batch <= PART <= build.MAX_FACES
        return _Call(engines["2d"], trt, at), _Call(engines["1d"], trt, at)

    return TorchRuntime(model.spec, halves_for, faces, device, found.name)


def installed() -> Flavour:
    """TensorRT if it is installed, else TensorRT for RTX. Raises EngineError when neither is."""
    for name in ("tensorrt", "tensorrt-rtx"):
        if found := flavour(name):
            return found
    raise EngineError(f"neither tensorrt nor tensorrt-rtx is installed; run: {pip_install('tensorrt-rtx')}")
