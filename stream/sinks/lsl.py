"""Sends events and scores to the Lab Streaming Layer (`--lsl [NAME]`, extra `lsl`).

Two kinds of outlets are open for the whole run:

- `NAME`, type `Markers`: text, irregular. One marker per moment: `start`, `update`, `onset`, `apex`, `end`, `retract`,
  as `onset face=1 id=01J... score=0.87`. `NAME-json` has the same events as messages of protocol v1.
- `NAME-scores`, type `MEScore`: for each of `--max-faces` places the face's number, its newest settled score and its
  threshold; NaN for a place without a face.

Each sample has the time of the moment it describes, on LSL's clock. An `end` leaves 0.4 s after the offset and carries
the offset's time. LSL sends to the whole local network and does not check who listens, so it is off by default.
"""

import logging
import math
import time
from typing import Any

from engine.extras import pip_install
from stream.config import Config
from stream.errors import UserError
from stream.protocol.messages import encode, event_message
from stream.sinks import Item, Run
from stream.types import Event, Frame, Phase, TracePoint

log = logging.getLogger("stream")

LATE_S = 0.25
"""If a file waits this long, it plays later from then on, so its times are mapped anew."""
PER_FACE = ("face", "score", "threshold")


def open_lsl(config: Config, run: Run) -> "LslOutlets | None":
    """See `stream.sinks.OpenSink`. Offline it opens nothing, because there is no moment to stamp."""
    return LslOutlets(config.lsl, run) if config.lsl and run.live else None


class LslOutlets:
    """The outlets of one run. Raises UserError without pylsl."""

    def __init__(self, name: str, run: Run) -> None:
        try:
            import pylsl
        except (ImportError, RuntimeError) as error:  # RuntimeError: pylsl without its library
            raise UserError(f"--lsl: pylsl can't be used ({error}); run: {pip_install('lsl')}", 2) from None
        self.trouble: str | None = None
        self.dropped: dict[str, int] = {}
        self._run = run
        self._clock = SourceClock(run.source.live)
        self._lsl = pylsl
        self._seq = 0
        self._places: dict[int, int] = {}
        self._row = [math.nan] * (len(PER_FACE) * run.max_faces)
        self._row_s: float | None = None
        self._markers = self._outlet(name, "Markers", ["marker"], 0.0, text=True)
        self._messages = self._outlet(f"{name}-json", "Markers", ["message"], 0.0, text=True)
        columns = [f"{what}_{place + 1}" for place in range(run.max_faces) for what in PER_FACE]
        self._scores = self._outlet(f"{name}-scores", "MEScore", columns, run.spec.fps / run.spec.hop_frames)
        log.warning("--lsl: %s is sent to the whole local network, to anyone who listens", name)

    def put(self, item: Item) -> None:
        """Send an event or a score. A frame updates the mapping of the source's clock."""
        if isinstance(item, Frame):
            self._clock.saw(item.time_s, time.monotonic())
        elif isinstance(item, TracePoint):
            self._take(item)
        elif isinstance(item, Event):
            self._seq += 1
            message = encode(event_message(item, self._run.epoch, self._seq))
            for name, at_s in moments(item):
                score = f" score={item.score:.2f}" if item.phase is Phase.END else ""
                text = f"{name} face={item.face} id={item.id}{score}"
                self._markers.push_sample([text], self._lsl_time(at_s))
            self._messages.push_sample([message], self._lsl_time(moments(item)[-1][1]))

    def close(self) -> None:
        """Send the last scores. The outlets end with their last reference."""
        self._push_row()
        del self._markers, self._messages, self._scores

    def _take(self, point: TracePoint) -> None:
        """Collect the points of one moment, then send them as one sample."""
        if self._row_s is not None and abs(point.time_s - self._row_s) > 1e-6:
            self._push_row()
        self._row_s = point.time_s
        if point.face_id not in self._places:
            free = set(range(self._run.max_faces)) - set(self._places.values())
            if not free:  # a face replaced one that has gone
                gone = min(self._places)
                free = {self._places.pop(gone)}
            self._places[point.face_id] = min(free)
        at = len(PER_FACE) * self._places[point.face_id]
        self._row[at : at + len(PER_FACE)] = [float(point.face_id), point.score, point.threshold]

    def _push_row(self) -> None:
        if self._row_s is not None:
            self._scores.push_sample(self._row, self._lsl_time(self._row_s))
            shown = {int(self._row[k]) for k in range(0, len(self._row), len(PER_FACE)) if not math.isnan(self._row[k])}
            self._places = {face: place for face, place in self._places.items() if face in shown}
            self._row, self._row_s = [math.nan] * len(self._row), None

    def _lsl_time(self, source_s: float) -> float:
        monotonic_s = self._clock.monotonic_s(source_s)
        return float(monotonic_s + self._lsl.local_clock() - time.monotonic())

    def _outlet(self, name: str, kind: str, columns: list[str], rate_hz: float, *, text: bool = False) -> Any:
        lsl, run = self._lsl, self._run
        form = lsl.cf_string if text else lsl.cf_float32
        info = lsl.StreamInfo(name, kind, len(columns), rate_hz, form, f"mestream-{run.epoch}-{name}")
        about = info.desc()
        for key, value in (
            ("source", run.source.name),
            ("epoch", run.epoch),
            ("model_sha256", run.model_sha256),
            ("model_fps", run.spec.fps),
            ("runtime", run.runtime),
            ("threshold", run.threshold),
            ("false_alarms_per_hour", run.false_alarms_per_hour),
            ("time_uncertainty_s", run.source.time_uncertainty_s),
        ):
            about.append_child_value(key, "" if value is None else str(value))
        channels = about.append_child("channels")
        for column in columns:
            channel = channels.append_child("channel")
            channel.append_child_value("label", column)
            channel.append_child_value("unit", "none" if text or column.startswith("face") else "probability")
        return lsl.StreamOutlet(info)


class SourceClock:
    """Maps a source's clock to the monotonic one. A camera's clock is the monotonic one; a file's runs beside it."""

    def __init__(self, live: bool) -> None:
        self._live = live
        self._ahead_s: float | None = 0.0 if live else None

    def saw(self, source_s: float, monotonic_s: float) -> None:
        """Note that a frame stamped `source_s` was shown at `monotonic_s`."""
        ahead_s = monotonic_s - source_s
        if not self._live and (self._ahead_s is None or abs(ahead_s - self._ahead_s) > LATE_S):
            self._ahead_s = ahead_s

    def monotonic_s(self, source_s: float) -> float:
        """Returns the time on the monotonic clock. Before the first frame of a file, the file counts as
        beginning now.
        """
        return source_s + (time.monotonic() - source_s if self._ahead_s is None else self._ahead_s)


def moments(event: Event) -> list[tuple[str, float]]:
    """Returns the markers of one event in order of time, each with its moment on the source's clock."""
    if event.phase is not Phase.END:
        return [(event.phase.value, event.onset_s)]
    known = (("onset", event.onset_s), ("apex", event.apex_s), ("end", event.offset_s))
    return [(name, at_s) for name, at_s in known if at_s is not None]
