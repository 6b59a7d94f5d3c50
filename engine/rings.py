"""Where crops and features lie: the index arithmetic of one ring of crops and one of features per face.

Pure arithmetic on the host; the arrays themselves belong to the runtimes, on the CPU or on a device. A runtime that
gets a `Step` only copies, gathers and runs the two halves of the network, whatever the faces have been through.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over M new crops and N clips. Indices are rows of the runtime's two stores.

    crops: uint8[M, S, S], to be stored at crop_write: int64[M]; then each crop with its lagged ones is
    crop_read: int64[M, 1 + L]. Their features go to feature_write: int64[M]; then the clips are
    clip_read: int64[N, T], and valid: float32[N, T] is 0 where a young face has no frame yet.
    """

    crops: NDArray[np.uint8]
    crop_write: NDArray[np.int64]
    crop_read: NDArray[np.int64]
    feature_write: NDArray[np.int64]
    clip_read: NDArray[np.int64]
    valid: NDArray[np.float32]


class Rings:
    """Says which rows of the stores a face's frames take: `faces` slots, each numbered frames since its last gap.

    The crop store has `crop_rows` rows, of which the last is scratch for padding. The feature store has `feature_rows`
    rows; the last but one is never written and stays zero, the last is scratch.
    """

    def __init__(self, spec: ModelSpec, faces: int) -> None:
        self.spec, self.faces = spec, faces
        self.chunk = spec.hop_frames  # new crops per face and step; a longer backlog takes several steps
        self.crop_length = max(spec.lags) + self.chunk
        self.crop_rows = faces * self.crop_length + 1
        self.crop_scratch = self.crop_rows - 1
        self.feature_rows = faces * spec.clip_frames + 2
        self.zero_row = self.feature_rows - 2
        self.feature_scratch = self.feature_rows - 1
        self._seen = np.zeros(faces, np.int64)  # frames since the gap
        self._back = np.array((0, *spec.lags))

    def reset(self, slot: int) -> None:
        """A gap: the slot's next crop is its first."""
        self._seen[slot] = 0

    def plan(self, new: Mapping[int, NDArray[np.uint8]]) -> Iterator[tuple[list[int], Step]]:
        """uint8[n, S, S] per slot, n >= 0 -> steps, each with the slots whose clips it completes, in its order of N."""
        longest = max((len(crops) for crops in new.values()), default=0)
        for first in range(0, max(longest, 1), self.chunk):
            parts = {s: c[first : first + self.chunk] for s, c in new.items() if first < len(c) or first == 0}
            done = [s for s in parts if len(new[s]) <= first + self.chunk]
            yield done, self._step(parts, done)

    def _step(self, parts: dict[int, NDArray[np.uint8]], done: list[int]) -> Step:
        spec, T, H = self.spec, self.spec.clip_frames, self.crop_length
        slots = np.repeat(np.fromiter(parts, np.int64), [len(c) for c in parts.values()])  # [M]
        frames = np.concatenate(
            [self._seen[s] + np.arange(len(c)) for s, c in parts.items()] or [np.zeros(0, np.int64)]
        )
        for s, c in parts.items():
            self._seen[s] += len(c)
        # Where history is shorter than a lag, the oldest crop since the gap stands in: nothing seems to move.
        looked_at = np.maximum(frames[:, None] - self._back, 0)  # [M, 1 + L]
        clip = self._seen[done][:, None] - T + np.arange(T)  # [N, T], the newest last, < 0 where there was no frame
        valid = clip >= 0
        return Step(
            crops=np.concatenate([*parts.values()] or [np.zeros((0, spec.crop_px, spec.crop_px), np.uint8)]),
            crop_write=slots * H + frames % H,
            crop_read=slots[:, None] * H + looked_at % H,
            feature_write=slots * T + frames % T,
            clip_read=np.where(valid, np.array(done, np.int64)[:, None] * T + clip % T, self.zero_row),
            valid=valid.astype(np.float32),
        )
