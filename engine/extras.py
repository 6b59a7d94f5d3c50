"""The packages that the base install leaves out, and the command that adds them to the running copy of the program."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from engine.errors import EngineError

HOME = Path(__file__).resolve().parent.parent
"""The checkout, or the folder of installed packages."""
OURS = ("stream", "engine", "calibration")


def pip_install(extra: str = "") -> str:
    """The command that installs the program in the way this copy is installed, with `extra` if given."""
    extras = f"[{extra}]" if extra else ""
    if not (HOME / "pyproject.toml").is_file():
        return f"pip install {shlex.quote('mestream' + extras)}"
    folder = "." if Path.cwd() == HOME else str(HOME)
    return f"pip install -e {shlex.quote(folder + extras)}"


def not_installed(error: ModuleNotFoundError, extra: str = "") -> str | None:
    """One line about the package whose import failed. Returns None when the missing module is our own."""
    package = (error.name or "").partition(".")[0]
    if package in OURS:
        return None
    return (
        f"{package} is not installed for {sys.executable}; activate the environment that has it "
        f"(. .venv/bin/activate), or run: {pip_install(extra)}"
    )


def require(extra: str, purpose: str, *packages: str) -> None:
    """Raises EngineError with the command that installs `extra`, unless all `packages` of it are installed."""
    for package in packages:
        if find_spec(package) is None:
            raise EngineError(f"{purpose} needs {package}, which is not installed; run: {pip_install(extra)}")
