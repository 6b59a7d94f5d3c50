"""Label Studio: tasks with `TimelineLabels` on a `Video`; the machine's intervals are predictions.

Label Studio counts frames from 1 at a rate that the task names; docs/exports.md has the labelling configuration.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream.sessions.rows import MACHINE, Row, VideoRows


def files(videos: Sequence[VideoRows], out: Path) -> dict[Path, str]:
    """Returns one file: a list with one task per video."""
    return {out: json.dumps([_task(one) for one in videos], indent=1, ensure_ascii=False) + "\n"}


def _task(one: VideoRows) -> dict[str, Any]:
    raters = sorted({row.rater for row in one.rows} - {MACHINE})
    results = {rater: [_result(row, one.fps) for row in one.rows if row.rater == rater] for rater in (*raters, MACHINE)}
    found = results.pop(MACHINE)
    return {
        "data": {"video": one.video.path.name, "fps": one.fps, "clocks": one.clocks},
        "predictions": [{"model_version": "mestream", "result": found}] if found else [],
        "annotations": [{"result": result} for result in results.values()],
    }


def _result(row: Row, fps: float) -> dict[str, Any]:
    mark = row.mark
    ranges = [{"start": math.floor(mark.onset_s * fps + 1e-6) + 1, "end": math.floor(mark.offset_s * fps + 1e-6) + 1}]
    apex = "" if mark.apex_s is None else f", apex {mark.apex_s:.6f}"
    times = f"onset {mark.onset_s:.6f}{apex}, offset {mark.offset_s:.6f} s"
    score = {} if row.score is None else {"score": row.score}
    return {
        "id": f"{row.rater}:{mark.id}",
        "from_name": "movement",
        "to_name": "video",
        "type": "timelinelabels",
        "value": {"ranges": ranges, "timelinelabels": [str(mark.verdict) if row.verdict else "detected"]},
        "meta": {"text": [f"{row.rater}, face {mark.face}", row.label, times]},
        **score,
    }
