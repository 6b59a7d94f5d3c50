"""The outputs besides the server. A new output is one file here and one line in `stream.app.SINKS`.

A sink never waits and never raises. An output that fails says so in `trouble`, and spotting goes on. There is one
exception: offline, a closed output ends the run with BrokenPipeError, since nobody wants the rest.

Live, frames and their crops come from the face thread. Events and trace points come from the scoring thread. The status
comes once a second from the main thread.
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
"""What outputs get. The crops of a frame follow the frame."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a sink knows about the run.

    `epoch`: ULID of the run. `live`: events come while they happen, not offline. `runtime`: what runs the network.
    `threshold`: what a score must reach before a face's baseline moves it. `false_alarms_per_hour`: the measured rate
    at the threshold, None if it was not measured. `outbox`: the stored events, None if nothing is stored.
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
    """One output of one run. It is open once constructed."""

    def put(self, item: Item) -> None:
        """Take what this output wants and ignore the rest."""

    def close(self) -> None:
        """Finish, since nothing more comes."""

    @property
    def trouble(self) -> str | None:
        """Why the output is incomplete, in words; None if it is complete."""

    @property
    def dropped(self) -> dict[str, int]:
        """The items left out so far, under the name by which the status counts them; empty if none can be."""


OpenSink = Callable[[Config, Run], Sink | None]
"""Opens an output if the settings request it. Raises UserError if it can't be opened."""
