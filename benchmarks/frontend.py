"""The motion stem and the whole 2D half against the optical-flow front ends of the literature, on the same crops.

Per new frame every front end gives motion at the model's lags. The stem and the 2D half run from the shipped graph.
OpenCV computes the flows between the frame and its lagged crops. TV-L1 is in opencv-contrib-python only (cv2.optflow).
With opencv-python that row is missing. OpenCV offers DIS instead, which stands next to Farneback.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime

from benchmarks.measure import in_turn, table, textured
from engine.model import Model, load_model
from engine.rings import with_lags

FRAMES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--data", type=Path, help="folder with video/; without it a drifting texture")
    parser.add_argument("--runs", type=int, default=40)


def run(args: argparse.Namespace) -> dict:
    cv2.setNumThreads(1)
    model = load_model(args.model)
    spec = model.spec
    crops = _crops(args.data, spec.crop_px)
    stacks = with_lags(crops, spec.lags)[max(spec.lags) :][:FRAMES]
    calls = {"2D half": _graph(model, None, stacks), "of it: motion stem": _graph(model, "stem", stacks)}
    calls |= {name: _flow(flow, stacks) for name, flow in _flows().items()}
    rows = in_turn(calls, args.runs, time.thread_time)
    table(f"{len(stacks)} frames at lags {spec.lags}, one core", rows, "2D half", "time of all frames")
    per_frame = {name: t.median_ms / len(stacks) for name, t in rows.items()}
    return {
        "ms_per_frame": per_frame,
        "times_2d_half": {name: ms / per_frame["2D half"] for name, ms in per_frame.items()},
        "tvl1": "TV-L1" in rows,
        "crops": "video" if args.data else "texture",
    }


def _crops(data: Path | None, side: int) -> np.ndarray:
    if data is None:
        return textured(60, side)
    from benchmarks.crops import crops_of_videos  # needs the program's own networks; the texture does not

    return crops_of_videos(data, 1)[0]


def _flows() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = {
        "Farneback": lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0),
        "DIS": lambda a, b: dis.calc(a, b, None),
    }
    if hasattr(cv2, "optflow"):
        tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()
        flows["TV-L1"] = lambda a, b: tvl1.calc(a, b, None)
    return flows


def _flow(flow: Callable[[np.ndarray, np.ndarray], np.ndarray], stacks: np.ndarray) -> Callable[[], object]:
    return lambda: [flow(past, stack[0]) for stack in stacks for past in stack[1:]]


def _graph(model: Model, part: str | None, stacks: np.ndarray) -> Callable[[], object]:
    """The 2D half, or its part up to the end of the nodes named `part/...`, frame by frame as in a live program."""
    graph = onnx.load(model.onnx("2d"))
    if part is not None:
        first = next(n for n in graph.graph.node if n.op_type == "Conv" and not n.name.startswith(part))
        del graph.graph.output[:]
        graph.graph.output.append(onnx.ValueInfoProto(name=first.input[0]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: [session.run(None, {"crops": stack[None]}) for stack in stacks]
