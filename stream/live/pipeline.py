"""The live pipeline: the threads, what lies between them, and how they end.

    source (its own capture thread) -> [face thread] -> Channel of hops -> [score thread] -> server (its own threads)

The main thread wakes once a second to tell the status and to judge overload. Nothing is queued without bound: when
scoring is slow the face thread waits at the channel, and then a camera drops its oldest frames and a file waits.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from engine.model import Model
from engine.scorer import Scorer
from stream.config import Config
from stream.decide.operating_point import OperatingPoint
from stream.decide.stage import Scored, ScoreStage
from stream.errors import UserError
from stream.faces.jpeg import jpeg
from stream.faces.stage import FaceStage, Hop
from stream.live.overload import Level, Overload
from stream.live.telemetry import Telemetry
from stream.server.listen import ServerConfig
from stream.server.service import EventServer
from stream.sinks.events_file import EventsFile
from stream.sinks.record import Recorder
from stream.sources import Source
from stream.types import Event, FaceCrop, Frame
from stream.workers import Channel, Worker, one_line

log = logging.getLogger("stream")

HOPS_WAITING = 2
"""One being put while one is being taken: more would only be delay."""
PREVIEW_S = 0.03
"""Least time between two previews of a face. The dashboard's slowed replay of an interval is made of them."""
STATUS_S = 1.0
JOIN_S = 0.9
"""How long the threads may take to end; one that takes longer is left behind. Server included that is under 2 s."""
CPU_RUNTIME = "onnx"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run consists of."""

    source: Source
    model: Model
    faces: FaceStage
    scores: ScoreStage
    point: OperatingPoint | None
    """What the threshold stands for, if that was measured."""
    cpu_scorer: Callable[[], Scorer[int]]
    """Makes what takes over when a GPU fails."""

    def summarise(self, elapsed_s: float, ends: int) -> None:
        """Say what came of it, in one line."""
        faces, name = self.faces, self.source.info.name
        speed = faces.media_s / elapsed_s if elapsed_s > 0 else 0.0
        figures = {
            "frames": faces.frames,
            "faces": faces.faces_seen,
            "events": ends,
            "media_s": round(faces.media_s, 3),
            "speed": round(speed, 2),
        }
        log.info(
            "%s: %d frames, %d faces, %d events in %.1f s, %.1f x real time",
            *(name, faces.frames, faces.faces_seen, ends, elapsed_s, speed),
            extra={"figures": figures},
        )
        if faces.frames and not faces.faces_seen:
            log.warning("%s: no face was seen; it must be frontal, lit, and at least 48 px wide", name)


class LivePipeline:
    """One run of the live program, from the first frame to the last event."""

    def __init__(self, config: Config, parts: Parts, stop: threading.Event) -> None:
        self._config, self.parts, self._stop = config, parts, stop
        self._hops: Channel[Hop] = Channel(HOPS_WAITING)
        self.telemetry = Telemetry()
        self._overload = Overload(parts.model.spec.fps)
        self._level = Level.NOTHING
        self._previewed_s: dict[int, float] = {}
        self._ends = 0
        self._events_file: EventsFile | None = None
        self._recorder: Recorder | None = None
        self._degraded: dict[str, str] = {}
        self.server = EventServer(_server_config(config), hello(parts))
        self.serving = threading.Event()
        parts.faces.on_crop = self._preview

    def run(self) -> None:
        """Serve until the source ends, a worker fails (its error is raised) or `stop` is set."""
        began_s = time.monotonic()
        self.server.start()
        workers = [Worker("face", self._watch, lambda: None), Worker("score", self._score, self._wind_up)]
        try:
            if self._config.events:
                self._events_file = EventsFile(self._config.events, self.server.epoch, append=True)
            if self._config.record:
                self._recorder = Recorder(self._config.record, self.parts.source.info.name, self.server.epoch)
            log.info("%s; events and dashboard on %s", describe(self.parts), self.server.url)
            self.server.ready(model=True)
            self.serving.set()
            for worker in workers:
                worker.start()
            while not self._stop.wait(STATUS_S):
                self._every_second()
            give_up_s = time.monotonic() + JOIN_S
            for worker in workers:
                worker.join(max(0.0, give_up_s - time.monotonic()))
        finally:
            self._wind_up()
            self.server.stop()
            for kept in (self._events_file, self._recorder):
                if kept is not None:
                    kept.close()
        for worker in workers:
            worker.check()
        self.parts.summarise(time.monotonic() - began_s, self._ends)

    @property
    def hops_waiting(self) -> int:
        """How many hops wait to be scored: HOPS_WAITING at most."""
        return len(self._hops)

    def _wind_up(self) -> None:
        """Scoring is over, whyever: nobody may wait for it any more."""
        self._stop.set()
        self._hops.close()

    # --- face thread -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        source, faces, captured_s = self.parts.source, self.parts.faces, time.monotonic()
        try:
            while (item := source.read()) is not None:
                if isinstance(item, Frame):
                    captured_s = item.time_s if source.info.live else time.monotonic()
                    if self._recorder is not None:
                        self._recorder.frame(item)
                with self.telemetry.working("face"):
                    hops = faces.step(item, captured_s)
                states = faces.states(self.parts.scores.calibrating)
                self.telemetry.frame(faces.frames, faces.rate.fps, states)
                for hop in hops:
                    self._hops.put(hop)
        finally:
            for hop in faces.end(captured_s):
                self._hops.put(hop)
            self._hops.close()

    def _preview(self, crop: FaceCrop) -> None:
        due = crop.time_s - self._previewed_s.get(crop.face_id, -math.inf) >= PREVIEW_S
        if due and self._level < Level.PREVIEW and self.server.wants("preview"):
            self._previewed_s[crop.face_id] = crop.time_s
            self.server.publish_preview(crop.face_id, jpeg(crop), crop.time_s)

    # --- score thread ------------------------------------------------------------------------------------------------

    def _score(self) -> None:
        while (hop := self._hops.get()) is not None:
            with self.telemetry.working("score"):
                scored = self._step(hop)
            for event in scored.events:
                self._publish(event)
            if self._level < Level.TELEMETRY and self.server.wants("scores"):
                for face, time_s, score, threshold in scored.trace:
                    said = {"face": face, "time_s": round(time_s, 3), "score": round(score, 4)}
                    self.server.publish_scores({**said, "threshold": round(threshold, 4)})
            self.telemetry.scored(hop.captured_s)

    def _step(self, hop: Hop) -> Scored:
        """Score a hop; a GPU that fails is given up for the CPU, and what was open is closed."""
        scores = self.parts.scores
        try:
            return scores.step(hop)
        except Exception as error:
            if scores.runtime == CPU_RUNTIME:
                raise
            why = f"runtime {scores.runtime} failed, {CPU_RUNTIME} took over ({one_line(error)})"
            log.warning("%s", why)
            self._degraded["runtime"] = why
            closed = scores.change_scorer(self.parts.cpu_scorer(), hop)
            self.server.update_hello(runtime=scores.runtime)
            scored = scores.step(hop)
            return Scored(closed + scored.events, scored.trace)

    def _publish(self, event: Event) -> None:
        self._ends += event.phase == "end"
        self.server.publish(event)
        if self._recorder is not None:
            self._recorder.event(event)
        if self._events_file is not None:
            try:
                self._events_file.write(event)
                self._degraded.pop("events", None)
            except OSError as error:
                self._degraded["events"] = f"--events {self._events_file.path}: {error.strerror}"

    # --- main thread -------------------------------------------------------------------------------------------------

    def _every_second(self) -> None:
        if self.server.failure is not None:
            raise UserError(f"the event server died: {one_line(self.server.failure)}; start again")
        scores, source, point = self.parts.scores, self.parts.source, self.parts.point
        dropped = {"capture": source.dropped, "corrupt": source.corrupt}
        degraded = self._judge_load()
        if self._recorder is not None:
            dropped["record"] = self._recorder.dropped
            if self._recorder.trouble:
                self._degraded["record"] = self._recorder.trouble
        self.server.publish_status(
            self.telemetry.status(
                dropped=dropped,
                degraded=[*degraded, *self._degraded.values()],
                runtime=scores.runtime,
                threshold=round(scores.config.threshold, 4),
                false_alarms_per_hour=None if point is None else point.false_alarms_per_hour,
                **({} if point is None else {"operating_point": asdict(point)}),
            )
        )

    def _judge_load(self) -> list[str]:
        """Give up what the last second demands; say what is given up."""
        source = self.parts.source
        load = self.telemetry.load(source.dropped if source.info.live else None)
        self.server.ready(frames=load.done_fps > 0)
        level = self._overload.update(load)
        if not source.info.live:
            # a file waits: nothing of it is lost, and its events are those of the offline run
            return ["slower than real time: the file waits"] if level else []
        if level != self._level:
            log.warning("%s", "; ".join(level.words) or "keeping up again: nothing is given up")
            self._give_up(level)
        return level.words

    def _give_up(self, level: Level) -> None:
        self._level = level
        faces = self.parts.faces
        faces.hop_frames = self.parts.model.spec.hop_frames * (2 if level >= Level.HOP else 1)
        faces.max_faces = 1 if level >= Level.FACES else self._config.max_faces


def hello(parts: Parts) -> dict[str, Any]:
    """What the first message says of the spotter. `latency_s`: from an offset to its `end`, processing aside."""
    spec, tracker = parts.model.spec, parts.scores.config
    return {
        "source": parts.source.info.name,
        "model": {"name": spec.name, "sha256": parts.model.sha256, "fps": spec.fps, "clip_frames": spec.clip_frames},
        "runtime": parts.scores.runtime,
        "latency_s": round(tracker.latency_s + spec.hop_frames / spec.fps, 3),
        **({} if parts.point is None else {"operating_point": asdict(parts.point)}),
    }


def describe(parts: Parts) -> str:
    """The source as it turned out to be, in words."""
    info = parts.source.info
    rate = f"{info.nominal_fps:.4g} fps" if info.nominal_fps else "rate unknown"
    wishes = (("width", info.requested_width_px), ("height", info.requested_height_px), ("fps", info.requested_fps))
    asked = ", ".join(f"{what} {value:g}" for what, value in wishes if value is not None)
    wish = f" (asked for {asked})" if asked else ""
    size = f"{info.width_px}x{info.height_px}"
    source = f"{info.name}: {size}, {rate}{wish} by {info.backend}, scored by {parts.scores.runtime}"
    return source if parts.point is None else f"{source}; {parts.point.words}"


def _server_config(config: Config) -> ServerConfig:
    return ServerConfig(
        host=config.host,
        port=config.port,
        token=config.token,
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
        journal_path=config.journal,
        allowed_origins=config.allow_origin,
    )
