"""Actors: real portraits with the maps that move them.

    python -m engine.training.generator.actors --data DIR --out DIR   # DIR holds portraits/; one .npz each

An actor's frame is `texture` sampled at `grid + sum_k coefficient[k] * maps[k]`: one matrix product and one lookup (see
`engine.training.generator.warps` for the geometry). `levels` distinguishes two kinds of maps:

- linear (level 0): 1 px of peak motion (crop px) per unit of the coefficient, for use up to some 3 px. Examples are
  `AU1_L`, `AU17_B`, ... of `actions.ACTION_UNITS`, and `gaze_x`, `gaze_y` (irises 1 px to the image's right, down; lids
  follow). `yaw` and `pitch` are per degree, to the image's right and up, minus the aligner's similarity.
- levels (0 < level <= 1): the exact map of an action at that share of its full size. A time course interpolates between
  neighbouring levels (`Actor.coefficients`). Examples are `blink_L`, `blink_R` and `smile_L`, `jaw_open`, ... of
  `rigging.LEVELS`. `own_smile` is this person's own smile, if there is a picture of it.

L and R are the person's own left and right.
"""

import argparse
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.training.generator import rigging, warps
from engine.training.generator.actions import ActionTable, load_actions
from engine.training.generator.warps import EXTENT_PX
from stream.errors import UserError
from stream.faces.align import crop_matrix
from stream.faces.landmarks import Landmarker, warp_down
from stream.faces.model_file import locate

TEXTURE_PX = 2 * EXTENT_PX

NO_PAINT = -1


@dataclass(frozen=True)
class Actor:
    """One portrait, ready to be moved. Coordinates are crop px (see `warps`). There are K maps and P paints.

    `identity`: `london:001`, `congress:A000109`, ... `split`: see `split_of`. `source`: the picture, relative to DIR.
    `texture`: uint8[352, 352] grey, 2 samples per crop px over the extent of 176 px. `names`, `levels`: str[K],
    float32[K]. `maps`: float16[K, 88, 88, 2], x then y, source minus target, crop px. `peaks_px`: float32[K], greatest
    displacement in each map. `regions`: float32[K, 4], share per REGIONS, sums to 1 (yaw and pitch: spread evenly).

    `paint`: uint8[P, 176, 176], cover (255 is full), in *target* coordinates. It shows what the texture lacks: the
    inside of an opening mouth, the lash line of closed lids. `paint_of`: int16[K], index into `paint` or NO_PAINT.
    `paint_grey`: float32[P]. A frame becomes `frame + c * paint/255 * (grey - frame)` with the map's coefficient c.

    `points`: float32[478, 3] landmarks. `matrix`: float64[2, 3], px of `source` -> crop px. `face_width_px`: cheek to
    cheek (landmarks 234, 454); p px on a 256-px face are p * face_width_px / 256 crop px.
    """

    identity: str
    split: str
    source: str
    texture: NDArray[np.uint8]
    names: tuple[str, ...]
    levels: NDArray[np.float32]
    maps: NDArray[np.float16]
    peaks_px: NDArray[np.float32]
    regions: NDArray[np.float32]
    paint: NDArray[np.uint8]
    paint_of: NDArray[np.int16]
    paint_grey: NDArray[np.float32]
    points: NDArray[np.float32]
    matrix: NDArray[np.float64]
    face_width_px: float

    def crop_px(self, px_256: float) -> float:
        """Converts motion in px on a face 256 px wide to crop px."""
        return px_256 * self.face_width_px / 256

    def coefficients(self, amounts: Mapping[str, float]) -> NDArray[np.float32]:
        """Amount per action name -> coefficient per map, float32[K]. Raises KeyError for a name that the actor lacks.

        Linear maps take the amount unchanged. Levels share it between the two nearest, with 0 as the lowest.
        """
        out = np.zeros(len(self.names), np.float32)
        for name, amount in amounts.items():
            index = self.index[name]
            if self.levels[index[0]] == 0:
                out[index] = amount
                continue
            knots = np.concatenate([[0.0], self.levels[index]])
            hats = np.eye(len(knots))[1:]
            out[index] = [np.interp(amount, knots, hat) for hat in hats]
        return out

    @functools.cached_property
    def index(self) -> dict[str, list[int]]:
        """Maps of each action, by rising level."""
        index: dict[str, list[int]] = {}
        for k, name in enumerate(self.names):
            index.setdefault(name, []).append(k)
        return index

    def save(self, path: Path) -> None:
        """Write one .npz; `load_actor` reads it back."""
        fields = {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}
        np.savez_compressed(path, allow_pickle=False, **fields)


def load_actor(path: Path) -> Actor:
    """An actor that `Actor.save` wrote."""
    with np.load(path) as file:
        values = {name: file[name] for name in (f.name for f in dataclasses.fields(Actor))}
    for name in ("identity", "split", "source"):
        values[name] = str(values[name])
    values["names"] = tuple(str(n) for n in values["names"])
    values["face_width_px"] = float(values["face_width_px"])
    return Actor(**values)


@functools.cache
def kept_actor(path: Path) -> Actor:
    """`load_actor`, but each file is loaded once per process, since many clips use the same actors."""
    return load_actor(path)


def actors_of(folder: Path, split: str) -> list[Path]:
    """Files of the actors of one split, in order. Raises UserError if there are none."""
    found = [path for path in sorted(folder.glob("*.npz")) if load_actor(path).split == split]
    if not found:
        why = f"no actor of the {split} split; python -m engine.training.generator.actors makes them"
        raise UserError(f"--actors {folder}: {why}", 2)
    return found


def split_of(identity: str) -> str:
    """`train`, `tune` or `test` (70/10/20 of the London people, by a hash of the identity), or `demo` for composites.

    All pictures of a person are in one split. Congress portraits are only for training.
    """
    source = identity.partition(":")[0]
    if source != "london":
        return {"congress": "train", "composite": "demo"}.get(source, "test")
    share = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.7 else "tune" if share < 0.8 else "test"


def build_actor(
    image: NDArray[np.uint8],
    points: NDArray[np.float32],
    identity: str,
    source: str = "",
    table: ActionTable | None = None,
    smiling: tuple[NDArray[np.uint8], NDArray[np.float32]] | None = None,
) -> Actor:
    """The actor of a portrait uint8[H, W, 3] BGR and its landmarks float32[478, 3] (px; `Landmarker.find`).

    `smiling` is the same person's smile, picture and landmarks. It adds the action `own_smile`.
    """
    table = table or load_actions()
    matrix, crop = _in_crop(points)
    mesh = warps.face_mesh(crop[:, :2], table.triangles)
    texture = texture_of(image, matrix)
    maps = rigging.linear(table, crop, mesh) + rigging.large(table, crop, mesh, texture)
    if smiling is not None:
        to_crop, apex = _in_crop(smiling[1])
        maps += rigging.own_smile(table, crop, mesh, apex, texture_of(smiling[0], to_crop))
    paints = [m.paint for m in maps if m.paint is not None]
    shown = [m for m in maps if m.paint is not None]
    return Actor(
        identity=identity,
        split=split_of(identity),
        source=source,
        texture=texture,
        names=tuple(m.name for m in maps),
        levels=np.array([m.level for m in maps], np.float32),
        maps=np.stack([m.field for m in maps]).astype(np.float16),
        peaks_px=np.array([np.linalg.norm(m.field, axis=-1).max() for m in maps], np.float32),
        regions=np.array([m.regions for m in maps], np.float32),
        paint=np.round(np.reshape(paints, (-1, EXTENT_PX, EXTENT_PX)) * 255).astype(np.uint8),
        paint_of=np.array([shown.index(m) if m.paint is not None else NO_PAINT for m in maps], np.int16),
        paint_grey=np.array([m.grey for m in shown], np.float32),
        points=crop,
        matrix=matrix,
        face_width_px=float(np.linalg.norm(crop[234, :2] - crop[454, :2])),
    )


def texture_of(image: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey texture uint8[352, 352] of the extent around the crop. Beyond the image, its edge is repeated."""
    pad = max(image.shape[:2]) // 2
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    wide = np.asarray(cv2.copyMakeBorder(grey, pad, pad, pad, pad, cv2.BORDER_REPLICATE), np.uint8)
    step = EXTENT_PX / TEXTURE_PX
    first = warps.sample_centres(TEXTURE_PX)[0]
    to_crop = np.array([[step, 0, first], [0, step, first]])
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    to_image = back[:, :2] @ to_crop
    to_image[:, 2] += back[:, 2] + pad
    return np.asarray(warp_down(wide, to_image, TEXTURE_PX), np.uint8)


def _in_crop(points: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """The live program's crop matrix for landmarks float32[478, 3] (px), and the landmarks in crop px."""
    matrix = np.asarray(crop_matrix(points), np.float64)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    crop = np.column_stack([points[:, :2] @ matrix[:, :2].T + matrix[:, 2], points[:, 2] * scale])
    return matrix, crop.astype(np.float32)


def render(actor: Actor, amounts: Mapping[str, float], size: int = EXTENT_PX) -> NDArray[np.uint8]:
    """One frame of the extent, uint8[size, size]: the reference for faster renderers. `amounts`: see `coefficients`."""
    coefficients = actor.coefficients(amounts)
    field = np.tensordot(coefficients, actor.maps.astype(np.float32), axes=1)
    field = np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)
    centres = warps.sample_centres(size)
    at = warps.to_samples(field + np.stack(np.meshgrid(centres, centres), -1), TEXTURE_PX).astype(np.float32)
    drawn = cv2.remap(actor.texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    frame = np.asarray(drawn, np.float32)
    for k in np.flatnonzero((coefficients > 0) & (actor.paint_of != NO_PAINT)):
        cover = np.asarray(cv2.resize(actor.paint[actor.paint_of[k]], (size, size)), np.float32) / 255
        frame += coefficients[k] * cover * (actor.paint_grey[actor.paint_of[k]] - frame)
    return np.clip(np.round(frame), 0, 255).astype(np.uint8)


def portraits(data: Path) -> list[tuple[str, Path]]:
    """Identity and file of every portrait to use, in order. Raises UserError if there are none."""
    folder = data / "portraits"
    # A neutral and a smiling picture are two resting faces of one identity.
    found = [(f"london:{p.stem.split('_')[0]}", p) for p in sorted(folder.glob("london/*_*.jpg"))]
    for name in ("congress", "composite"):
        found += [(f"{name}:{p.stem}", p) for p in sorted(folder.glob(f"{name}/*.jpg"))]
    if not found:
        raise UserError(f"--data {data}: no portraits/london|congress|composite/*.jpg in it; name the folder above", 2)
    return found


def build_all(todo: Iterable[tuple[str, Path]], data: Path, out: Path, face_model: Path | None) -> list[str]:
    """Writes one actor per portrait. Returns a line for each picture without a found face."""
    landmarker, missed = Landmarker(locate(face_model)), []
    for identity, path in todo:
        found = _face(landmarker, path)
        if found is None:
            missed.append(f"{path}: no face found, left out")
            continue
        smile = path.with_name(path.name.replace("_neutral", "_smiling"))
        smiling = _face(landmarker, smile) if smile != path and smile.is_file() else None
        actor = build_actor(*found, identity, str(path.relative_to(data)), smiling=smiling)
        actor.save(out / f"{identity.partition(':')[0]}_{path.stem}.npz")
    return missed


def _face(landmarker: Landmarker, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """A picture and the landmarks of its clearest face. Returns None if the file has no face or is no picture."""
    read = cv2.imread(str(path))
    image = np.asarray(read, np.uint8) if read is not None else np.zeros((1, 1, 3), np.uint8)
    faces = landmarker.find(image)
    return (image, faces[0]) if faces else None


def main(arguments: list[str] | None = None) -> int:
    """`python -m engine.training.generator.actors --data DIR --out DIR`: writes one .npz per picture."""
    from rich.progress import track

    parser = argparse.ArgumentParser(prog="python -m engine.training.generator.actors", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds portraits/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not to be fetched")
    parser.add_argument("--limit", type=int, help="only the first so many portraits")
    options = parser.parse_args(arguments)
    try:
        todo = portraits(options.data)[: options.limit]
        options.out.mkdir(parents=True, exist_ok=True)
        missed = build_all(track(todo, "actors"), options.data, options.out, options.face_model)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    print(*missed, f"{len(todo) - len(missed)} actors in {options.out}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
