"""Every available runtime on one hop of one face: time against torch eager, and distance from float32.

Parity uses the videos of --data DIR (video/**/*) or the test videos of --bench DIR (truth.json), through the program's
own stages. Without either it uses a drifting texture. `score`: largest difference of a probability. `same`: share of
the decoded proposals with a score of at least --threshold that another runtime also finds, with IoU of at least 0.9.
Events are compared at the model's own operating point and at --threshold: see `benchmarks.parity.Agreement`.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.crops import videos
from benchmarks.measure import Timing, clock_for, in_turn, table, textured
from benchmarks.parity import Watched, agreement, bench_videos, ends_of, watch
from engine import build
from engine.datasets.truth import TruthVideo
from engine.decode import Proposal, decode, temporal_iou
from engine.errors import EngineError
from engine.model import Model, load_model
from engine.ranges import load_ranges, observe_ranges
from engine.runtimes import Runtime
from engine.runtimes.onnx import OnnxRuntime
from engine.scorer import Scorer
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate

SAME_IOU = 0.9
SHORTEST = 24
"""Proposals are not compared on shorter stretches of crops, in frames."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", type=Path, help="folder with video/")
    where.add_argument("--bench", type=Path, help="folder that engine.bench_data made")
    parser.add_argument("--videos", type=int, default=8, help="at most so many of them, evenly drawn (default: 8)")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threshold", type=float, default=0.3)
    parser.add_argument("--compile", action="store_true", help="torch.compile too (minutes)")


def run(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    spec = model.spec
    watched = _watched(args, model)
    stretches = [c for w in watched for c in w.stretches if len(c) >= SHORTEST] or [textured(200, spec.crop_px)]
    with tempfile.TemporaryDirectory() as scratch:
        runtimes = dict(_runtimes(model, stretches, Path(scratch), args.compile))
        scorers = {name: Scorer[int](runtime, spec) for name, runtime in runtimes.items()}
        new = {0: textured(spec.hop_frames, spec.crop_px)}
        rows: dict[str, Timing] = {}
        for clock in {clock_for(r.name) for r in runtimes.values()}:
            names = [n for n, r in runtimes.items() if clock_for(r.name) is clock]
            rows |= in_turn({n: _hop(scorers[n], new) for n in names}, args.runs, clock)
        reference = "torch eager cpu"
        table(f"one hop of {spec.hop_frames} frames, one face", rows, reference)
        parity = _parity(runtimes, model, stretches, reference, args.threshold)
        events = {at: _events(runtimes, model, watched, reference, at) for at in (None, args.threshold) if watched}
    return {
        "rows": {n: t.row() | {"ratio": rows[reference].median_ms / t.median_ms} for n, t in rows.items()},
        "parity": parity,
        "events": {"operating point" if at is None else str(at): rows for at, rows in events.items()},
        "videos": [w.name for w in watched],
        "frames": sum(map(len, stretches)),
        "crops": "video" if watched else "texture",
    }


def _watched(args: argparse.Namespace, model: Model) -> list[Watched]:
    """The videos of --data or --bench, evenly drawn, through the face stage."""
    every: list[tuple[Path, TruthVideo | None]] = []
    if args.bench:
        every += bench_videos(args.bench)
    elif args.data:
        every += [(path, None) for path in videos(args.data)]
    else:
        return []
    landmarker = Landmarker(locate(None))
    return [watch(path, model, landmarker, truth) for path, truth in every[:: max(1, -(-len(every) // args.videos))]]


def _events(
    runtimes: Mapping[str, Runtime], model: Model, watched: list[Watched], reference: str, threshold: float | None
) -> dict[str, dict[str, float]]:
    wanted, out = [ends_of(w, runtimes[reference], model, threshold) for w in watched], {}
    at = "the operating point" if threshold is None else f"threshold {threshold}"
    print(f"events against {reference} at {at}, {len(watched)} videos, {sum(map(len, wanted))} ends")
    for name, runtime in runtimes.items():
        got = agreement(watched, [ends_of(w, runtime, model, threshold) for w in watched], wanted)
        print(f"  {name:22} {got.ends} ends, {got.identical} identical, at most {got.apart_frames:.3f} frames apart, "
              f"F1 {got.f1:.4f}")  # fmt: skip
        out[name] = dataclasses.asdict(got)
    return out


def _hop(scorer: Scorer[int], new: dict[int, np.ndarray]) -> Callable[[], object]:
    return lambda: scorer.score(new)


def _runtimes(
    model: Model, stretches: list[np.ndarray], scratch: Path, compiled: bool
) -> Iterator[tuple[str, Runtime]]:
    """Whatever can run on this machine."""
    import torch

    from engine.runtimes.torch_cuda import TorchRuntime, torch_runtime

    torch.set_num_threads(1)  # one core, like the others
    yield "torch eager cpu", torch_runtime(model, 1, "cpu")
    if compiled:
        from engine.export import load_network

        net = load_network(model)
        halves = torch.compile(net.features), torch.compile(net.heads)
        yield "torch.compile cpu", TorchRuntime(model.spec, lambda batch: halves, 1, "cpu", "torch")
    ranges = _ranges(model, stretches)
    for precision in ("fp32", "fp16", "int8"):
        build.write_onnx(model, precision, scratch / precision, ranges)
        yield f"onnxruntime {precision}", OnnxRuntime(model, 1, directory=scratch / precision)
    yield from _openvino(model)
    if torch.cuda.is_available():
        yield from _on_gpu(model, ranges)


def _ranges(model: Model, stretches: list[np.ndarray]) -> Mapping[str, float | None]:
    """The model's own INT8 ranges, or those of the available crops."""
    try:
        return load_ranges(model.directory / "mesnet_int8.json", model.sha256)
    except EngineError:
        return observe_ranges(model, stretches)


def _openvino(model: Model) -> Iterator[tuple[str, Runtime]]:
    try:
        import openvino
    except ImportError:
        return
    from openvino import CompiledModel

    class OpenVino(OnnxRuntime):
        """The same graphs and rings, run by OpenVINO. It is here only for measurement."""

        def __init__(self) -> None:
            super().__init__(model, 1)
            core, spec = openvino.Core(), model.spec
            settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
            shapes = {
                "2d": {"crops": [spec.hop_frames, 1 + len(spec.lags), spec.crop_px, spec.crop_px]},
                "1d": {"features": [1, spec.clip_frames, spec.channels], "valid": [1, spec.clip_frames]},
            }
            self._calls: dict[str, CompiledModel] = {}
            for half, shape in shapes.items():
                graph = core.read_model(model.onnx(half))
                graph.reshape(shape)
                self._calls[half] = core.compile_model(graph, "CPU", settings).create_infer_request()

        def features(self, crops: np.ndarray) -> np.ndarray:
            if len(crops) != model.spec.hop_frames:  # compiled for hops only
                return super().features(crops)
            return next(iter(self._calls["2d"].infer({"crops": crops}, share_inputs=True).values())).copy()

        def heads(self, features: np.ndarray, valid: np.ndarray) -> np.ndarray:
            if len(features) != 1:  # compiled for one face; without a clip there is nothing to run
                return super().heads(features, valid)
            feed = {"features": features, "valid": valid}
            return next(iter(self._calls["1d"].infer(feed, share_inputs=True).values())).copy()

    yield "openvino fp32", OpenVino()


def _on_gpu(model: Model, ranges: Mapping[str, float | None]) -> Iterator[tuple[str, Runtime]]:
    from engine.runtimes.torch_cuda import torch_runtime

    yield "torch eager cuda", torch_runtime(model, 1, "cuda", capture=False)
    for precision in ("fp32", "fp16"):
        yield f"torch cuda graph {precision}", torch_runtime(model, 1, "cuda", precision)
    try:
        from engine.runtimes.tensorrt import installed, tensorrt_runtime

        name = installed().name
        for precision in ("fp32", "fp16", "int8"):
            yield f"{name} {precision}", tensorrt_runtime(model, 1, "cuda", precision, ranges=ranges)
    except (EngineError, ImportError) as error:
        print(f"  no TensorRT: {error}")


def _parity(
    runtimes: dict[str, Runtime], model: Model, stretches: list[np.ndarray], reference: str, threshold: float
) -> dict[str, dict[str, float]]:
    heads = {name: list(_heads(runtime, model, stretches)) for name, runtime in runtimes.items()}
    out = {}
    print(f"against {reference}, {len(heads[reference])} clips")
    for name, rows in heads.items():
        pairs = list(zip(rows, heads[reference], strict=True))
        score = max(float(np.abs(a[:, 3:] - b[:, 3:]).max()) for a, b in pairs)
        frames = max(float(np.abs(a[:, :3] - b[:, :3]).max()) for a, b in pairs)
        kept = [[decode(h, model.spec.clip_frames, threshold) for h in pair] for pair in pairs]
        wanted = sum(len(b) for _, b in kept)
        found = sum(any(_same(p, q) for q in a) for a, b in kept for p in b)
        extra = sum(len(a) for a, _ in kept) - found
        print(f"  {name:22} score {score:.1e}  frames {frames:.1e}  same {found} of {wanted}, {extra} others")
        out[name] = {"score": score, "frames": frames, "proposals": wanted, "same": found, "others": extra}
    return out


def _heads(runtime: Runtime, model: Model, stretches: list[np.ndarray]) -> Iterator[np.ndarray]:
    scorer: Scorer[int] = Scorer(runtime, model.spec)
    hop = model.spec.hop_frames
    for crops in stretches:
        for i in range(0, len(crops) - hop + 1, hop):
            yield scorer.heads({0: crops[i : i + hop]})[0]
        scorer.forget(0)


def _same(p: Proposal, q: Proposal) -> bool:
    return bool(temporal_iou(p.start_frame, p.end_frame, np.array(q.start_frame), np.array(q.end_frame)) >= SAME_IOU)
