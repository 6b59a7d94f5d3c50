"""Hours of video through the live pipeline at speed, to check that memory, handles, threads and latency stay flat.

It runs the live program itself (threads, channel, server, journal in a temporary folder) on a video in a loop, without
waiting for real time. Every --every seconds it notes resident memory, open handles, threads, and the latencies of the
last 10 s (from a frame's reading to its hop's scoring). `growth_mb_per_hour` is the slope of a straight line through
resident memory after the first fifth, per hour of video. With --client a subscriber receives all topics.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benchmarks.crops import videos
from stream.app import SINKS, assemble
from stream.config import Config
from stream.errors import UserError
from stream.live.pipeline import LivePipeline
from stream.sources import open_source
from stream.workers import Worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, help="a video")
    parser.add_argument("--data", type=Path, help="folder with video/; its first clip")
    parser.add_argument("--minutes", type=float, default=10, help="how long to run, minutes of the wall clock")
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--runtime", choices=("auto", "tensorrt", "cuda", "onnx"), default="auto")
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--client", action="store_true", help="let a subscriber to all topics listen along")


def run(args: argparse.Namespace) -> dict:
    cv2.setNumThreads(1)
    path = args.source or (next(iter(videos(args.data)), None) if args.data else None)
    if path is None:
        raise UserError("no video: give --source FILE or --data DIR", code=2)
    stop = threading.Event()
    source = open_source(str(path), paced=False, loop=True, stop=stop)
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            source=str(path), port=0, journal=Path(folder) / "journal.sqlite", model=args.model, runtime=args.runtime
        )
        parts = assemble(config, source)
        pipeline = LivePipeline(config, parts, SINKS, stop)
        program = Worker("program", pipeline.run, stop.set)
        program.start()
        pipeline.serving.wait(60)
        if args.client:
            threading.Thread(target=_listen, args=(pipeline.server.port,), daemon=True).start()
        looks = _watch(pipeline, stop, 60 * args.minutes, args.every)
        stop.set()
        program.join(5)
        source.close()
        program.check()
    result = {"video": path.name, **_figures(looks)}
    for name, value in result.items():
        print(f"  {name:22} {value:.2f}" if isinstance(value, float) else f"  {name:22} {value}")
    return result


def _figures(looks: list[dict]) -> dict:
    """Growth of the process, without the first fifth of the looks, in which it still warms up."""
    settled = looks[len(looks) // 5 :]
    media_h = np.array([look["media_s"] for look in settled]) / 3600
    slope = float(np.polyfit(media_h, [look["rss_mb"] for look in settled], 1)[0]) if len(settled) > 1 else 0.0
    return {
        "hours_of_video": looks[-1]["media_s"] / 3600,
        "growth_mb_per_hour": slope,
        **{
            f"{name}_{when}": look[name]
            for name in ("rss_mb", "handles", "threads", "p50_ms", "p99_ms")
            for when, look in (("begin", settled[0]), ("end", looks[-1]))
        },
        "threads_max": max(look["threads"] for look in settled),
        "handles_max": max(look["handles"] for look in settled),
        "hops_waiting_max": max(look["waiting"] for look in looks),
        "looks": len(looks),
    }


def _watch(pipeline: LivePipeline, stop: threading.Event, for_s: float, every_s: float) -> list[dict]:
    """Looks at the process until the time is over or the program has ended."""
    looks, until_s = [], time.monotonic() + for_s
    while time.monotonic() < until_s and not stop.wait(every_s):
        latency = pipeline.telemetry.status()["latency_ms"]
        looks.append(
            {
                "media_s": pipeline.parts.faces.media_s,
                "rss_mb": _resident_mb(),
                "handles": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(),
                "waiting": pipeline.hops_waiting,
                "p50_ms": latency["p50"],
                "p99_ms": latency["p99"],
            }
        )
    return looks


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _listen(port: int) -> None:
    with suppress(ConnectionClosed), connect(f"ws://127.0.0.1:{port}/events", proxy=None, max_size=None) as socket:
        socket.send(json.dumps({"type": "subscribe", "topics": ["events", "status", "scores", "preview"]}))
        for _ in socket:
            pass
