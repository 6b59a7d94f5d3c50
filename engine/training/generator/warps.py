"""Backward displacement maps from motion of face landmarks.

Geometry. A map covers the crop and MARGIN_PX around it: a square of EXTENT_PX = 176 px in *crop coordinates*. There the
centre of the crop's first pixel is (0, 0), so the crop covers [-0.5, 127.5] and the extent [-24.5, 151.5]. In an image
of n x n samples over the extent, sample k is centred at -24.5 + (k + 0.5) * 176 / n. This is torch's
`align_corners=False`: a crop coordinate x is 2 * (x + 24.5) / 176 - 1 in grid_sample's units.

A map holds, per target position, source minus target in crop px: image(target) = texture(target + map(target)).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.generator.actions import EYE_L, EYE_R, FACE_OVAL, MOUTH
from stream.types import CROP_PX

MARGIN_PX = 24
EXTENT_PX = CROP_PX + 2 * MARGIN_PX
MAP_SIZE = 88
"""Samples of a map along a side: one every 2 crop px."""
SMOOTH_PX = 1.5
"""Sigma of the blur of maps, crop px, since skin bends where triangles have edges. It is less at lids and lips."""

_RASTER = EXTENT_PX  # maps are drawn at one sample per crop px, then averaged down
_SHIFT = 4  # fractional bits of cv2's polygon corners

Vectors = NDArray[np.float32]


def sample_centres(size: int) -> Vectors:
    """Crop coordinates of the `size` sample centres along a side of the extent, float32[size]."""
    return (-MARGIN_PX - 0.5 + (np.arange(size) + 0.5) * EXTENT_PX / size).astype(np.float32)


def to_samples(points: Vectors, size: int) -> Vectors:
    """Crop coordinates [..., 2] as fractional sample indices of an image of `size` samples over the extent."""
    return (points + MARGIN_PX + 0.5) * (size / EXTENT_PX) - 0.5


@dataclass(frozen=True)
class FaceMesh:
    """A face's landmarks, with triangles between them and out to the fixed border of the extent.

    `points`: float32[N, 2] crop px: 468 face vertices, the two iris centres, then the fixed points. `triangles`:
    int32[M, 3], in painting order: surroundings, eye and mouth openings, skin (a lid covers the eyeball). `opening`:
    bool[M], the triangles that fill an eye or the mouth.
    """

    points: Vectors
    triangles: NDArray[np.int32]
    opening: NDArray[np.bool_]

    def with_border(self, displacement: Vectors) -> Vectors:
        """Displacement [..., 468, 2] of the face vertices -> [..., N, 2]. Irises and border do not move."""
        still = np.zeros((*displacement.shape[:-2], len(self.points) - 468, 2), np.float32)
        return np.concatenate([displacement, still], axis=-2)


def face_mesh(points: Vectors, face_triangles: NDArray[np.int32]) -> FaceMesh:
    """The mesh of landmarks float32[478, 2] (crop px). `face_triangles` are MediaPipe's canonical faces int32[898,
    3]."""
    from scipy.spatial import Delaunay

    oval = points[list(FACE_OVAL)]
    low, high = -MARGIN_PX - 0.5, CROP_PX + MARGIN_PX - 0.5
    ring = np.clip(oval.mean(0) + 1.5 * (oval - oval.mean(0)), low, high)
    side = np.linspace(low - 4, high + 4, 9)
    frame = np.array([(x, y) for x in side for y in side if x in side[[0, -1]] or y in side[[0, -1]]])
    every = np.vstack([points[:468], points[[468, 473]], ring, frame]).astype(np.float32)

    around = np.r_[list(FACE_OVAL), 470 : len(every)]
    outside = around[Delaunay(every[around]).simplices]
    rims = [np.isin(face_triangles, rim).all(1) for rim in (EYE_R, EYE_L, MOUTH)]
    skin = face_triangles[~np.any(rims, axis=0)]
    upper_lid = np.isin(skin, (*EYE_R[9:], *EYE_L[9:])).any(1)  # it covers the lower lid, so it is painted last
    skin = np.vstack([skin[~upper_lid], skin[upper_lid]])
    # An eye opening is a fan around the iris, so the iris stays still when lids move a little.
    eyes = [
        (a, b, hub) for rim, hub in ((EYE_R, 468), (EYE_L, 469)) for a, b in zip(rim, np.roll(rim, -1), strict=True)
    ]
    openings = np.vstack([eyes, face_triangles[rims[2]]])
    triangles = np.vstack([outside, openings, skin]).astype(np.int32)
    opening = np.zeros(len(triangles), bool)
    opening[len(outside) : len(outside) + len(openings)] = True
    return FaceMesh(every, triangles, opening)


def _raster(points: Vectors, mesh: FaceMesh) -> NDArray[np.int32]:
    """Index of the triangle painted last at each sample, int32[_RASTER, _RASTER]."""
    index = np.zeros((_RASTER, _RASTER), np.int32)
    corners = np.round(to_samples(points, _RASTER)[mesh.triangles] * (1 << _SHIFT)).astype(np.int32)
    for k in range(len(corners)):
        cv2.fillConvexPoly(index, corners[k], int(k), shift=_SHIFT)
    return index


def _interpolate(points: Vectors, index: NDArray[np.int32], mesh: FaceMesh, values: Vectors) -> Vectors:
    """Values [..., N, 2] at the mesh's vertices, placed at `points`, interpolated to the raster [..., R, R, 2]."""
    y, x = np.meshgrid(*[sample_centres(_RASTER)] * 2, indexing="ij")
    corner = mesh.triangles[index]  # [R, R, 3]
    a, b, c = (points[corner[..., k]] for k in range(3))
    ab, ac, ap = b - a, c - a, np.stack([x, y], -1) - a
    area = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    area = np.where(abs(area) < 1e-3, 1e-3, area)
    v = np.clip((ap[..., 0] * ac[..., 1] - ap[..., 1] * ac[..., 0]) / area, 0, 1)
    w = np.clip((ab[..., 0] * ap[..., 1] - ab[..., 1] * ap[..., 0]) / area, 0, 1)
    weight = np.stack([np.clip(1 - v - w, 0, 1), v, w], -1)
    weight /= weight.sum(-1, keepdims=True)
    return np.einsum("hwk,...hwkc->...hwc", weight, values[..., corner, :]).astype(np.float32)


def linear_maps(mesh: FaceMesh, displacement: Vectors) -> Vectors:
    """First-order maps float32[K, 88, 88, 2] of displacements float32[K, 468, 2] (crop px): minus the motion.

    They are accurate for motion of a px or two. Larger motion needs `level_map`.
    """
    index = _raster(mesh.points, mesh)
    soft = _soft_zone(mesh.points)
    fields = _interpolate(mesh.points, index, mesh, -mesh.with_border(displacement))
    return np.stack([down(_smooth(field, soft)) for field in fields])


def level_map(mesh: FaceMesh, displacement: Vectors, still_openings: bool = False) -> Vectors:
    """Exact map float32[88, 88, 2] of one large displacement float32[468, 2] (crop px).

    The displaced mesh is drawn at its target and looked up at its source. With `still_openings`, the inside of eyes and
    mouth stays still instead of stretching along. So a lid closes over an eyeball that does not move.
    """
    moved = mesh.points + mesh.with_border(displacement)
    index = _raster(moved, mesh)
    field = _interpolate(moved, index, mesh, mesh.points - moved)
    if still_openings:
        field[mesh.opening[index]] = 0
    return down(_smooth(field, _soft_zone(moved)))


def warped(image: Vectors, field: Vectors) -> Vectors:
    """An image float32[176, 176] over the extent, moved by a map float32[88, 88, 2]."""
    fine = cv2.resize(field, (_RASTER, _RASTER), interpolation=cv2.INTER_LINEAR)
    centres = sample_centres(_RASTER)
    at = to_samples(np.stack(np.meshgrid(centres, centres), -1) + fine, _RASTER).astype(np.float32)
    return np.asarray(cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR), np.float32)


def polygon_alpha(points: Vectors) -> Vectors:
    """Antialiased cover of a polygon float32[n, 2] (crop px), float32[176, 176] in 0..1."""
    scale = 4
    corners = np.round(to_samples(points, _RASTER * scale) * (1 << _SHIFT)).astype(np.int32)
    image = np.zeros((_RASTER * scale, _RASTER * scale), np.float32)
    cv2.fillPoly(image, [corners], 1.0, shift=_SHIFT)
    return np.asarray(cv2.resize(image, (_RASTER, _RASTER), interpolation=cv2.INTER_AREA), np.float32)


def _soft_zone(points: Vectors) -> Vectors:
    """Weight 0..1 of the smoothing, float32[R, R, 1]. It is 0 at lids and lips, whose motion has real edges."""
    sharp = np.zeros((_RASTER, _RASTER), np.float32)
    for rim in (EYE_R, EYE_L, MOUTH):
        corners = np.round(to_samples(points[list(rim)], _RASTER) * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(sharp, [corners], True, 1.0, 3, shift=_SHIFT)
    return 1 - np.clip(blur(sharp, 1.5), 0, 1)[..., None]


def _smooth(field: Vectors, soft: Vectors) -> Vectors:
    return soft * blur(field, SMOOTH_PX) + (1 - soft) * blur(field, 0.5)


def blur(image: Vectors, sigma_px: float) -> Vectors:
    """Gaussian blur of float32[R, R(, C)]."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.float32)


def down(field: Vectors) -> Vectors:
    """Averages a raster float32[176, 176(, C)] to a map's samples, float32[88, 88(, C)]."""
    return np.asarray(cv2.resize(field, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_AREA), np.float32)
