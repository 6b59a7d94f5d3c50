"""The maps of one face: the actions that it can do, and how far they move this person's skin.

Motion comes from `engine.training.generator.actions`. The 3D pose of the landmarks transfers it to the person. Lids are
adjusted so that they meet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.spec import REGIONS
from engine.training.generator import warps
from engine.training.generator.actions import ACTION_UNITS, EYE_L, EYE_R, IRISES, MOUTH, ActionTable, similarity
from engine.training.generator.warps import EXTENT_PX, FaceMesh
from stream.faces.template import RIGID

_HALF_FULL = (0.5, 1.0)


def _pair(**weights: float) -> dict[str, float]:
    """Both sides of some ICT shapes."""
    return {f"{shape}_{side}": weight for shape, weight in weights.items() for side in "LR"}


def _one_sided(name: str, **weights: float) -> dict[str, tuple[dict[str, float], tuple[float, ...]]]:
    return {f"{name}_{s}": ({f"{shape}_{s}": w for shape, w in weights.items()}, _HALF_FULL) for s in "LR"}


LEVELS: dict[str, tuple[dict[str, float], tuple[float, ...]]] = {
    "jaw_open": ({"jawOpen": 0.6}, (0.25, 0.5, 0.75, 1.0)),  # ICT's full opening is a yawn
    "pucker": ({"mouthPucker": 1.0}, _HALF_FULL),
    "funnel": ({"mouthFunnel": 0.8, "jawOpen": 0.1}, _HALF_FULL),
    "stretch": (_pair(mouthStretch=0.8), _HALF_FULL),
    "lips_part": (_pair(mouthLowerDown=1.0, mouthUpperUp=0.5), _HALF_FULL),
    "press": (_pair(mouthPress=1.0) | {"mouthRollLower": 0.4, "mouthRollUpper": 0.4}, _HALF_FULL),
    "frown": (_pair(mouthFrown=1.0) | {"mouthShrugLower": 0.4}, _HALF_FULL),
    "shrug": ({"mouthShrugLower": 0.8, "mouthShrugUpper": 0.4}, _HALF_FULL),
    "sneer": (_pair(noseSneer=0.8, mouthUpperUp=0.2), _HALF_FULL),
    "brow_up": (_pair(browInnerUp=1.0, browOuterUp=1.0, eyeWide=0.5), _HALF_FULL),
    "brow_down": (_pair(browDown=1.0, eyeSquint=0.4), _HALF_FULL),
    "mouth_left": ({"mouthLeft": 0.7, "jawLeft": 0.5}, _HALF_FULL),
    "mouth_right": ({"mouthRight": 0.7, "jawRight": 0.5}, _HALF_FULL),
    **_one_sided("smile", mouthSmile=0.8, cheekSquint=0.8, eyeSquint=0.4),
    **_one_sided("brow_up", browInnerUp=1.0, browOuterUp=1.0),
    **_one_sided("dimple", mouthDimple=1.0),
    **_one_sided("squint", eyeSquint=1.0, cheekRaiser=0.4),
    **_one_sided("wide", eyeWide=1.0),
}
"""Large actions: ICT shapes with their weight at full size, and the shares at which maps are made."""

BLINK_LEVELS = (0.25, 0.5, 0.75, 1.0)
OVERSHOOT_PX = 0.8
"""How far, in crop px, a shut upper lid reaches past the lower one. It covers the lids' thickness and any seam of
white."""
TEETH_PX = 1.5
"""The mouth is open in the picture if its lips are this far apart, in crop px."""


@dataclass(frozen=True, eq=False)
class RigMap:
    """One map of a face: `field` float32[88, 88, 2] (see `warps`), `level` 0 if linear, share per REGIONS.

    `paint` is what it reveals: cover 0..1 float32[176, 176] in target coordinates, of grey level `grey`.
    """

    name: str
    level: float
    field: NDArray[np.float32]
    regions: tuple[float, ...]
    paint: NDArray[np.float32] | None = None
    grey: float = 0.0


def _motion(table: ActionTable, crop: NDArray[np.float32], weights: Mapping[str, float]) -> NDArray[np.float32]:
    """Motion float32[468, 2] (crop px) of a mix of ICT shapes on a face with the 3D pose of `crop`."""
    pose = similarity(table.points[:468].astype(np.float64), crop[:468].astype(np.float64))
    return (table.mix(weights)[:468] @ pose[:2, :3].T).astype(np.float32)


def linear(table: ActionTable, crop: NDArray[np.float32], mesh: FaceMesh) -> list[RigMap]:
    """Maps for small motion: ACTION_UNITS (peak 1 px), gaze (px), yaw and pitch (degrees)."""
    named = [(f"{au}_{side}", mix) for au, sides in ACTION_UNITS.items() for side, mix in sides.items()]
    motions = np.stack([_motion(table, crop, mix) for _, mix in named])
    fields = warps.linear_maps(mesh, motions)
    fields /= np.linalg.norm(fields, axis=-1).max((1, 2))[:, None, None, None]
    maps = [RigMap(n, 0, f, table.regions(table.mix(mix))) for (n, mix), f in zip(named, fields, strict=True)]
    turns = zip(("yaw", "pitch"), warps.linear_maps(mesh, _parallax(crop)), strict=True)
    even = (1 / len(REGIONS),) * len(REGIONS)
    return maps + _gaze(table, crop, mesh) + [RigMap(name, 0, field, even) for name, field in turns]


def _parallax(crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """Motion float32[2, 468, 2] per degree of yaw (nose to the image's right) and pitch (nose up).

    The similarity of the rigid landmarks is removed, as the aligner would do.
    """
    x, y, z = crop[:468].astype(np.float64).T
    z = np.minimum(z, 18)  # the sides of the head are steep and would fold to first order
    still = np.zeros_like(z)
    turns = np.radians([np.column_stack([-z, still]), np.column_stack([still, z])])
    here = np.column_stack([x, y])
    rest = [t - (here @ (m := similarity(here[RIGID], (here + t)[RIGID]))[:, :2].T + m[:, 2] - here) for t in turns]
    return np.asarray(rest, np.float32)


def _gaze(table: ActionTable, crop: NDArray[np.float32], mesh: FaceMesh) -> list[RigMap]:
    """Irises 1 px to the image's right, and 1 px down. The lids follow as far as real lids do."""
    y, x = np.meshgrid(*[warps.sample_centres(EXTENT_PX)] * 2, indexing="ij")
    seen = np.zeros((EXTENT_PX, EXTENT_PX), np.float32)
    for rim, iris in ((EYE_R, IRISES["R"]), (EYE_L, IRISES["L"])):
        centre = crop[iris[0], :2]
        radius = np.linalg.norm(crop[list(iris[1:]), :2] - centre, axis=1).mean()
        reach = np.linalg.norm(crop[rim[0], :2] - crop[rim[8], :2]) / 2
        fade = np.clip((reach * 1.1 - np.hypot(x - centre[0], y - centre[1])) / max(reach * 1.1 - radius, 1), 0, 1)
        seen += fade * warps.polygon_alpha(crop[list(rim), :2])
    seen = warps.down(warps.blur(seen, 0.5))
    lids = _motion(table, crop, {"eyeLookDown_L": 1.0, "eyeLookDown_R": 1.0})
    lid = warps.linear_maps(mesh, lids[None] * 0.8 / lids[[159, 386], 1].mean())[0]
    across = np.stack([-seen, np.zeros_like(seen)], -1)
    down = np.where(seen[..., None] > 0, 1 - seen[..., None], 1) * lid + np.stack([np.zeros_like(seen), -seen], -1)
    return [RigMap("gaze_x", 0, across, (0, 1, 0, 0)), RigMap("gaze_y", 0, down, (0, 1, 0, 0))]


def large(table: ActionTable, crop: NDArray[np.float32], mesh: FaceMesh, texture: NDArray[np.uint8]) -> list[RigMap]:
    """Maps at levels: both blinks, and LEVELS. `texture` gives the grey of this picture's darkest parts."""
    dark = float(np.percentile(texture[88:-88, 88:-88], 1))
    maps = []
    for side, rim in (("L", EYE_L), ("R", EYE_R)):
        closing = _blink(_motion(table, crop, {f"eyeBlink_{side}": 1.0}), crop[:, :2], rim)
        for level in BLINK_LEVELS:
            field = warps.level_map(mesh, level * closing, still_openings=True)
            seam = _seam(field, crop[:468, :2], rim) if level == 1 else None
            grey = _lid_grey(texture, crop[:, :2], rim)
            maps.append(RigMap(f"blink_{side}", level, field, (0, 1, 0, 0), seam, grey))
    for name, (mix, levels) in LEVELS.items():
        motion = _motion(table, crop, mix)
        share = table.regions(table.mix(mix))
        for level in levels:
            inside = _mouth_inside(crop[:468, :2], crop[:468, :2] + level * motion)
            paint = inside if inside.max() > 0.3 else None
            maps.append(RigMap(name, level, warps.level_map(mesh, level * motion), share, paint, dark))
    return maps


def own_smile(
    table: ActionTable,
    crop: NDArray[np.float32],
    mesh: FaceMesh,
    apex: NDArray[np.float32],
    apex_texture: NDArray[np.uint8],
) -> list[RigMap]:
    """Maps from a person's neutral landmarks `crop` to those of their smile `apex`, both float32[478, 3] crop px.

    The opening between the lips has the grey of the mouth in the smiling picture, which is mostly teeth.
    """
    motion = (apex - crop)[:468, :2]
    mouth = warps.polygon_alpha(apex[list(MOUTH), :2]) > 0.5
    seen = apex_texture[::2, ::2][mouth]
    grey = float(np.median(seen)) if seen.size else 0.0
    share = table.regions(table.mix(LEVELS["smile_L"][0]))
    maps = []
    for level in (1 / 3, 2 / 3, 1.0):
        inside = _mouth_inside(crop[:468, :2], crop[:468, :2] + level * motion)
        paint = inside if inside.max() > 0.3 else None
        maps.append(RigMap("own_smile", level, warps.level_map(mesh, level * motion), share, paint, grey))
    return maps


def _blink(motion: NDArray[np.float32], points: NDArray[np.float32], rim: tuple[int, ...]) -> NDArray[np.float32]:
    """The motion float32[468, 2] that shuts this person's eye. It is ICT's, scaled so that the lids just meet."""
    upper, lower = list(rim[9:]), list(rim[7:0:-1])
    gap = points[upper] - points[lower]
    needed = -gap * (1 + OVERSHOOT_PX / np.linalg.norm(gap, axis=1).max())
    middle = slice(1, 6)
    gain = np.linalg.norm(needed[middle], axis=1).mean() / np.linalg.norm(motion[upper][middle], axis=1).mean()
    closing = gain * motion
    closing[upper] = needed
    closing[[*lower, rim[0], rim[8]]] = 0
    return closing


def _seam(shut: NDArray[np.float32], points: NDArray[np.float32], rim: tuple[int, ...]) -> NDArray[np.float32]:
    """Cover, float32[176, 176], of the seam along which the shut lids of the map `shut` meet.

    A map is continuous, so between the upper and the lower lid it crosses the eyeball. The seam covers this.
    """
    eye = warps.blur(warps.polygon_alpha(points[list(rim)]), 0.5)
    return np.clip(1.5 * warps.blur(warps.warped(eye, shut), 0.5), 0, 1)


def _lid_grey(texture: NDArray[np.uint8], points: NDArray[np.float32], rim: tuple[int, ...]) -> float:
    """Grey of the seam of shut lids: a mix of the upper lid's margin with its lashes and the skin below the eye."""
    lashes = warps.to_samples(points[list(rim[10:15])], len(texture)) - np.array([0, 1])
    skin = warps.to_samples(points[list(rim[2:7])], len(texture)) + np.array([0, 7])
    dark, light = (np.median(texture[tuple(at.round().astype(int).T[::-1])]) for at in (lashes, skin))
    return float(0.55 * dark + 0.4 * light)


def _mouth_inside(points: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cover of the area that the moved lips open and the picture lacks, float32[176, 176].

    A mouth that is open in the picture shows teeth. They move with the upper lip and are not painted over.
    """
    rim, lower = list(MOUTH), slice(1, 10)
    kept = points[rim]
    if points[14, 1] - points[13, 1] > TEETH_PX:
        kept = moved[rim]
        kept[lower] = points[rim[lower]]
    opened = warps.polygon_alpha(moved[rim]) - np.maximum(warps.polygon_alpha(points[rim]), warps.polygon_alpha(kept))
    return warps.blur(np.clip(opened, 0, 1), 0.6)
