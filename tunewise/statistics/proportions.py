"""Proportions: the interval of one, the interval of the difference of two paired ones, and their exact test.

>>> interval = wilson(45, 50)
>>> round(interval.low, 3), round(interval.high, 3)
(0.786, 0.957)
>>> mcnemar_exact(1, 9)
0.021484375
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE, NORMAL, SAME, Interval


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's (1927) score interval for a proportion; raises DataError unless 0 <= successes <= n, n > 0."""
    if not 0 <= successes <= n or n <= 0:
        raise DataError(
            f"Wilson interval: found {successes} successes in {n} rows; expected 0 <= successes <= rows > 0."
        )
    z2 = _two_sided_z(confidence) ** 2
    share = successes / n
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + z2**2 / (4 * n**2)) / (1 + z2 / n)
    # The limits at 0 and n successes are exactly 0 and 1; rounding must not leave the score outside.
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return Interval(low, high, "wilson")


def mcnemar_exact(b: int, c: int, alternative: Literal["two-sided", "greater", "less"] = "two-sided") -> float:
    """Exact (conditional) McNemar test: of b + c rows on which two candidates differ, the first won b.

    `greater` tests that the first is better (many b), `less` that it is worse. The two-sided p value is
    twice the smaller tail, at most 1. With no discordant row it is 1.
    """
    m = b + c
    tail, term = 0, 1
    at_most = {"two-sided": min(b, c), "greater": c, "less": b}[alternative]
    for k in range(at_most + 1):
        tail += term
        term = term * (m - k) // (k + 1)
    p = tail / (1 << m)
    return min(1.0, 2 * p) if alternative == "two-sided" else p


def tango(b: float, c: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Tango's (1998) score interval for the difference of paired proportions, (b - c) / n.

    `b` rows only the first candidate has right, `c` only the second, of `n` rows. The limits are the
    differences at which the score statistic, its nuisance parameter at the constrained maximum of the
    likelihood, reaches the normal quantile; found by bisection. Stays within -1 and 1 and has width when b
    = c = 0. Raises DataError unless 0 <= b, c and b + c <= n, n > 0.
    """
    if min(b, c) < 0 or b + c > n * (1 + SAME) or n <= 0:
        raise DataError(
            f"Tango interval: found {b} and {c} discordant rows of {n}; expected both >= 0, sum <= rows."
        )
    z2 = _two_sided_z(confidence) ** 2
    estimate = (b - c) / n

    def outside(delta: float) -> bool:
        q = constrained_share(b, c, n, delta)
        variance = n * (2 * q + delta * (1 - delta))
        return (b - c - n * delta) ** 2 > z2 * variance

    return Interval(_edge(estimate, -1.0, outside), _edge(estimate, 1.0, outside), "tango")


def constrained_share(b: float, c: float, n: float, delta: float) -> float:
    """Maximum-likelihood share of rows that only the second has right, given the difference `delta`."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1 - delta)
    return max(0.0, (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n))


def _edge(inside: float, far: float, outside: Callable[[float], bool]) -> float:
    if not outside(far):
        return far
    for _ in range(60):
        middle = (inside + far) / 2
        inside, far = (inside, middle) if outside(middle) else (middle, far)
    return (inside + far) / 2


def _two_sided_z(confidence: float) -> float:
    return NORMAL.inv_cdf((1 + confidence) / 2)
