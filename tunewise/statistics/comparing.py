"""The score of a candidate with its interval, and the difference of two candidates on the same rows.

Rates of independent rows use the methods for proportions; everything else, and every task with groups, uses the
bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import stats

from tunewise.statistics.interval import CONFIDENCE, NORMAL, Interval
from tunewise.statistics.proportions import mcnemar_exact, tango, wilson
from tunewise.statistics.resampling import bca, bootstrap

if TYPE_CHECKING:
    from tunewise.metrics import Metric


@dataclass(frozen=True)
class Difference:
    """Score of one candidate minus the score of another on the same rows."""

    value: float
    low: float
    """Lower end of the two-sided interval."""
    high: float
    """Upper end of the two-sided interval."""
    p: float
    """Two-sided p value of no difference."""
    upper: float
    """One-sided 95 % upper bound: the upper end of the two-sided 90 % interval."""
    method: str
    units: int | None = None
    """Independent rows, or groups, two at least, where the interval's ends stand by Student's distribution for
    so many."""
    confidence: float = CONFIDENCE
    """Of the two-sided interval."""

    @property
    def standard_error(self) -> float:
        """As much as the interval amounts to, if it were normal, or Student's where it was made so."""
        level = (1 + self.confidence) / 2
        quantile = NORMAL.inv_cdf(level) if self.units is None else float(stats.t.ppf(level, self.units - 1))
        return (self.high - self.low) / (2 * quantile)


def score_interval(
    metric: Metric,
    outputs: Sequence[str],
    targets: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The interval of a score: Wilson's for rates of independent rows, the BCa bootstrap otherwise."""
    rows = metric.rows(outputs, targets) if metric.is_rate and groups is None else None
    if rows is not None:
        return wilson(int(rows.sum()), len(rows), confidence)
    scores_of = metric.resampler(outputs, targets)
    return bca(scores_of, len(targets), seed=seed, groups=groups, lowest=metric.lowest, confidence=confidence)


def paired_difference(
    metric: Metric,
    a: Sequence[str],
    b: Sequence[str],
    targets: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Score of outputs `a` minus score of outputs `b` on the same rows; `confidence` is that of its interval.

    Rates of independent rows: exact McNemar for p, Tango for the bounds. Otherwise the bootstrap, both
    candidates on the same resamples.
    """
    rows_a = metric.rows(a, targets) if metric.is_rate and groups is None else None
    rows_b = metric.rows(b, targets) if rows_a is not None else None
    if rows_a is not None and rows_b is not None:
        only_a, only_b = int((rows_a > rows_b).sum()), int((rows_b > rows_a).sum())
        return rate_difference(only_a, only_b, len(rows_a), confidence)
    score_a, score_b = metric.resampler(a, targets), metric.resampler(b, targets)
    drawn = bootstrap(
        lambda weights: score_a(weights) - score_b(weights),
        len(targets),
        seed=seed,
        groups=groups,
        is_difference=True,
        lowest=metric.lowest,
    )
    both = drawn.interval(confidence)
    upper = drawn.interval(0.90).high
    units = None if drawn.is_degenerate else drawn.units
    return Difference(drawn.value, both.low, both.high, drawn.p_value(), upper, both.method, units, confidence)


def rate_difference(b: int, c: int, n: int, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two rates: of `n` rows only the first has `b` right, only the second `c`."""
    both = tango(b, c, n, confidence)
    return Difference(
        value=(b - c) / n,
        low=both.low,
        high=both.high,
        p=mcnemar_exact(b, c),
        upper=tango(b, c, n, 0.90).high,
        method="mcnemar, tango",
        confidence=confidence,
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of p values for testing them together, in the given order."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        highest = max(highest, min(1.0, ps[index] * (len(ps) - rank)))
        adjusted[index] = highest
    return adjusted
