"""A set of weights on disk: its files, their description, and the check that they belong together.

A model is a directory that holds

- `mesnet.json`: the fields of `ModelSpec` and `sha256`, the hash of the safetensors file;
- `mesnet.safetensors`: the weights;
- `mesnet_2d.onnx`, `mesnet_1d.onnx`: the two halves of the network, whose metadata carries the weights' hash;
- `mesnet.onnx.json`: the hashes of these two files.

The hashes tie them together. A graph or compiled engine from other weights is refused, and so is a file that has
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
"""Sha256 of the ONNX graphs in the same directory, by file name."""
HALVES = ("2d", "1d")
"""`2d`: uint8[M, 1 + L, S, S] -> float32[M, C]. `1d`: float32[N, T, C], float32[N, T] -> float32[N, P, HEAD_FIELDS]."""


@dataclass(frozen=True, slots=True)
class Model:
    """The place of a set of weights, its geometry and the sha256 of its safetensors file."""

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
    """Reads `mesnet.json`, and checks the weights in the same directory, if any, against their hash.

    Raises EngineError when `mesnet.json` is missing or holds unknown values, or when the weights have changed.
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
    """The model that `mesnet.json` describes. Raises KeyError for a missing field, ValueError with a text for a wrong
    one."""
    known = {f.name for f in dataclasses.fields(ModelSpec)}
    if missing := (known | {"sha256"}) - said.keys() - {"shape"}:  # models older than the field `shape` are whole
        raise KeyError(", ".join(sorted(missing)))
    if not isinstance(said["sha256"], str) or not re.fullmatch("[0-9a-f]{64}", said["sha256"]):
        raise ValueError(f"sha256 {said['sha256']!r:.80} is not 64 hexadecimal digits")
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items() if k in known}
    return Model(home, ModelSpec(**fields), said["sha256"])


def check_weights(model: Model) -> None:
    """Raises EngineError when the safetensors file is missing or does not match `mesnet.json`."""
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
    """Writes GRAPH_HASHES for the ONNX graphs in `directory`."""
    said = {name: file_sha256(directory / name) for name in (f"mesnet_{half}.onnx" for half in halves)}
    (directory / GRAPH_HASHES).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def read_graph(path: Path) -> bytes:
    """The bytes of an ONNX graph that matches GRAPH_HASHES in its directory. Raises ValueError with a text if it does
    not."""
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
    """Writes `mesnet.json` next to an existing safetensors file."""
    model = Model(directory, spec, file_sha256(directory / "mesnet.safetensors"))
    text = json.dumps({**dataclasses.asdict(spec), "sha256": model.sha256}, indent=2)
    (directory / "mesnet.json").write_text(text + "\n", encoding="utf-8")
    return model
