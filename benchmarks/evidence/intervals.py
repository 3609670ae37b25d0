"""How often the interval of a score holds the truth, where the truth is known.

python benchmarks/evidence/intervals.py
"""

from __future__ import annotations

import bars
import numpy as np
from bars import Bar

from tunewise.statistics import wilson

LEAST, MOST = 0.93, 0.98


def coverage(accuracy: float, rows: int, draws: int) -> Bar:
    """The share of test sets of so many rows whose interval holds the accuracy they were drawn from."""
    rng = np.random.default_rng([rows, int(100 * accuracy)])
    holds = [(found := wilson(right, rows)).low <= accuracy <= found.high for right in range(rows + 1)]
    share = float(np.array(holds)[rng.binomial(rows, accuracy, size=draws)].mean())
    return Bar(f"accuracy {accuracy:g} on {rows} rows: the 95 % interval holds it", share, LEAST, MOST, draws)


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws = 200 if quick else 10_000
    return [coverage(accuracy, rows, draws) for accuracy in (0.5, 0.8, 0.95) for rows in (30, 100, 300)]


if __name__ == "__main__":
    bars.run("intervals", __doc__, measure)
