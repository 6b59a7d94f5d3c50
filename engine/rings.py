"""Where crops and features lie: the index arithmetic of one ring of crops and one ring of features per face.

This is pure arithmetic on the host. The arrays themselves belong to the runtimes, on the CPU or on a device. A runtime
only copies, gathers and runs the two halves of the network as a `Step` says. It needs no history of the faces.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Step:
    """One pass over M new crops and N clips. Indices are rows of the runtime's two stores.

    The crops uint8[M, S, S] are stored at crop_write: int64[M]. Then crop_read: int64[M, 1 + L] gathers each crop with
    its lagged ones. Their features go to feature_write: int64[M]. Then clip_read: int64[N, T] gathers the clips. valid:
    float32[N, T] is 0 where a young face has no frame yet.
    """

    crops: NDArray[np.uint8]
    crop_write: NDArray[np.int64]
    crop_read: NDArray[np.int64]
    feature_write: NDArray[np.int64]
    clip_read: NDArray[np.int64]
    valid: NDArray[np.float32]


class Rings:
    """Decides which rows of the stores a face's frames take. There are `faces` slots. Each numbers its frames since its
    last gap.

    The crop store has `crop_rows` rows, and the last one is scratch for padding. The feature store has `feature_rows`
    rows. The last is scratch, and the one before it is never written and stays zero.
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
        self._seen = [0] * faces  # frames since the gap
        self._back = np.array((0, *spec.lags))
        self._ages = np.arange(-spec.clip_frames, 0)  # of a clip's frames, the newest last
        self._no_crops = np.zeros((0, spec.crop_px, spec.crop_px), np.uint8)

    def reset(self, slot: int) -> None:
        """A gap: the slot's next crop is its first."""
        self._seen[slot] = 0

    def plan(self, new: Mapping[int, NDArray[np.uint8]]) -> Iterator[tuple[list[int], Step]]:
        """uint8[n, S, S] per slot, n >= 0 -> steps. Each comes with the slots whose clips it completes, in the order of
        N."""
        longest = max((len(crops) for crops in new.values()), default=0)
        for first in range(0, max(longest, 1), self.chunk):
            parts = {s: c[first : first + self.chunk] for s, c in new.items() if first < len(c) or first == 0}
            done = [s for s in parts if len(new[s]) <= first + self.chunk]
            yield done, self._step(parts, done)

    def _step(self, parts: dict[int, NDArray[np.uint8]], done: list[int]) -> Step:
        # Few calls on small arrays: the 2D half empties the caches, and each call then costs 5 us instead of 1.
        T, H, seen = self.spec.clip_frames, self.crop_length, self._seen
        counts = [len(crops) for crops in parts.values()]
        slots = np.array(list(parts), np.int64).repeat(counts)  # [M]
        frames = np.array([seen[s] + i for s, n in zip(parts, counts, strict=True) for i in range(n)], np.int64)
        for slot, n in zip(parts, counts, strict=True):
            seen[slot] += n
        # When history is shorter than a lag, the oldest crop since the gap replaces the missing one, so nothing seems
        # to move.
        crop_read = np.maximum(frames[:, None] - self._back, 0) % H + slots[:, None] * H  # [M, 1 + L]
        clip = np.array([seen[s] for s in done], np.int64)[:, None] + self._ages  # [N, T], < 0 before the first frame
        clip_read = clip % T + np.array(done, np.int64)[:, None] * T
        valid = clip >= 0
        clip_read[~valid] = self.zero_row
        crops = list(parts.values())
        return Step(
            crops=crops[0] if len(crops) == 1 else np.concatenate(crops or [self._no_crops]),
            crop_write=crop_read[:, 0],  # the index without a lag is the crop's own place
            crop_read=crop_read,
            feature_write=frames % T + slots * T,
            clip_read=clip_read,
            valid=valid.astype(np.float32),
        )


def with_lags(crops: NDArray[np.uint8], lags: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8[n, S, S], all crops since a gap -> uint8[n, 1 + L, S, S]: each with its lagged ones. The first one is
    repeated."""
    frame = np.arange(len(crops))[:, None]
    return crops[np.maximum(frame - np.array((0, *lags)), 0)]
