"""The bootstrap against closed forms, another implementation, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewise import metrics, statistics
from tunewise.errors import DataError
from tunewise.statistics import Floats


def mean_of(values: Floats) -> statistics.ScoresOf:
    def scores(weights: Floats) -> Floats:
        means: Floats = weights @ values / weights.sum(axis=1)
        return means

    return scores


def test_bca_agrees_with_scipy_on_skewed_data() -> None:
    values = np.random.default_rng(1).exponential(size=80) / 20
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


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_few_groups_seldom_show_that_the_worse_is_not(groups: int) -> None:
    rng, passed = np.random.default_rng(groups), 0
    group = np.arange(60) % groups
    names = [str(one) for one in group]
    for _ in range(150):
        values = rng.normal(0.02, 0.05, groups)[group] + rng.normal(0, 0.2, 60)
        drawn = statistics.bootstrap(mean_of(values), 60, resamples=400, groups=names, is_difference=True)
        passed += drawn.interval(0.90).high < 0.02
    assert passed <= 0.1 * 150  # resamples as they are pass in 24, 17 and 10 % of draws


def test_an_interval_stays_within_what_a_score_can_be() -> None:
    found = statistics.bca(mean_of(np.array([1.0, 1.0, 0.0, 1.0])), 4, groups=["a", "a", "b", "c"])
    assert found.low >= 0.0
    assert found.high <= 1.0
    negative = statistics.bca(mean_of(np.array([-1.0, 1.0, 1.0])), 3, groups=["a", "b", "c"], lowest=-1.0)
    assert negative.low < 0.0


def test_a_difference_of_correlations_may_be_more_than_one() -> None:
    targets, mixed = ["a", "b"] * 30, ["b", "a"] * 30
    found = statistics.paired_difference(metrics.get("mcc"), targets, mixed, targets, ["one group"] * 60)
    assert found.value == pytest.approx(2.0)
    assert found.low < 2.0 <= found.high


def test_bootstrap_refuses_no_rows_and_missing_groups() -> None:
    with pytest.raises(DataError, match="no rows"):
        statistics.bca(mean_of(np.zeros(0)), 0)
    with pytest.raises(DataError, match="2 groups for 3 rows"):
        statistics.bca(mean_of(np.zeros(3)), 3, groups=["a", "b"])


def test_bca_covers_a_skewed_mean() -> None:
    rng = np.random.default_rng(9)
    inside = []
    for _ in range(200):
        values = rng.exponential(size=40) / 20
        interval = statistics.bca(mean_of(values), 40, resamples=500)
        inside.append(interval.low <= 1 / 20 <= interval.high)
    assert 0.88 < np.mean(inside) < 0.98


def test_the_bootstrap_p_rejects_at_its_level() -> None:
    rng = np.random.default_rng(10)
    rejected = []
    for _ in range(200):
        values = rng.normal(size=40)
        drawn = statistics.bootstrap(mean_of(values), 40, resamples=400, is_difference=True)
        rejected.append(drawn.p_value() < 0.05)
    assert 0.01 < np.mean(rejected) < 0.11
