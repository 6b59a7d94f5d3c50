"""Steadies a face's crop on the skull by image registration, with no look-ahead and no lag.

The landmarks locate the face to about 0.1 px. Their errors change from frame to frame and with the pose. So the parts
of a face that do not move but have texture (nose, sides of the eyes) are registered to a running mean of the last
crops.

One Gauss-Newton step of Lucas & Kanade (1981) fits a similarity plus gain and offset. It is forward-additive around the
landmarks' result (Baker & Matthews 2004) and uses Huber weights. The landmarks are the prior where texture is poor.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.faces.align import Matrix, extract
from stream.faces.landmarks import Image
from stream.types import CROP_PX

MEMORY_S = 0.4
"""Time constant of the running mean of crops."""
RETURN_S = 3.0
"""Time constant with which the crop returns to the position given by the landmarks. Registration alone would drift."""
NEAR_PX = 1.0
"""Closer to the landmarks' position than this, the return slows down."""
LANDMARK_SIGMA_PX = 0.5
"""Assumed error of the landmarks, px of the crop, per parameter."""
GREY_SIGMA = 6.0
"""A pixel that differs by more grey levels than this after the fit gets less weight."""
AGAIN_PX = 0.25
"""A larger step is repeated from the image, because the first-order fit is only good near its start."""
AGREED = 0.5
"""If a smaller share of pixels agrees with the step (a hand before the face), only the landmarks move the crop."""
LIMIT_PX = 3.0
"""Greatest distance of the crop from the landmarks, per parameter. Starting anew instead would look like a twitch."""
_ARM_PX = 40.0
"""Turn and scale are measured in px at this distance from the centre, so that all four parameters have equal weight."""
_MIDDLE = (CROP_PX - 1) / 2

_Float = NDArray[np.float32]


def _rigid_mask() -> _Float:
    """Returns float32[CROP_PX, CROP_PX], 0 to 1: high where skin lies on bone and has texture. Lids, brows, lips and
    jaw are 0.
    """
    mask = np.zeros((CROP_PX, CROP_PX), np.float32)
    for x, y, rx, ry, weight in (
        (63.5, 59, 13, 18, 1.0),  # bridge and flanks of the nose
        (24, 51, 8, 13, 0.7),  # beside the outer eye corners
        (103, 51, 8, 13, 0.7),
        (42, 63, 14, 6, 0.4),  # below the lower lids
        (85, 63, 14, 6, 0.4),
    ):
        shape = cv2.ellipse(np.zeros_like(mask), ((x, y), (2 * rx, 2 * ry), 0), 1.0, -1)
        mask = np.maximum(mask, weight * shape)
    for x in (41.5, 85.5):
        cv2.ellipse(mask, ((x, 46), (30, 17), 0), 0.0, -1)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.5), np.float32)


_MASK = _rigid_mask().ravel()
_AT = np.flatnonzero(_MASK > 0.02)
_WEIGHT = _MASK[_AT]
_X = (_AT % CROP_PX - _MIDDLE).astype(np.float32) / np.float32(_ARM_PX)
_Y = (_AT // CROP_PX - _MIDDLE).astype(np.float32) / np.float32(_ARM_PX)


class Steady:
    """Steadies the crops of one face, frame after frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past. The next crop is where its landmarks place it."""
        self._mean: _Float | None = None
        self._correction = np.zeros(4)
        self._habit = np.zeros(4)
        self._time_s = 0.0

    def crop(self, image: Image, matrix: Matrix, time_s: float) -> tuple[Matrix, Image]:
        """Returns the steadied float64[2, 3] (image px -> crop px) near `matrix`, and the uint8 crop at that place."""
        since_s = max(0.0, time_s - self._time_s)
        self._time_s = time_s
        if self._mean is None:
            return self._start(image, matrix)
        correction = self._register(image, matrix, self._mean)
        correction = correction * min(1.0, LIMIT_PX / max(float(np.abs(correction).max()), LIMIT_PX))
        follow = -math.expm1(-since_s / MEMORY_S)
        self._habit += follow * (correction - self._habit)
        self._correction = correction
        # the mean follows the crop with MEMORY_S, so this constant offset brings both back with RETURN_S
        urge = MEMORY_S / RETURN_S * min(1.0, float(self._habit @ self._habit) / NEAR_PX**2)
        settled = corrected(matrix, correction - urge * self._habit)
        crop = extract(image, settled)
        self._mean += np.float32(follow) * (_smooth(crop) - self._mean)
        return settled, crop

    def _start(self, image: Image, matrix: Matrix) -> tuple[Matrix, Image]:
        crop = extract(image, matrix)
        self._mean = _smooth(crop)
        return matrix, crop

    def _register(self, image: Image, matrix: Matrix, mean: _Float) -> NDArray[np.float64]:
        """Returns the correction (dx, dy, scale, turn; px) that aligns the rigid parts of the image with the mean."""
        slopes = _slopes(mean)
        correction = self._correction
        for _ in range(3):
            crop = extract(image, corrected(matrix, correction))
            step, agreed = _fit(slopes, _smooth(crop).ravel()[_AT] - slopes[:, 4], correction)
            if agreed < AGREED:
                return self._correction
            correction = correction + step
            if np.abs(step).max() < AGAIN_PX:
                break
        return correction


def corrected(matrix: Matrix, correction: NDArray[np.float64]) -> Matrix:
    """Returns `matrix` followed by the small similarity `correction` (dx, dy, scale, turn; px) about the
    crop's centre.
    """
    dx, dy, scale, turn = correction
    a = np.exp(complex(scale, turn) / _ARM_PX)
    middle = complex(_MIDDLE, _MIDDLE)
    shift = middle - a * middle + complex(dx, dy)
    after = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return np.column_stack([after @ matrix[:, :2], after @ matrix[:, 2] + (shift.real, shift.imag)])


def _smooth(crop: Image) -> _Float:
    return np.asarray(cv2.GaussianBlur(crop.astype(np.float32), (0, 0), 1.0), np.float32)


def _slopes(mean: _Float) -> _Float:
    """Returns float32[pixels, 6]: how the mean's rigid pixels change with dx, dy, scale, turn, gain and offset."""
    gx = cv2.Sobel(mean, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8).ravel()[_AT]
    gy = cv2.Sobel(mean, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8).ravel()[_AT]
    here = mean.ravel()[_AT]
    return np.stack([gx, gy, gx * _X + gy * _Y, gy * _X - gx * _Y, here, np.ones_like(here)], axis=1)


def _fit(slopes: _Float, difference: _Float, correction: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Returns the step that explains `difference` (crop - mean), and the share of pixels that agree with it.

    It takes two rounds of least squares; the second uses Huber weights.
    """
    # smoothing makes ~8 neighbouring pixels share their noise, so the prior gets 8 times the weight
    prior = np.zeros(6)
    prior[:4] = 8 * (GREY_SIGMA / LANDMARK_SIGMA_PX) ** 2
    pull = np.concatenate([-correction, np.zeros(2)])
    weight = _WEIGHT
    for _ in range(2):
        weighted = slopes * weight[:, None]
        normal = (weighted.T @ slopes).astype(np.float64) + np.diag(prior + 1e-3)
        answer = np.linalg.solve(normal, (weighted.T @ difference).astype(np.float64) + prior * pull)
        left = np.abs(difference - slopes @ answer.astype(np.float32))
        weight = _WEIGHT * np.minimum(1, GREY_SIGMA / np.maximum(left, 1e-3))
    return answer[:4], float(weight.sum() / _WEIGHT.sum())
