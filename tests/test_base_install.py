"""What the base install can do: the live program without any extra. Who may import whom is import-linter's."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_the_live_program_starts_without_torch():
    """Importing it all pulls in nothing of the training extra."""
    code = "import sys, stream.app; print([m for m in ('torch', 'onnx', 'scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


EXTRAS = (
    "torch",
    "onnx",
    "onnxscript",
    "safetensors",
    "scipy",
    "matplotlib",
    "openpyxl",
    "xlrd",
    "mediapipe",
    "pylsl",
    "paho",
)


def test_the_live_program_runs_without_any_extra(tmp_path):
    """What the base install lacks is made unimportable; then the shipped clip is watched as a newcomer would."""
    events = tmp_path / "events.jsonl"
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS})); "
        f"from stream.__main__ import main; sys.exit(main(['--demo', '--offline', '--events', {str(events)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert '"phase":"end"' in events.read_text().replace(" ", "")
