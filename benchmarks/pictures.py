"""Converts a picture's colours between a codec's format and ours: one thread against FFmpeg's thread per core.

It runs while other processes rest, while they keep all cores but one busy, and while they keep all busy. This is like a
laptop with a call and a browser open. The program (`stream.sources.picture`) and the encoding of training films use
`one thread`.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

import av
import numpy as np

from benchmarks.measure import in_turn, table, textured
from stream.sources.picture import bgr

SIZES = ((640, 480), (1920, 1080))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=200)


def run(args: argparse.Namespace) -> dict:
    rows, cores = {}, len(os.sched_getaffinity(0))
    for width, height in SIZES:
        grey = np.resize(textured(1, 256)[0], (height, width))
        ours = av.VideoFrame.from_ndarray(np.dstack([grey, 255 - grey, grey // 2]), format="bgr24")
        codecs = ours.reformat(format="yuv420p")
        alone = ours.reformat(format="yuv420p", threads=1)
        same = np.array_equal(bgr(codecs), codecs.to_ndarray(format="bgr24"))
        same = same and np.array_equal(alone.to_ndarray(), codecs.to_ndarray())
        calls = {
            "to ours, a thread per core": lambda p=codecs: p.to_ndarray(format="bgr24"),
            "to ours, one thread": lambda p=codecs: bgr(p),
            "to the codec's, a thread per core": lambda p=ours: p.reformat(format="yuv420p"),
            "to the codec's, one thread": lambda p=ours: p.reformat(format="yuv420p", threads=1),
        }
        for busy in sorted({0, cores - 1, cores}):
            with at_work(busy):
                timed = in_turn(calls, args.runs, time.perf_counter)
            title = f"{width}x{height}, {busy} of {cores} cores busy"
            table(title, timed, "to ours, a thread per core", f"same pixels: {'yes' if same else 'NO'}")
            rows[title] = {name: t.row() for name, t in timed.items()}
    return {"rows": rows}


@contextmanager
def at_work(processes: int) -> Iterator[None]:
    """A context in which that many processes do nothing but count."""
    context = get_context("spawn")
    started = [context.Process(target=_count, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()


def _count() -> None:
    while True:
        pass
