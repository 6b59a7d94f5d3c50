"""Time courses of made-up movements."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float32]
Ease = Callable[[NDArray], NDArray]
"""0 -> 1 over 0..1, held on either side."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A size from `low` to `high`. Between 1 and 2 it is as likely as between 2 and 4."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def min_jerk(x: NDArray) -> NDArray:
    """0 -> 1 over x in 0..1 with zero speed and acceleration at both ends (Flash and Hogan 1985)."""
    x = np.clip(x, 0, 1)
    return x * x * x * (10 - 15 * x + 6 * x * x)


def raised_cosine(x: NDArray) -> NDArray:
    """0 -> 1 over x in 0..1, zero speed at both ends."""
    return (1 - np.cos(np.pi * np.clip(x, 0, 1))) / 2


def ramp(x: NDArray) -> NDArray:
    """0 -> 1 over x in 0..1 at one speed."""
    return np.clip(x, 0, 1)


def there_and_back(
    t: NDArray,
    onset: float,
    apex: float,
    offset: float,
    hold: float = 0.0,
    rest: float = 0.0,
    ease: Ease = min_jerk,
) -> Curve:
    """Rises from `onset` to `apex`, stays for `hold` s, and falls to `rest` (share of the peak) at `offset`."""
    fall = ease((t - apex - hold) / max(offset - apex - hold, 1e-3))
    return (ease((t - onset) / max(apex - onset, 1e-3)) * (1 - (1 - rest) * fall)).astype(np.float32)


def wander(rng: np.random.Generator, t: NDArray, scale: float, hz: float) -> Curve:
    """A smooth random walk without drift: a few sinusoids up to `hz`, of rms `scale`."""
    f, phase = rng.uniform(0.05, hz, 4), rng.uniform(0, 2 * np.pi, 4)
    w = rng.normal(size=4)
    return (scale * (w[:, None] * np.sin(2 * np.pi * f[:, None] * t + phase[:, None])).sum(0) / 2).astype(np.float32)
