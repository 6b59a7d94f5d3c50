"""Overlapping clips: the scorer's hop against scoring every clip afresh, on the same runtime and in the same run.

`ratio` is how many times cheaper a hop of `hop_frames` is than scoring the clip of `clip_frames` again.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measure import clock_for, in_turn, table, textured
from engine.decode import decode
from engine.model import load_model
from engine.runtimes import NAMES, select
from engine.scorer import Scorer, score_afresh, with_lags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runtime", choices=NAMES, default="auto")
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")
    parser.add_argument("--runs", type=int, default=200)


def run(args: argparse.Namespace) -> dict:
    model = load_model(args.model)
    runtime, spec = select(args.runtime, model, faces=2), model.spec
    scorer: Scorer[str] = Scorer(runtime, spec)
    hop, T = spec.hop_frames, spec.clip_frames
    crops = textured(T + max(spec.lags) + hop, spec.crop_px)
    scorer.score({"face": crops[:-hop]})
    stacks = with_lags(crops, spec.lags)[-T:]
    clip = runtime.features(stacks)[None]
    valid = np.ones(clip.shape[:2], np.float32)
    rows = in_turn(
        {
            "re-scoring the clip": lambda: decode(score_afresh(runtime, spec, crops), T),
            "incremental hop": lambda: scorer.score({"face": crops[-hop:]}),
            "of it: 2D half": lambda: runtime.features(stacks[-hop:]),
            "of it: 1D half": lambda: runtime.heads(clip, valid),
        },
        args.runs,
        clock_for(runtime.name),
    )
    table(f"hop of {hop} frames, clip of {T}, {runtime.name}", rows, "re-scoring the clip")
    hop_ms, afresh_ms = rows["incremental hop"].median_ms, rows["re-scoring the clip"].median_ms
    per_frame_ms = hop_ms / hop
    print(f"  ratio {afresh_ms / hop_ms:.1f}; {per_frame_ms:.3f} ms per frame and face, amortised")
    return {
        "runtime": runtime.name,
        "ratio": afresh_ms / hop_ms,
        "ms_per_frame_and_face": per_frame_ms,
        "rows": {name: t.row() for name, t in rows.items()},
    }
