"""Claims about methods: what another training run, on other rows, would have given.

An interval over rows covers the model that was trained. A method is asked what its next training would give, so
the spread between training seeds counts as well, and both are estimated from few of them.

>>> claim = method_difference([0.84, 0.80, 0.86], [0.78, 0.79, 0.75], row_variance=0.21, rows=300)
>>> claim.low > 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE


@dataclass(frozen=True)
class MethodDifference:
    """Mean score of one method minus that of another, over training seeds and rows."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided p value of no difference."""
    freedom: float
    """Satterthwaite's degrees of freedom."""


def method_difference(
    a: Sequence[float],
    b: Sequence[float],
    *,
    row_variance: float,
    rows: int,
    units: int | None = None,
    confidence: float = CONFIDENCE,
) -> MethodDifference | None:
    """The difference of two methods that were trained with several seeds and tested on the same rows.

    Its variance is that over rows plus that over seeds, row_variance / rows + Σ seed variance / seeds; the degrees
    of freedom are those of Satterthwaite (1946), each part weighted by how well it is known.

    Args:
        a: scores of one method, one a seed.
        b: scores of the other; one score where it has no seeds, such as a prompt.
        row_variance: of the difference of one row, the mean over seeds, with `units` - 1 degrees of freedom.
            Never 0: rows without a difference rule none out on others.
        rows: of the test.
        units: how many of them are independent; the groups, where rows come in groups.
        confidence: of the interval.

    Returns:
        The difference; None where no method has two seeds, so that nothing is known of their spread.

    Raises:
        DataError: a method has no score, there are fewer than two independent rows, or their variance is 0.
    """
    units = rows if units is None else units
    if not a or not b or units < 2 or row_variance <= 0:
        raise DataError(
            f"method difference: found {len(a)} and {len(b)} scores on {units} independent rows of variance "
            f"{row_variance:g}; expected at least one score of each, two rows, and a variance above 0."
        )
    if max(len(a), len(b)) < 2:
        return None
    parts = [(row_variance / rows, units - 1)]
    parts += [
        (float(np.var(scores, ddof=1)) / len(scores), len(scores) - 1) for scores in (a, b) if len(scores) > 1
    ]
    variance = sum(part for part, _ in parts)
    value = float(np.mean(a) - np.mean(b))
    freedom = variance**2 / sum(part**2 / known for part, known in parts)
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    p = 2 * float(stats.t.sf(abs(value) / math.sqrt(variance), freedom))
    return MethodDifference(value, value - reach, value + reach, p, freedom)
