"""The whole live path on a video: its speed against real time, and the cost of each stage.

It runs the program's own stages in one loop on one thread, like `mestream --offline`. The live program uses two or
three threads. `realtime_factor` is seconds of video per second of work. `cores` is seconds of processor per second of
video, which does not depend on other load. The default is the first 640x480 clip of --data DIR (video/**/*).
"""

import argparse
import resource
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from benchmarks.crops import videos
from benchmarks.measure import timing
from stream.app import assemble, open_named_source
from stream.config import Config
from stream.errors import UserError

RUNTIMES = ("auto", "tensorrt", "cuda", "onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, help="a video")
    parser.add_argument("--data", type=Path, help="folder with video/; the first 640x480 clip with a face all along")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--faces", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3, help="runs over the video; the median one is told")


def run(args: argparse.Namespace) -> dict:
    cv2.setNumThreads(1)
    path = args.source or _clip(args.data)
    runs = sorted((_once(args, path) for _ in range(args.repeat)), key=lambda r: r["realtime_factor"])
    result = runs[len(runs) // 2]
    print(f"{path.name}: {result['width']}x{result['height']}, {result['frames']} frames, {result['media_s']:.1f} s")
    for name, row in result["stages"].items():
        rest = f"median {row['median_ms']:.3f}  p99 {row['p99_ms']:.3f}"
        print(f"  {name:22} {row['mean_ms']:8.3f} ms per frame   {rest}")
    print(f"  {result['realtime_factor']:.2f} x real time, {result['cores']:.2f} cores, peak {result['rss_mb']:.0f} MB")
    return result


def _clip(data: Path | None) -> Path:
    if data is None:
        raise UserError("no video: give --source FILE or --data DIR", code=2)
    for path in videos(data):
        capture = cv2.VideoCapture(str(path))
        size = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        capture.release()
        if size == (640, 480):
            return path
    raise UserError(f"--data {data}: no 640x480 video in there; name one by --source", code=2)


def _once(args: argparse.Namespace, path: Path) -> dict:
    config = Config(source=str(path), offline=True, max_faces=args.faces, runtime=args.runtime, model=args.model)
    source = open_named_source(config, threading.Event())
    parts = assemble(config, source)
    took: dict[str, list[float]] = {"read": [], "face, crop, grid": [], "score, decode, decide": []}
    crops = events = 0
    size = (0, 0)

    def timed(stage: str, call, *arguments):
        began = time.perf_counter()
        out = call(*arguments)
        took[stage].append((time.perf_counter() - began) * 1e3)
        return out

    began, began_cpu = time.perf_counter(), time.process_time()
    while (item := timed("read", source.read)) is not None:
        if hasattr(item, "image"):
            size = item.image.shape[:2]
        for hop in timed("face, crop, grid", parts.faces.step, item, 0.0):
            crops += sum(len(face.crops) for face in hop.faces)
            events += len(timed("score, decode, decide", parts.scores.step, hop).events)
    elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    source.close()
    frames = max(parts.faces.frames, 1)
    stages = {n: timing(ms).row() | {"mean_ms": float(np.sum(ms)) / frames} for n, ms in took.items() if ms}
    return {
        "video": path.name,
        "width": size[1],
        "height": size[0],
        "frames": parts.faces.frames,
        "media_s": parts.faces.media_s,
        "crops": crops,
        "events": events,
        "runtime": parts.scores.runtime,
        "realtime_factor": parts.faces.media_s / elapsed_s,
        "cores": cpu_s / parts.faces.media_s,
        "stages": stages,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
