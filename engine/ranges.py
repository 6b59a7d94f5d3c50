"""INT8 ranges: the largest activations of the layers that int8 quantises, measured on real crops by onnxruntime."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.model import HALVES, Model
from engine.precision import quantised_inputs
from engine.rings import with_lags
from engine.small_file import read_object

REMEDY = "run: mestream calibrate int8"


def load_ranges(path: Path, model_sha256: str | None = None) -> dict[str, float | None]:
    """Node name -> largest |activation|, or None for a layer that stays in floating point. Raises EngineError when
    there are none.

    The file holds a JSON object, or the output of `mestream calibrate int8`, which has them under `ranges`. Ranges of
    other weights than `model_sha256` are refused.
    """
    try:
        record = read_object(path)
        of, ranges = record.get("model_sha256"), record.get("ranges", record)
        if None not in (of, model_sha256) and of != model_sha256:
            raise EngineError(f"{path} was measured with other weights ({str(of)[:12]}); {REMEDY}")
        return {str(name): None if value is None else float(value) for name, value in ranges.items()}
    except FileNotFoundError:
        raise EngineError(f"{path} is missing: INT8 needs measured ranges; {REMEDY}") from None
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise EngineError(f"{path} does not hold INT8 ranges ({error}); {REMEDY}") from None


def observe_ranges(model: Model, faces: Iterable[NDArray[np.uint8]], percentile: float = 99.99) -> dict[str, float]:
    """The ranges for `to_int8`, from the crops of some faces, each uint8[n, S, S] without a gap.

    The range of a layer is the largest over clips of the `percentile` of |activation|. Larger activations are clipped.
    This costs less than a coarser step for all the others.
    """
    spec, T = model.spec, model.spec.clip_frames
    seen: dict[str, float] = {}
    watchers = {half: _Watcher(model.onnx(half)) for half in HALVES}
    for crops in faces:
        stacks = with_lags(crops, spec.lags)
        for end in range(min(T, len(stacks)), len(stacks) + 1, T // 2):
            clip = stacks[max(0, end - T) : end]
            features, large = watchers["2d"].run({"crops": clip}, percentile)
            whole = np.zeros((1, T, spec.channels), np.float32)
            whole[0, T - len(clip) :] = features
            valid = (np.arange(T) >= T - len(clip)).astype(np.float32)[None]
            _, large_1d = watchers["1d"].run({"features": whole, "valid": valid}, percentile)
            for name, value in (large | large_1d).items():
                seen[name] = max(value, seen.get(name, 0.0))
    return seen


class _Watcher:
    """A half of the network that also outputs the inputs of its quantised layers."""

    def __init__(self, path: Path) -> None:
        graph = onnx.load(path)
        self._watched = quantised_inputs(graph)
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(set(self._watched.values())))
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: dict[str, NDArray], percentile: float) -> tuple[NDArray[np.float32], dict[str, float]]:
        """The half's own output, and per quantised layer the percentile of |input|."""
        values = dict(zip(self._names, self._session.run(None, feed), strict=True))
        large = {node: float(np.percentile(np.abs(values[name]), percentile)) for node, name in self._watched.items()}
        return values[self._names[0]], large
