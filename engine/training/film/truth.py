"""The truth of a film, in the format that `engine.evaluate` reads."""

from engine.datasets.truth import KINDS, Nuisance, TruthInterval, TruthVideo
from engine.spec import REGIONS
from engine.training.generator.script import Label, Script

SHOWN = 0.25
"""A region is listed when it has at least this share of the movement."""


def truth_of(script: Script, file: str, subject: str, split: str, tags: dict[str, str]) -> TruthVideo:
    """Labels as intervals and nuisances, cut to the film's length. Labels outside the film are left out."""
    end_s = float(script.time_s[-1])
    inside = [a for a in sorted(script.labels, key=lambda a: a.onset_s) if a.onset_s < end_s and a.offset_s > 0]
    return TruthVideo(
        file=file,
        subject=subject,
        fps=script.camera.fps,
        duration_s=round(end_s + 1 / script.camera.fps, 3),
        split=split,
        intervals=tuple(_interval(a, end_s) for a in inside if a.kind in KINDS),
        nuisances=tuple(_nuisance(a, end_s) for a in inside if a.kind not in KINDS),
        tags=tags,
    )


def _interval(label: Label, end_s: float) -> TruthInterval:
    onset, apex, offset = _within(end_s, label.onset_s, label.apex_s, label.offset_s)
    regions = tuple(name for name, share in zip(REGIONS, label.regions, strict=True) if share >= SHOWN)
    seen = None if label.visibility is None else round(label.visibility, 3)
    return TruthInterval(onset, apex, offset, label.kind, label.amplitude_px or None, regions, visibility=seen)


def _nuisance(label: Label, end_s: float) -> Nuisance:
    onset, offset = _within(end_s, label.onset_s, label.offset_s)
    return Nuisance(onset, offset, label.kind)


def _within(end_s: float, *times: float) -> list[float]:
    return [round(min(max(float(t), 0.0), end_s), 4) for t in times]
