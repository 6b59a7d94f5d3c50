"""onnxruntime on the CPU: the default without a GPU. It uses one thread, so that results and load are predictable."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.model import Model, read_graph
from engine.rings import Rings, Step
from engine.spec import HEAD_FIELDS

CROPS_PER_RUN = 4
"""The activations of four crops fit a core's cache. A whole clip in one run takes two to three times as long."""


class OnnxRuntime:
    """The two ONNX graphs of `model` (or of `directory`, for other precisions) with rings in numpy arrays."""

    name = "onnx"

    def __init__(self, model: Model, faces: int, threads: int = 1, directory: Path | None = None) -> None:
        self.spec, self.faces = model.spec, faces
        home = directory or model.directory
        self._2d, self._1d = (_session(home / f"mesnet_{half}.onnx", model, threads) for half in ("2d", "1d"))
        rings, spec = Rings(model.spec, faces), model.spec
        self._crops = np.zeros((rings.crop_rows, spec.crop_px, spec.crop_px), np.uint8)
        self._features = np.zeros((rings.feature_rows, spec.channels), np.float32)

    def step(self, step: Step) -> NDArray[np.float32]:
        """As `Runtime.step`."""
        if len(step.crops):
            self._crops[step.crop_write] = step.crops
            self._features[step.feature_write] = self.features(self._crops[step.crop_read])
        return self.heads(self._features[step.clip_read], step.valid)

    def features(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8[M, 1 + L, S, S] -> float32[M, C]."""
        parts = [crops[i : i + CROPS_PER_RUN] for i in range(0, len(crops), CROPS_PER_RUN)]
        return np.concatenate([self._2d.run(None, {"crops": part})[0] for part in parts])

    def heads(self, features: NDArray[np.float32], valid: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[N, T, C] and float32[N, T] -> float32[N, P, HEAD_FIELDS]."""
        if not len(features):
            return np.zeros((0, self.spec.proposals, HEAD_FIELDS), np.float32)
        return self._1d.run(None, {"features": features, "valid": valid})[0]


def _session(path: Path, model: Model, threads: int) -> onnxruntime.InferenceSession:
    """A checked session. Raises EngineError with the command that makes the graph again."""
    remedy = f"run: mestream build --runtime onnx --model {model.directory} --out {path.parent}"
    remedy += ", or take the model from the release again"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        graph = read_graph(path)
    except ValueError as error:
        raise EngineError(f"{path} {error}; {remedy}") from None
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # each onnxruntime status code has its own exception class, with no common base
        raise EngineError(f"{path} can't be loaded ({' '.join(str(error).split())[:160]}); {remedy}") from None
    of = session.get_modelmeta().custom_metadata_map.get("weights_sha256", "unmarked")
    if of != model.sha256:
        raise EngineError(f"{path} was made from weights {of[:12]}, not {model.sha256[:12]}; {remedy}")
    out = session.get_outputs()[0]
    if out.name == "proposals" and out.shape[1] != model.spec.proposals:  # the same weights may have other anchors
        raise EngineError(
            f"{path} makes {out.shape[1]} proposals, mesnet.json expects {model.spec.proposals}; {remedy}"
        )
    return session
