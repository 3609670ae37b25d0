"""Intervals, paired tests, non-inferiority and the rows that a claim would need.

Every score Tunewise shows carries an interval, and every claim that one candidate is better, or no worse,
rests on a test of the same rows. Rates (accuracy, exact match) use the methods for proportions; everything
else, and every task with groups, uses the bootstrap. Scores, differences and margins are shares (0.02 is
two points).

>>> interval = wilson(45, 50)
>>> round(interval.low, 3), round(interval.high, 3)
(0.786, 0.957)
>>> mcnemar_exact(1, 9)
0.021484375
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import DataError

Floats = NDArray[np.float64]
ScoresOf = Callable[[Floats], Floats]
"""Row weights, shape (resamples, rows), to scores, shape (resamples,)."""

CONFIDENCE = 0.95
RESAMPLES = 2000
_NORMAL = NormalDist()
_CELLS_AT_ONCE = 2_000_000
_MAX_JACKKNIFE = 1000
_SAME = 1e-12


class Measure(Protocol):
    """What is needed of a metric; `tunewise.metrics.Metric` fits."""

    @property
    def is_rate(self) -> bool:
        """True when rows are 0 or 1 and the score is their mean."""

    def rows(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats | None:
        """Values per row, or None."""

    def resampler(self, outputs: Sequence[str], targets: Sequence[str]) -> ScoresOf:
        """Scores of many weightings of the rows."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the method it comes from."""

    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Difference:
    """Score of one candidate minus the score of another on the same rows."""

    value: float
    low: float
    """Lower end of the two-sided 95 % interval."""
    high: float
    """Upper end of the two-sided 95 % interval."""
    p: float
    """Two-sided p value of no difference."""
    upper: float
    """One-sided 95 % upper bound: the upper end of the two-sided 90 % interval."""
    method: str


# Proportions


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
    if min(b, c) < 0 or b + c > n * (1 + _SAME) or n <= 0:
        raise DataError(
            f"Tango interval: found {b} and {c} discordant rows of {n}; expected both >= 0, sum <= rows."
        )
    z2 = _two_sided_z(confidence) ** 2
    estimate = (b - c) / n

    def outside(delta: float) -> bool:
        q = _constrained_share(b, c, n, delta)
        variance = n * (2 * q + delta * (1 - delta))
        return (b - c - n * delta) ** 2 > z2 * variance

    return Interval(_edge(estimate, -1.0, outside), _edge(estimate, 1.0, outside), "tango")


def _constrained_share(b: float, c: float, n: float, delta: float) -> float:
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


# Bootstrap


@dataclass(frozen=True)
class Bootstrap:
    """Scores of resamples, from which intervals and p values are read."""

    value: float
    scores: Floats
    acceleration: float
    units: int
    """How many independent units were resampled: rows, or groups."""
    method: str
    is_difference: bool = False

    @property
    def is_degenerate(self) -> bool:
        """True when every resample has the same score, so that resampling says nothing of the uncertainty."""
        return bool(np.ptp(self.scores) <= _SAME) or self.units < 2

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The BCa interval (Efron 1987).

        When every resample scores the same, its width would be 0, which no finite test supports. Then the
        score is treated as a proportion of the units: Wilson's interval for a score, Tango's for a
        difference. Both are on the safe side, as no variable between 0 and 1 varies more than a proportion
        with the same mean.
        """
        if self.is_degenerate:
            return self._as_proportion(confidence)
        below = (self.scores < self.value - _SAME).mean()
        same = (np.abs(self.scores - self.value) <= _SAME).mean()
        r = len(self.scores)
        # Ties count half, and the share stays off 0 and 1, where the normal quantile is infinite.
        bias = _NORMAL.inv_cdf(min(max(float(below + same / 2), 0.5 / r), 1 - 0.5 / r))
        ends = []
        for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
            shifted = bias + _NORMAL.inv_cdf(tail)
            shrink = 1 - self.acceleration * shifted
            ends.append(_NORMAL.cdf(bias + shifted / shrink) if shrink > 0 else tail)
        low, high = np.quantile(self.scores, ends)
        return Interval(min(float(low), self.value), max(float(high), self.value), self.method)

    def p_value(self) -> float:
        """Two-sided p value of the value being 0, from resamples shifted to a mean difference of 0.

        The achieved significance level (k + 1) / (R + 1), with k the resamples whose distance from the
        observed difference is at least that difference (Davison and Hinkley 1997, section 4.4). It is never
        below 2 / 2^units, the least that flipping signs of so few units could give.
        """
        if abs(self.value) <= _SAME:
            return 1.0
        floor = min(1.0, 2.0 ** (1 - self.units))
        if self.is_degenerate:
            return floor
        extreme = np.abs(self.scores - self.value) >= abs(self.value) - _SAME
        return max(floor, float((extreme.sum() + 1) / (len(self.scores) + 1)))

    def _as_proportion(self, confidence: float) -> Interval:
        if self.is_difference:
            limits = tango(
                max(self.value, 0) * self.units, max(-self.value, 0) * self.units, self.units, confidence
            )
        else:
            limits = wilson(min(max(self.value, 0.0), 1.0) * self.units, self.units, confidence)
        low, high = min(limits.low, self.value), max(limits.high, self.value)
        return Interval(low, high, f"{limits.method} (every resample equal)")


def bootstrap(
    scores_of: ScoresOf,
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    is_difference: bool = False,
) -> Bootstrap:
    """Resample `n` rows, or whole groups of rows (Field and Welsh 2007), and score every resample.

    `scores_of` takes weights of shape (resamples, rows): how often each row was drawn. The same seed draws
    the same resamples whatever is scored. Raises DataError when there are no rows or not one group per row.
    """
    if n < 1 or (groups is not None and len(groups) != n):
        found = "no rows" if n < 1 else f"{len(groups or [])} groups for {n} rows"
        raise DataError(f"bootstrap: found {found}; expected at least one row, and a group for each if any.")
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))} if groups is not None else {}
    unit_of_row = np.array([codes[group] for group in groups]) if groups is not None else np.arange(n)
    units = len(codes) or n
    rng = np.random.default_rng(seed)
    batch = max(1, _CELLS_AT_ONCE // max(n, units))
    scores = [
        scores_of(_drawn(rng, min(batch, resamples - done), units)[:, unit_of_row])
        for done in range(0, resamples, batch)
    ]
    return Bootstrap(
        value=float(scores_of(np.ones((1, n)))[0]),
        scores=np.concatenate(scores),
        acceleration=_acceleration(scores_of, unit_of_row, units, seed) if units > 1 else 0.0,
        units=units,
        method="bca" if groups is None else "bca by group",
        is_difference=is_difference,
    )


def bca(
    scores_of: ScoresOf,
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The BCa bootstrap interval of a score; see `bootstrap` for the arguments."""
    return bootstrap(scores_of, n, resamples=resamples, seed=seed, groups=groups).interval(confidence)


def _drawn(rng: np.random.Generator, resamples: int, units: int) -> Floats:
    """How often each unit is drawn, shape (resamples, units)."""
    draws = rng.integers(units, size=(resamples, units)) + np.arange(resamples)[:, None] * units
    return np.bincount(draws.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)


def _acceleration(scores_of: ScoresOf, unit_of_row: NDArray[np.int_], units: int, seed: int) -> float:
    """Skewness of the jackknife over units / 6; beyond 1,000 units, over 1,000 random blocks of them."""
    blocks = min(units, _MAX_JACKKNIFE)
    block_of_unit = np.random.default_rng(seed).permutation(units) % blocks
    block_of_row = block_of_unit[unit_of_row]
    batch = max(1, _CELLS_AT_ONCE // len(unit_of_row))
    left_out = np.concatenate(
        [
            scores_of((block_of_row != np.arange(start, min(start + batch, blocks))[:, None]).astype(np.float64))
            for start in range(0, blocks, batch)
        ]
    )
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    return float((pull**3).sum() / (6 * spread**1.5)) if spread > _SAME**2 else 0.0


# Scores and differences of candidates


def score_interval(
    metric: Measure,
    outputs: Sequence[str],
    targets: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Interval:
    """The 95 % interval of a score: Wilson's for rates of independent rows, the BCa bootstrap otherwise."""
    rows = metric.rows(outputs, targets) if metric.is_rate and groups is None else None
    if rows is not None:
        return wilson(int(rows.sum()), len(rows))
    return bca(metric.resampler(outputs, targets), len(targets), seed=seed, groups=groups)


def paired_difference(
    metric: Measure,
    a: Sequence[str],
    b: Sequence[str],
    targets: Sequence[str],
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Difference:
    """Score of outputs `a` minus score of outputs `b` on the same rows.

    Rates of independent rows: exact McNemar for p, Tango for the bounds. Otherwise the bootstrap, both
    candidates on the same resamples.
    """
    rows_a = metric.rows(a, targets) if metric.is_rate and groups is None else None
    rows_b = metric.rows(b, targets) if rows_a is not None else None
    if rows_a is not None and rows_b is not None:
        return _rate_difference(int((rows_a > rows_b).sum()), int((rows_b > rows_a).sum()), len(rows_a))
    score_a, score_b = metric.resampler(a, targets), metric.resampler(b, targets)
    drawn = bootstrap(
        lambda weights: score_a(weights) - score_b(weights),
        len(targets),
        seed=seed,
        groups=groups,
        is_difference=True,
    )
    both = drawn.interval()
    return Difference(drawn.value, both.low, both.high, drawn.p_value(), drawn.interval(0.90).high, both.method)


def _rate_difference(b: int, c: int, n: int) -> Difference:
    both = tango(b, c, n)
    return Difference(
        value=(b - c) / n,
        low=both.low,
        high=both.high,
        p=mcnemar_exact(b, c),
        upper=tango(b, c, n, 0.90).high,
        method="mcnemar, tango",
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) adjustment of p values for testing them together, in the given order."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda index: ps[index])):
        highest = max(highest, min(1.0, ps[index] * (len(ps) - rank)))
        adjusted[index] = highest
    return adjusted


# Margins and rows


def smallest_margin(uppers: Sequence[float]) -> float:
    """The smallest margin, in points with one decimal, at which these bounds would have shown the nominee.

    Bounds must lie *below* the margin, so a largest bound of exactly 0.03 gives 3.1. Never below 0.1. Raises
    DataError for an empty sequence.
    """
    if not uppers:
        raise DataError("smallest margin: found no other finalist; expected at least one upper bound.")
    tenths = math.floor(round(max(uppers) * 1000, 6)) + 1
    return max(1, tenths) / 10


def rows_needed(discordance: float, margin: float, power: float = 0.8) -> int:
    """Test rows needed to show a rate non-inferior within `margin` (one-sided 95 %), if the two are equal.

    `discordance` is the share of rows on which exactly one of the two is right. Asymptotic sample size of the
    paired score test, with the constrained variance under the null (Nam 1997; Liu et al. 2002); it covers
    discordance 0, where rows are still needed to rule a difference out. Raises DataError unless
    0 <= discordance <= 1 and 0 < margin < 1.
    """
    if not 0 <= discordance <= 1 or not 0 < margin < 1:
        raise DataError(
            f"rows needed: found discordance {discordance} and margin {margin}; expected shares, margin > 0."
        )
    share = _constrained_share(discordance / 2, discordance / 2, 1.0, margin)
    null_sd = math.sqrt(max(0.0, 2 * share + margin * (1 - margin)))
    reach = _NORMAL.inv_cdf(CONFIDENCE) * null_sd + _NORMAL.inv_cdf(power) * math.sqrt(discordance)
    return math.ceil((reach / margin) ** 2)


def rows_needed_continuous(sd: float, margin: float, power: float = 0.8) -> int:
    """The same for scores that are not rates; `sd` is the standard deviation of the difference for one row.

    For a corpus metric, `sd` is the standard error of the difference times the square root of the rows.
    """
    if sd < 0 or margin <= 0:
        raise DataError(f"rows needed: found sd {sd} and margin {margin}; expected sd >= 0 and margin > 0.")
    reach = (_NORMAL.inv_cdf(CONFIDENCE) + _NORMAL.inv_cdf(power)) * sd
    return max(2, math.ceil((reach / margin) ** 2))


def _two_sided_z(confidence: float) -> float:
    return _NORMAL.inv_cdf((1 + confidence) / 2)
