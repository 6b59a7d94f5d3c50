"""The whole path of a frame:

    read -> faces -> crops on the time grid -> hop -> score -> intervals -> decisions -> events -> journal -> clients

Offline one loop does all of it. Live there are four kinds of threads: capture (inside the source), face, scoring, and
the server's own. See `stream.live.pipeline` and docs/pipeline.md.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from engine.errors import EngineError
from engine.model import load_model
from engine.runtimes import select
from engine.scorer import Scorer
from stream.config import Config
from stream.decide.baseline import BaselineLaw
from stream.decide.emission import Emitter, LiveEdge, OfflineEdge
from stream.decide.policy import policy_of
from stream.decide.stage import Scored, ScoreStage
from stream.errors import UserError
from stream.faces.finder import Faces, open_landmarker
from stream.faces.model_file import locate
from stream.faces.stage import FaceStage
from stream.live.pipeline import CPU_RUNTIME, LivePipeline, Parts
from stream.protocol.ulid import ulid_of
from stream.sinks import Item, OpenSink, Sink
from stream.sinks.events_file import open_events_file
from stream.sinks.lsl import open_lsl
from stream.sinks.mqtt import open_mqtt
from stream.sinks.record import open_recorder
from stream.sources import Source, open_source
from stream.types import Event, Frame

log = logging.getLogger("stream")

SINKS: tuple[OpenSink, ...] = (open_events_file, open_recorder, open_lsl, open_mqtt)
"""Where events go besides the server."""
DEMO = Path(__file__).parent / "demo" / "demo.mp4"


def run(config: Config, stop: threading.Event) -> int:
    """Watch until the source ends or `stop` is set. Returns the exit code. Raises UserError if something fails."""
    try:
        with closing(open_named_source(config, stop)) as source:
            parts = assemble(config, source)
            if config.offline:
                offline(config, parts)
            else:
                LivePipeline(config, parts, SINKS, stop).run()
    except EngineError as error:
        raise UserError(str(error)) from None
    return 0


def open_named_source(config: Config, stop: threading.Event) -> Source:
    """Open the source that --camera, --source or --demo names."""
    if config.demo and not DEMO.exists():
        raise UserError("--demo: this installation has no demo clip; use --source FILE, or install the project again")
    spec: str | int = str(DEMO) if config.demo else config.source or ""
    if config.camera is not None:
        camera = config.camera.removeprefix("camera:")
        spec = int(camera) if camera.isdigit() else camera if camera.startswith("/") else f"camera:{camera}"
    return open_source(
        spec,
        paced=not config.offline,
        width_px=config.width_px,
        height_px=config.height_px,
        fps=config.fps,
        video_stream=config.video_stream,
        capture_fps=config.capture_fps,
        max_pixels=config.max_pixels,
        loop=config.demo and not config.offline,
        stop=stop,
    )


def assemble(config: Config, source: Source, law: BaselineLaw | None = None) -> Parts:
    """Load the networks and build the two stages. `law`: law of the faces' baselines, if not the model's."""
    model = load_model(config.model)
    landmarker = open_landmarker(config.landmarks, locate(config.face_model), config.max_faces)

    def scorer(runtime: str) -> Scorer[int]:
        return Scorer(select(runtime, model, faces=config.max_faces, device=f"cuda:{config.device}"), model.spec)

    policy = policy_of(config, model, source.info.name)
    if law is not None:
        policy = replace(policy, law=law, known=None)
    emitter = Emitter(source.info.name, OfflineEdge() if config.offline else LiveEdge())
    return Parts(
        source=source,
        model=model,
        faces=FaceStage(Faces(landmarker, config.max_faces), model.spec, config.max_faces),
        scores=ScoreStage(scorer(config.runtime), emitter, policy),
        cpu_scorer=lambda: scorer(CPU_RUNTIME),
    )


def offline(config: Config, parts: Parts) -> None:
    """Run every frame through the steps of the live path, in a loop. The same file gives the same bytes."""
    began_s, ends = time.monotonic(), 0
    run = parts.run(epoch=ulid_of(0, bytes.fromhex(parts.model.sha256)), live=False, outbox=None)
    with ExitStack() as stack:
        sinks = [stack.enter_context(closing(sink)) for open_sink in SINKS if (sink := open_sink(config, run))]

        def put(*items: Item) -> None:
            for item in items:
                for sink in sinks:
                    sink.put(item)

        for scored in offline_steps(parts, put):
            put(*scored.trace, *scored.events)
            _check(sinks)
            ends += sum(event.phase == "end" for event in scored.events)
    _check(sinks)
    parts.summarise(time.monotonic() - began_s, ends)


def _check(sinks: Sequence[Sink]) -> None:
    """End an offline run if an output fails."""
    if troubles := [sink.trouble for sink in sinks if sink.trouble]:
        raise UserError(troubles[0])


def offline_steps(parts: Parts, see: Callable[..., None] = lambda *items: None) -> Iterator[Scored]:
    """Yields the results of a source's frames until its end. If the source fails, open intervals are closed first.

    `see`: called with each frame and its crops before their results.
    """
    failure: Exception | None = None
    try:
        while (item := parts.source.read()) is not None:
            hops = parts.faces.step(item, captured_s=0.0)
            if isinstance(item, Frame):
                see(item, *parts.faces.crops)
            for hop in hops:
                yield parts.scores.step(hop)
    except Exception as error:
        failure = error
    for hop in parts.faces.end(captured_s=0.0):
        yield parts.scores.step(hop)
    if failure is not None:
        raise failure


def offline_events(parts: Parts) -> Iterator[Event]:
    """Yields the events of a source until its end."""
    return (event for scored in offline_steps(parts) for event in scored.events)
