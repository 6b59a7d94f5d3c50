"""Micro-expressions of known size and time, for films and real video.

There are two ways, so that a figure can show whether a spotter has merely learned the generator. `generator` is the
generator's own way (`happenings.add_micro`: action units and pushes). `landmarks` shares nothing with it: it drags a
few landmarks, and thin-plate splines move the skin with them. Its course is triangular or a raised cosine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.spec import REGIONS
from engine.training.film.film import Injection
from engine.training.generator.actors import Actor
from engine.training.generator.happenings import add_micro
from engine.training.generator.render import fields_of
from engine.training.generator.script import Label, Script, still_script
from engine.training.generator.warps import EXTENT_PX, MAP_SIZE, sample_centres, to_samples
from stream.faces.align import crop_matrix
from stream.faces.landmarks import PRESENT, Landmarker, Roi, roi_of
from stream.sources import open_source
from stream.types import Frame

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
WAYS = ("generator", "landmarks")

DRAGGED = (
    # landmarks of the person's right half, region, direction (degrees; 0 is outward, 90 up)
    ((107, 66, 105), 0, 90), ((107, 66, 55), 0, -120), ((63, 70, 46), 0, 90), ((105, 63), 0, -90),
    ((145, 153, 144), 1, 90), ((159, 158, 160), 1, 90), ((205, 50, 187), 2, 75), ((36, 205), 2, 100),
    ((129, 98, 64), 2, 90), ((61, 76, 62), 3, 35), ((61, 76), 3, -80), ((61, 62, 78), 3, 0), ((39, 37, 40), 3, 90),
    ((84, 181, 91), 3, -90), ((152, 148, 176), 3, 90),
)  # fmt: skip
STILL = (10, 338, 284, 251, 389, 454, 361, 397, 379, 400, 176, 149, 172, 132, 234, 162, 54, 109, 168, 6, 4, 33, 133,
         263, 362, 127, 356)  # fmt: skip
"""Landmarks that thin-plate splines hold in place: the outline, the nose, the eye corners."""
FREE_PX = 9.0
"""A fixed landmark closer than this (crop px) to a dragged one is released, since skin does not tear."""


def movement(
    way: str, script: Script, actor: Actor, rng: np.random.Generator, onset_s: float, size_px: float
) -> tuple[Injection, Label]:
    """A micro-expression with a largest displacement of exactly `size_px` on a 256-px face. `way`: see WAYS."""
    if way == "generator":
        return _as_generated(script, actor, rng, onset_s, size_px)
    if way == "landmarks":
        return _as_dragged(script, actor, rng, onset_s, size_px)
    raise ValueError(f"way {way} is not one of {', '.join(WAYS)}")


def _as_generated(
    script: Script, actor: Actor, rng: np.random.Generator, onset_s: float, size_px: float
) -> tuple[Injection, Label]:
    state = rng.bit_generator.state
    label = add_micro(still_script([0.0], script.camera), rng, onset_s, 1.0)  # gives the time of its apex
    rng.bit_generator.state = state
    probe = still_script([*script.time_s, label.apex_s], script.camera)
    add_micro(probe, rng, onset_s, 1.0)
    fields = fields_of(probe, actor, rng, "cpu")[0].numpy()
    apex = fields[-1]
    curve = np.einsum("fchw,chw->f", fields[:-1], apex) / max(float((apex * apex).sum()), 1e-9)
    return Injection(apex / max(peak(apex), 1e-6), (size_px * curve).astype(np.float32)), _sized(label, size_px)


def _as_dragged(
    script: Script, actor: Actor, rng: np.random.Generator, onset_s: float, size_px: float
) -> tuple[Injection, Label]:
    length = float(rng.uniform(0.23, 0.5))
    apex_s, offset_s = onset_s + length * float(rng.uniform(0.3, 0.6)), onset_s + length
    tent = np.interp(script.time_s, [onset_s, apex_s, offset_s], [0.0, 1.0, 0.0])
    curve = tent if rng.random() < 0.5 else (1 - np.cos(np.pi * tent)) / 2
    marks, region, angle = DRAGGED[int(rng.integers(len(DRAGGED)))]
    field = dragged_field(actor, marks, np.deg2rad(angle + rng.normal(0, 15)), str(rng.choice(["both", "R", "L"])))
    regions = tuple(float(i == region) for i in range(len(REGIONS)))
    label = Label("micro", onset_s, apex_s, offset_s, size_px, regions)
    return Injection(field, (size_px * curve).astype(np.float32)), label


def dragged_field(actor: Actor, marks: Sequence[int], angle_rad: float, side: str) -> Float:
    """Backward map float32[2, 88, 88] with a peak of 1 crop px: thin-plate splines through the landmarks."""
    from scipy.interpolate import RBFInterpolator

    points = actor.points[:, :2].astype(np.float64)
    outward = points[33] - points[263]  # towards the person's right
    outward /= np.linalg.norm(outward)
    up = np.array([outward[1], -outward[0]]) if outward[0] > 0 else np.array([-outward[1], outward[0]])
    middle = points[[168, 4]].mean(0)
    from_, to = [], []
    for here, sign in (("R", 1.0), ("L", -1.0)):
        at = points[list(marks)]
        if here == "L":
            at = at - 2 * ((at - middle) @ outward)[:, None] * outward
        if side in ("both", here):
            from_.append(at)
            to.append(np.tile(sign * np.cos(angle_rad) * outward + np.sin(angle_rad) * up, (len(at), 1)))
    dragged = np.concatenate(from_)
    held = points[list(STILL)]
    held = held[np.linalg.norm(held[:, None] - dragged, axis=-1).min(1) > FREE_PX]
    corner = np.array([(x, y) for x in (-24, 152) for y in (-24, 152)], float)
    knots = np.concatenate([dragged, held, corner])
    values = np.concatenate([*to, np.zeros((len(held) + 4, 2))])
    c = sample_centres(MAP_SIZE).astype(np.float64)
    at = np.stack(np.meshgrid(c, c), -1).reshape(-1, 2)
    spline = RBFInterpolator(knots, values, kernel="thin_plate_spline", smoothing=0.5)
    field = -spline(at).reshape(MAP_SIZE, MAP_SIZE, 2)
    # Splines oscillate, so the skin stays still beyond the neighbourhood of the dragged landmarks.
    near = np.linalg.norm(at[:, None] - dragged, axis=-1).min(1).reshape(MAP_SIZE, MAP_SIZE, 1)
    field *= np.exp(-((near / (0.28 * actor.face_width_px)) ** 2))
    field = field.transpose(2, 0, 1).astype(np.float32)
    return field / peak(field)


def peak(field: Float) -> float:
    """Largest displacement in float32[2, M, M]."""
    return float(np.hypot(field[0], field[1]).max())


def _sized(label: Label, size_px: float) -> Label:
    return Label(label.kind, label.onset_s, label.apex_s, label.offset_s, size_px, label.regions)


@dataclass(frozen=True, slots=True)
class Take:
    """A face in a video file: the frames' times, and their matrix (image px -> crop px) for frames with a face."""

    time_s: NDArray[np.float64]
    matrices: list[NDArray[np.float64] | None]
    first: Image
    points: Float

    def seen(self, begin_s: float, end_s: float) -> bool:
        """Whether the face is there throughout."""
        return all(m is not None for m, t in zip(self.matrices, self.time_s, strict=True) if begin_s <= t <= end_s)


def read_frames(source_path: str) -> Iterator[Frame]:
    """The frames of a video file, read by the live program's reader."""
    source = open_source(source_path, paced=False)
    try:
        while (item := source.read()) is not None:
            if isinstance(item, Frame):
                yield item
    finally:
        source.close()


def follow(path: str, landmarker: Landmarker) -> Take | None:
    """The place of the best-scored face in every frame. Returns None if no frame has a face."""
    roi: Roi | None = None
    first: tuple[Image, Float] | None = None
    times, matrices = [], []
    for frame in read_frames(path):
        points, presence = None, 0.0
        for here in [roi] if roi is not None else landmarker.detect(frame.image)[:1]:
            points, presence = landmarker.track(frame.image, here)
        found = points is not None and presence >= PRESENT
        roi = roi_of(points) if found and points is not None else None
        if found and points is not None and first is None:
            first = frame.image, points
        times.append(frame.time_s)
        matrices.append(crop_matrix(points) if found and points is not None else None)
    return Take(np.array(times), matrices, *first) if first is not None else None


def injected(
    path: str, take: Take, movements: Sequence[Injection], crop_px: Callable[[float], float]
) -> Iterator[Image]:
    """The video's frames with the movements, by one cubic lookup each. Pixels that do not move stay unchanged."""
    for k, frame in enumerate(read_frames(path)):
        matrix = take.matrices[k]
        field = sum((float(m.curve[k]) * m.field for m in movements if m.curve[k]), start=np.zeros((), np.float32))
        if matrix is None or field.ndim == 0:
            yield frame.image
        else:
            yield warp_frame(frame.image, matrix, (crop_px(1.0) * field).astype(np.float32))


def warp_frame(image: Image, matrix: NDArray[np.float64], field: Float) -> Image:
    """Moves uint8[H, W, 3] by a backward map float32[2, 88, 88] (crop px). `matrix` places the map on the face."""
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    m = matrix.tolist()
    at = [to_samples(m[i][0] * x + m[i][1] * y + m[i][2], EXTENT_PX) for i in (0, 1)]
    step = EXTENT_PX / MAP_SIZE
    gx, gy = ((a + 0.5) / step - 0.5 for a in at)
    moved = cv2.remap(np.ascontiguousarray(field.transpose(1, 2, 0)), gx, gy, cv2.INTER_LINEAR)
    back = np.linalg.inv(matrix[:, :2]).astype(np.float32)
    shift = moved @ back.T
    drawn = cv2.remap(image, x + shift[..., 0], y + shift[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    still = np.abs(moved).max(-1) < 0.01
    return np.where(still[..., None], image, drawn)
