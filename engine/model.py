"""A set of weights on disk: which files there are, what they say of themselves, whether they belong together.

A model is a directory that holds

- `mesnet.json`: the fields of `ModelSpec` and `sha256`, the hash of the safetensors file;
- `mesnet.safetensors`: the weights;
- `mesnet_2d.onnx`, `mesnet_1d.onnx`: the two halves of the network, whose metadata carries the weights' hash;
- `mesnet.onnx.json`: the hashes of these two files.

The hashes tie them: a graph or a compiled engine that was made from other weights is refused, and so is a file that has
changed since it was made.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.small_file import read_object
from engine.spec import ModelSpec

DEFAULT_DIRECTORY = Path(__file__).parent / "weights"
GRAPH_HASHES = "mesnet.onnx.json"
"""Sha256 of the ONNX graphs that lie beside it, by file name."""
HALVES = ("2d", "1d")
"""`2d`: uint8[M, 1 + L, S, S] -> float32[M, C]. `1d`: float32[N, T, C], float32[N, T] -> float32[N, P, HEAD_FIELDS]."""


@dataclass(frozen=True, slots=True)
class Model:
    """Where a set of weights lies, its geometry and the sha256 of its safetensors file."""

    directory: Path
    spec: ModelSpec
    sha256: str

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.directory / "mesnet.safetensors"

    def onnx(self, half: str) -> Path:
        """The ONNX graph of one of HALVES in float32."""
        return self.directory / f"mesnet_{half}.onnx"


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_model(directory: Path | str | None = None) -> Model:
    """Read `mesnet.json`, and check the weights beside it, if there are any, against their hash.

    Raises EngineError when `mesnet.json` is missing or says what this program does not know, or the weights changed.
    """
    home = DEFAULT_DIRECTORY if directory is None else Path(directory)
    path = home / "mesnet.json"
    try:
        model = _described(home, read_object(path))
    except FileNotFoundError:
        raise EngineError(
            f"no model in {home}: mesnet.json is missing; name a directory of weights by --model"
        ) from None
    except KeyError as error:
        raise EngineError(f"{path} lacks {error.args[0]}; train anew or take it from the release") from None
    except OSError as error:
        raise EngineError(f"{path} can't be read ({error.strerror}); name a directory of weights by --model") from None
    except ValueError as error:
        raise EngineError(f"{path} is not a model description ({error}); take it from the release again") from None
    if model.weights.exists():
        check_weights(model)
    return model


def _described(home: Path, said: dict[str, Any]) -> Model:
    """What `mesnet.json` says; KeyError for what it lacks, ValueError, in words, for what can't be."""
    known = {f.name for f in dataclasses.fields(ModelSpec)}
    if missing := (known | {"sha256"}) - said.keys() - {"shape"}:  # a model from before there were shapes is whole
        raise KeyError(", ".join(sorted(missing)))
    if not isinstance(said["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", said["sha256"]):
        raise ValueError(f"sha256 {said['sha256']!r:.80} is not 64 hexadecimal digits")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items() if k in known}
    return Model(home, ModelSpec(**fields), said["sha256"])


def check_weights(model: Model) -> None:
    """Raises EngineError when the safetensors file is missing or not the one that `mesnet.json` was written for."""
    try:
        found = file_sha256(model.weights)
    except OSError as error:
        why = "is missing" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
        raise EngineError(f"{model.weights} {why}; take the model from the release again") from None
    if found != model.sha256:
        raise EngineError(
            f"{model.weights} has sha256 {found[:12]}, mesnet.json expects {model.sha256[:12]}; "
            "take the model from the release again, or train it anew"
        )


def save_graph_hashes(directory: Path, halves: Iterable[str] = HALVES) -> None:
    """Write GRAPH_HASHES for the ONNX graphs that lie in `directory`."""
    said = {name: file_sha256(directory / name) for name in (f"mesnet_{half}.onnx" for half in halves)}
    (directory / GRAPH_HASHES).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read_graph(path: Path) -> bytes:
    """The bytes of an ONNX graph that is what GRAPH_HASHES beside it says. Raises ValueError, in words, for others."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"can't be read ({error.strerror})") from None
    try:
        expected = str(read_object(path.parent / GRAPH_HASHES).get(path.name))
    except FileNotFoundError:
        raise ValueError(f"has no {GRAPH_HASHES} beside it, so nobody can tell whether it is whole") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"has a broken {GRAPH_HASHES} beside it ({error})") from None
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(f"has changed since it was made: sha256 {found[:12]}, {GRAPH_HASHES} says {expected[:12]}")
    return data


def save_description(directory: Path, spec: ModelSpec) -> Model:
    """Write `mesnet.json` beside a safetensors file that is already there."""
    model = Model(directory, spec, file_sha256(directory / "mesnet.safetensors"))
    text = json.dumps({**dataclasses.asdict(spec), "sha256": model.sha256}, indent=2)
    (directory / "mesnet.json").write_text(text + "\n", encoding="utf-8")
    return model
