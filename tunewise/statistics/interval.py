"""What every interval is: two ends at a stated confidence, and the method they come from."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
NORMAL = NormalDist()
SAME = 1e-12
"""Two scores this close are the same score, computed in another order."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the method it comes from."""

    low: float
    high: float
    method: str


def for_all(count: int) -> float:
    """The confidence of each of `count` intervals at which all hold at once in 95 % of cases (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, count)
