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
