"""What a command gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a command: `record` is JSON, `text` is for people, `draw` writes a picture file."""

    record: dict[str, Any]
    text: str
    draw: Callable[[Path], None]
