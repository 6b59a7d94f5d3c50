"""Finds the installed TensorRT, if any. It is apart from `engine.build`, so that the check stays cheap."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from engine.errors import EngineError

_MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two TensorRTs: `name` as in RUNTIMES, its version and its module."""

    name: str
    version: str
    trt: ModuleType

    def capability(self, capability: str) -> Any:
        """8.9 -> the module's constant. The GPU of this machine is allowed even when this version has no name for it.

        Raises EngineError when this version does not compile for the capability.
        """
        known = getattr(self.trt, "ComputeCapability", None)
        members = {} if known is None else known.__members__
        code = members.get(f"SM{capability.replace('.', '')}")
        if code is None and known is not None and capability == gpu_capability():
            return known.CURRENT
        if code is None:
            may = ", ".join(f"{int(c.value) // 10}.{int(c.value) % 10}" for c in members.values() if int(c.value) > 1)
            raise EngineError(f"{self.name} {self.version} can't compile for capability {capability}; it can for {may}")
        return code


def flavour(name: str) -> Flavour | None:
    """The TensorRT of that name, or None when it is not installed (or its libraries don't load)."""
    for module in _MODULES[name]:
        try:
            trt = importlib.import_module(module)
            return Flavour(name, trt.__version__, trt)
        except (ImportError, OSError):
            continue
    return None


def gpu_capability() -> str | None:
    """Capability of this machine's GPU, such as 8.9. Returns None without a GPU or without torch."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    return "{}.{}".format(*torch.cuda.get_device_capability())
