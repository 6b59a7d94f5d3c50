"""Measures time: alternatives take turns in one run, so that other load on the machine affects all alike."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

PACKAGES = ("numpy", "onnxruntime", "openvino", "opencv-python", "torch", "tensorrt", "tensorrt-rtx-cu13-libs")


@dataclass(frozen=True)
class Timing:
    """Of `runs` calls, in milliseconds."""

    median_ms: float
    p99_ms: float
    best_ms: float
    runs: int

    def row(self) -> dict[str, float]:
        return {"median_ms": self.median_ms, "p99_ms": self.p99_ms, "best_ms": self.best_ms, "runs": self.runs}


Clock = Callable[[], float]


def clock_for(runtime: str) -> Clock:
    """Processor time for work in this thread alone, which other load does not stretch. For a GPU it is wall time."""
    return time.thread_time if runtime in ("onnx", "torch") else time.perf_counter


def in_turn(calls: Mapping[str, Callable[[], object]], runs: int, clock: Clock) -> dict[str, Timing]:
    """Times every call `runs` times, one after the other, round by round."""
    warm = 3
    took_ms: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(-warm, runs):
        for name, call in calls.items():
            began = clock()
            call()
            if round_ >= 0:
                took_ms[name].append((clock() - began) * 1e3)
    return {name: timing(ms) for name, ms in took_ms.items()}


def timing(took_ms: list[float]) -> Timing:
    ms = np.array(took_ms)
    return Timing(float(np.median(ms)), float(np.percentile(ms, 99)), float(ms.min()), len(ms))


def machine() -> dict[str, object]:
    """The conditions of a figure: processor, cores that this process may use, load, versions, GPU."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    out: dict[str, object] = {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    if hasattr(os, "getloadavg"):
        out["load"] = round(os.getloadavg()[0], 1)
    gpu = _gpu()
    return out | ({"gpu": gpu} if gpu else {}) | {"versions": found}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def textured(frames: int, side: int, seed: int = 0) -> np.ndarray:
    """uint8[n, S, S]: a drifting texture with noise. The network's cost does not depend on its input."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side * 2 * np.pi
    waves = [(rng.uniform(1, side / 12, 2), rng.uniform(0, 6.28)) for _ in range(8)]
    at = np.cumsum(rng.normal(0, 0.02, (frames, 2)), axis=0)
    images = [sum(np.sin(k[0] * (x + dx) + k[1] * (y + dy) + p) for k, p in waves) for dx, dy in at]
    return np.clip(128 + 20 * np.stack(images) + rng.normal(0, 2, (frames, side, side)), 0, 255).astype(np.uint8)


def table(title: str, rows: Mapping[str, Timing], against: str, note: str = "") -> None:
    """Prints rows with their ratio to the row named `against`."""
    print(f"{title}{'  (' + note + ')' if note else ''}")
    width = max(map(len, rows))
    for name, t in rows.items():
        ratio = rows[against].median_ms / t.median_ms
        print(f"  {name:{width}}  {t.median_ms:10.3f} ms  p99 {t.p99_ms:10.3f}  n={t.runs:<5} x{ratio:.2f}")
