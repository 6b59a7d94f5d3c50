"""Facial actions as motion of MediaPipe's 478 face landmarks.

The 55 expression shapes of ICT-FaceKit Light (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR
2020; MIT licence) are transferred to MediaPipe's canonical face mesh (Apache-2.0). A similarity and a thin-plate warp
through 51 common iBUG landmarks fit the canonical mesh to ICT's neutral face. Then every landmark takes the motion of
the nearest skin. The result ships as `actions.npz`, so ICT itself is needed only to make it again:

    python -m engine.training.generator.actions --data DIR      # DIR holds face3d/
"""

import argparse
import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.spec import REGIONS

SHIPPED = Path(__file__).with_name("actions.npz")

EYE_R = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
EYE_L = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
"""Rims of the eye openings, from the outer corner along the lower lid to the inner corner and back along the upper."""
MOUTH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
"""Inner rim of the lips, from the right corner along the lower lip to the left corner and back along the upper."""
FACE_OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
IRISES = {"R": (468, 469, 470, 471, 472), "L": (473, 474, 475, 476, 477)}
"""The centre comes first. R and L are the person's own right and left: the right eye is on the image's left."""

# iBUG points 17..67 (brows, nose, eyes, lips) as landmarks of MediaPipe. Each is the nearest to ICT's place after a
# similarity fit. The jaw line has no exact counterpart.
_IBUG = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327, 33, 160, 158, 133,
         153, 144, 362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311,
         308, 402, 14, 178)  # fmt: skip
_SKIN_VERTICES = 9409  # ICT's vertices before these are the face's skin; eyes, teeth and sockets follow
_UPPER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 191, 80, 81, 82, 13, 312, 311, 310, 415)
_LOWER_LIPS = (146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324)


def _sided(**shapes: float) -> dict[str, dict[str, float]]:
    return {side: {f"{name}_{side}": weight for name, weight in shapes.items()} for side in "LR"}


def _both(**shapes: float) -> dict[str, dict[str, float]]:
    return {"B": shapes}


ACTION_UNITS: dict[str, dict[str, dict[str, float]]] = {
    "AU1": _sided(browInnerUp=1.0),
    "AU2": _sided(browOuterUp=1.0),
    "AU4": _sided(browDown=1.0),
    "AU5": _sided(eyeWide=1.0),
    "AU6": _sided(cheekRaiser=1.0),
    "AU7": _sided(eyeSquint=1.0, eyeBlink=0.1),
    "AU9": _sided(noseSneer=1.0),
    "AU10": _sided(mouthUpperUp=1.0),
    "AU12": _sided(mouthSmile=1.0),
    "AU14": _sided(mouthDimple=1.0),
    "AU15": _sided(mouthFrown=1.0),
    "AU16": _sided(mouthLowerDown=1.0),
    "AU17": _both(mouthShrugLower=1.0),
    "AU18": _both(mouthPucker=1.0),
    "AU20": _sided(mouthStretch=1.0),
    "AU22": _both(mouthFunnel=1.0),
    "AU23": _both(mouthRollUpper=0.5, mouthRollLower=0.5),
    "AU24": _sided(mouthPress=1.0),
    "AU25": _sided(mouthLowerDown=1.0, mouthUpperUp=0.3),
    "AU26": _both(jawOpen=0.35),
}
"""FACS action unit -> side (`L`, `R`: the person's own; `B`: both at once) -> ICT shape -> weight."""


@dataclass(frozen=True)
class ActionTable:
    """Actions on the canonical face. The unit of length is the distance of the outer eye corners. x points right in the
    image of a frontal face (the person's left), y down, z away from the camera.

    `names`: K ICT shapes. `displacement`: float32[K, 478, 3], motion at the shape's full strength. `points`:
    float32[478, 3], MediaPipe's canonical face. `triangles`: int32[898, 3], its faces (468 vertices).
    """

    names: tuple[str, ...]
    displacement: NDArray[np.float32]
    points: NDArray[np.float32]
    triangles: NDArray[np.int32]

    def shape(self, name: str) -> NDArray[np.float32]:
        """Displacement float32[478, 3] of one ICT shape. Raises ValueError for an unknown name."""
        return self.displacement[self.names.index(name)]

    def unit(self, au: str, side: str) -> NDArray[np.float32]:
        """Displacement float32[478, 3] of one action unit of ACTION_UNITS. Raises KeyError if it or its side is
        unknown."""
        return self.mix(ACTION_UNITS[au][side])

    def mix(self, weights: Mapping[str, float]) -> NDArray[np.float32]:
        """Displacement float32[478, 3] of several ICT shapes at once, by name and weight."""
        parts = [weight * self.shape(name) for name, weight in weights.items()]
        return np.sum(parts, axis=0, dtype=np.float32)

    def regions(self, displacement: NDArray[np.float32]) -> tuple[float, ...]:
        """Share of a displacement float32[478, 3] per entry of REGIONS, by squared visible motion over skin area."""
        visible = (displacement[:468, :2] ** 2).sum(1) * vertex_areas(self.points, self.triangles)
        share = np.bincount(_region_of(self.points[:468]), visible, minlength=len(REGIONS))
        return tuple(float(s) for s in share / share.sum())


@functools.cache
def load_actions(path: Path = SHIPPED) -> ActionTable:
    """The shipped table. `path` is a file that `python -m engine.training.generator.actions` wrote."""
    with np.load(path) as file:
        return ActionTable(
            names=tuple(str(name) for name in file["names"]),
            displacement=file["displacement"].astype(np.float32),
            points=file["points"].astype(np.float32),
            triangles=file["triangles"].astype(np.int32),
        )


def vertex_areas(points: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    """Area around each of the 468 vertices: a third of every triangle that it belongs to, float32[468]."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(triangles.ravel(), np.repeat(area, 3), minlength=468).astype(np.float32)


def _region_of(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index into REGIONS per point of the canonical face, by its place. The nose counts as cheeks."""
    x, y = abs(points[:, 0]), points[:, 1] - points[33, 1]
    brows = y < -0.15
    eyes = (y < 0.20) & (x > 0.10)
    mouth = (y > 0.45) & (x < 0.50)
    return np.select([brows, eyes, mouth], [0, 1, 3], default=2)


def register(
    canonical: NDArray[np.float64], neutral: NDArray[np.float64], ibug_vertices: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Fits the canonical landmarks float64[N, 3] to ICT's neutral skin float64[V, 3] (both y up).

    It uses a similarity (Umeyama 1991), then a thin-plate spline through the common landmarks. Returns float64[N, 3].
    """
    from scipy.interpolate import RBFInterpolator

    target = neutral[ibug_vertices[17:]]
    moved = canonical @ (m := similarity(canonical[list(_IBUG)], target))[:, :3].T + m[:, 3]
    anchors = moved[list(_IBUG)]
    return moved + RBFInterpolator(anchors, target - anchors, kernel="thin_plate_spline", smoothing=1e-3)(moved)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares similarity [sR | t], float64[D, D + 1], that takes source[N, D] to target[N, D] (Umeyama 1991)."""
    mean_s, mean_t = source.mean(0), target.mean(0)
    u, scale, vt = np.linalg.svd((target - mean_t).T @ (source - mean_s))
    sign = np.ones(len(scale))
    sign[-1] = np.sign(np.linalg.det(u @ vt))
    rotation = u @ np.diag(sign) @ vt
    s = (scale * sign).sum() / ((source - mean_s) ** 2).sum()
    return np.column_stack([s * rotation, mean_t - s * rotation @ mean_s])


def make(folder: Path) -> ActionTable:
    """Builds the table from ICT-FaceKit Light and MediaPipe's canonical mesh in `folder` (face3d)."""
    with np.load(folder / "ict_facekit_light.npz") as ict:
        neutral = ict["neutral"].astype(np.float64)
        names = [str(n) for n in ict["expr_names"] if not str(n).startswith("PupilDilate")]
        index = [i for i, n in enumerate(ict["expr_names"]) if str(n) in names]
        shapes = ict["expr"][index].astype(np.float64)  # [K, V, 3]
    ibug = np.asarray(json.loads((folder / "vertex_indices.json").read_text())["idx_to_landmark_verts"])
    points, triangles = _read_obj(folder / "canonical_face_model.obj")
    laid = register(points, neutral, ibug)
    motion = np.zeros((len(names), 478, 3))
    motion[:, :468] = _skin_motion(laid, neutral[:_SKIN_VERTICES], dict(zip(names, shapes, strict=True)))
    centres = [points[list(rim)].mean(0) for rim in (EYE_R, EYE_L)]
    points = np.vstack([points, np.repeat(centres, 5, axis=0)])  # only gaze moves irises: see actors.gaze
    unit_ict = np.linalg.norm(neutral[ibug[36]] - neutral[ibug[45]])
    unit = np.linalg.norm(points[33] - points[263])
    to_image = np.array([1.0, -1.0, -1.0])
    return ActionTable(
        names=tuple(names),
        displacement=(motion / unit_ict * to_image).astype(np.float32),
        points=(points / unit * to_image).astype(np.float32),
        triangles=triangles,
    )


def _skin_motion(
    laid: NDArray[np.float64], skin: NDArray[np.float64], shapes: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Motion [K, N, 3] of the skin under each fitted landmark [N, 3]: inverse-distance mean of its nearest vertices.

    Lips and lids touch or nearly touch. Their landmarks only use vertices that move with their own side.
    """
    from scipy.spatial import KDTree

    size = len(skin)
    jaw_down = -shapes["jawOpen"][:size, 1]
    lid_down = -(shapes["eyeBlink_L"] + shapes["eyeBlink_R"])[:size, 1]
    near_lips = abs(skin[:, 1] - laid[[13, 14], 1].mean()) < 2.0
    groups = {
        "upper lip": (list(_UPPER_LIPS), ~near_lips | (jaw_down < 0.8)),
        "lower lip": (list(_LOWER_LIPS), ~near_lips | (jaw_down > 1.6)),
        "upper lids": ([*EYE_R[9:], *EYE_L[9:]], lid_down > 0.35),
        "lower lids": ([*EYE_R[1:8], *EYE_L[1:8]], lid_down < 0.05),
    }
    chosen = {i: allowed for members, allowed in groups.values() for i in members}
    fields = np.stack(list(shapes.values()))[:, :size]  # [K, V, 3]
    motion = np.zeros((len(fields), len(laid), 3))
    for allowed in [np.ones(size, bool), *(a for _, a in groups.values())]:
        members = [i for i in range(len(laid)) if chosen.get(i) is allowed or (i not in chosen and allowed.all())]
        vertices = np.flatnonzero(allowed)
        distance, nearest = KDTree(skin[vertices]).query(laid[members], k=4)
        weight = 1 / (distance + 1e-3)
        weight /= weight.sum(1, keepdims=True)
        motion[:, members] = np.einsum("nk,anki->ani", weight, fields[:, vertices[nearest]])
    return motion


def _read_obj(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    rows = [line.split() for line in path.read_text().splitlines()]
    points = np.array([[float(v) for v in row[1:4]] for row in rows if row and row[0] == "v"])
    triangles = np.array([[int(v.split("/")[0]) - 1 for v in row[1:4]] for row in rows if row and row[0] == "f"])
    return points, triangles.astype(np.int32)


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.generator.actions --data DIR [--out FILE]`: makes actions.npz again."""
    parser = argparse.ArgumentParser(prog="python -m engine.training.generator.actions", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds face3d/ (ICT-FaceKit Light)")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    options = parser.parse_args(arguments)
    if not (options.data / "face3d" / "ict_facekit_light.npz").is_file():
        print(
            f"--data {options.data}: no face3d/ict_facekit_light.npz in it; name the folder above it", file=sys.stderr
        )
        return 2
    table = make(options.data / "face3d")
    np.savez_compressed(
        options.out,
        names=np.array(table.names),
        displacement=table.displacement.astype(np.float16),
        points=table.points,
        triangles=table.triangles.astype(np.int16),
        attribution=np.array(
            "Motion: ICT-FaceKit (MIT, USC ICT). Mesh: MediaPipe canonical face (Apache-2.0, Google)."
        ),
    )
    print(f"{options.out}: {len(table.names)} shapes, {options.out.stat().st_size // 1024} KB")
    for au, sides in ACTION_UNITS.items():
        unit = table.unit(au, next(iter(sides)))
        share = ", ".join(f"{r} {s:.2f}" for r, s in zip(REGIONS, table.regions(unit), strict=True))
        print(f"{au:5s} peak {np.linalg.norm(unit[:, :2], axis=1).max():.3f} of the eye distance; {share}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
