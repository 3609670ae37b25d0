"""Intervals and tests against published values, brute force, and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tunewise import metrics, statistics
from tunewise.errors import DataError
from tunewise.statistics import Floats


def mean_of(values: Floats) -> statistics.ScoresOf:
    def scores(weights: Floats) -> Floats:
        means: Floats = weights @ values / weights.sum(axis=1)
        return means

    return scores


# Published values


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


def test_holm_gives_a_worked_example() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == []


# Properties and edge cases


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
    share = statistics._constrained_share(b, c, n, delta)

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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(ps: list[float]) -> None:
    adjusted = statistics.holm(ps)
    assert all(p <= q <= min(1, len(ps) * p) + 1e-12 for p, q in zip(ps, adjusted, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


# Bootstrap


def test_bca_agrees_with_scipy_on_skewed_data() -> None:
    values = np.random.default_rng(1).exponential(size=80)
    ours = statistics.bca(mean_of(values), len(values), seed=3)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)
    middle = (ours.low + ours.high) / 2
    assert middle > values.mean()  # a skewed mean: the interval leans to the long tail


def test_bca_repeats_and_depends_on_the_seed() -> None:
    values = np.random.default_rng(1).random(50)
    assert statistics.bca(mean_of(values), 50, seed=1) == statistics.bca(mean_of(values), 50, seed=1)
    assert statistics.bca(mean_of(values), 50, seed=1) != statistics.bca(mean_of(values), 50, seed=2)


def test_every_resample_draws_whole_groups_and_as_many_as_there_are() -> None:
    groups = ["a", "b", "b", "c", "c", "c"]
    seen: list[Floats] = []

    def record(weights: Floats) -> Floats:
        seen.append(weights)
        return weights[:, 0]

    statistics.bootstrap(record, 6, groups=groups, resamples=50)
    drawn = seen[0]
    assert (drawn[:, 1] == drawn[:, 2]).all()
    assert (drawn[:, 3] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_groups_widen_the_interval_when_rows_of_a_group_are_alike() -> None:
    rng = np.random.default_rng(0)
    values = np.repeat(rng.random(30), 10)
    groups = [str(i // 10) for i in range(300)]
    alone, grouped = statistics.bca(mean_of(values), 300), statistics.bca(mean_of(values), 300, groups=groups)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    assert grouped.method == "bca by group"


def test_one_row_per_group_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).random(40)
    plain, grouped = (statistics.bca(mean_of(values), 40, groups=g) for g in (None, [str(i) for i in range(40)]))
    assert (plain.low, plain.high) == (grouped.low, grouped.high)


def test_block_jackknife_estimates_the_same_acceleration() -> None:
    values = np.random.default_rng(2).exponential(size=4000)
    pull = values - values.mean()
    # For a mean, the jackknife over rows has this closed form.
    exact = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    found = statistics.bootstrap(mean_of(values), 4000, resamples=10).acceleration
    assert found == pytest.approx(exact, rel=0.35)


@pytest.mark.parametrize(("value", "n"), [(1.0, 50), (0.0, 50), (0.5, 1)])
def test_equal_resamples_still_have_width(value: float, n: int) -> None:
    interval = statistics.bca(mean_of(np.full(n, value)), n)
    assert interval.low <= value <= interval.high
    assert interval.high - interval.low >= 0.05
    assert "every resample equal" in interval.method


def test_a_single_group_gives_a_wide_interval_instead_of_none() -> None:
    interval = statistics.bca(mean_of(np.array([1.0, 0.0, 1.0, 1.0])), 4, groups=["a"] * 4)
    assert interval.high - interval.low > 0.6


def test_bootstrap_refuses_no_rows_and_missing_groups() -> None:
    with pytest.raises(DataError, match="no rows"):
        statistics.bca(mean_of(np.zeros(0)), 0)
    with pytest.raises(DataError, match="2 groups for 3 rows"):
        statistics.bca(mean_of(np.zeros(3)), 3, groups=["a", "b"])


# Scores and differences


def answers(right: int, n: int) -> list[str]:
    return ["a"] * right + ["b"] * (n - right)


def test_rates_use_wilson_and_groups_use_the_bootstrap() -> None:
    metric, targets = metrics.get("accuracy"), ["a"] * 60
    assert statistics.score_interval(metric, answers(45, 60), targets) == statistics.wilson(45, 60)
    groups = [str(i % 12) for i in range(60)]
    assert statistics.score_interval(metric, answers(45, 60), targets, groups).method == "bca by group"
    assert statistics.score_interval(metrics.get("mcc"), answers(45, 60), targets).method.startswith("wilson (")


def test_paired_rates_use_mcnemar_and_tango() -> None:
    a, b = answers(50, 60), answers(45, 60)
    found = statistics.paired_difference(metrics.get("accuracy"), a, b, ["a"] * 60)
    both = statistics.tango(5, 0, 60)
    assert (found.value, found.low, found.high) == (5 / 60, both.low, both.high)
    assert found.p == 2 * 0.5**5
    assert found.upper == statistics.tango(5, 0, 60, 0.90).high
    assert found.value < found.upper < found.high


@pytest.mark.parametrize("name", ["macro_f1", "mcc", "chrf", "bleu", "rouge_l"])
def test_bootstrap_differences_are_antisymmetric(name: str) -> None:
    rng = np.random.default_rng(4)
    words = ["one fine day", "two bad days", "three"]
    targets = list(rng.choice(words, 60))
    a = [t if rng.random() < 0.8 else str(rng.choice(words)) for t in targets]
    b = [t if rng.random() < 0.5 else str(rng.choice(words)) for t in targets]
    forth = statistics.paired_difference(metrics.get(name), a, b, targets)
    back = statistics.paired_difference(metrics.get(name), b, a, targets)
    assert forth.value == pytest.approx(-back.value)
    assert forth.p == back.p
    width = forth.high - forth.low
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=0.02 * width)
    assert forth.low <= forth.value <= forth.upper <= forth.high


def test_the_same_outputs_differ_by_nothing_but_not_with_certainty() -> None:
    targets = ["one", "two"] * 30
    outputs = ["one"] * 60
    for name in ("accuracy", "macro_f1"):
        found = statistics.paired_difference(metrics.get(name), outputs, outputs, targets)
        assert (found.value, found.p) == (0, 1)
        assert found.low == pytest.approx(-found.high)
        assert 0 < found.upper < found.high < 0.1


def test_few_units_cannot_give_a_small_p() -> None:
    targets = ["a", "b"] * 20
    groups = [str(i // 20) for i in range(40)]
    right, wrong = targets, ["b"] * 40
    found = statistics.paired_difference(metrics.get("macro_f1"), right, wrong, targets, groups)
    assert found.p >= 0.5


# Margins and rows


def test_smallest_margin_lies_just_above_the_largest_bound() -> None:
    assert statistics.smallest_margin([0.0121, 0.0318]) == 3.2
    assert statistics.smallest_margin([0.03]) == 3.1
    assert statistics.smallest_margin([-0.2]) == 0.1
    with pytest.raises(DataError, match="no other finalist"):
        statistics.smallest_margin([])


@given(st.lists(st.floats(-1, 0.99), min_size=1, max_size=5))
def test_every_bound_is_below_the_smallest_margin(uppers: list[float]) -> None:
    margin = statistics.smallest_margin(uppers)
    assert max(uppers) < margin / 100
    assert margin == 0.1 or max(uppers) >= (margin - 0.1) / 100 - 1e-9


def test_rows_needed_without_disagreement_is_the_least_that_tango_accepts() -> None:
    n = statistics.rows_needed(0.0, 0.02)
    assert statistics.tango(0, 0, n, 0.90).high < 0.02
    assert statistics.tango(0, 0, n - 1, 0.90).high >= 0.02


def test_rows_needed_gives_the_promised_power() -> None:
    discordance, margin = 0.10, 0.05
    n = statistics.rows_needed(discordance, margin)
    rng = np.random.default_rng(0)
    cells = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], size=600)
    shown = np.mean([statistics.tango(b, c, n, 0.90).high < margin for b, c, _ in cells])
    assert 0.75 < shown < 0.86


@given(st.floats(0, 0.5), st.floats(0.01, 0.2))
def test_more_disagreement_or_less_margin_needs_more_rows(discordance: float, margin: float) -> None:
    n = statistics.rows_needed(discordance, margin)
    assert statistics.rows_needed(discordance + 0.1, margin) > n
    assert statistics.rows_needed(discordance, margin * 0.8) > n


def test_rows_needed_for_means_is_the_normal_formula() -> None:
    expected = ((stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) * 0.3 / 0.02) ** 2
    assert statistics.rows_needed_continuous(0.3, 0.02) == math.ceil(expected)
    with pytest.raises(DataError, match="rows needed"):
        statistics.rows_needed(0.1, 0.0)
    with pytest.raises(DataError, match="rows needed"):
        statistics.rows_needed_continuous(-1.0, 0.02)


# Coverage, by simulation with a fixed seed


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


def test_bca_covers_a_skewed_mean() -> None:
    rng = np.random.default_rng(9)
    inside = []
    for _ in range(200):
        values = rng.exponential(size=40)
        interval = statistics.bca(mean_of(values), 40, resamples=500)
        inside.append(interval.low <= 1 <= interval.high)
    assert 0.88 < np.mean(inside) < 0.98


def test_the_bootstrap_p_rejects_at_its_level() -> None:
    rng = np.random.default_rng(10)
    rejected = []
    for _ in range(200):
        values = rng.normal(size=40)
        drawn = statistics.bootstrap(mean_of(values), 40, resamples=400, is_difference=True)
        rejected.append(drawn.p_value() < 0.05)
    assert 0.01 < np.mean(rejected) < 0.11
