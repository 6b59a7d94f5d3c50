"""The cost of an encoder: films without one, encoded as by webcams, recorders and calls, then spotted in.

Every row has the same pictures, stamps and MEs (`benchmarks.same_films`).
"""

import argparse
from typing import Any

from benchmarks import same_films
from benchmarks.same_films import Change
from engine.training.film.encode import COARSE_TICK, Encoder, mjpeg, webcam
from stream.sinks import record

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
    # cv2.VideoWriter writes such films at 1.0 to 1.7 Mbit/s.
    "MPEG-4 part 2, 1.3 Mbit/s": Encoder("mpeg4", {}, bit_rate=1_300_000, rate=1000, tick=COARSE_TICK),
    "VP8 of a call, 1 Mbit/s": Encoder("libvpx", CALL, bit_rate=1_000_000, tick=COARSE_TICK),
    "VP8 of a call, 0.4 Mbit/s": Encoder("libvpx", CALL, bit_rate=400_000, tick=COARSE_TICK),
}
"""None is the bench's own file. A recorder may look ahead and use B frames; a webcam or a call may not."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    same_films.add_arguments(parser)
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), metavar="NAME")


def run(args: argparse.Namespace) -> dict[str, Any]:
    encoders = {name: ENCODERS[name] for name in args.encoders}
    changes = {name: None if encoder is None else Change(encoder=encoder) for name, encoder in encoders.items()}
    result = same_films.judge(args, "encoder", changes)
    for row in result["rows"]:
        print(f"{row['encoder']:28} {row['kbit_s']:6} kbit/s | {same_films.told(row)}")
    return result
