"""Runs every video of a folder through `mestream --offline` twice: detections, speed, and whether the bytes are equal.

Each row is a real run of the program in its own process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.crops import videos
from stream.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with video/")
    parser.add_argument("--model", type=Path, help="weights; default: the shipped ones")


def run(args: argparse.Namespace) -> dict:
    print(f"{'video':34} {'frames':>6} {'faces':>5} {'ends':>4} {'x real time':>11}  same bytes")
    rows = {}
    for path in videos(args.data):
        first, second = _once(path, args.model), _once(path, args.model)
        name = str(path.relative_to(args.data / "video"))
        rows[name] = {**first["figures"], "speed": max(r["figures"]["speed"] for r in (first, second))}
        rows[name]["same_bytes"] = first["events"] == second["events"]
        row = rows[name]
        columns = f"{row['frames']:6} {row['faces']:5} {row['events']:4} {row['speed']:11.1f}"
        print(f"{name:34} {columns}  {'yes' if row['same_bytes'] else 'NO'}")
    return {"videos": rows}


def _once(path: Path, model: Path | None) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        command = [sys.executable, "-m", "stream", "--source", str(path), "--offline", "--events", str(events)]
        command += ["--log-format", "json", *(["--model", str(model)] if model else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{path}: {done.stderr.strip().splitlines()[-1]}")
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        figures = next(line for line in reversed(lines) if "frames" in line)
        return {"figures": figures, "events": events.read_bytes()}
