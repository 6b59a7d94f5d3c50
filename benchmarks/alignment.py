"""How steady a face's crop is: `python -m benchmarks alignment --data DIR`. Method and figures: docs/alignment.md.

DIR holds `portraits/*/*.jpg` and `video/**/*`. Every figure is in px of the 128-px crop, where a face is ~104 px wide.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from stream.errors import UserError
from stream.faces import model_file
from stream.faces.align import crop_matrix, extract, face_width_px, quality
from stream.faces.finder import Faces
from stream.faces.landmarks import Landmarker, roi_of
from stream.faces.steady import Steady
from stream.types import CROP_PX, Frame

FPS = 30.0
FACE_PX = 200
FRAME = (480, 640)
NOISE = 3.0
LAGS = (3, 6, 12)
CROP_FACE_PX = 104
PLACES = {"both brows": (105, 334), "one brow": (105,), "inner brows": (107, 336), "lip corners": (61, 291)}
SKIN_AT = np.array([[x, y, 1] for x in range(20, 110, 10) for y in range(20, 110, 10)], np.float64).T


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with portraits/ and video/")
    parser.add_argument("--face-model", type=Path, metavar="FILE", help="face_landmarker.task, if not from the cache")
    parser.add_argument("--portraits", type=int, default=8, help="how many stills to use (default: 8)")


# The three ways to align crops. Each is called with an image, its landmarks and its time.


class ByEyes:
    """Aligns by the two outer eye corners alone: the usual way, and the baseline."""

    def __call__(self, image, points, time_s):
        eyes = points[[33, 263], 0] + 1j * points[[33, 263], 1].astype(np.float64)
        turn = 64 / (eyes[1] - eyes[0])
        shift = (31.5 + 0.36j * CROP_PX) - turn * eyes[0]
        matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
        return matrix, extract(image, matrix)


class ByLandmarks:
    """`crop_matrix`: aligns each frame separately by many rigid landmarks."""

    def __call__(self, image, points, time_s):
        matrix = crop_matrix(points)
        return matrix, extract(image, matrix)


class Steadied:
    """What the program does."""

    def __init__(self):
        self._steady = Steady()

    def __call__(self, image, points, time_s):
        return self._steady.crop(image, crop_matrix(points), time_s)


WAYS: dict[str, Callable] = {"eye corners": ByEyes, "landmarks": ByLandmarks, "steadied": Steadied}


def still(path: Path, landmarker: Landmarker, face_px: float = FACE_PX) -> np.ndarray:
    """A portrait as a camera frame, with the face `face_px` wide in the middle of uint8[480, 640, 3]."""
    image = cv2.imread(str(path))
    (points, *_) = landmarker.find(image)
    scale = face_px / face_width_px(points)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    x, y = points[[234, 454], :2].mean(axis=0) * scale
    to_frame = np.array([[1, 0, FRAME[1] / 2 - x], [0, 1, FRAME[0] / 2 - y]])
    return cv2.warpAffine(image, to_frame, FRAME[::-1], borderMode=cv2.BORDER_REPLICATE)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, NOISE, image.shape), 0, 255).round().astype(np.uint8)


def resting(image: np.ndarray, frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [noisy(image, rng) for _ in range(frames)], [np.eye(3)] * frames


def moving(image: np.ndarray, frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A head that sways, rolls and comes closer. Returns images, and float64[3, 3] per frame from the still to it."""
    rng, images, truths = np.random.default_rng(0), [], []
    for t in np.arange(frames) / FPS:
        wave = {hz: np.sin(2 * np.pi * hz * t + hz) for hz in (0.3, 0.4, 0.5, 1.1, 1.7, 2.0)}
        dx = 12 * wave[0.3] + 4 * wave[1.1] + 1.5 * wave[2.0]
        dy = 8 * wave[0.4] + 3 * wave[1.7]
        angle, scale = np.radians(3) * wave[0.5], 1 + 0.03 * wave[0.4]
        truth = np.eye(3)
        truth[:2] = cv2.getRotationMatrix2D((FRAME[1] / 2, FRAME[0] / 2), float(np.degrees(angle)), float(scale))
        truth[:2, 2] += dx, dy
        truths.append(truth)
        moved = cv2.warpAffine(image, truth[:2], FRAME[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        images.append(noisy(moved, rng))
    return images, truths


def twitching(image: np.ndarray, points: np.ndarray, place: str, frames: int, hz: float = 4.0) -> list[np.ndarray]:
    """The skin around `place` moves up and down by 1 px of the image, while the head is still."""
    rng = np.random.default_rng(0)
    unit = face_width_px(points) / CROP_FACE_PX
    y, x = np.mgrid[: FRAME[0], : FRAME[1]].astype(np.float32)
    bumps = [((x - points[i, 0]) / (11 * unit)) ** 2 + ((y - points[i, 1]) / (7 * unit)) ** 2 for i in PLACES[place]]
    field = sum(np.exp(-bump / 2) for bump in bumps)
    waves = np.sin(2 * np.pi * hz * np.arange(frames) / FPS)
    return [noisy(cv2.remap(image, x, y + np.float32(wave) * field, cv2.INTER_CUBIC), rng) for wave in waves]


def landmarks_of(images: list[np.ndarray], landmarker: Landmarker) -> list[np.ndarray]:
    (points, *_), out = landmarker.find(images[0]), []
    for image in images:
        points, _ = landmarker.track(image, roi_of(points))
        out.append(points)
    return out


def laid(way: Callable, images: list[np.ndarray], points: list[np.ndarray], fps: float = FPS):
    """(matrices, crops) of a whole sequence."""
    lay = way()
    pairs = [lay(image, p, i / fps) for i, (image, p) in enumerate(zip(images, points, strict=True))]
    return [m for m, _ in pairs], [c for _, c in pairs]


def residual_px(matrices: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """Rms motion of the face in px of crops cut by `matrices`, when the head moved by `truths`. The mean is removed."""
    back = np.linalg.inv(np.vstack([matrices[0], [0, 0, 1]]))
    at = np.array([(m @ truth @ back @ SKIN_AT)[:2] for m, truth in zip(matrices, truths, strict=True)])
    return float(np.sqrt(((at - at.mean(axis=0)) ** 2).sum(axis=1).mean()))


def gain(crops: list[np.ndarray], true_crops: list[np.ndarray], at: np.ndarray, hz: float = 4.0) -> float:
    """Amplitude at `hz` of the skin at `at` (px) in `crops`, as a share of that in crops cut with a fixed matrix."""
    wave = np.exp(-2j * np.pi * hz * np.arange(len(crops)) / FPS)
    return float(abs(_heights(crops, at) @ wave) / abs(_heights(true_crops, at) @ wave))


def _heights(crops: list[np.ndarray], at: np.ndarray) -> np.ndarray:
    base = np.mean(crops, axis=0).round().astype(np.uint8)
    start = at.astype(np.float32).reshape(-1, 1, 2)
    options = {"winSize": (11, 11), "maxLevel": 0, "criteria": (3, 30, 0.001)}
    ends = [cv2.calcOpticalFlowPyrLK(base, crop, start, None, **options)[0] for crop in crops]
    return np.array([(end - start)[..., 1].mean() for end in ends])


def _skin_mask() -> np.ndarray:
    """Skin without eyes, brows and mouth, slightly smaller than the outline."""
    mask = cv2.ellipse(np.zeros((CROP_PX, CROP_PX), np.uint8), (63, 58), (42, 48), 0, 0, 360, 255, -1)
    for centre, axes in (((41, 40), (19, 17)), ((86, 40), (19, 17)), ((63, 100), (32, 20))):
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 0, -1)
    return mask


def flow_px(crops: list[np.ndarray], lag: int) -> list[float]:
    """Rms over the face (px) of the similarity that most of the skin moves by, per pair of crops `lag` apart.

    It uses corners of the skin, pyramidal Lucas-Kanade forward and back, and RANSAC. The aligner uses none of these.
    """
    mask, out = _skin_mask(), []
    options = {"winSize": (15, 15), "maxLevel": 1, "criteria": (3, 30, 0.003)}
    for before, after in zip(crops[:-lag:2], crops[lag::2], strict=False):
        corners = cv2.goodFeaturesToTrack(before, 80, 0.005, 3, mask=mask)
        if corners is None:
            continue
        there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **options)
        back, _, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
        good = (found[:, 0] == 1) & (np.linalg.norm((back - corners)[:, 0], axis=1) < 0.3)
        if good.sum() >= 8:
            warp, _ = cv2.estimateAffinePartial2D(corners[good], there[good], ransacReprojThreshold=0.5)
            if warp is not None:
                out.append(float(np.sqrt(((warp @ SKIN_AT - SKIN_AT[:2]) ** 2).sum(axis=0).mean())))
    return out


def frames_of(path: Path, most: int = 150) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    for _ in range(most):
        good, image = video.read()
        if not good:
            return
        yield image


def measure_stills(paths: list[Path], landmarker: Landmarker) -> dict:
    rest: dict = {name: [] for name in WAYS}
    sway: dict = {name: [] for name in WAYS}
    gains: dict = {place: {name: [] for name in WAYS} for place in PLACES}
    for path in paths:
        image = still(path, landmarker)
        for make, results, frames in ((resting, rest, 60), (moving, sway, 120)):
            images, truths = make(image, frames)
            points = landmarks_of(images, landmarker)
            for name, way in WAYS.items():
                results[name].append(residual_px(laid(way, images, points)[0], truths))
        (home, *_) = landmarker.find(image)
        fixed = crop_matrix(home)
        for place, marks in PLACES.items():
            images = twitching(image, home, place, 60)
            points = landmarks_of(images, landmarker)
            at = np.array([fixed @ [*home[i, :2], 1] for i in marks])
            true_crops = [extract(i, fixed) for i in images]
            for name, way in WAYS.items():
                gains[place][name].append(gain(laid(way, images, points)[1], true_crops, at))
    return {
        "still": _means(rest),
        "moving": _means(sway),
        "gain": {place: _means(by_way) for place, by_way in gains.items()},
    }


def _means(results: dict) -> dict:
    return {name: round(float(np.mean(values)), 4) for name, values in results.items()}


def measure_video(path: Path, landmarker: Landmarker) -> dict | None:
    """For each way, the median over pairs of frames of the skin's motion, per lag. Returns None without a face to
    follow."""
    images = list(frames_of(path))
    first = next((i for i, image in enumerate(images) if landmarker.find(image)), None)
    if first is None or len(images) - first < 2 * max(LAGS):
        return None
    images = images[first:]
    points = landmarks_of(images, landmarker)
    row: dict = {"frames": len(images), "face_px": round(float(np.median([face_width_px(p) for p in points])))}
    for name, way in WAYS.items():
        crops = laid(way, images, points)[1]
        row[name] = {lag: round(float(np.median(flow_px(crops, lag) or [np.nan])), 3) for lag in LAGS}
    return row


def measure_time(path: Path, landmarker: Landmarker, repeats: int = 100) -> dict:
    """Median processor time in ms per call on 640x480 with one face. Other load on the machine does not count."""
    images, _ = moving(still(path, landmarker), repeats)
    points = landmarks_of(images, landmarker)
    steady, faces = Steady(), Faces(landmarker)
    crop = extract(images[0], crop_matrix(points[0]))
    stages: dict[str, Callable[[int], object]] = {
        "detect (only while a face is wanting)": lambda i: landmarker.detect(images[i]),
        "landmarks": lambda i: landmarker.track(images[i], roi_of(points[i])),
        "crop by landmarks alone": lambda i: extract(images[i], crop_matrix(points[i])),
        "crop, steadied": lambda i: steady.crop(images[i], crop_matrix(points[i]), i / FPS),
        "quality": lambda i: quality(points[i], crop),
        "whole face room (Faces.update)": lambda i: faces.update(Frame(i, i / FPS, images[i])),
    }
    out = {}
    for name, call in stages.items():
        times = []
        for i in range(repeats):
            began = time.process_time()
            call(i)
            times.append(time.process_time() - began)
        out[name] = round(float(np.median(times)) * 1000, 2)
    return out


def run(args: argparse.Namespace) -> dict:
    """All figures, after printing them as tables."""
    cv2.setNumThreads(1)
    landmarker = Landmarker(model_file.locate(args.face_model))
    stills = sorted((args.data / "portraits").glob("*/*neutral.jpg")) or sorted(
        (args.data / "portraits").rglob("*.jpg")
    )
    chosen = stills[:: max(1, len(stills) // args.portraits)][: args.portraits]
    if not chosen:
        raise UserError(f"--data {args.data}: no portraits/*/*.jpg in there; give the folder that holds portraits/")
    out = {"portraits": len(chosen), **measure_stills(chosen, landmarker), "video": {}}
    for path in sorted(p for p in (args.data / "video").rglob("*") if p.suffix in (".mp4", ".mpg", ".mkv", ".avi")):
        row = measure_video(path, landmarker)
        if row is not None:
            out["video"][path.name] = row
    out["ms"] = measure_time(chosen[0], landmarker)
    _print(out)
    return out


def _print(out: dict) -> None:
    print(f"px of the 128-px crop (x 2.5: px on a 256-px face); {out['portraits']} portraits, {FACE_PX}-px faces")
    print(f"{'':28}" + "".join(f"{name:>14}" for name in WAYS))
    for name, key in (("(a) still, noise 3: rms", "still"), ("(b) moving head: rms", "moving")):
        print(f"{name:28}" + "".join(f"{out[key][way]:14.3f}" for way in WAYS))
    for place, by_way in out["gain"].items():
        print(f"{'(d) gain, ' + place:28}" + "".join(f"{by_way[way]:14.2f}" for way in WAYS))
    print(f"(c) real video, median skin motion at lags of {LAGS} frames")
    for name, row in out["video"].items():
        cells = (" ".join(f"{row[way][lag]:.2f}" for lag in LAGS) for way in WAYS)
        print(f"{name[:20]:20} {row['face_px']:4} px " + "".join(f"{cell:>18}" for cell in cells))
    print("ms of processor time per 640x480 frame, one thread")
    for name, ms in out["ms"].items():
        print(f"  {name:40}{ms:6.2f}")
