"""The bootstrap: what any score could have been on other rows, or other groups of rows, of the same kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE, NORMAL, SAME, Interval
from tunewise.statistics.proportions import tango, wilson

Floats = NDArray[np.float64]
ScoresOf = Callable[[Floats], Floats]
"""Row weights, shape (resamples, rows), to scores, shape (resamples,)."""

RESAMPLES = 2000
_CELLS_AT_ONCE = 2_000_000
_MAX_JACKKNIFE = 1000


@dataclass(frozen=True)
class Bootstrap:
    """Scores of resamples, from which intervals and p values are read."""

    value: float
    scores: Floats
    left_out: Floats
    """Scores without each unit in turn, or without each of 1,000 blocks of them; none where there is one unit."""
    units: int
    """How many independent units were resampled: rows, or groups."""
    rows: int
    method: str
    is_difference: bool = False
    lowest: float = 0.0
    """The lowest score that the metric can have; the highest is 1."""

    @property
    def acceleration(self) -> float:
        """Skewness of the jackknife over units / 6."""
        if not len(self.left_out):
            return 0.0
        pull = self.left_out.mean() - self.left_out
        spread = float((pull**2).sum())
        return float((pull**3).sum() / (6 * spread**1.5)) if spread > SAME**2 else 0.0

    @property
    def is_degenerate(self) -> bool:
        """True when every resample has the same score, so that resampling says nothing of the uncertainty."""
        return bool(np.ptp(self.scores) <= SAME) or self.units < 2

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """The BCa interval (Efron 1987), its ends as far from the value as so few units ask for.

        Resamples of G units spread by the root of (G - 1) / G too little, and G units tell their own spread badly,
        so Student's quantile takes the place of the normal one (compare Hesterberg 2015, section 5.1): with 300
        rows 0.6 % wider, with 5 groups 1.6 times as wide.

        When every resample scores the same, its width would be 0, which no finite test supports. Then the
        score is treated as a proportion of the units: Wilson's interval for a score, Tango's for a
        difference. Both are on the safe side, as no variable between 0 and 1 varies more than a proportion
        with the same mean. Where few units differ, resamples hold too little of what was seen once or never, and
        a difference reaches at least as far as that of two proportions would; see `_as_of_proportions`.
        """
        if self.is_degenerate:
            return self._as_proportion(confidence)
        below = (self.scores < self.value - SAME).mean()
        same = (np.abs(self.scores - self.value) <= SAME).mean()
        r = len(self.scores)
        # Ties count half, and the share stays off 0 and 1, where the normal quantile is infinite.
        bias = NORMAL.inv_cdf(min(max(float(below + same / 2), 0.5 / r), 1 - 0.5 / r))
        ends = []
        for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
            shifted = bias + NORMAL.inv_cdf(tail)
            shrink = 1 - self.acceleration * shifted
            ends.append(NORMAL.cdf(bias + shifted / shrink) if shrink > 0 else tail)
        low, high = np.quantile(self.scores, ends)
        wider = narrowed(self.units) * as_student(self.units, confidence)
        down, up = wider * (self.value - float(low)), wider * (float(high) - self.value)
        least_down, least_up = self._as_of_proportions(confidence) if self.is_difference else (0.0, 0.0)
        least, most = self._range
        return Interval(
            max(least, self.value - max(down, least_down)), min(most, self.value + max(up, least_up)), self.method
        )

    def p_value(self) -> float:
        """Two-sided p value of the value being 0, from resamples shifted to a mean difference of 0.

        The achieved significance level (k + 1) / (R + 1), with k the resamples whose distance from the
        observed difference is at least that difference (Davison and Hinkley 1997, section 4.4), by Student's
        distribution instead of the normal one, as in `interval`. It is never below 2 / 2^units, the least that
        flipping signs of so few units could give.
        """
        if abs(self.value) <= SAME:
            return 1.0
        floor = min(1.0, 2.0 ** (1 - self.units))
        if self.is_degenerate:
            return floor
        extreme = narrowed(self.units) * np.abs(self.scores - self.value) >= abs(self.value) - SAME
        level = float((extreme.sum() + 1) / (len(self.scores) + 1))
        return max(floor, 2 * float(stats.t.sf(NORMAL.inv_cdf(1 - level / 2), self.units - 1)))

    @property
    def _range(self) -> tuple[float, float]:
        """The least and the most that the value can be."""
        return (self.lowest - 1.0, 1.0 - self.lowest) if self.is_difference else (self.lowest, 1.0)

    def _as_of_proportions(self, confidence: float) -> tuple[float, float]:
        """How far down and up a difference of two proportions with the same mean and variance reaches.

        Units pull the difference by their pseudo-values (Tukey's jackknife). As many units of one size, some up
        and some down, have the same mean and variance; Tango's interval for them knows what was not seen, where
        a resample of two units that fell one way never falls the other. The size is that of the units that differ
        and of one row more that differs by all it could: of one or two, little is known.
        """
        count = len(self.left_out)
        pulls = count * self.value - (count - 1) * self.left_out
        sizes = np.abs(pulls)
        total, squares = float(sizes.sum()), float((sizes**2).sum())
        most = self._span * count / self.rows
        # Of pulls of one size, this many would have this sum and this sum of squares.
        differing = total**2 / squares if squares else 0.0
        size = (total + most) / (differing + 1)
        # No more may differ than there are.
        scale = size * max(1.0, total / size / count)
        ups, downs = (float(side.clip(0).sum()) / scale for side in (pulls, -pulls))
        found, center = tango(ups, downs, count, confidence), (ups - downs) / count
        wider = scale * as_student(self.units, confidence)
        return wider * (center - found.low), wider * (found.high - center)

    @property
    def _span(self) -> float:
        return 1.0 - self.lowest

    def _as_proportion(self, confidence: float) -> Interval:
        span = self._span
        if self.is_difference:
            shares = max(self.value, 0) / span * self.units, max(-self.value, 0) / span * self.units
            limits, start = tango(*shares, self.units, confidence), 0.0
        else:
            share = min(max((self.value - self.lowest) / span, 0.0), 1.0)
            limits, start = wilson(share * self.units, self.units, confidence), self.lowest
        low, high = (start + span * end for end in (limits.low, limits.high))
        return Interval(min(low, self.value), max(high, self.value), f"{limits.method} (every resample equal)")


def narrowed(units: int) -> float:
    """By how much resamples of so few units, two at least, spread too little: a fifth with three."""
    return math.sqrt(units / (units - 1))


def as_student(units: int, confidence: float = CONFIDENCE) -> float:
    """Student's quantile over the normal one: so few units, two at least, tell their own spread badly."""
    quantile = (1 + confidence) / 2
    return float(stats.t.ppf(quantile, units - 1)) / NORMAL.inv_cdf(quantile)


def bootstrap(
    scores_of: ScoresOf,
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    is_difference: bool = False,
    lowest: float = 0.0,
) -> Bootstrap:
    """Resample `n` rows, or whole groups of rows (Field and Welsh 2007), and score every resample.

    `scores_of` takes weights of shape (resamples, rows): how often each row was drawn. The same seed draws
    the same resamples whatever is scored. Raises DataError when there are no rows or not one group per row.
    """
    unit_of_row, units = _units(n, groups)
    return Bootstrap(
        value=float(scores_of(np.ones((1, n)))[0]),
        scores=np.concatenate([scores_of(weights) for weights in draws(n, resamples, seed, groups)]),
        left_out=_left_out(scores_of, unit_of_row, units, seed) if units > 1 else np.empty(0),
        units=units,
        rows=n,
        method="bca" if groups is None else "bca by group",
        is_difference=is_difference,
        lowest=lowest,
    )


def bca(
    scores_of: ScoresOf,
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    lowest: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The BCa bootstrap interval of a score; see `bootstrap` for the arguments."""
    drawn = bootstrap(scores_of, n, resamples=resamples, seed=seed, groups=groups, lowest=lowest)
    return drawn.interval(confidence)


def draws(n: int, resamples: int, seed: int, groups: Sequence[str] | None = None) -> Iterator[Floats]:
    """How often each of `n` rows is drawn in each of so many resamples, some at a time, shape (resamples, rows).

    Raises DataError when there are no rows or not one group per row.
    """
    unit_of_row, units = _units(n, groups)
    rng = np.random.default_rng(seed)
    batch = max(1, _CELLS_AT_ONCE // max(n, units))
    for done in range(0, resamples, batch):
        yield _drawn(rng, min(batch, resamples - done), units)[:, unit_of_row]


def _units(n: int, groups: Sequence[str] | None) -> tuple[NDArray[np.int_], int]:
    """The unit that each row is drawn with, shape (rows,), and how many there are: rows, or groups."""
    if n < 1 or (groups is not None and len(groups) != n):
        found = "no rows" if n < 1 else f"{len(groups or [])} groups for {n} rows"
        raise DataError(f"bootstrap: found {found}; expected at least one row, and a group for each if any.")
    if groups is None:
        return np.arange(n), n
    codes = {group: code for code, group in enumerate(dict.fromkeys(groups))}
    return np.array([codes[group] for group in groups]), len(codes)


def _drawn(rng: np.random.Generator, resamples: int, units: int) -> Floats:
    """How often each unit is drawn, shape (resamples, units)."""
    draws = rng.integers(units, size=(resamples, units)) + np.arange(resamples)[:, None] * units
    return np.bincount(draws.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)


def _left_out(scores_of: ScoresOf, unit_of_row: NDArray[np.int_], units: int, seed: int) -> Floats:
    """Scores without each unit, shape (units,); beyond 1,000, without each of 1,000 random blocks of them."""
    blocks = min(units, _MAX_JACKKNIFE)
    block_of_unit = np.random.default_rng(seed).permutation(units) % blocks
    block_of_row = block_of_unit[unit_of_row]
    batch = max(1, _CELLS_AT_ONCE // len(unit_of_row))
    return np.concatenate(
        [
            scores_of((block_of_row != np.arange(start, min(start + batch, blocks))[:, None]).astype(np.float64))
            for start in range(0, blocks, batch)
        ]
    )
