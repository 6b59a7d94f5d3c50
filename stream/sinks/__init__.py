"""Where events go besides the server. A new output is one file here and one line in `stream.app.SINKS`.

A sink never waits and never raises: an output that fails says so in `trouble`, and spotting goes on. Live, frames come
from the face thread, events and trace points from the scoring thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stream.config import Config
from stream.types import Event, Frame, TracePoint


@dataclass(frozen=True, slots=True)
class Run:
    """What a sink knows of the run. `source`: name of what is watched. `epoch`: ULID of the run."""

    source: str
    epoch: str
    live: bool


class Sink(Protocol):
    """One output of one run. It is open once it exists."""

    def put(self, item: Frame | TracePoint | Event) -> None:
        """Take what this output wants and ignore the rest."""

    def close(self) -> None:
        """Finish: nothing more comes."""

    @property
    def trouble(self) -> str | None:
        """Why the output is not complete, in words; None while it is."""

    @property
    def dropped(self) -> dict[str, int]:
        """What had to be left out so far, by the name under which the status counts it; empty if that cannot be."""


OpenSink = Callable[[Config, Run], Sink | None]
"""Opens an output if the settings ask for it. Raises UserError when it can't be opened."""
