"""Proportions against published values, brute force, and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunewise import statistics
from tunewise.errors import DataError
from tunewise.statistics.proportions import constrained_share


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_examples(successes: int, n: int, low: float, high: float) -> None:
    interval = statistics.wilson(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("b", "c", "n", "confidence", "low", "high", "digits"),
    [
        (9, 3, 32, 0.95, -0.027, 0.390, 3),  # Tango (1998), sleeping difficulties
        (0, 1, 44, 0.90, -0.096, None, 3),  # Tango (1998), contact lens cross-over trial
        (6, 16, 161, 0.95, -0.1240, -0.0054, 4),  # Fagerland et al. (2017), ch. 8, data of Cavo et al. (2012)
        (1, 7, 21, 0.95, -0.517, -0.026, 3),  # the same chapter, data of Bentur et al. (2009)
    ],
)
def test_tango_gives_published_examples(
    b: int, c: int, n: int, confidence: float, low: float, high: float | None, digits: int
) -> None:
    interval = statistics.tango(b, c, n, confidence)
    assert round(interval.low, digits) == low
    assert high is None or round(interval.high, digits) == high


def test_mcnemar_gives_a_published_p() -> None:
    assert round(statistics.mcnemar_exact(6, 16), 6) == 0.052479  # Fagerland et al. (2017), data of Cavo et al.


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=50, deadline=None)
def test_mcnemar_equals_the_binomial_test(b: int, c: int) -> None:
    if b + c == 0:
        assert statistics.mcnemar_exact(0, 0) == 1
        return
    for alternative in ("two-sided", "greater", "less"):
        expected = stats.binomtest(b, b + c, alternative=alternative).pvalue
        assert statistics.mcnemar_exact(b, c, alternative) == pytest.approx(expected)


def test_mcnemar_is_exact_for_thousands_of_rows() -> None:
    assert statistics.mcnemar_exact(3000, 3000) == 1
    assert statistics.mcnemar_exact(2900, 3100) == pytest.approx(stats.binomtest(2900, 6000).pvalue)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_tango_is_antisymmetric_and_holds_the_estimate(b: int, c: int, agree: int) -> None:
    n = b + c + agree
    if n == 0:
        return
    interval, mirrored = statistics.tango(b, c, n), statistics.tango(c, b, n)
    assert -1 <= interval.low <= (b - c) / n <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((-mirrored.high, -mirrored.low), abs=1e-9)
    assert interval.high - interval.low > 0
    narrower = statistics.tango(b, c, n, 0.90)
    assert interval.low <= narrower.low <= narrower.high <= interval.high


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 25), st.floats(-0.9, 0.9))
@settings(max_examples=50, deadline=None)
def test_tangos_nuisance_parameter_maximises_the_likelihood(b: int, c: int, agree: int, delta: float) -> None:
    n = b + c + agree
    share = constrained_share(b, c, n, delta)

    def log_likelihood(q: float) -> float:
        rest = 1 - 2 * q - delta
        return b * math.log(q + delta) + c * math.log(q) + (agree * math.log(rest) if agree else 0.0)

    inside = [q for q in np.linspace(0, 1, 400) if q + delta > 0 and q > 0 and 1 - 2 * q - delta > 0]
    assert all(log_likelihood(share) >= log_likelihood(q) - 1e-9 for q in inside)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (10, 0), (0, 10), (5, 5)])
def test_tango_at_the_edges(b: int, c: int) -> None:
    interval = statistics.tango(b, c, 10)
    assert (interval.high == 1) == (b == 10)
    assert (interval.low == -1) == (c == 10)
    assert interval.low < interval.high


@pytest.mark.parametrize(("b", "c", "n"), [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(b: int, c: int, n: int) -> None:
    with pytest.raises(DataError, match="Tango interval"):
        statistics.tango(b, c, n)
    with pytest.raises(DataError, match="Wilson interval"):
        statistics.wilson(n + 1, n)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_equals_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    interval = statistics.wilson(successes, n)
    expected = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_and_tango_cover_as_they_say() -> None:
    rng = np.random.default_rng(7)
    hits = rng.binomial(60, 0.85, size=1500)
    intervals = {int(h): statistics.wilson(int(h), 60) for h in set(hits)}
    assert 0.93 < np.mean([intervals[h].low <= 0.85 <= intervals[h].high for h in hits]) < 0.975
    cells = rng.multinomial(80, [0.15, 0.07, 0.78], size=1500)
    pairs = {(b, c): statistics.tango(b, c, 80) for b, c, _ in {tuple(row) for row in cells.tolist()}}
    inside = [pairs[b, c].low <= 0.08 <= pairs[b, c].high for b, c, _ in cells.tolist()]
    assert 0.93 < np.mean(inside) < 0.975


def test_the_one_sided_bound_covers_as_it_says() -> None:
    rng = np.random.default_rng(8)
    cells = rng.multinomial(120, [0.10, 0.10, 0.80], size=1500).tolist()
    uppers = {(b, c): statistics.tango(b, c, 120, 0.90).high for b, c, _ in {tuple(row) for row in cells}}
    assert 0.93 < np.mean([uppers[b, c] >= 0 for b, c, _ in cells]) < 0.97
