"""A set of weights on disk: which files there are, what they say of themselves, whether they belong together.

A model is a directory that holds

- `mesnet.json`: the fields of `ModelSpec` and `sha256`, the hash of the safetensors file;
- `mesnet.safetensors`: the weights;
- `mesnet_2d.onnx`, `mesnet_1d.onnx`: the two halves of the network, whose metadata carries the weights' hash.

The hash ties them: a graph or a compiled engine that was made from other weights is refused, never run.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.spec import ModelSpec

DEFAULT_DIRECTORY = Path(__file__).parent / "weights"
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
    """Read `mesnet.json`; raises EngineError when it is missing or says what this program does not know."""
    home = DEFAULT_DIRECTORY if directory is None else Path(directory)
    path = home / "mesnet.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        sha256 = description.pop("sha256")
        known = {f.name for f in dataclasses.fields(ModelSpec)}
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in description.items() if k in known
        }
        if missing := known - fields.keys():
            raise KeyError(", ".join(sorted(missing)))
        return Model(home, ModelSpec(**fields), str(sha256))
    except FileNotFoundError:
        raise EngineError(
            f"no model in {home}: mesnet.json is missing; name a directory of weights by --model"
        ) from None
    except KeyError as error:
        raise EngineError(f"{path} lacks {error.args[0]}; train anew or take it from the release") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise EngineError(f"{path} is not a model description ({error}); take it from the release again") from None


def save_description(directory: Path, spec: ModelSpec) -> Model:
    """Write `mesnet.json` beside a safetensors file that is already there."""
    model = Model(directory, spec, file_sha256(directory / "mesnet.safetensors"))
    text = json.dumps({**dataclasses.asdict(spec), "sha256": model.sha256}, indent=2)
    (directory / "mesnet.json").write_text(text + "\n", encoding="utf-8")
    return model
