"""Script + actor -> the crops that a live program would see. It is batched over frames in torch, on any device.

A made-up frame takes these steps. The displacement fields of all actions are summed. The actor's texture is sampled
through them into a *picture* like the camera's (its resolution, pose of the head, light, noise, codec). The picture is
sampled back into an aligned crop, with the error of the real aligner. Crops go through the live program's own ring onto
the time grid.

Geometry and sign of the maps: `engine.training.generator.warps`. Axes: F frames, K maps, M map samples (88), E px of
the extent (176), R px of the picture.
"""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.training.generator.actors import NO_PAINT, Actor
from engine.training.generator.camera import Camera
from engine.training.generator.curves import Curve
from engine.training.generator.script import Push, Script
from engine.training.generator.warps import EXTENT_PX, MAP_SIZE, sample_centres
from stream.faces.ring import FaceRing
from stream.types import CROP_PX, FaceCrop, Quality

CHUNK = 48  # frames at a time; limits memory


def render(
    script: Script, actor: Actor, rng: np.random.Generator, device: torch.device | str = "cpu"
) -> NDArray[np.uint8]:
    """Aligned crops uint8[F, CROP_PX, CROP_PX] at the script's stamps."""
    fields, paint = fields_of(script, actor, rng, device)
    pictures = take_pictures(script, actor, fields, paint, rng, device)
    return align(pictures, script, actor, rng, device)


def on_grid(crops: NDArray[np.uint8], time_s: NDArray[np.float64], fps: int, frames: int) -> NDArray[np.uint8]:
    """Puts crops on the time grid like the live program: uint8[frames, S, S]. Grid frame k is at time k / fps."""
    ring = FaceRing(fps=fps, capacity_frames=frames + 8)
    unknown = Quality(0, 0, 0, 0, 0)
    out = np.zeros((frames, *crops.shape[1:]), np.uint8)
    seen = np.zeros(frames, bool)
    for image, t in zip(crops, time_s, strict=True):
        filled = ring.push(FaceCrop(0, float(t), image, unknown, np.eye(2, 3))).filled
        for k in filled:
            if 0 <= k < frames:
                out[k], seen[k] = ring.frames(range(k, k + 1))[0], True
    if not seen.all():  # the first and last stamps need not lie on the grid
        known = np.flatnonzero(seen)
        out[~seen] = out[known[np.abs(np.flatnonzero(~seen)[:, None] - known).argmin(1)]]
    return out


def fields_of(
    script: Script, actor: Actor, rng: np.random.Generator, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Sum of all actions: the displacement in crop px float32[F, 2, M, M], and the paint over the face.

    The paint is float32[F, 2, E, E], cover and cover times grey level (the inside of an opening mouth, lash lines of
    shut lids). Without paint it is [F, 2, 1, 1].
    """
    frames = len(script.time_s)
    columns, maps, covers, cover_columns, greys = [], [], [], [], []
    for weight, moved, paint_index in parts_of(script, actor, rng):
        columns.append(weight)
        maps.append(moved)
        if paint_index != NO_PAINT:
            covers.append(actor.paint[paint_index].astype(np.float32) / 255)
            cover_columns.append(weight)
            greys.append(actor.paint_grey[paint_index])
    fields = torch.zeros(frames, 2, MAP_SIZE, MAP_SIZE, device=device)
    if maps:
        fields = combine(columns, np.stack(maps).transpose(0, 3, 1, 2), device)
    paint = torch.zeros(frames, 2, 1, 1, device=device)
    if covers:
        cover = np.stack(covers)
        paint = combine(cover_columns, np.stack([cover, cover * np.array(greys)[:, None, None]], axis=1), device)
    return fields, paint


def parts_of(
    script: Script, actor: Actor, rng: np.random.Generator
) -> Iterator[tuple[Curve, NDArray[np.float32], int]]:
    """The moving maps, one after another: the coefficient over time [F], the map [M, M, 2], its paint or NO_PAINT."""
    for name, curve in own_actions(script, actor).items():
        # Nobody's action equals the table's, so turn it and bend it.
        own = individual if name.startswith("AU") else _as_it_is
        scale = 1.0 if actor.levels[actor.index[name][0]] or name in ("yaw", "pitch") else actor.crop_px(1.0)
        for k, weight in hats(curve * scale, name, actor):
            yield weight, own(actor.maps[k].astype(np.float32), rng), int(actor.paint_of[k])
    for push, curve in script.pushes:
        yield curve * actor.crop_px(1.0), push_map(push, actor), NO_PAINT


def own_actions(script: Script, actor: Actor) -> dict[str, Curve]:
    """The script's actions. An actor with an own smile (from a second portrait) smiles that one."""
    actions = dict(script.actions)
    both = actions.keys() & {"smile_L", "smile_R"}
    if "own_smile" in actor.index and len(both) == 2:
        left, right = actions.pop("smile_L"), actions.pop("smile_R")
        actions["own_smile"] = ((left + right) / 2).astype(np.float32)
    return actions


def combine(columns: list[Curve], maps: NDArray[np.float32], device: torch.device | str) -> Tensor:
    """Curves [F] each times maps [K, C, H, W] -> their sum [F, C, H, W] by one matrix product."""
    weights = torch.as_tensor(np.stack(columns, axis=1).astype(np.float32), device=device)
    stacked = torch.as_tensor(np.ascontiguousarray(maps, np.float32), device=device)
    return (weights @ stacked.flatten(1)).reshape(len(weights), *stacked.shape[1:])


def hats(curve: Curve, name: str, actor: Actor) -> Iterable[tuple[int, Curve]]:
    """Maps of an action and their coefficients over time, like `Actor.coefficients` for a whole curve."""
    index = actor.index[name]
    if actor.levels[index[0]] == 0:
        yield index[0], curve
        return
    at = np.concatenate([[0.0], actor.levels[index]])
    for k, unit in zip(index, np.eye(len(at))[1:], strict=True):
        weight = np.interp(curve, at, unit)
        if weight.any():
            yield k, weight.astype(np.float32)


def _as_it_is(moved: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    return moved


def individual(moved: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A person's own variant of an action: a smooth random gain over the face and a turn by some 10 degrees, with
    the same peak."""
    coarse = np.exp(rng.normal(0, 0.35, (5, 5))).astype(np.float32)
    gain = cv2.resize(coarse, (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_CUBIC)
    a = rng.normal(0, 0.2)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]], np.float32)
    out = (moved @ turn) * gain.clip(0.2, 3)[..., None]
    # The longest arrow. numpy's norm is slow along an axis of two.
    peak, wanted = (float(np.sqrt((m[..., 0] ** 2 + m[..., 1] ** 2).max())) for m in (out, moved))
    return out * (wanted / max(peak, 1e-6))


def push_map(push: Push, actor: Actor) -> NDArray[np.float32]:
    """Backward map of a Gaussian push with a peak of 1 px."""
    c = sample_centres(MAP_SIZE)
    x, y = actor.points[push.landmark, :2]
    r = push.radius * actor.face_width_px
    bump = np.exp(-((c[None] - x) ** 2 + (c[:, None] - y) ** 2) / (2 * r * r))
    return np.stack([-np.cos(push.angle) * bump, -np.sin(push.angle) * bump], axis=-1).astype(np.float32)


def pose_matrices(script: Script, actor: Actor) -> NDArray[np.float32]:
    """Picture -> crop coordinates, float32[F, 2, 3], both normalised to -1..1 over the extent."""
    x, y, roll, scale = script.pose.T
    c, s = np.cos(np.deg2rad(roll)) * np.exp(-scale), np.sin(np.deg2rad(roll)) * np.exp(-scale)
    unit = actor.crop_px(1.0) * 2 / EXTENT_PX
    return np.stack([np.stack([c, s, -x * unit], -1), np.stack([-s, c, -y * unit], -1)], axis=1).astype(np.float32)


def take_pictures(
    script: Script, actor: Actor, fields: Tensor, paint: Tensor, rng: np.random.Generator, device: torch.device | str
) -> Tensor:
    """The camera's output, uint8[F, 1, R, R]: sampled, lit, noisy, coded."""
    camera, frames = script.camera, len(fields)
    side = round(EXTENT_PX * camera.resolution / 2) * 2
    texture = torch.as_tensor(_blurred(actor.texture, camera.resolution, rng), device=device)[None, None]
    theta = torch.as_tensor(pose_matrices(script, actor), device=device)
    gen = torch.Generator(device=device)
    gen.manual_seed(int(rng.integers(2**31)))
    hand = Hand(script, rng) if script.occluder else None
    light = torch.as_tensor(script.light, device=device)
    out: list[Tensor] = []
    before: Tensor | None = None
    for at in range(0, frames, CHUNK):
        part = slice(at, min(at + CHUNK, frames))
        n = part.stop - part.start
        grid = F.affine_grid(theta[part], [n, 1, side, side], align_corners=False)
        moved = F.grid_sample(fields[part], grid, padding_mode="border", align_corners=False)  # [n, 2, R, R]
        through = grid + moved.permute(0, 2, 3, 1) * (2 / EXTENT_PX)
        image = F.grid_sample(texture.expand(n, -1, -1, -1), through, padding_mode="border", align_corners=False)
        if paint.shape[-1] > 1 and bool(paint[part].any()):
            over = F.grid_sample(paint[part], grid, align_corners=False)
            image = image * (1 - over[:, :1].clamp(0, 1)) + over[:, 1:]
        if hand is not None:
            image = hand.over(image, part)
        image = lit(image, light[part])
        # Shot noise grows with brightness.
        noise = torch.randn(image.shape, generator=gen, device=device) * camera.noise
        image = image + noise * (0.5 + image.clamp(0, 255) / 255).sqrt()
        if camera.smear > 0:
            for i in range(n):
                before = image[i] if before is None else before * camera.smear + image[i] * (1 - camera.smear)
                image[i] = before
        out.append(image.clamp(0, 255).round().to(torch.uint8))
    pictures = torch.cat(out)
    if camera.codec != "none":
        coded = through_codec(pictures[:, 0].cpu().numpy(), camera)
        pictures = torch.as_tensor(coded, device=device)[:, None]
    return pictures


def _blurred(texture: NDArray[np.uint8], resolution: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The texture, as sharp as the camera's resolution allows, or as blurred as by an unfocused lens."""
    blur = np.sqrt(max((2 / resolution) ** 2 - 1, 0.0)) * 0.5 + float(rng.uniform(0, 0.8))
    grey = texture.astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), blur), np.float32) if blur > 0.1 else grey


def lit(image: Tensor, light: Tensor) -> Tensor:
    """Pictures [n, 1, R, R] under light [n, 4]: gain, offset, tilt x, tilt y, as in `Script`."""
    ramp = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    g = light[:, :, None, None]
    return image * g[:, :1] * (1 + g[:, 2:3] * ramp + g[:, 3:] * ramp[:, None]) + g[:, 1:2]


class Hand:
    """A textured object that passes in front of the face: an ellipse cut from another place of the picture."""

    def __init__(self, script: Script, rng: np.random.Generator) -> None:
        begin, end = script.occluder or (0.0, 0.0)
        t = np.clip((script.time_s - begin) / (end - begin), -0.2, 1.2)
        a, b = rng.uniform(-1.4, 1.4, 2), rng.uniform(-1.4, 1.4, 2)
        a[rng.integers(2)] = rng.choice([-1.6, 1.6])
        self.at = torch.as_tensor(a + (b - a) * t[:, None] + 0.1 * np.sin(9 * t)[:, None], dtype=torch.float32)
        self.radius = float(rng.uniform(0.2, 0.5))
        self.grey = float(rng.uniform(40, 200))
        self.shown = (t > -0.2) & (t < 1.2)

    def over(self, image: Tensor, part: slice) -> Tensor:
        """Paints it over frames `part` of the clip, [n, 1, R, R]."""
        if not self.shown[part].any():
            return image
        x = torch.linspace(-1, 1, image.shape[-1], device=image.device)
        at = self.at[part].to(image.device)
        distance = ((x - at[:, 0, None, None]) ** 2 + (x[:, None] - at[:, 1, None, None]) ** 2).sqrt()
        alpha = ((self.radius - distance) * 30).clamp(0, 1)[:, None]
        stripes = torch.sin(9 * (x - at[:, 0, None, None]) + 5 * (x[:, None] - at[:, 1, None, None]))[:, None]
        skin = self.grey + 25 * stripes
        return image * (1 - alpha) + skin * alpha


def through_codec(pictures: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    """Encode and decode uint8[F, R, R] as the camera's MJPEG or H.264 would."""
    if camera.codec == "mjpeg":
        flags = [cv2.IMWRITE_JPEG_QUALITY, camera.quality]
        coded = (cv2.imencode(".jpg", p, flags)[1] for p in pictures)
        return np.stack([np.asarray(cv2.imdecode(c, cv2.IMREAD_GRAYSCALE), np.uint8) for c in coded])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        options = {"crf": str(camera.quality), "preset": "ultrafast", "tune": "zerolatency", "threads": "1"}
        video = out.add_stream("libx264", rate=Fraction(30), options=options)
        video.width, video.height, video.pix_fmt = pictures.shape[2], pictures.shape[1], "yuv420p"
        for p in pictures:
            yuv = np.full((p.shape[0] * 3 // 2, p.shape[1]), 128, np.uint8)
            yuv[: p.shape[0]] = p
            out.mux(video.encode(av.VideoFrame.from_ndarray(yuv, format="yuv420p")))
        out.mux(video.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as file:
        return np.stack([np.asarray(f.to_ndarray(format="gray", threads=1), np.uint8) for f in file.decode(video=0)])


def align(
    pictures: Tensor, script: Script, actor: Actor, rng: np.random.Generator, device: torch.device | str
) -> NDArray[np.uint8]:
    """Undoes the pose with an aligner's error: crops uint8[F, S, S]."""
    frames = len(pictures)
    x, y, roll, scale = script.pose.T.astype(np.float64)
    white, slow = script.jitter
    error = rng.normal(0, white, (frames, 4)).astype(np.float64)
    for i in range(4):
        walk = np.convolve(rng.normal(0, 1, frames + 16), np.hanning(17) / np.linalg.norm(np.hanning(17)), "valid")
        error[:, i] += slow * walk[:frames]
    # Errors of roll and scale are as large as those of position, in px at the rim of the face.
    unit, rim = 2 / EXTENT_PX, 1 / 48
    c, s = np.exp(scale + error[:, 3] * rim * 0.7), np.deg2rad(roll) + error[:, 2] * rim * 0.7
    inner = CROP_PX / EXTENT_PX  # the crop's own -1..1 spans this much of the extent's
    rows = [np.stack([np.cos(s) * c, -np.sin(s) * c], -1), np.stack([np.sin(s) * c, np.cos(s) * c], -1)]
    rotation = np.stack(rows, axis=1)
    pose = np.stack([x, y], -1)[:, :, None] * actor.crop_px(1.0) * unit
    shift = rotation @ pose + error[:, :2, None] * unit
    theta = torch.as_tensor(np.concatenate([rotation * inner, shift], axis=2).astype(np.float32), device=device)
    out = []
    soften = max(script.camera.resolution - 1, 0.0) * 0.5
    for at in range(0, frames, CHUNK):
        part = pictures[at : at + CHUNK].float()
        if soften > 0.2:
            part = gaussian(part, soften)
        grid = F.affine_grid(theta[at : at + CHUNK], [len(part), 1, CROP_PX, CROP_PX], align_corners=False)
        crops = F.grid_sample(part, grid, padding_mode="border", align_corners=False)
        out.append(crops.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(out)[:, 0].cpu().numpy()


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Separable blur of [F, 1, H, W]."""
    x = torch.arange(-3, 4, dtype=image.dtype, device=image.device)
    k = torch.exp(-x * x / (2 * sigma * sigma))
    k = (k / k.sum()).expand(len(image), 1, 1, 7)
    # With frames as channels, depthwise convolution is many times faster on a CPU than a batch of one channel.
    frames = image.transpose(0, 1)
    frames = F.conv2d(F.pad(frames, (3, 3, 0, 0), mode="replicate"), k, groups=len(image))
    frames = F.conv2d(F.pad(frames, (0, 0, 3, 3), mode="replicate"), k.transpose(2, 3), groups=len(image))
    return frames.transpose(0, 1)
