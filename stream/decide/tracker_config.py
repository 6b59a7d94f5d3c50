"""The settings of an interval tracker, and how the others move with its threshold."""

from dataclasses import dataclass, replace

from stream.decide.odds import log_odds, probability


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """The settings of an interval tracker. Scores are probabilities, times are seconds.

    `threshold`: an `end` needs this score. `start_threshold`: one proposal this high starts an interval; it is lower,
    because a `start` is provisional and must be early. `hold_threshold`: a started interval below it for `fade_s` is
    retracted. `floor_score`: proposals below it are ignored. `min_s`, `max_s`: shortest and longest ME. `latency_s`:
    time from an offset to the verdict. `vote_s`: older votes do not count. `score_votes`: the score is the mean of this
    many best votes; missing ones count as 0. `nuisance_ratio`: a nuisance wins if its evidence reaches this multiple of
    the ME's. `update_s`: smallest move of a boundary that is worth an `update`. `nms_iou`: from this overlap on two
    intervals are one; below it the later one is clipped. `memory_s`: how long a closed interval absorbs late proposals,
    which is the length of a clip.
    """

    threshold: float = 0.5
    start_threshold: float = 0.4
    hold_threshold: float = 0.25
    floor_score: float = 0.1
    min_s: float = 0.1
    max_s: float = 0.8
    latency_s: float = 0.3
    vote_s: float = 0.8
    score_votes: int = 2
    nuisance_ratio: float = 2.0
    fade_s: float = 0.3
    update_s: float = 0.1
    nms_iou: float = 0.2
    memory_s: float = 2.3

    def __post_init__(self) -> None:
        if not 0 <= self.floor_score <= self.threshold <= 1:
            raise ValueError(f"threshold {self.threshold} must lie between floor_score {self.floor_score} and 1")
        if not 0 <= self.hold_threshold <= self.start_threshold <= 1:
            raise ValueError(
                f"hold_threshold {self.hold_threshold} must not exceed start_threshold {self.start_threshold}"
            )
        if not 0 < self.min_s < self.max_s:
            raise ValueError(f"min_s {self.min_s} must lie between 0 and max_s {self.max_s}")
        if self.score_votes < 1:
            raise ValueError(f"score_votes {self.score_votes} must be at least 1")
        if not (0 <= self.latency_s <= self.vote_s <= self.memory_s and self.fade_s > 0 and self.update_s > 0):
            raise ValueError("latency_s <= vote_s <= memory_s must hold, and fade_s and update_s be positive")

    def at(self, threshold: float) -> "TrackerConfig":
        """Returns the same settings at another threshold in (0, 1). Start and hold move with it and keep their ratio in
        odds.
        """
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold} must lie strictly between 0 and 1")
        shift = log_odds(threshold) - log_odds(self.threshold)
        start, hold = (probability(log_odds(p) + shift) for p in (self.start_threshold, self.hold_threshold))
        floor = min(self.floor_score, threshold)
        return replace(self, threshold=threshold, start_threshold=start, hold_threshold=hold, floor_score=floor)

    def shifted(self, shift: float) -> "TrackerConfig":
        """Returns the same settings with `shift` added to the log-odds of the threshold."""
        return self.at(probability(log_odds(self.threshold) + shift)) if shift else self
