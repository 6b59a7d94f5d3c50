"""Overlapping clips -> proposals, incrementally. The 2D half runs once per crop, and only the 1D half sees whole clips.

The result equals scoring every clip afresh, since a frame's feature depends only on the frame and its lagged crops.
"""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.decode import FLOOR, Proposal, decode
from engine.errors import EngineError
from engine.rings import Rings, with_lags
from engine.runtimes import Runtime
from engine.spec import ModelSpec

Face = TypeVar("Face", bound=Hashable)


class Scorer(Generic[Face]):
    """Scores the newest clip of many faces as one batch. It keeps what it needs of each face until `forget`.

    It has no clock or thread: its owner calls it from one thread. The same calls give the same results.
    """

    def __init__(self, runtime: Runtime, spec: ModelSpec, floor: float = FLOOR) -> None:
        self.runtime, self.spec, self.floor = runtime, spec, floor
        self._rings = Rings(spec, runtime.faces)
        self._slot_of: dict[Face, int] = {}
        self._free = list(range(runtime.faces))[::-1]

    def score(self, new: Mapping[Face, NDArray[np.uint8]]) -> dict[Face, list[Proposal]]:
        """Takes uint8[n, S, S] per face: its crops on the time grid since the last call (any n, also 0). Returns its
        proposals.

        Raises EngineError when there are more faces than the runtime allows, ValueError for another shape.
        """
        heads = self.heads(new)
        return {face: decode(rows, self.spec.clip_frames, self.floor) for face, rows in heads.items()}

    def heads(self, new: Mapping[Face, NDArray[np.uint8]]) -> dict[Face, NDArray[np.float32]]:
        """Like `score`, but returns the network's output float32[P, HEAD_FIELDS] per face, before decoding."""
        S = self.spec.crop_px
        for face, crops in new.items():
            if crops.dtype != np.uint8 or crops.ndim != 3 or crops.shape[1:] != (S, S):
                raise ValueError(
                    f"crops of face {face} must be uint8[n, {S}, {S}], not {crops.dtype}{list(crops.shape)}"
                )
        face_of = {self._slot(face): face for face in new}
        out: dict[Face, NDArray[np.float32]] = {}
        for done, step in self._rings.plan({slot: new[face] for slot, face in face_of.items()}):
            heads = self.runtime.step(step)
            out.update({face_of[slot]: rows for slot, rows in zip(done, heads, strict=True)})
        return {face: out[face] for face in new}

    def forget(self, face: Face) -> None:
        """Forgets a face after a gap or when it has left. Its next crop starts a new history."""
        if (slot := self._slot_of.pop(face, None)) is not None:
            self._free.append(slot)

    def _slot(self, face: Face) -> int:
        if face not in self._slot_of:
            if not self._free:
                raise EngineError(f"more than {self.runtime.faces} faces at once; start with a higher --max-faces")
            self._slot_of[face] = self._free.pop()
            self._rings.reset(self._slot_of[face])
        return self._slot_of[face]


def score_afresh(runtime: Runtime, spec: ModelSpec, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8[n, S, S], all crops of one face since a gap, n >= 1 -> float32[P, HEAD_FIELDS] of the newest clip.

    `Scorer` must equal this, and is measured against it. It has no ring and sends every crop of the clip through the 2D
    half.
    """
    T, history = spec.clip_frames, max(spec.lags)
    recent = with_lags(crops[-(T + history) :], spec.lags)[-T:]
    clip = np.zeros((1, T, spec.channels), np.float32)
    clip[0, T - len(recent) :] = runtime.features(recent)
    valid = (np.arange(T) >= T - len(recent)).astype(np.float32)[None]
    return runtime.heads(clip, valid)[0]
