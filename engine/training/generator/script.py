"""The content of a made-up clip: facial actions, nuisances and camera as curves over time.

This is pure numpy without pixels. `engine.training.generator.scenes` draws scripts from a seed,
`engine.training.generator.happenings` draws their events, and `engine.training.generator.render` turns a script and an
actor into crops.

Sizes are in px on a 256-px face (cheek to cheek), the field's usual scale. Times are in seconds.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.spec import REGIONS
from engine.training.generator.camera import Camera
from engine.training.generator.curves import Curve
from engine.training.generator.repertoire import MIDLINE


@dataclass(frozen=True, slots=True)
class Label:
    """One interval of the truth. `kind` is an entry of engine.spec.CLASSES. `amplitude_px` is on a 256-px face.
    `visibility` is against the face's own motion (`engine.training.film.visibility`), if it was measured."""

    kind: str
    onset_s: float
    apex_s: float
    offset_s: float
    amplitude_px: float = 0.0
    regions: tuple[float, ...] = (0.0,) * len(REGIONS)
    visibility: float | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """A local displacement of no named action: a Gaussian of `radius` face widths, along `angle` rad."""

    landmark: int
    radius: float
    angle: float


@dataclass(slots=True)
class Script:
    """Curves over `time_s[F]`, the camera's stamps. A missing channel is zero.

    `actions`: by the names of `engine.training.generator.actors`. Action units (`AU4_L`, ...) and gaze are in px on a
    256-px face, `yaw` and `pitch` in degrees, large actions and blinks as a share 0..1 of their full size. `pushes`:
    with a curve in px on a 256-px face. `pose[F, 4]`: x, y (px on a 256-px face), roll (degrees), log scale of the face
    in the camera's picture. `light[F, 4]`: gain, offset (grey levels), tilt x, tilt y. `jitter`: error of the alignment
    in crop px, white and slow. `occluder`: start and end of an object that passes in front of the face.
    """

    time_s: NDArray[np.float64]
    camera: Camera
    pose: Curve
    light: Curve
    actions: dict[str, Curve] = field(default_factory=dict)
    pushes: list[tuple[Push, Curve]] = field(default_factory=list)
    jitter: tuple[float, float] = (0.03, 0.03)
    occluder: tuple[float, float] | None = None
    labels: list[Label] = field(default_factory=list)

    def add(self, action: str, curve: NDArray) -> None:
        """Sum `curve` into an action."""
        self.actions[action] = (self.actions.get(action, 0) + curve).astype(np.float32)

    def add_sides(self, unit: str, left: float, right: float, curve: Curve) -> None:
        """Adds an action unit to both sides, or to the one that it has."""
        if unit in MIDLINE:
            self.add(f"AU{unit}_B", max(left, right, key=abs) * curve)
            return
        for side, weight in (("L", left), ("R", right)):
            if weight:
                self.add(f"AU{unit}_{side}", weight * curve)


def still_script(time_s: ArrayLike, camera: Camera) -> Script:
    """A script without movement and with constant light, at the times given in s."""
    t = np.asarray(time_s, float)
    return Script(t, camera, pose=np.zeros((len(t), 4), np.float32), light=np.ones((len(t), 4), np.float32))
