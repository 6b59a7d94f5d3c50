"""The program as its user starts it: a process of its own, its lines and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIMIT_S = 60


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The caller's, but for settings of this program, and with its state under `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESTREAM_")}
    return {**kept, "XDG_STATE_HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "stream", *map(str, arguments)]


def run(folder: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run to the end, in `folder`; a run that hangs fails the test."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder, **more),
        timeout=LIMIT_S,
    )


def start(folder: Path, *arguments: object, **more: str) -> subprocess.Popen[str]:
    """Start it; whoever started it ends it."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder, **more),
    )


def said(text: str) -> list[str]:
    """The program's own lines on stderr; native libraries greet there too."""
    return [line for line in text.splitlines() if line.startswith("stream: ")]


def lines_of_json(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
