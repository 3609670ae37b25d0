"""Learning curves: the fit, its band, where one method overtakes another, and what a method is worth in labels."""

from __future__ import annotations

import numpy as np
import pytest

from tunewise.errors import DataError
from tunewise.statistics.curves import (
    Curve,
    PowerLaw,
    crossing,
    data_advantage,
    data_advantage_interval,
    fit,
    overtaken_at,
)

SIZES = (8, 16, 32, 64, 128, 256)


def curve_of(law: PowerLaw, sizes: tuple[int, ...] = SIZES, noise: float = 0.0, seed: int = 0) -> Curve:
    rng = np.random.default_rng(seed)
    means = np.array([law(size) for size in sizes])
    return Curve(sizes, means[:, None] + noise * rng.standard_normal((len(sizes), 4)))


@pytest.mark.parametrize("law", [PowerLaw(0.9, 0.8, 0.5), PowerLaw(0.95, 2.0, 1.0), PowerLaw(0.7, 0.5, 0.25)])
def test_a_power_law_is_found_again(law: PowerLaw) -> None:
    found = curve_of(law).law
    assert found.power == pytest.approx(law.power, abs=1e-9)
    assert (found.limit, found.gap) == pytest.approx((law.limit, law.gap))
    assert found(1000) == pytest.approx(law(1000))


def test_a_limit_is_never_above_one_and_a_curve_never_falls() -> None:
    steep, falling = np.linspace(0.2, 0.99, 6), np.linspace(0.9, 0.5, 6)
    for law in fit(SIZES, np.stack([steep, falling])):
        assert law.limit <= 1.0
        assert law(1e9) <= 1.0
        assert law(10) <= law(1000)


def test_a_band_holds_what_more_labels_bring() -> None:
    law = PowerLaw(0.9, 0.9, 0.5)
    held = 0
    for seed in range(60):
        curve = curve_of(law, SIZES[:5], noise=0.03, seed=seed)
        found = curve.expected(256, resamples=200)
        held += found.low <= law(256) <= found.high
    assert held >= 54


def test_a_curve_that_bends_at_its_end_widens_its_band() -> None:
    smooth = curve_of(PowerLaw(0.9, 0.9, 0.5), noise=0.01)
    scores = smooth.scores.copy()
    scores[-1] -= 0.15
    bent = Curve(SIZES, scores)
    assert bent.miss > 0.1
    assert smooth.foretells_its_end()
    assert not bent.foretells_its_end()
    one, other = smooth.expected(512), bent.expected(512)
    assert other.high - other.low > one.high - one.low + 0.2


def test_rows_of_the_test_widen_a_band() -> None:
    law = PowerLaw(0.9, 0.9, 0.5)
    sure = curve_of(law, noise=0.01)
    unsure = Curve(sure.sizes, sure.scores, rows=50)
    one, other = sure.expected(128), unsure.expected(128)
    assert other.high - other.low > 2 * (one.high - one.low)


def test_one_method_overtakes_another_where_the_laws_cross() -> None:
    prompt, tuned = PowerLaw(0.75, 0.2, 0.5), PowerLaw(0.95, 2.0, 0.5)
    # 0.75 - 0.2/√n = 0.95 - 2/√n at √n = 9.
    assert overtaken_at(prompt, tuned, 8, 256) == pytest.approx(81)
    assert overtaken_at(prompt, tuned, 8, 64) is None
    assert overtaken_at(tuned, prompt, 8, 256) is None


def test_answers_that_are_all_right_leave_a_band_as_wide_as_so_few_rows_leave() -> None:
    scores = np.repeat(np.array([[0.8], [0.93], [1.0], [1.0], [1.0]]), 3, axis=1)
    right = Curve(SIZES[:5], scores, rows=30, redrawn=np.repeat(scores[None], 50, axis=0))
    assert right.expected(2 * SIZES[4]).low < 0.89  # Wilson's interval of 30 right of 30 begins at 0.886
    assert Curve(SIZES[:5], scores, rows=3000).expected(2 * SIZES[4]).low > 0.99


def test_an_advantage_in_labels_of_straight_curves_is_their_distance() -> None:
    sizes = (10, 20, 30, 40, 50)
    scores = np.repeat(np.array([[0.1], [0.2], [0.3], [0.4], [0.5]]), 3, axis=1)
    slower = Curve(tuple(size + 7 for size in sizes), scores)
    quicker = Curve(sizes, scores)
    assert data_advantage(quicker, slower) == pytest.approx(7.0)
    assert data_advantage(slower, quicker) == pytest.approx(-7.0)
    assert data_advantage_interval(quicker, slower) == pytest.approx((7.0, 7.0))


def test_an_advantage_is_the_area_between_two_curves_over_the_scores_both_reach() -> None:
    # a: score n/100 up to 0.5; b: n/200 from 0.1 to 0.4. At score s they need 100 s and 200 s labels.
    a = Curve((10, 20, 30, 40, 50), np.repeat(np.arange(1, 6)[:, None] / 10, 3, axis=1))
    b = Curve((20, 40, 60, 70, 80), np.repeat(np.array([[0.1], [0.2], [0.3], [0.35], [0.4]]), 3, axis=1))
    # The mean of 100 s over scores from 0.1 to 0.4.
    assert data_advantage(a, b) == pytest.approx(25.0)


def test_a_band_widens_by_steps_as_long_as_the_last() -> None:
    even = Curve((8, 16, 32, 64, 128), np.tile(np.array([[0.3], [0.5], [0.6], [0.65], [0.8]]), 3))
    assert even.reach(128) == 0
    assert even.reach(256) == pytest.approx(even.miss)
    assert even.reach(512) == pytest.approx(2 * even.miss)
    uneven = Curve((40, 60, 80, 100, 125), even.scores)
    assert uneven.reach(125 * 1.25) == pytest.approx(uneven.miss)
    assert uneven.reach(250) > 3 * uneven.miss


def test_rows_leave_an_advantage_in_doubt_although_they_are_the_same_for_both() -> None:
    curve = curve_of(PowerLaw(0.9, 0.9, 0.5), noise=0.01)
    scored = Curve(curve.sizes, curve.scores, rows=200)
    interval = data_advantage_interval(scored, scored)
    assert interval is not None
    assert interval[0] < -5
    assert interval[1] > 5
    with pytest.raises(DataError, match="found 4 and 3 draws"):
        data_advantage_interval(scored, Curve(curve.sizes, curve.scores[:, :3]))


def test_a_curve_that_falls_counts_as_flat() -> None:
    a = Curve((10, 20, 30, 40, 50), np.repeat(np.array([[0.1], [0.3], [0.2], [0.3], [0.5]]), 3, axis=1))
    b = Curve((10, 20, 30, 40, 50), np.repeat(np.arange(1, 6)[:, None] / 10, 3, axis=1))
    # Up to 0.3 a needs 5 labels fewer on average, from 0.3 on, after 40, 5 more: half of the height each.
    assert data_advantage(a, b) == pytest.approx(0.0)


def test_curves_without_a_common_score_have_no_advantage() -> None:
    low = curve_of(PowerLaw(0.4, 0.5, 0.5))
    high = curve_of(PowerLaw(0.95, 0.5, 0.5))
    assert data_advantage(low, high) is None
    assert data_advantage_interval(low, high) is None


@pytest.mark.parametrize(("sizes", "shape"), [((8, 16, 32, 64), (4, 3)), (SIZES, (6, 2)), (SIZES[::-1], (6, 3))])
def test_too_few_points_are_no_curve(sizes: tuple[int, ...], shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="expected 5 rising sizes and 3 draws"):
        Curve(sizes, np.zeros(shape))


def test_where_curves_cross_is_found_with_an_interval() -> None:
    """0.7 - 0.5 / n^0.5 leads 0.95 - 1.5 / n^0.5 until n = (1 / 0.25)^2 = 16."""
    quick, slow = PowerLaw(0.7, 0.5, 0.5), PowerLaw(0.95, 1.5, 0.5)
    found = crossing(curve_of(quick), curve_of(slow), 512)
    assert found is not None
    assert (found.at, found.low, found.high) == pytest.approx((16.0, 16.0, 16.0), rel=1e-3)
    assert crossing(curve_of(slow), curve_of(quick), 512) is None
    held = 0
    for seed in range(40):
        noisy = crossing(
            curve_of(quick, noise=0.02, seed=seed), curve_of(slow, noise=0.02, seed=100 + seed), 512, resamples=200
        )
        assert noisy is not None
        held += noisy.low <= 16 <= (noisy.high or 512)
    assert held >= 34


def test_a_crossing_whose_interval_leaves_reach_has_no_upper_end() -> None:
    """Level at 1,024 labels in truth: from the points up to 256 nobody can tell whether that is before 1,100."""
    quick, slow = PowerLaw(0.8, 0.5, 0.5), PowerLaw(0.825, 1.3, 0.5)
    found = [
        crossing(curve_of(quick, noise=0.02, seed=seed), curve_of(slow, noise=0.02, seed=50 + seed), 1100)
        for seed in range(10)
    ]
    assert any(one is not None and one.high is None for one in found)


def test_scores_on_rows_drawn_again_take_the_place_of_a_guess() -> None:
    scores = np.tile(np.linspace(0.4, 0.8, 6)[:, None], (1, 3))
    luck = 0.03 * np.random.default_rng(0).standard_normal((400, 1, 1))
    known = Curve(SIZES, scores, redrawn=scores + luck)
    drawn = known.resampled(400, 0)
    assert drawn.std(axis=0) == pytest.approx(0.03, rel=0.1)
    # The luck is that of all sizes, so it moves the curve and not its slope.
    assert (drawn[:, -1] - drawn[:, 0]).std() < 1e-9
    better = Curve(SIZES, scores + 0.05, redrawn=scores + 0.05 + luck)
    advantage = data_advantage_interval(better, known, resamples=400)
    assert advantage is not None
    assert advantage[0] > 0
