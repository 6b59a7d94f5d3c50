"""Real crops for the benchmarks, cut out of videos by the program's own face stage."""

from pathlib import Path

import numpy as np

from engine.spec import ModelSpec
from stream.errors import UserError
from stream.faces.finder import Faces
from stream.faces.landmarks import Landmarker
from stream.faces.model_file import locate
from stream.faces.stage import FaceStage
from stream.sources import open_source

SUFFIXES = (".mp4", ".mkv", ".mpg", ".avi")


def videos(data: Path) -> list[Path]:
    """The videos below DIR/video. Raises UserError when there are none."""
    found = sorted(p for p in (data / "video").rglob("*") if p.suffix in SUFFIXES)
    if not found:
        raise UserError(f"--data {data}: no video/**/*.mp4 in there; give the folder that holds video/", code=2)
    return found


def crops_of_videos(data: Path, max_videos: int = 8, shortest: int = 24) -> list[np.ndarray]:
    """Stretches without a gap, uint8[n, S, S] each, of one face in some videos of DIR/video."""
    landmarker, stretches = Landmarker(locate(None)), []
    every = videos(data)
    for path in every[:: -(-len(every) // max_videos)]:
        parts: list[np.ndarray] = []
        stage = FaceStage(Faces(landmarker, 1), ModelSpec(), 1)
        source = open_source(str(path), paced=False)
        hops = []
        while (item := source.read()) is not None:
            hops += stage.step(item, 0.0)
        hops += stage.end(0.0)
        source.close()
        for face in (face for hop in hops for face in hop.faces):
            parts.append(face.crops)
            if face.gap is not None:
                stretches.append(np.concatenate(parts))
                parts = []
    return [crops for crops in stretches if len(crops) >= shortest]
