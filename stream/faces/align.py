"""Turns landmarks into an aligned crop, and measures how well the face can be seen.

The crop is aligned to the skull. Brows, lids, lips and jaw do not take part, because their motion is the signal.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.faces.landmarks import Image, Points, warp_down
from stream.faces.template import RIGID, TEMPLATE
from stream.types import CROP_PX, Quality

Matrix = NDArray[np.float64]

FACE_EDGES = (234, 454)
_TARGET = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
_TARGET_CENTRE = _TARGET.mean()
_TARGET_ARMS = _TARGET - _TARGET_CENTRE


def crop_matrix(points: Points) -> Matrix:
    """Returns the float64[2, 3] that maps px of the image to px of the crop: the least-squares similarity to the
    template.

    `points`: float32[478, 3]. Each frame is treated by itself, without smoothing.
    """
    rigid = points[RIGID].astype(np.float64)
    z = rigid[:, 0] + 1j * rigid[:, 1]
    centre = z.mean()
    arms = z - centre
    turn = np.vdot(arms, _TARGET_ARMS) / np.vdot(arms, arms).real
    return _matrix(complex(turn), complex(_TARGET_CENTRE - turn * centre))


def _matrix(turn: complex, shift: complex) -> Matrix:
    """Returns the similarity z -> turn * z + shift as float64[2, 3]."""
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def extract(image: Image, matrix: Matrix) -> Image:
    """Returns the grey crop uint8[CROP_PX, CROP_PX] that `matrix` (image px -> crop px) cuts out of `image`.

    `image`: uint8[H, W] grey or uint8[H, W, 3] BGR. A larger face is averaged down. Pixels outside the image are black.
    """
    return warp_down(image, _inverse(matrix), CROP_PX, grey=True)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def face_width_px(points: Points) -> float:
    """Returns the face's width in the image, px: the distance between the landmarks at its edges, without depth."""
    right, left = points[FACE_EDGES[0], :2], points[FACE_EDGES[1], :2]
    return float(np.hypot(*(left - right)))


def head_pose_deg(points: Points) -> tuple[float, float]:
    """Returns yaw and pitch in degrees; 0 is frontal. It rotates the rigid landmarks to the template (Kabsch 1976).

    Yaw is positive when people turn to their left. Pitch is positive when they look up.
    """
    here = points[RIGID].astype(np.float64)
    u, _, vt = np.linalg.svd((TEMPLATE - TEMPLATE.mean(axis=0)).T @ (here - here.mean(axis=0)))
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u @ flip @ vt).T
    yaw = math.atan2(rotation[0, 2], rotation[2, 2])
    pitch = math.atan2(rotation[1, 2], math.hypot(rotation[0, 2], rotation[2, 2]))
    return math.degrees(-yaw), math.degrees(pitch)


def quality(points: Points, crop: Image) -> Quality:
    """Measures how well the face at `points` (image px) can be seen. `crop` is its aligned crop."""
    yaw_deg, pitch_deg = head_pose_deg(points)
    return Quality(face_width_px(points), yaw_deg, pitch_deg, _blur(crop), float(cv2.mean(crop)[0]))


def _blur(crop: Image) -> float:
    """Returns 0 (sharp) to 1: how little another blur removes (Crete et al. 2007, doi 10.1117/12.702790)."""
    lost = []
    grey = crop.astype(np.float32)
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        sharp = np.abs(np.diff(grey, axis=axis))
        soft = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        total = float(sharp.sum())
        lost.append(float(np.maximum(sharp - soft, 0).sum()) / total if total else 0.0)
    return 1 - max(lost)
