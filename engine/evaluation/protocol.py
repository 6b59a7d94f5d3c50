"""Chooses a threshold without looking at the judged videos, and selects the judged videos."""

from collections.abc import Callable, Sequence

from engine.evaluation import metrics
from engine.evaluation.events import Judged
from engine.evaluation.figures import Decided
from engine.evaluation.matching import VideoResult

PROTOCOLS = ("fixed", "split", "loso")
HIGHEST = 0.999
HAIR = 1e-9
At = Callable[[Judged, float], Judged]
"""(video at the floor, threshold) -> the video as judged from a run at that threshold."""


def decide(videos: Sequence[Judged], protocol: str, threshold: float, floor: float, at: At) -> Decided:
    """Chooses thresholds by the protocol and applies them.

    `fixed`: `threshold` for all. `split`: the best F1 on the videos of split `tune`; only `test` is judged. `loso`: for
    each person the best F1 on everybody else; all are judged.
    """
    match protocol:
        case "fixed":
            test = [v for v in videos if v.split == "test"]
            chosen, how = dict.fromkeys(_subjects(test), threshold), f"{threshold:g}" if threshold else "as emitted"
        case "split":
            test = [v for v in videos if v.split == "test"]
            tune = [v.result for v in videos if v.split == "tune"]
            best = _best(tune, floor)
            how = f"{best:.4g}, the best F1 on the {len(tune)} tuning videos"
            chosen = dict.fromkeys(_subjects(test), best)
        case "loso":
            test = list(videos)
            others = {s: [v.result for v in videos if v.result.subject != s] for s in _subjects(test)}
            chosen = {s: _best(vs, floor) for s, vs in others.items()}
            how = f"of each person by the best F1 on all others ({_range(list(chosen.values()))})"
        case _:
            raise ValueError(f"protocol {protocol} is not one of {', '.join(PROTOCOLS)}")
    final = tuple(at(v, chosen[v.result.subject]) for v in test)
    return Decided(tuple(test), final, chosen, how, floor)


def _best(videos: Sequence[VideoResult], floor: float) -> float:
    """The best threshold, but neither below the sweep's floor nor 1, which no tracker allows.

    It is slightly below the best one, which equals some interval's score. A baseline's shift and its inverse may round.
    """
    return min(max(metrics.best_threshold(videos) - HAIR, floor), HIGHEST)


def _subjects(videos: Sequence[Judged]) -> list[str]:
    return sorted({v.result.subject for v in videos})


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}" if values else "nobody"
