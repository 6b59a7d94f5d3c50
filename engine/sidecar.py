"""The description of a compiled engine, and the refusal of an engine that does not match."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from engine.errors import EngineError
from engine.model import HALVES, Model, file_sha256
from engine.small_file import read_object

FILE = "mesnet.engine.json"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine is compiled for.

    `runtime` is tensorrt or tensorrt-rtx. `library` is its version, since engines only work with that version.
    `capability` is the GPU's, such as 8.9. `precision` is one of PRECISIONS.
    """

    runtime: str
    library: str
    capability: str
    precision: str


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The description of the two halves' engines, in the file FILE next to them.

    `tensors` holds the mode, dtype and shape of each tensor per half (-1 is the batch). `layers` holds how many layers
    per half compute in which dtype. `sha256` is that of the engine, per half. `max_faces` is how many faces one pass
    takes.
    """

    target: Target
    model: str
    weights_sha256: str
    max_faces: int
    tensors: dict[str, dict[str, dict[str, Any]]]
    layers: dict[str, dict[str, int]]
    sha256: dict[str, str]

    def write(self, directory: Path) -> None:
        """To `directory`/FILE."""
        (directory / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Sidecar":
        """Reads the sidecar. Raises ValueError with a text when it is missing or invalid."""
        try:
            record = read_object(directory / FILE)
            return cls(**(record | {"target": Target(**record["target"])}))
        except FileNotFoundError:
            raise ValueError(f"has no {FILE}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"has a broken {FILE} ({error})") from None


def engine_path(directory: Path, half: str) -> Path:
    """The compiled engine of one of HALVES."""
    return directory / f"mesnet_{half}.engine"


def cached(model: Model, target: Target) -> Path:
    """The directory for engines of `model` for `target`: in the user's cache, one per GPU capability and precision.

    Neither the library's version nor the weights' hash is part of it, so a new engine replaces the old one. Raises
    EngineError if the user has no home.
    """
    try:
        home = Path(platformdirs.user_cache_dir("mestream", appauthor=False)) / "engines"
    except RuntimeError:
        raise EngineError("no home directory to keep engines in; set HOME or XDG_CACHE_HOME") from None
    return home / f"{model.spec.name}-{target.runtime}-sm{target.capability}-{target.precision}"


def command(model: Model, target: Target, directory: Path) -> str:
    """The command that builds the engines of `directory` again."""
    return (
        f"mestream build --runtime {target.runtime} --capability {target.capability} "
        f"--precision {target.precision} --model {model.directory} --out {directory}"
    )


def check(directory: Path, model: Model, target: Target) -> Sidecar:
    """The sidecar of engines that match. Raises EngineError, with the command that rebuilds, for all others."""
    why = _mismatch(directory, model, target)
    if isinstance(why, Sidecar):
        return why
    raise EngineError(f"engine in {directory} {why}; run: {command(model, target, directory)}")


def _mismatch(directory: Path, model: Model, target: Target) -> Sidecar | str:
    try:
        sidecar = Sidecar.read(directory)
    except ValueError as error:
        return str(error)
    if sidecar.weights_sha256 != model.sha256:
        return f"was built from weights {sidecar.weights_sha256[:12]}, not {model.sha256[:12]}"
    shape = sidecar.tensors.get("1d", {}).get("proposals", {}).get("shape", [0, 0, 0])
    if shape[1] != model.spec.proposals:  # the same weights may have other anchors
        return f"makes {shape[1]} proposals, not {model.spec.proposals}"
    for field in dataclasses.fields(Target):
        found, wanted = getattr(sidecar.target, field.name), getattr(target, field.name)
        if found != wanted:
            return f"was built for {field.name} {found}, not {wanted}"
    for half in HALVES:
        path = engine_path(directory, half)
        if not path.exists():
            return f"lacks {path.name}"
        if file_sha256(path) != sidecar.sha256.get(half):
            return f"is corrupt: {path.name} is not what its sidecar says"
    return sidecar
