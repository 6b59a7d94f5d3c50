"""The rooms: who may import whom, and which packages stay where. What breaks a rule here breaks the design."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for room in ("stream", "engine", "calibration") for path in (ROOT / room).rglob("*.py"))
TOOLS = (
    "engine/training/",
    "engine/train.py",
    "engine/evaluat",
    "engine/report.py",
    "engine/datasets/",
    "engine/bench",
    "engine/baseline",
)
"""Tools on top of the engine: they may use both other rooms."""
PURE_STREAM = ("stream.types", "stream.intervals", "stream.tracker")
MEDIA = ("cv2", "ai_edge_litert", "mediapipe")
MEDIA_PLACES = ("stream/sources.py", "stream/cameras.py", "stream/face", "stream/landmarks", *TOOLS, "calibration/")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; a type-checking block counts too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_stays_in_its_room(path):
    name, modules = name_of(path), list(imported(path))
    rooms = {room for room in ("stream", "engine", "calibration") if any(within(module, room) for module in modules)}
    if name.startswith("stream/"):
        assert "calibration" not in rooms
    if name.startswith("engine/") and not name.startswith(TOOLS):
        assert rooms <= {"engine"}
    if name.startswith("stream/"):
        tools = [
            module for module in modules if module.startswith(("engine.train", "engine.evaluat", "engine.datasets"))
        ]
        assert not tools, "the live program must not need training's packages"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_packages_stay_where_they_belong(path):
    name, modules = name_of(path), list(imported(path))
    if not name.startswith(MEDIA_PLACES):
        assert not [module for module in modules if any(within(module, package) for package in MEDIA)]
    if not name.startswith(("stream/client.py", "stream/hub.py", "stream/watch.py", "stream/listen.py", "stream/http")):
        assert not [module for module in modules if within(module, "websockets")]
    if not name.startswith(("engine/runtimes/", "engine/build.py")):
        assert not [module for module in modules if within(module, "tensorrt") or within(module, "tensorrt_rtx")]
    if name.startswith("stream/"):
        assert not [module for module in modules if within(module, "torch")], "torch is not needed to run"


PURE = [
    f"stream.{name}"
    for name in ("baseline", "types", "ring", "intervals", "tracker", "overload", "condition", "messages")
]


@pytest.mark.parametrize("module", PURE)
def test_a_deciding_core_knows_no_clock_thread_or_socket(module):
    path = ROOT / f"{module.replace('.', '/')}.py"
    forbidden = {"time", "threading", "socket", "asyncio", "queue", "cv2", "av", "websockets"}
    assert not forbidden & {name.split(".")[0] for name in imported(path)}


def test_the_live_program_starts_without_torch():
    """Importing it all pulls in nothing of the training extra."""
    code = "import sys, stream.app; print([m for m in ('torch', 'onnx', 'scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


EXTRAS = ("torch", "onnx", "onnxscript", "safetensors", "scipy", "matplotlib", "openpyxl", "xlrd", "mediapipe")


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
