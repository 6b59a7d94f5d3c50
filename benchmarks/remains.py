"""How much of a micro-expression (ME) remains in a worse picture: its motion, as the network's input.

It shows whether the picture or the network loses what `conditions` does not find. It takes every ME of a film without
codec, and its motion up to the apex over the stem's longest lag. It compares this motion with the same moment of the
changed film.

The share is 1 if all of the motion is there, and 0 if none is or the face is lost. Beside: the difference of the two,
as a share of that motion. Late: the shift at which the courses of that motion, rise and return, are most alike. Error:
how far the motion of the whole film is off over the shortest lag. `errors` measures the cost of that.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import same_films
from benchmarks.conditions import CHANGES
from benchmarks.same_faces import over_face
from benchmarks.same_films import LARGE_PX
from engine.mesnet import MotionStem
from engine.spec import ModelSpec
from engine.training.film.aligned import crops_of
from engine.training.pools.pool import through_stem
from engine.training.pools.stemmed import split_stem, unsquashed
from stream.errors import UserError
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SPEC = ModelSpec()
SHIFTS = range(-6, 7)
"""Frames that a course may come later."""
AROUND = (12, 21)
"""Frames before and after an apex in which its course is compared: the rise, and the return over the stem's lag."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    same_films.add_films_arguments(parser)
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")


def run(args: argparse.Namespace) -> dict[str, Any]:
    landmarker, films = Landmarker(locate()), same_films.without_codec(args.bench, args.split)
    changes = {name: CHANGES[name] for name in args.changes}
    left: dict[str, list[float]] = defaultdict(list)
    beside: dict[str, list[float]] = defaultdict(list)
    late: dict[str, list[float]] = defaultdict(list)
    errors: dict[str, list[float]] = defaultdict(list)
    sizes: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for film in track(films, "films"):
            original = args.bench / film.file
            mes = [
                (m.apex_s, m.amplitude_px or 0.0) for m in film.intervals if m.kind == "micro" and m.apex_s is not None
            ]
            as_it_is = motion(original, landmarker, round(film.duration_s * SPEC.fps)) if mes else None
            if as_it_is is None:
                continue
            quick, whole = as_it_is
            rows = np.array([round(apex_s * SPEC.fps) for apex_s, _ in mes], int) - max(SPEC.lags)
            rows = rows.clip(0, len(whole) - 1)
            sizes += [size for _, size in mes]
            for name, path in same_films.versions(original, changes, Path(folder)):
                seen = as_it_is if path == original else motion(path, landmarker, len(whole) + max(SPEC.lags))
                if seen is not None:
                    errors[name].append(error_px(quick, seen[0]))
                there = np.zeros_like(whole) if seen is None else seen[1]
                left[name] += shares(whole, there, rows)
                beside[name] += differences(whole, there, rows)
                late[name] += delays_ms(whole, there, rows)
    large = np.array(sizes) >= LARGE_PX
    if not large.any():
        raise UserError(f"--bench {args.bench}: no ME from {LARGE_PX} px in a film without a codec; build a larger one")
    table = [
        {"change": name, **_row(np.array(left[name]), np.array(beside[name]), large, late[name], errors[name])}
        for name in args.changes
    ]
    for row in table:
        print(_line(row))
    return {"films": len(films), "rows": table}


def _line(row: dict[str, Any]) -> str:
    late = "-" if row["late_ms"] is None else f"{row['late_ms']:.0f} ms"
    errs = "-" if row["error_px"] is None else f"{row['error_px']:.3f} px"
    return ("{change:44} | left, median {left:.2f} of {mes} | from 1.5 px {large_left:.2f} of {large}, beside "
            "{large_beside:.2f} | late by {late} | errs by {errs}".format(**row, late=late, errs=errs))  # fmt: skip


def motion(video: Path, landmarker: Landmarker, frames: int) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """The network's view of the local motion of a video's one face, crop px, float32[frames - longest lag, 2, G, G]
    each. Over the shortest lag it is as measured. Over the longest lag it is scaled by what the skin shows. Returns
    None if the face is ever lost."""
    crops = crops_of(video, landmarker, SPEC, frames)
    if crops is None:
        return None
    rows = through_stem(MotionStem(SPEC), crops, SPEC)
    local, _ = split_stem(torch.from_numpy(rows), SPEC)
    u, v, cx, cy, _ = local.split(len(SPEC.lags), dim=1)
    u, v = unsquashed(u), unsquashed(v)
    quick = torch.stack([u[:, 0], v[:, 0]], dim=1)
    return quick.numpy(), torch.stack([u[:, -1] * cx[:, -1], v[:, -1] * cy[:, -1]], dim=1).numpy()


def error_px(quick: NDArray[np.float32], there: NDArray[np.float32]) -> float:
    """How far the motion of `there`, float32[n, 2, G, G] crop px, is from that of `quick`: rms over the face."""
    return over_face(torch.from_numpy(there - quick))


def shares(whole: NDArray[np.float32], there: NDArray[np.float32], at: NDArray[np.int_]) -> list[float]:
    """How much of the motion float32[n, 2, G, G] of `whole` is in `there` at the rows `at`, by least squares."""
    return [float((there[k] * whole[k]).sum() / (whole[k] ** 2).sum()) for k in at]


def differences(whole: NDArray[np.float32], there: NDArray[np.float32], at: NDArray[np.int_]) -> list[float]:
    """How far the motion of `there` at the rows `at` is from that of `whole`, in norms of the latter."""
    return [float(np.linalg.norm(there[k] - whole[k]) / np.linalg.norm(whole[k])) for k in at]


def delays_ms(whole: NDArray[np.float32], there: NDArray[np.float32], at: NDArray[np.int_]) -> list[float]:
    """Delay of the motions of `whole` at the rows `at` in `there`, to a frame: the shift with the least difference.
    Motions are left out when less than half of them is there."""
    out = []
    for k, share in zip(at, shares(whole, there, at), strict=True):
        if share < 0.5:
            continue
        before, after = ((motion * whole[k]).sum((1, 2, 3)) for motion in (whole, there))
        first, last = max(k - AROUND[0], -SHIFTS[0]), min(k + AROUND[1], len(whole) - SHIFTS[-1])
        off = [((after[first + s : last + s] - before[first:last]) ** 2).sum() for s in SHIFTS]
        out.append(1000 * SHIFTS[int(np.argmin(off))] / SPEC.fps)
    return out


def _row(
    left: NDArray[np.float64],
    beside: NDArray[np.float64],
    large: NDArray[np.bool_],
    late: list[float],
    errors: list[float],
) -> dict[str, Any]:
    return {
        "mes": len(left),
        "left": float(np.median(left)),
        "large": int(large.sum()),
        "large_left": float(np.median(left[large])),
        "large_beside": float(np.median(beside[large])),
        "late_ms": float(np.mean(late)) if late else None,
        "error_px": float(np.median(errors)) if errors else None,
    }
