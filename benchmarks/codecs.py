"""What an encoder costs: films that had none, encoded anew as webcams, recorders and calls do, then spotted in.

On the films of a bench (`engine.bench_data`) whose tag `codec` is `none`: the same pictures, stamps and MEs in every
row, through the live path at the operating point.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from calibration.matching import VideoResult
from calibration.metrics import count, count_from_size
from engine.evaluation.events import judged
from engine.evaluation.live import record_file
from engine.evaluation.truth import load_truth
from engine.model import load_model
from engine.training.encode import COARSE_TICK, Encoder, mjpeg, webcam, write_video
from engine.training.injection import read_frames
from stream import record
from stream.config import Config
from stream.decision import decision
from stream.errors import UserError
from stream.types import Frame

LARGE_PX = 1.5
CALL = {"deadline": "realtime", "cpu-used": "4"}
ENCODERS: dict[str, Encoder | None] = {
    "none": None,
    "MJPEG, quality 90": mjpeg(90),
    "MJPEG, quality 70": mjpeg(70),
    "MJPEG, quality 50": mjpeg(50),
    "H.264 of a webcam, CRF 18": webcam(18),
    "H.264 of a webcam, CRF 23": webcam(23),
    "H.264 of a webcam, CRF 28": webcam(28),
    "H.264 of --record": Encoder("libx264", record.OPTIONS),
    "H.264 of a recorder, CRF 18": Encoder("libx264", {"crf": "18"}),
    "H.264 of a recorder, CRF 23": Encoder("libx264", {"crf": "23"}),
    "H.264 of a recorder, CRF 28": Encoder("libx264", {"crf": "28"}),
    "H.265 of a recorder, CRF 28": Encoder("libx265", {"crf": "28", "x265-params": "log-level=none"}),
    # cv2.VideoWriter makes 1.0 to 1.7 Mbit/s of such films
    "MPEG-4 part 2, 1.3 Mbit/s": Encoder("mpeg4", {}, bit_rate=1_300_000, rate=1000, tick=COARSE_TICK),
    "VP8 of a call, 1 Mbit/s": Encoder("libvpx", CALL, bit_rate=1_000_000, tick=COARSE_TICK),
    "VP8 of a call, 0.4 Mbit/s": Encoder("libvpx", CALL, bit_rate=400_000, tick=COARSE_TICK),
}
"""None: the bench's own file. A recorder may look ahead, and use B frames; a webcam and a call may not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bench", type=Path, required=True, help="what engine.bench_data made")
    parser.add_argument("--split", choices=("tune", "test"), help="of the bench; default: both")
    parser.add_argument("--model", type=Path, help="weights other than the shipped ones")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), metavar="NAME")


def run(args: argparse.Namespace) -> dict[str, Any]:
    config = Config(offline=True, model=args.model, max_faces=1)
    tracker = decision(config, load_model(args.model), "").tracker
    films = [v for v in load_truth(args.bench / "truth.json") if v.tags.get("codec") == "none"]
    films = [v for v in films if args.split in (None, v.split)]
    if not films:
        raise UserError(f"--bench {args.bench}: no film without a codec in it; build a larger one")
    results: dict[str, list[VideoResult]] = {name: [] for name in args.encoders}
    bits = dict.fromkeys(args.encoders, 0)
    with tempfile.TemporaryDirectory() as folder:
        for film in track(films, "films"):
            original = args.bench / film.file
            frames = list(read_frames(str(original)))
            for name in args.encoders:
                path = encoded(original, frames, ENCODERS[name], Path(folder))
                bits[name] += path.stat().st_size * 8
                said = record_file(path, config).replay(tracker, baselines=True)
                results[name].append(judged(film, said).result)
    seconds = sum(film.duration_s for film in films)
    rows = [{"encoder": name, "kbit_s": round(bits[name] / seconds / 1000), **_row(results[name])} for name in results]
    print(f"{len(films)} films, {seconds / 60:.1f} min, threshold {tracker.threshold:.4f}")
    for row in rows:
        print(
            "{encoder:28} {kbit_s:6} kbit/s | found {found} of {mes}, from 1.5 px {large_found} of {large} | "
            "false alarms {false_alarms} | F1 {f1:.3f}".format(**row)
        )
    return {"films": len(films), "minutes": seconds / 60, "threshold": tracker.threshold, "rows": rows}


def encoded(film: Path, frames: list[Frame], encoder: Encoder | None, folder: Path) -> Path:
    """A film's frames by another encoder; the film itself for None."""
    if encoder is None:
        return film
    path = folder / f"film{encoder.ending}"
    write_video(path, (f.image for f in frames), np.array([f.time_s for f in frames]), encoder)
    return path


def _row(results: list[VideoResult]) -> dict[str, Any]:
    whole, large = count(results), count_from_size(results, LARGE_PX)
    return {
        "found": whole.tp,
        "mes": whole.tp + whole.fn,
        "large_found": large.tp,
        "large": large.tp + large.fn,
        "false_alarms": whole.fp,
        "f1": round(whole.f1, 3),
    }
