"""Many faces: latency of one hop for 1, 8, 64, 512 faces, how many fit at the model's rate, and the roofline.

The roofline counts floating-point operations (by torch: convolutions and products) and bytes (the least that must move)
of a hop. It compares them with the peak of a matrix product and of a copy, both measured here. `roofline` is the
reached share.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.measure import Clock, Timing, clock_for, in_turn, textured
from engine.model import Model, load_model
from engine.runtimes import NAMES, Runtime, select
from engine.scorer import Scorer

FACES = (1, 8, 64, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runtime", choices=NAMES, default="auto")
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--faces", type=int, nargs="+", default=FACES)
    parser.add_argument("--seconds", type=float, default=6, help="to measure each number of faces (default: 6)")


def run(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    runtime, spec = select(args.runtime, model, faces=max(args.faces)), model.spec
    clock = clock_for(runtime.name)
    flops, moved = _work(model)
    peak_flops, peak_bytes = _peaks(runtime, clock)
    bound_ms = max(flops / peak_flops, moved / peak_bytes) * 1e3
    hop_s = spec.hop_frames / spec.fps
    print(f"{runtime.name}, per face and hop of {spec.hop_frames}: {flops / 1e6:.1f} MFLOP, {moved / 1e3:.0f} kB")
    print(f"  measured peaks {peak_flops / 1e9:.0f} GFLOP/s, {peak_bytes / 1e9:.1f} GB/s: {bound_ms:.4f} ms per face")
    rows = {}
    for faces in args.faces:
        t = _hop(runtime, faces, clock, args.seconds)
        fit = int(faces * hop_s / (t.median_ms / 1e3))
        share = bound_ms * faces / t.median_ms
        rows[faces] = t.row() | {"faces_at_rate": fit, "roofline": share}
        per_face_ms = t.median_ms / faces
        print(
            f"  {faces:4} faces: {t.median_ms:9.3f} ms  p99 {t.p99_ms:9.3f}  n={t.runs:<4}"
            f"  {per_face_ms:.3f} ms per face, {fit} faces at {spec.fps} fps, {share:.0%} of the roofline"
        )
    return {
        "runtime": runtime.name,
        "faces_at_rate": max(row["faces_at_rate"] for row in rows.values()),
        "roofline": max(row["roofline"] for row in rows.values()),
        "flop_per_hop": flops,
        "bytes_per_hop": moved,
        "peak_gflops": peak_flops / 1e9,
        "peak_gb_per_s": peak_bytes / 1e9,
        "rows": rows,
    }


def _hop(runtime: Runtime, faces: int, clock: Clock, seconds: float) -> Timing:
    scorer: Scorer[int] = Scorer(runtime, runtime.spec)
    crops = textured(runtime.spec.hop_frames, runtime.spec.crop_px)
    new = dict.fromkeys(range(faces), crops)
    for _ in range(2):
        scorer.score(new)
    began = time.perf_counter()
    scorer.score(new)
    runs = int(np.clip(seconds / (time.perf_counter() - began), 5, 2000))
    return in_turn({"hop": lambda: scorer.score(new)}, runs, clock)["hop"]


def _work(model: Model) -> tuple[float, float]:
    """Operations and bytes of one face's hop. Input bytes are crops and their lagged ones, each once, and the clip's
    features. Output bytes are the proposals. Weights do not count, since they stay in a cache."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from engine.export import load_network

    net, spec = load_network(model), model.spec
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.features(torch.zeros(spec.hop_frames, 1 + len(spec.lags), spec.crop_px, spec.crop_px, dtype=torch.uint8))
        out = net.heads(torch.zeros(1, spec.clip_frames, spec.channels), torch.ones(1, spec.clip_frames))
    crops = spec.hop_frames * (1 + len(spec.lags)) * spec.crop_px**2
    features = 4 * (spec.clip_frames + spec.hop_frames) * spec.channels
    return float(counter.get_total_flops()), float(crops + features + 4 * out.numel())


def _peaks(runtime: Runtime, clock: Clock) -> tuple[float, float]:
    """FLOP/s of a float32 matrix product and bytes/s of a copy, on the runtime's own device."""
    import torch

    torch.set_num_threads(1)
    on_gpu = runtime.name not in ("onnx", "torch")
    device, n = ("cuda", 8192) if on_gpu else ("cpu", 1024)
    precision = torch.float16 if runtime.name.startswith("tensorrt") else torch.float32  # the runtime's own default
    a, b = (torch.rand(n, n, device=device, dtype=precision) for _ in range(2))
    source = torch.zeros((1 << 30) if on_gpu else (1 << 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def settled(call: object) -> None:
        call()  # type: ignore[operator]
        if on_gpu:
            torch.cuda.synchronize()

    calls = {"product": lambda: settled(lambda: a @ b), "copy": lambda: settled(lambda: target.copy_(source))}
    best = in_turn(calls, 15, clock)
    flops = 2 * n**3 / (best["product"].best_ms / 1e3)
    return flops, 2 * source.numel() / (best["copy"].best_ms / 1e3)
