"""The truth of a clip as rows of numbers. Pools store them, batches vary them and the loss uses them.

The truth of a clip is float32[M, 9] rows: kind (index into CLASSES), onset, apex, offset in frames of the clip, weight,
four region shares. Rows of kind ABSENT are padding. A row of kind UNKNOWN says that only micro-expressions were
annotated. The loss then ignores other movements there.
"""

import numpy as np
from numpy.typing import NDArray

from engine.spec import CLASSES
from engine.training.generator.script import Label

MICRO, BLINK, MACRO, SPEECH, HEAD, NONE = range(len(CLASSES))
ABSENT, UNKNOWN = NONE + 1, NONE + 2
TRUTH_COLUMNS = 9


def label_row(label: Label, fps: int) -> NDArray[np.float32]:
    """One label as the loss takes it, float32[9], in frames. Frame 0 is at second 0 of the label."""
    weight = np.clip((label.amplitude_px - 0.4) / 1.1, 0.25, 1.0) if label.kind == "micro" else 1.0
    kind = UNKNOWN if label.kind == "unknown" else CLASSES.index(label.kind)
    times = [t * fps for t in (label.onset_s, label.apex_s, label.offset_s)]
    return np.array([kind, *times, weight, *label.regions], np.float32)
