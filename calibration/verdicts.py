"""Gives a verdict in words on each measurement of a camera, and a remedy.

If the live program refuses to spot (`stream.faces.condition`, `stream.faces.finder.Limits`), the verdict is bad by the
same limit.
"""

import math
from dataclasses import dataclass

from calibration.camera import Measures
from stream.faces.condition import MAX_BLUR, MIN_FPS, MIN_LIGHT
from stream.faces.finder import Limits

GRADES = ("good", "fair", "bad")
LIGHT_FIRST = "more light, or a fixed exposure: in dim light a camera exposes longer and slows down"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One item: `grade` of GRADES, the finding in words, and a remedy if one is needed."""

    item: str
    grade: str
    says: str
    remedy: str = ""


def verdicts(m: Measures, smallest_px: float) -> list[Verdict]:
    """A verdict on everything. `smallest_px` is the smallest visible ME (see `calibration.visible`)."""
    return [*_timing(m), *_light(m), *_picture(m), *_face(m, smallest_px)]


def _timing(m: Measures) -> list[Verdict]:
    claimed = f" of {m.nominal_fps:.3g} claimed" if m.nominal_fps else ""
    slows = "does not slow the camera down"
    if m.slow_share > 0.1:
        dark = ", as cameras do in dim light" if m.dim_slows > 0.3 or m.light < 80 else ""
        slows = f"the rate is {m.slow_share:.0%} below what is claimed{dark}"
    stamps = f"jitter {m.jitter_ms:.1f} ms, {m.missing:.0%} of the frames missing"
    return [
        _higher("frame rate", m.fps, 27, MIN_FPS, f"{m.fps:.1f} fps{claimed}", LIGHT_FIRST),
        _lower("time stamps", max(m.jitter_ms / 5, m.missing / 0.02), 1, 4, stamps, "another USB port, or a wire"),
        _lower("exposure", m.slow_share, 0.1, 0.4, slows, LIGHT_FIRST),
    ]


def _light(m: Measures) -> list[Verdict]:
    dark = m.light < 128
    room = m.light if dark else 255 - m.light
    cause = f", as of {m.flicker.mains} mains" if m.flicker.mains and m.flicker.share > 0.004 else ""
    pulse = f"{m.flicker.share:.2%} of the brightness at {m.flicker.hz:.1f} Hz{cause}"
    light = f"mean grey level {m.light:.0f} of 255"
    remedy = "more light on the face" if dark else "less light, or a shorter exposure"
    lamp = "daylight, a flicker-free lamp, or the camera's anti-flicker setting for your mains"
    return [
        _higher("light", room, 60 if dark else 45, MIN_LIGHT if dark else 20, light, remedy),
        _lower("flicker", m.flicker.share, 0.004, 0.02, pulse, lamp),
    ]


def _picture(m: Measures) -> list[Verdict]:
    blocks = f"blocks stand out by {m.blockiness:.0%}" if math.isfinite(m.blockiness) else "too small a face to tell"
    return [
        _lower("sharpness", m.blur, 0.6, MAX_BLUR, f"blur {m.blur:.2f} of 1", "focus the camera, clean its lens"),
        _lower("noise", m.noise, 2.5, 6, f"{m.noise:.1f} grey levels", "more light, lower gain"),
        _lower("compression", m.blockiness, 0.15, 0.5, blocks, "a higher bit rate, or no compression"),
    ]


def _face(m: Measures, smallest_px: float) -> list[Verdict]:
    closer = "come closer, or ask for a higher resolution (--width, --height)"
    jitter = f"they tremble by {m.landmark_jitter_px:.2f} px on a 256-px face"
    smallest = f"{smallest_px:.1f} px on a 256-px face" if math.isfinite(smallest_px) else "none: no texture to go by"
    return [
        _higher("face size", m.face_px, 120, Limits().min_face_px, f"{m.face_px:.0f} px wide", closer),
        _lower("landmarks", m.landmark_jitter_px, 0.6, 1.5, jitter, "more light, a larger face"),
        _lower("smallest ME", smallest_px, 1.5, 3, smallest, "mend what is not good above, from the top"),
    ]


def _lower(item: str, value: float, good: float, fair: float, says: str, remedy: str) -> Verdict:
    """Good up to `good`, fair up to `fair`. A missing measurement does not lower the grade."""
    grade = "bad" if value > fair else "fair" if value > good else "good"
    return Verdict(item, grade, says, "" if grade == "good" else remedy)


def _higher(item: str, value: float, good: float, fair: float, says: str, remedy: str) -> Verdict:
    return _lower(item, -value, -good, -fair, says, remedy)
