"""What a command gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found: `record` as JSON, `text` for people, `draw` puts it into a picture file."""

    record: dict[str, Any]
    text: str
    draw: Callable[[Path], None]
