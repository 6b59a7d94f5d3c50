"""The live pipeline: its threads, the channels between them, and how they end.

    source (its own capture thread) -> [face thread] -> Channel of hops -> [score thread] -> server (its own threads)

The main thread wakes once a second to report the status and to judge overload. No queue is unbounded. When scoring is
slow, the face thread waits at the channel. Meanwhile a camera drops its oldest frames and a file waits.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from msgspec.structs import replace

from engine.model import Model
from engine.scorer import Scorer
from stream.config import Config
from stream.decide.operating_point import OperatingPoint
from stream.decide.stage import Scored, ScoreStage
from stream.errors import UserError
from stream.faces.jpeg import jpeg
from stream.faces.stage import Effort, FaceStage
from stream.live.overload import Level, Overload
from stream.live.telemetry import Telemetry
from stream.protocol import messages
from stream.server.listen import ServerConfig
from stream.server.service import EventServer
from stream.sinks import Item, OpenSink, Run, Sink
from stream.sinks.outbox import Outbox
from stream.sources import Source
from stream.types import Event, FaceCrop, Frame, Hop
from stream.workers import Channel, Worker, one_line

log = logging.getLogger("stream")

HOPS_WAITING = 2
"""One hop can be put while another is taken. More would only add delay."""
PREVIEW_S = 0.03
"""Least time between two previews of a face. The dashboard's slow-motion replay of an interval consists of previews."""
STATUS_S = 1.0
JOIN_S = 0.9
"""How long the threads may take to end. A slower thread is abandoned. Including the server, the program ends within 2
s."""
CPU_RUNTIME = "onnx"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a run."""

    source: Source
    model: Model
    faces: FaceStage
    scores: ScoreStage
    cpu_scorer: Callable[[], Scorer[int]]
    """Makes the scorer that takes over when a GPU fails."""

    def run(self, epoch: str, live: bool, outbox: Outbox | None) -> Run:
        """Returns what the outputs know about this run."""
        model, policy = self.model, self.scores.policy
        return Run(
            source=self.source.info,
            epoch=epoch,
            live=live,
            spec=model.spec,
            model_sha256=model.sha256,
            runtime=self.scores.runtime,
            max_faces=self.faces.effort.max_faces,
            threshold=policy.tracker.threshold,
            false_alarms_per_hour=None if policy.point is None else policy.point.false_alarms_per_hour,
            outbox=outbox,
        )

    def summarise(self, elapsed_s: float, ends: int) -> None:
        """Log the result of the run in one line."""
        faces, name = self.faces, self.source.info.name
        speed = faces.media_s / elapsed_s if elapsed_s > 0 else 0.0
        figures = {
            "frames": faces.frames,
            "faces": faces.faces_seen,
            "events": ends,
            "faces_not_watched": faces.most_unwatched,
            "media_s": round(faces.media_s, 3),
            "speed": round(speed, 2),
        }
        log.info(
            "%s: %d frames, %d faces, %d events in %.1f s, %.1f x real time%s",
            *(name, faces.frames, faces.faces_seen, ends, elapsed_s, speed, faces.unwatched_summary),
            extra={"figures": figures},
        )
        if faces.frames and not faces.faces_seen:
            log.warning("%s: no face was seen; it must be frontal, lit, and at least 48 px wide", name)


class LivePipeline:
    """One run of the live program, from the first frame to the last event."""

    def __init__(self, config: Config, parts: Parts, sinks: Iterable[OpenSink], stop: threading.Event) -> None:
        self._config, self.parts, self._open_sinks, self._stop = config, parts, sinks, stop
        self._hops: Channel[Hop] = Channel(HOPS_WAITING)
        self.telemetry = Telemetry()
        self._overload = Overload(parts.model.spec.fps)
        self._level = Level.NOTHING
        self._previewed_s: dict[int, float] = {}
        self._ends = 0
        self._sinks: list[Sink] = []
        self._degraded: dict[str, str] = {}
        self.server = EventServer(_server_config(config), hello(parts))
        self.serving = threading.Event()

    def run(self) -> None:
        """Serve until the source ends, a worker fails or `stop` is set. Raises a failed worker's error."""
        began_s = time.monotonic()
        self.server.start()
        workers = [Worker("face", self._watch, lambda: None), Worker("score", self._score, self._wind_up)]
        try:
            run = self.parts.run(self.server.epoch, live=True, outbox=self.server.outbox)
            for open_sink in self._open_sinks:
                if sink := open_sink(self._config, run):
                    self._sinks.append(sink)
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
            for sink in self._sinks:
                sink.close()  # before the journal closes, because some sinks read it
            self.server.stop()
        for worker in workers:
            worker.check()
        self.parts.summarise(time.monotonic() - began_s, self._ends)

    @property
    def hops_waiting(self) -> int:
        """The number of hops that wait to be scored, at most HOPS_WAITING."""
        return len(self._hops)

    def _wind_up(self) -> None:
        """Scoring has ended for any reason. This releases every thread that waits for it."""
        self._stop.set()
        self._hops.close()

    # --- face thread -------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        source, faces, captured_s = self.parts.source, self.parts.faces, time.monotonic()
        try:
            while (item := source.read()) is not None:
                if isinstance(item, Frame):
                    captured_s = item.time_s if source.info.live else time.monotonic()
                    self._put(item)
                with self.telemetry.working("face"):
                    hops = faces.step(item, captured_s, self._effort())
                for crop in faces.crops:
                    self._put(crop)
                    self._preview(crop)
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
            for point in scored.trace:
                self._put(point)
            if self._level < Level.TELEMETRY and self.server.wants("scores"):
                for point in scored.trace:
                    self.server.publish_scores(
                        messages.Scores(
                            face=point.face_id,
                            time_s=round(point.time_s, 3),
                            score=round(point.score, 4),
                            threshold=round(point.threshold, 4),
                        )
                    )
            self.telemetry.scored(hop.captured_s)

    def _step(self, hop: Hop) -> Scored:
        """Score a hop. If a GPU fails, the CPU takes over and open intervals are closed."""
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
            return Scored(closed.events + scored.events, scored.trace, closed.steps + scored.steps)

    def _publish(self, event: Event) -> None:
        self._ends += event.phase == "end"
        self.server.publish(event)
        self._put(event)

    def _put(self, item: Item) -> None:
        for sink in self._sinks:
            sink.put(item)

    # --- main thread -------------------------------------------------------------------------------------------------

    def _every_second(self) -> None:
        if self.server.failure is not None:
            raise UserError(f"the event server died: {one_line(self.server.failure)}; start again")
        scores, source = self.parts.scores, self.parts.source
        point = scores.policy.point
        dropped = {"capture": source.dropped, "corrupt": source.corrupt}
        for sink in self._sinks:
            dropped |= sink.dropped
        troubles = [sink.trouble for sink in self._sinks if sink.trouble]
        degraded = [*self._judge_load(), *self._degraded.values(), *troubles, *self.parts.faces.given_up]
        status = self.telemetry.status(
            dropped=dropped,
            degraded=degraded,
            runtime=scores.runtime,
            threshold=round(scores.policy.tracker.threshold, 4),
            false_alarms_per_hour=None if point is None else point.false_alarms_per_hour,
            operating_point=_measured(point),
        )
        self.server.publish_status(status)
        self._put(replace(status, degraded=[*degraded, *self.server.degraded]))

    def _judge_load(self) -> list[str]:
        """Set the level that the last second requires. Returns its entries for the status."""
        source = self.parts.source
        load = self.telemetry.load(source.dropped if source.info.live else None)
        self.server.ready(frames=load.done_fps > 0)
        level = self._overload.update(load)
        if not source.info.live:
            # a file waits: nothing of it is lost, and its events match those of the offline run
            return ["slower than real time: the file waits"] if level else []
        if level != self._level:
            log.warning("%s", "; ".join(level.words) or "keeping up again: nothing is given up")
            self._level = level
        return level.words

    def _effort(self) -> Effort:
        """Returns how much work the face thread does per frame at the current level."""
        level, hop_frames = self._level, self.parts.model.spec.hop_frames
        return Effort(
            hop_frames=2 * hop_frames if level >= Level.HOP else hop_frames,
            max_faces=1 if level >= Level.FACES else self._config.max_faces,
        )


def hello(parts: Parts) -> messages.Spotter:
    """Returns what the first message says about the spotter. `latency_s`: from an offset to its `end`, without
    processing.
    """
    spec, policy = parts.model.spec, parts.scores.policy
    return messages.Spotter(
        source=parts.source.info.name,
        model=messages.Model(spec.name, parts.model.sha256, spec.fps, spec.clip_frames),
        runtime=parts.scores.runtime,
        latency_s=round(policy.tracker.latency_s + spec.hop_frames / spec.fps, 3),
        operating_point=_measured(policy.point),
    )


def _measured(point: OperatingPoint | None) -> messages.OperatingPoint | None:
    return None if point is None else messages.OperatingPoint(**asdict(point))


def describe(parts: Parts) -> str:
    """Describes the opened source in words."""
    info = parts.source.info
    rate = f"{info.nominal_fps:.4g} fps" if info.nominal_fps else "rate unknown"
    wishes = (("width", info.requested_width_px), ("height", info.requested_height_px), ("fps", info.requested_fps))
    asked = ", ".join(f"{what} {value:g}" for what, value in wishes if value is not None)
    wish = f" (asked for {asked})" if asked else ""
    size = f"{info.width_px}x{info.height_px}"
    source = f"{info.name}: {size}, {rate}{wish} by {info.backend}, scored by {parts.scores.runtime}"
    point = parts.scores.policy.point
    return source if point is None else f"{source}; {point.words}"


def _server_config(config: Config) -> ServerConfig:
    return ServerConfig(
        host=config.host,
        port=config.port,
        token=config.token,
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
        journal_path=config.journal,
        allowed_origins=config.allow_origin,
        allowed_hosts=config.allow_host,
        trusted_proxies=config.trusted_proxy,
    )
