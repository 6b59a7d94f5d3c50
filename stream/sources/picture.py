"""A decoded picture, as every source hands it on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def bgr(picture: Any) -> NDArray[np.uint8]:
    """Of an `av.VideoFrame`: uint8[H, W, 3].

    On this thread alone. FFmpeg would share it out among a thread per core, and wait for the last of them: no faster,
    and where cores are busy ten times as long now and then (`python -m benchmarks pictures`). The pixels are the same.
    """
    image: NDArray[np.uint8] = picture.to_ndarray(format="bgr24", threads=1)
    return image
