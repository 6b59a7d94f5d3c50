"""Where events go besides the server. A new output is one file here and one line in `stream.app.SINKS`.

A sink never waits and never raises: an output that fails says so in `trouble`, and spotting goes on. Only offline a
reader of the output who goes away ends the run: with BrokenPipeError, since nobody wants the rest. Live, frames and
their crops come from the face thread, events and trace points from the scoring thread, the status once a second from
the main thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from engine.spec import ModelSpec
from stream.config import Config
from stream.protocol.messages import Status
from stream.sinks.outbox import Outbox
from stream.sources.info import SourceInfo
from stream.types import Event, FaceCrop, Frame, TracePoint

Item = Frame | FaceCrop | TracePoint | Event | Status
"""What outputs are given. The crops of a frame follow the frame."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a sink knows of the run.

    `epoch`: ULID of the run. `live`: events come while they happen, not offline. `runtime`: what runs the network.
    `threshold`: what a score must pass before a face's baseline moves it. `false_alarms_per_hour`: the rate that the
    threshold stands for, None if it was not measured. `outbox`: the stored events, None if nothing is stored.
    """

    source: SourceInfo
    epoch: str
    live: bool
    spec: ModelSpec
    model_sha256: str
    runtime: str
    max_faces: int
    threshold: float
    false_alarms_per_hour: float | None
    outbox: Outbox | None


class Sink(Protocol):
    """One output of one run. It is open once it exists."""

    def put(self, item: Item) -> None:
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
