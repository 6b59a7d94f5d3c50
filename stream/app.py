"""The whole way of a frame:

    read -> faces -> crops on the time grid -> hop -> score -> intervals -> decisions -> events -> journal -> clients

Offline one loop does all of it. Live there are four kinds of threads: capture (inside the source), face, scoring, and
the server's own; see `stream.live.pipeline` and docs/pipeline.md.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from engine.errors import EngineError
from engine.model import load_model
from engine.runtimes import select
from engine.scorer import Scorer
from stream.config import Config
from stream.decide.emission import Emitter, LiveEdge, OfflineEdge
from stream.decide.policy import decision
from stream.decide.stage import ScoreStage
from stream.errors import UserError
from stream.faces.finder import Faces, open_landmarker
from stream.faces.model_file import locate
from stream.faces.stage import FaceStage
from stream.live.pipeline import CPU_RUNTIME, LivePipeline, Parts
from stream.protocol.ulid import ulid_of
from stream.sinks.events_file import EventsFile
from stream.sources import Source, open_source
from stream.types import Event

log = logging.getLogger("stream")

DEMO = Path(__file__).parent / "demo" / "demo.mp4"


def run(config: Config, stop: threading.Event) -> int:
    """Watch until the source ends or `stop` is set; return the exit code. UserError says what failed."""
    try:
        with closing(open_named_source(config, stop)) as source:
            parts = assemble(config, source)
            if config.offline:
                offline(config, parts)
            else:
                LivePipeline(config, parts, stop).run()
    except EngineError as error:
        raise UserError(str(error)) from None
    return 0


def open_named_source(config: Config, stop: threading.Event) -> Source:
    """Open what --camera, --source or --demo names."""
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
        loop=config.demo and not config.offline,
        stop=stop,
    )


def assemble(config: Config, source: Source) -> Parts:
    """Load the networks and put the two stages together."""
    model = load_model(config.model)
    landmarker = open_landmarker(config.landmarks, locate(config.face_model), config.max_faces)

    def scorer(runtime: str) -> Scorer[int]:
        return Scorer(select(runtime, model, faces=config.max_faces, device=f"cuda:{config.device}"), model.spec)

    decided = decision(config, model, source.info.name)
    emitter = Emitter(source.info.name, OfflineEdge() if config.offline else LiveEdge())
    scores = ScoreStage(scorer(config.runtime), emitter, decided.tracker)
    scores.new_baseline, scores.probability = decided.new_baseline, decided.probability
    return Parts(
        source=source,
        model=model,
        faces=FaceStage(Faces(landmarker, config.max_faces), model.spec, config.max_faces),
        scores=scores,
        point=decided.point,
        cpu_scorer=lambda: scorer(CPU_RUNTIME),
    )


def offline(config: Config, parts: Parts) -> None:
    """Every frame through the very steps of the live path, in a loop: same file, same bytes."""
    assert config.events is not None
    began_s, ends = time.monotonic(), 0
    with EventsFile(config.events, epoch=ulid_of(0, bytes.fromhex(parts.model.sha256))) as file:
        for event in offline_events(parts):
            ends += event.phase == "end"
            file.write(event)
    parts.summarise(time.monotonic() - began_s, ends)


def offline_events(parts: Parts) -> Iterator[Event]:
    """Events of a source until its end; when it fails, what is open is closed first."""
    try:
        while (item := parts.source.read()) is not None:
            for hop in parts.faces.step(item, captured_s=0.0):
                yield from parts.scores.step(hop).events
    finally:
        for hop in parts.faces.end(captured_s=0.0):
            yield from parts.scores.step(hop).events
