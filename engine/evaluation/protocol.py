"""How a threshold is chosen without looking at what is judged, and what is judged then."""

from collections.abc import Callable, Sequence

from engine.evaluation import metrics
from engine.evaluation.events import Judged
from engine.evaluation.figures import Decided
from engine.evaluation.matching import VideoResult

PROTOCOLS = ("fixed", "split", "loso")
HIGHEST = 0.999
HAIR = 1e-9
At = Callable[[Judged, float], Judged]
"""(video at the floor, threshold) -> the video as a run at that threshold would be judged."""


def decide(videos: Sequence[Judged], protocol: str, threshold: float, floor: float, at: At) -> Decided:
    """Choose thresholds by the protocol and apply them.

    `fixed`: `threshold` for all. `split`: the best F1 on the videos of split `tune`; only `test` is judged.
    `loso`: for each person the best F1 on everybody else; all are judged.
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
    """Not below what was swept, nor 1, at which no tracker can be set.

    A hair below the best, which is some interval's own score: a baseline's shift, there and back, rounds.
    """
    return min(max(metrics.best_threshold(videos) - HAIR, floor), HIGHEST)


def _subjects(videos: Sequence[Judged]) -> list[str]:
    return sorted({v.result.subject for v in videos})


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}" if values else "nobody"
