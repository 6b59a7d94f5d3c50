"""Probabilities as log-odds: the scale on which evidence adds up and thresholds move."""

import math

LOWEST, HIGHEST = -9.0, 9.0
"""The limits of certainty: odds of 8000 to 1."""


def log_odds(probability: float) -> float:
    """ln(p / (1 - p)), within [LOWEST, HIGHEST]."""
    p = min(max(probability, 1e-9), 1 - 1e-9)
    return min(max(math.log(p / (1 - p)), LOWEST), HIGHEST)


def probability(odds: float) -> float:
    """The inverse of `log_odds`, for any finite odds."""
    return 1 / (1 + math.exp(min(-odds, 700.0)))  # exp overflows for larger values
