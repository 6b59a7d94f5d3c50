"""Films: a script and an actor as a video file in full frame and colour, as a webcam would record it.

    python -m engine.training.film --demo --data DIR --out stream/demo              # the clip that is shipped
    python -m engine.training.film --real-aligner 160 --split train --data DIR --actors DIR --out DIR
    python -m engine.training.film --coded 1104 --split train --data DIR --actors DIR --out DIR  # see `film_coded`

`engine.training.generator.render` goes straight to aligned crops. A film instead passes through the whole live path:
the decoder, the landmark networks, the aligner's own errors and the ring.

Every frame is one lookup in the portrait: frame px -> pose -> crop coordinates -> displacement maps -> portrait px. The
portrait is blurred once for the film's scale, so that lookups do not alias. The head moves and the room does not, so
the pose fades out around the head. The portrait's backdrop continues to the frame's edge.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.training.generator.actors import Actor
from engine.training.generator.render import fields_of
from engine.training.generator.script import Script
from engine.training.generator.warps import EXTENT_PX, MAP_SIZE, to_samples
from stream.errors import UserError
from stream.types import CROP_PX

Image = NDArray[np.uint8]
Float = NDArray[np.float32]

CENTRE = (CROP_PX - 1) / 2
HEAD = (0.66, 0.92)
"""Half-axes of the part that moves as one, in face widths. Nothing follows the pose beyond FADE times these."""
FADE = 1.7
DARK_RED = (0.88, 0.95, 1.25)
"""Colour of painted parts (mouth, lashes), as BGR shares of the grey level. The weighted mean is 1."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Place of the face in the picture: `face_px` wide (cheek to cheek), the crop's centre at x, y, and turned."""

    width_px: int = 640
    height_px: int = 480
    face_px: float = 200.0
    x_px: float = 320.0
    y_px: float = 215.0
    roll_deg: float = 0.0


def draw_setting(rng: np.random.Generator, width_px: int = 640, height_px: int = 480) -> Setting:
    """Someone in front of a webcam. The face is near the middle and 0.3 to 0.54 of the picture's height wide."""
    face_px = float(rng.uniform(0.3, 0.54)) * height_px
    x_px = width_px / 2 + float(rng.uniform(-0.1, 0.1)) * width_px
    y_px = height_px * float(rng.uniform(0.40, 0.48))
    return Setting(width_px, height_px, face_px, x_px, y_px, float(rng.normal(0, 2)))


@dataclass(frozen=True, slots=True)
class Injection:
    """A movement in addition to the script's: `field` float32[2, 88, 88] (a backward map with a peak of 1 crop px)
    times `curve` float32[F] in px on a 256-px face."""

    field: Float
    curve: Float


class Film:
    """The frames of one film, in order, uint8[H, W, 3] BGR each. Iterate once.

    `portrait` is uint8[h, w, 3] BGR, the picture that `actor` was built from (`actor.source`).
    """

    def __init__(
        self,
        script: Script,
        actor: Actor,
        portrait: Image,
        setting: Setting,
        rng: np.random.Generator,
        injections: Iterable[Injection] = (),
    ) -> None:
        self.script, self.actor, self.setting = script, actor, setting
        fields, paint = fields_of(script, actor, rng, "cpu")
        self._fields, self._paint = fields.numpy(), paint.numpy()
        for one in injections:
            self._fields += (one.curve * actor.crop_px(1.0))[:, None, None, None] * one.field
        self._unit = setting.face_px / actor.face_width_px  # frame px per crop px
        self._canvas, self._to_canvas = _canvas(portrait, actor, self._unit, float(rng.uniform(0, 0.5)))
        self._x, self._y, self._follow = _grids(setting)
        self._moving = _reach(self._follow.any(axis=1)), _reach(self._follow.any(axis=0))
        whole = self._crop_at(np.zeros(4), (slice(None), slice(None)))
        self._rest = self._look(whole, np.zeros((2, MAP_SIZE, MAP_SIZE), np.float32))
        self._grain = _grain(rng, setting)
        self._louder = np.sqrt(0.5 + self._rest.astype(np.float32) / 255) * script.camera.noise
        self._rng, self._hand = rng, _Hand(script, setting, self._rest, rng) if script.occluder else None

    def __iter__(self) -> Iterator[Image]:
        before: Float | None = None
        for k in range(len(self.script.time_s)):
            image = self._rest.copy()
            at = self._crop_at(self.script.pose[k], self._moving)
            image[self._moving] = _painted(self._look(at, self._fields[k]), at, self._paint[k])
            lit = self._lit(image if self._hand is None else self._hand.over(image, k), self.script.light[k])
            i, j = self._rng.integers(0, 64, 2)
            lit += self._louder * self._grain[i : i + len(lit), j : j + lit.shape[1]]
            if (smear := self.script.camera.smear) > 0:
                before = lit if before is None else before * smear + lit * (1 - smear)
                lit = before
            yield np.clip(np.rint(lit), 0, 255).astype(np.uint8)

    def _crop_at(self, pose: NDArray, part: tuple[slice, slice]) -> tuple[Float, Float]:
        """Crop coordinates of the frame's px."""
        x, y, follow = self._x[part], self._y[part], self._follow[part]
        rest = _turn(-self.setting.roll_deg, 1 / self._unit)
        posed, moved = self._posed(pose)
        shift, r, m = moved.tolist(), rest.tolist(), (posed - rest).tolist()  # Python's floats keep the arrays float32
        cx, cy = (CENTRE + x * r[i][0] + y * r[i][1] + follow * (x * m[i][0] + y * m[i][1] + shift[i]) for i in (0, 1))
        return cx, cy

    def _posed(self, pose: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn and shift from frame px, relative to the setting's x and y, to crop px, relative to the crop's
        centre."""
        turn = _turn(-self.setting.roll_deg - float(pose[2]), float(np.exp(-float(pose[3]))) / self._unit)
        return turn, turn @ (-np.asarray(pose[:2], float) * self.setting.face_px / 256)

    def crop_matrices(self) -> Iterator[NDArray[np.float64]]:
        """For each frame float64[2, 3], frame px to crop px. An aligner without errors would find the same."""
        middle = np.array([self.setting.x_px, self.setting.y_px])
        for pose in self.script.pose:
            turn, shift = self._posed(pose)
            yield np.column_stack([turn, CENTRE + shift - turn @ middle])

    def _look(self, at: tuple[Float, Float], field: Float) -> Image:
        """The portrait for frame pixels at `at` in the crop, moved by `field`."""
        cx, cy = at
        step = EXTENT_PX / MAP_SIZE
        gx, gy = ((to_samples(a, EXTENT_PX) + 0.5) / step - 0.5 for a in at)
        moved = cv2.remap(
            np.ascontiguousarray(field.transpose(1, 2, 0)), gx, gy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        cx, cy, m = cx + moved[..., 0], cy + moved[..., 1], self._to_canvas.tolist()
        mx, my = (m[i][0] * cx + m[i][1] * cy + m[i][2] for i in (0, 1))
        return np.asarray(cv2.remap(self._canvas, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def _lit(self, image: Image, light: Float) -> Float:
        gain, offset, tilt_x, tilt_y = (float(v) for v in light)
        if not (tilt_x or tilt_y):
            return image * np.float32(gain) + np.float32(offset)
        reach = 0.88 * self.setting.face_px
        ramp = gain * (1 + np.clip(self._x / reach, -2, 2) * tilt_x + np.clip(self._y / reach, -2, 2) * tilt_y)
        return image * ramp[..., None].astype(np.float32) + np.float32(offset)


class _Hand:
    """A skin-coloured object that passes in front of the face."""

    def __init__(self, script: Script, setting: Setting, rest: Image, rng: np.random.Generator) -> None:
        begin, end = script.occluder or (0.0, 0.0)
        t = np.clip((script.time_s - begin) / max(end - begin, 1e-3), -0.2, 1.2)
        a, b = rng.uniform(-1.4, 1.4, 2), rng.uniform(-1.4, 1.4, 2)
        a[rng.integers(2)] = rng.choice([-1.6, 1.6])
        at = a + (b - a) * t[:, None] + 0.1 * np.sin(9 * t)[:, None]
        self._at = at * 0.88 * setting.face_px + (setting.x_px, setting.y_px)
        self._shown = (t > -0.2) & (t < 1.2)
        self._axes = tuple(2 * float(r) * setting.face_px for r in rng.uniform(0.2, 0.45, 2))
        self._angle = float(rng.uniform(0, 180))
        y, x = int(setting.y_px), int(setting.x_px)
        self._skin = rest[y : y + 20, x - 10 : x + 10].reshape(-1, 3).mean(0) * float(rng.uniform(0.7, 1.1))

    def over(self, image: Image, k: int) -> Image:
        """Paint it into frame `k`."""
        if not self._shown[k]:
            return image
        x, y = (float(v) for v in self._at[k])
        mask = cv2.ellipse(np.zeros(image.shape[:2], np.float32), ((x, y), self._axes, self._angle), 1.0, -1)
        alpha = cv2.GaussianBlur(mask, (0, 0), 2)[..., None]
        return np.asarray(image * (1 - alpha) + alpha * self._skin, np.uint8)


def _grids(s: Setting) -> tuple[Float, Float, Float]:
    """For each px of the frame: x and y relative to the setting's, and how much it follows the pose, 0 to 1."""
    x, y = np.meshgrid(np.arange(s.width_px, dtype=np.float32), np.arange(s.height_px, dtype=np.float32))
    x, y = x - np.float32(s.x_px), y - np.float32(s.y_px)
    far = np.hypot(x / (HEAD[0] * s.face_px), y / (HEAD[1] * s.face_px))
    t = np.clip((FADE - far) / (FADE - 1), 0, 1)
    return x, y, (t * t * (3 - 2 * t)).astype(np.float32)


def _reach(some: ArrayLike) -> slice:
    """From the first that is true to the last."""
    at = np.flatnonzero(some)
    return slice(int(at[0]), int(at[-1]) + 1)


def _painted(image: Image, at: tuple[Float, Float], paint: Float) -> Image:
    """`image` with `paint` on top: cover, and cover times grey. The image's px lie at `at` in the crop."""
    if paint.shape[-1] == 1 or not paint.any():
        return image
    x, y = (to_samples(a, EXTENT_PX) for a in at)
    over = cv2.remap(np.ascontiguousarray(paint.transpose(1, 2, 0)), x, y, cv2.INTER_LINEAR)
    colour = over[..., 1:] * np.array(DARK_RED, np.float32)
    return np.clip(image * (1 - np.clip(over[..., :1], 0, 1)) + colour, 0, 255).astype(np.uint8)


def portrait_of(actor: Actor, data: Path) -> Image:
    """The colour picture of an actor. Raises UserError."""
    read = cv2.imread(str(data / actor.source))
    if read is None:
        raise UserError(f"--data {data}: no picture {actor.source} in it, which {actor.identity} was built from", 2)
    return np.asarray(read, np.uint8)


def _turn(degrees: float, scale: float) -> NDArray[np.float64]:
    c, s = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def _canvas(portrait: Image, actor: Actor, unit: float, soft: float) -> tuple[Image, NDArray[np.float64]]:
    """The portrait, blurred for the film's scale, with its backdrop continued on every side. Also returns crop ->
    canvas px."""
    pad = max(portrait.shape[:2])
    wide = cv2.copyMakeBorder(portrait, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    blurred = cv2.resize(
        cv2.blur(cv2.resize(wide, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA), (15, 15)), wide.shape[1::-1]
    )
    inside = np.zeros(wide.shape[:2], np.float32)
    inside[pad : pad + portrait.shape[0], pad : pad + portrait.shape[1]] = 1
    alpha = np.clip(2 * cv2.blur(inside, (61, 61)) - 1, 0, 1)[..., None]
    canvas = wide * alpha + blurred * (1 - alpha)
    step = float(np.sqrt(abs(np.linalg.det(actor.matrix[:, :2])))) * unit  # frame px per portrait px
    sigma = 0.45 * np.sqrt(max(step**-2 - 1, 0)) + soft
    if sigma > 0.2:
        canvas = cv2.GaussianBlur(canvas, (0, 0), sigma)
    back = np.asarray(cv2.invertAffineTransform(actor.matrix), np.float64)
    back[:, 2] += pad
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), back


def _grain(rng: np.random.Generator, setting: Setting) -> Float:
    """Sensor noise of unit size, mostly grey. It is 64 px larger than the frame, and each frame cuts another part of
    it."""
    size = (setting.height_px + 64, setting.width_px + 64)
    grey, colour = rng.standard_normal(size, np.float32), rng.standard_normal((*size, 3), np.float32)
    return np.asarray(grey[..., None] + 0.5 * cv2.blur(colour, (2, 2)), np.float32)
