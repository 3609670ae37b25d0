"""Learning curves: what a method's score becomes with more labels, and what that is worth beside another method.

A score rises towards a limit by a power of the number of labels (Hestness et al. 2017; Mahmood et al. 2022). A fit
to few points extrapolates badly and its own band is too narrow. So the band holds what an exponential foresees,
where that fits better, and is widened by the error that the fit makes on the last point when that is left out.

>>> curve = Curve((8, 16, 32, 64, 128), scores)          # scores: [sizes, draws]
>>> expected = curve.expected(256)
>>> expected.value, expected.low, expected.high
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE
from tunewise.statistics.proportions import wilson
from tunewise.statistics.resampling import Floats, as_student, narrowed

LEAST_SIZES, LEAST_DRAWS = 5, 3
CURVE_RESAMPLES = 1000
SHARED = 0.9
"""Of resamples, how many must share a score for an interval of what is saved."""
_POWERS = np.concatenate([np.linspace(0.05, 1.0, 39), np.linspace(1.05, 2.0, 20)])
"""Exponents that are tried; for each of them the fit is a line."""
_SPANS = np.geomspace(0.05, 3.0, 40)
"""Scales of an exponential that are tried, as shares of the largest size."""
Form = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""What falls from 1 or more towards 0 as labels grow."""


@dataclass(frozen=True)
class PowerLaw:
    """score(n) = limit - gap · n^(-power)."""

    limit: float
    gap: float
    power: float

    def __call__(self, n: float) -> float:
        """The score at `n` labels."""
        return self.limit - self.gap * float(n**-self.power)


@dataclass(frozen=True)
class Expected:
    """A score read off a curve."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores of one method on nested subsets of the labels, several draws of each size."""

    sizes: tuple[int, ...]
    """Labels, rising."""
    scores: Floats
    """Shares, [sizes, draws]."""
    rows: int | None = None
    """Independent rows that each score is a mean over. Their chance is drawn too, where no scores on rows drawn
    again are given; and a band is never narrower than the interval of a rate of so many, as answers that are all
    right are so again however they are drawn."""
    redrawn: Floats | None = None
    """Scores on rows drawn again, [resamples, sizes, draws]; better than `rows`, where answers were kept. What two
    methods share of the luck of the rows counts, where both were scored on the same resamples."""

    def __post_init__(self) -> None:
        rising = all(one < other for one, other in itertools.pairwise(self.sizes))
        enough = len(self.sizes) >= LEAST_SIZES and self.scores.ndim == 2 and self.scores.shape[1] >= LEAST_DRAWS
        if not enough or not rising or len(self.sizes) != len(self.scores):
            raise DataError(
                f"learning curve: found sizes {list(self.sizes)} and scores of shape {self.scores.shape}; "
                f"expected {LEAST_SIZES} rising sizes and {LEAST_DRAWS} draws of each at least."
            )

    @property
    def means(self) -> Floats:
        """Mean score of each size."""
        found: Floats = self.scores.mean(axis=1)
        return found

    @cached_property
    def law(self) -> PowerLaw:
        """The power law fitted to the means."""
        return fit(self.sizes, self.means[None])[0]

    def _spread(self, redrawn: Floats, means: Floats, *, few: bool) -> Floats:
        """Means of draws drawn again, as far apart as those of so few draws are in truth.

        What is read off them with nothing else to widen it wants Student's quantile as well.
        """
        draws = self.scores.shape[1]
        factor = narrowed(draws) * (as_student(draws) if few else 1.0)
        found: Floats = means + (redrawn - means) * factor
        return found

    def expected(
        self, n: float, *, resamples: int = CURVE_RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
    ) -> Expected:
        """The score at `n` labels, with a band; an extrapolation where `n` lies beyond the last size."""
        found = _foreseen(self.sizes, self.resampled(resamples, seed), n)
        low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
        value = self.law(n)
        miss = self.reach(n)
        least = min(0.0, float(self.scores.min()))  # some metrics go below zero
        if self.rows is not None:
            rate = wilson(min(max(value, 0.0), 1.0) * self.rows, self.rows, confidence)
            low, high = min(low, rate.low), max(high, rate.high)
        return Expected(value, max(least, min(low, value) - miss), min(1.0, max(high, value) + miss))

    def reach(self, n: float) -> float:
        """By how much a band is widened at `n` labels.

        What the fit to the others missed the last point by, the fit to all may miss the next one by: once for each
        step as long, in the logarithm, as that to the last point; nothing within the sizes.
        """
        step = math.log(self.sizes[-1] / self.sizes[-2])
        return self.miss * max(0.0, math.log(n / self.sizes[-1])) / step

    @cached_property
    def miss(self) -> float:
        """How far the fit to all sizes but the last lies from the last."""
        law = fit(self.sizes[:-1], self.means[None, :-1])[0]
        return abs(law(self.sizes[-1]) - float(self.means[-1]))

    def foretells_its_end(self, *, resamples: int = CURVE_RESAMPLES, seed: int = 0) -> bool:
        """Whether the fit to all sizes but the last has the last inside its band."""
        found = _foreseen(self.sizes[:-1], self.resampled(resamples, seed)[:, :-1], self.sizes[-1])
        low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return bool(low <= self.means[-1] <= high)

    def resampled(self, resamples: int, seed: int, method: int = 0, *, few: bool = False) -> Floats:
        """Mean scores [resamples, sizes] with draws, and rows where they are known, drawn again.

        The same seed chooses the same draws for every method; each `method` has its own luck with the rows. With
        `few` they spread as Student's t does with so few draws.
        """
        rng = np.random.default_rng(seed)
        draws = self.scores.shape[1]
        # Subsets of one draw are nested, so a draw is drawn whole.
        chosen = rng.integers(draws, size=(resamples, draws))
        if self.redrawn is not None:
            some = self.redrawn[np.arange(resamples) % len(self.redrawn)]
            again = np.take_along_axis(some, chosen[:, None, :], axis=2).mean(axis=2)
            return self._spread(again, some.mean(axis=2), few=few)
        found = self._spread(self.scores[:, chosen].mean(axis=2).T, self.means, few=few)
        if self.rows is not None:
            # All sizes are scored on the same rows: what is lucky for one is lucky for the others.
            luck = np.random.default_rng([seed, method]).standard_normal((resamples, 1))
            means = np.clip(found, 0.0, 1.0)
            found = found + luck * np.sqrt(means * (1 - means) / self.rows)
        return found


def fit(sizes: Sequence[int], means: Floats) -> list[PowerLaw]:
    """The power law of least squares through each row of `means` [curves, sizes], rising to 1 at most."""
    found, _ = _fitted(sizes, means, _powers())
    return [PowerLaw(limit, gap, float(_POWERS[form])) for limit, gap, form in found]


def _foreseen(sizes: Sequence[int], means: Floats, n: float) -> Floats:
    """Scores at `n` of the curves through each row of `means`, whichever form fits it better.

    A power law never stops rising. Scores that level off early follow an exponential, 1 - e^(-n/scale), more
    closely, and then that is what goes on.
    """
    powers, levels = _powers(), [_level(share * sizes[-1]) for share in _SPANS]
    (power, power_error), (level, level_error) = (_fitted(sizes, means, forms) for forms in (powers, levels))
    at = np.array([n])
    by_power = np.array([limit - gap * powers[form](at)[0] for limit, gap, form in power])
    by_level = np.array([limit - gap * levels[form](at)[0] for limit, gap, form in level])
    found: Floats = np.where(level_error < power_error, by_level, by_power)
    return found


def _powers() -> list[Form]:
    return [_power(power) for power in _POWERS]


def _power(power: float) -> Form:
    return lambda n: n**-power


def _level(span: float) -> Form:
    return lambda n: np.exp(-n / span)


def _fitted(
    sizes: Sequence[int], means: Floats, forms: Sequence[Form]
) -> tuple[list[tuple[float, float, int]], Floats]:
    """For each row of `means` the limit, gap and number of the form of least squares, and its error.

    For each form the fit is a line; limits above 1 are put at 1 and fitted again.
    """
    n = np.asarray(sizes, dtype=np.float64)
    best_error = np.full(len(means), math.inf)
    best = np.zeros((len(means), 3))
    for number, form in enumerate(forms):
        x = form(n)
        spread = x - x.mean()
        gap = -((means - means.mean(axis=1, keepdims=True)) @ spread) / (spread @ spread)
        gap = np.maximum(gap, 0.0)
        limit = means.mean(axis=1) + gap * x.mean()
        above = limit > 1.0
        gap = np.where(above, np.maximum(((1.0 - means) @ x) / (x @ x), 0.0), gap)
        limit = np.where(above, 1.0, limit)
        error = ((limit[:, None] - gap[:, None] * x - means) ** 2).sum(axis=1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best[better] = np.stack([limit, gap, np.full_like(limit, number)], axis=1)[better]
    return [(float(limit), float(gap), int(number)) for limit, gap, number in best], best_error


def overtaken_at(leader: PowerLaw, follower: PowerLaw, first: float, last: float) -> float | None:
    """Where between two sizes `follower`, at first behind, comes level with `leader`; None where it does not."""
    if follower(first) >= leader(first) or follower(last) < leader(last):
        return None
    low, high = math.log(first), math.log(last)
    for _ in range(60):
        middle = (low + high) / 2
        ahead = follower(math.exp(middle)) >= leader(math.exp(middle))
        low, high = (low, middle) if ahead else (middle, high)
    return math.exp(high)


@dataclass(frozen=True)
class Crossing:
    """Where one curve, at first behind another, comes level with it."""

    at: float
    low: float
    high: float | None
    """None where the interval has no end within reach."""


def crossing(
    leader: Curve,
    follower: Curve,
    last: float,
    *,
    resamples: int = CURVE_RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Crossing | None:
    """Where `follower` overtakes `leader` between their first size and `last`, by the laws fitted to both.

    Returns:
        The number of labels with its bootstrap interval, draws and rows drawn together as in
        `data_advantage_interval`; None where the fitted laws do not cross.
    """
    first = leader.sizes[0]
    at = overtaken_at(leader.law, follower.law, first, last)
    if at is None:
        return None
    laws = (
        fit(curve.sizes, curve.resampled(resamples, seed, place, few=True))
        for place, curve in enumerate((leader, follower))
    )
    # Ahead from the start: overtaken before the first size. Behind at the end: not within reach.
    found = [
        float(first) if two(first) >= one(first) else overtaken_at(one, two, first, last) or math.inf
        for one, two in zip(*laws, strict=True)
    ]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
    return Crossing(at, float(min(low, at)), float(max(high, at)) if math.isfinite(high) else None)


def level_by(
    leader: Curve, follower: Curve, last: float, *, resamples: int = CURVE_RESAMPLES, seed: int = 0
) -> float:
    """The share of resamples (draws, and rows) by whose laws `follower` is level with `leader` at `last`.

    The laws fitted to two curves miss each other in 29 % of measurements of a pair that is level at 1.5 times the
    labels; that at most one resample in twenty has them level, in none (benchmarks/evidence/curves.py).
    """
    laws = (fit(curve.sizes, curve.resampled(resamples, seed, n)) for n, curve in enumerate((leader, follower)))
    return float(np.mean([two(last) >= one(last) for one, two in zip(*laws, strict=True)]))


def data_advantage(a: Curve, b: Curve) -> float | None:
    """How many labels fewer `a` needs than `b` for the same score, on average over the scores that both reach.

    The area between the two curves, each made to rise and linear between its points, over the range of scores that
    both of them pass, divided by its height (Le Scao & Rush 2021). Negative where `b` needs fewer; None where they
    share no score, or so few that not four of their points lie among them: such curves overlap by chance.
    """
    one, other = _risen(a.sizes, a.means), _risen(b.sizes, b.means)
    low, high = max(one[1][0], other[1][0]), min(one[1][-1], other[1][-1])
    if sum(int(((scores >= low) & (scores <= high)).sum()) for _, scores in (one, other)) < 4:
        return None
    return _advantage(one, other)


def data_advantage_interval(
    a: Curve, b: Curve, *, resamples: int = CURVE_RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """The bootstrap interval of `data_advantage`; None where too few resamples share a score.

    Draws of the labels are the same for both, so they are drawn together, and so are the rows of the test where
    both have scores on rows drawn again. Else their luck with the rows is drawn apart, which is on the safe side:
    how much of it they share is not known then. Raises DataError where they have not the same number of draws.
    """
    if a.scores.shape[1] != b.scores.shape[1]:
        raise DataError(
            f"data advantage: found {a.scores.shape[1]} and {b.scores.shape[1]} draws; "
            "expected the same draws of both."
        )
    pairs = zip(
        a.resampled(resamples, seed, few=True), b.resampled(resamples, seed, method=1, few=True), strict=True
    )
    found = [_advantage(_risen(a.sizes, one), _risen(b.sizes, other)) for one, other in pairs]
    known = [value for value in found if value is not None]
    if len(known) < SHARED * resamples:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


_Risen = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Sizes and scores of a curve that never falls."""


def _risen(sizes: Sequence[int], means: Floats) -> _Risen:
    return np.asarray(sizes, dtype=np.float64), np.maximum.accumulate(means)


def _advantage(a: _Risen, b: _Risen) -> float | None:
    low = max(a[1][0], b[1][0])
    high = min(a[1][-1], b[1][-1])
    if high <= low:
        return None
    # Between two neighbouring scores of either curve both are straight, so trapezia are exact.
    scores = np.unique(np.concatenate([a[1], b[1], [low, high]]))
    scores = scores[(scores >= low) & (scores <= high)]
    area = 0.0
    for bottom, top in itertools.pairwise(scores):
        ends = [
            _labels_for(b, at, side) - _labels_for(a, at, side) for at, side in ((bottom, "right"), (top, "left"))
        ]
        area += (top - bottom) * sum(ends) / 2
    return float(area / (high - low))


def _labels_for(curve: _Risen, score: float, side: str) -> float:
    """Labels at which a curve has `score`; on a flat piece its last size from above, its first from below."""
    sizes, scores = curve
    if side == "right":
        place = int(np.searchsorted(scores, score, side="right")) - 1
        if place >= len(scores) - 1:
            return float(sizes[-1])
        share = (score - scores[place]) / (scores[place + 1] - scores[place])
        return float(sizes[place] + share * (sizes[place + 1] - sizes[place]))
    place = int(np.searchsorted(scores, score, side="left"))
    if place == 0:
        return float(sizes[0])
    share = (score - scores[place - 1]) / (scores[place] - scores[place - 1])
    return float(sizes[place - 1] + share * (sizes[place] - sizes[place - 1]))
