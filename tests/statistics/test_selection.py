"""The corrected score of a choice, and claims about methods over several seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tunewise import metrics
from tunewise.errors import DataError
from tunewise.statistics import ScoresOf, corrected_choice, method_difference, out_of_fold_choice


def accuracies(right: np.ndarray) -> list[ScoresOf]:
    """Of [candidates, rows]."""

    def of(rows: np.ndarray) -> ScoresOf:
        return lambda weights: weights @ rows / weights.sum(axis=1)

    return [of(rows.astype(float)) for rows in right]


def test_the_best_of_equal_candidates_is_worth_what_all_are() -> None:
    rng = np.random.default_rng(0)
    apparent, corrected = [], []
    for _ in range(40):
        found = corrected_choice(accuracies(rng.random((30, 60)) < 0.7), 60, resamples=200)
        apparent.append(found.apparent)
        corrected.append(found.value)
    assert np.mean(apparent) > 0.79  # the highest of thirty noisy scores
    assert np.mean(corrected) == pytest.approx(0.7, abs=0.02)


def test_a_lone_candidate_has_nothing_to_correct() -> None:
    right = np.arange(100) < 80
    found = corrected_choice(accuracies(right[None]), 100)
    assert found.chosen == 0
    assert found.apparent == 0.8
    assert found.value == pytest.approx(0.8, abs=0.01)
    assert found.interval.low < 0.72
    assert found.interval.high > 0.88


def test_the_first_of_equals_is_chosen() -> None:
    right = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 1]], dtype=bool)
    assert corrected_choice(accuracies(right), 4, resamples=50).chosen == 1


def test_groups_are_drawn_whole() -> None:
    # Two groups of ten: rows left out are always one whole group, of which the candidate has all or none right.
    right, groups = np.arange(20) < 10, ["a"] * 10 + ["b"] * 10
    found = corrected_choice(accuracies(right[None]), 20, groups=groups)
    assert {found.interval.low, found.interval.high} == {0.0, 1.0}


def test_it_is_the_same_twice() -> None:
    scores = accuracies(np.random.default_rng(1).random((5, 30)) < 0.6)
    assert corrected_choice(scores, 30, resamples=100) == corrected_choice(scores, 30, resamples=100)


@pytest.mark.parametrize(("candidates", "rows", "groups"), [(0, 10, None), (1, 1, None), (1, 3, ["a", "a", "a"])])
def test_what_cannot_be_chosen_from_is_refused(candidates: int, rows: int, groups: list[str] | None) -> None:
    with pytest.raises(DataError, match="expected one candidate and two rows"):
        corrected_choice(accuracies(np.ones((candidates, rows))), rows, groups=groups)


def test_seeds_alone_are_compared_as_welch_does() -> None:
    a, b = [0.84, 0.80, 0.86, 0.83], [0.78, 0.79, 0.75]
    found = method_difference(a, b, row_variance=1e-9, rows=300)
    expected = stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval()
    assert found is not None
    assert (found.p, found.freedom) == pytest.approx((expected.pvalue, expected.df))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_rows_widen_what_seeds_say() -> None:
    a, b = [0.84, 0.80, 0.86], [0.80]
    alone = method_difference(a, b, row_variance=1e-9, rows=100)
    both = method_difference(a, b, row_variance=0.2, rows=100)
    assert alone is not None
    assert both is not None
    assert both.high - both.value > alone.high - alone.value
    assert both.freedom > alone.freedom  # the larger part, that of the rows, is known better
    assert both.p > alone.p


def test_one_seed_says_nothing_of_a_method() -> None:
    assert method_difference([0.9], [0.8], row_variance=0.1, rows=100) is None


def test_seeds_that_all_score_the_same_leave_the_doubt_of_the_rows() -> None:
    found = method_difference([0.9, 0.9], [0.8, 0.8], row_variance=0.25, rows=100)
    assert found is not None
    reach = stats.t.ppf(0.975, 99) * 0.05
    assert (found.low, found.high) == pytest.approx((0.1 - reach, 0.1 + reach))
    assert found.freedom == pytest.approx(99)


def test_a_difference_needs_scores_and_rows_that_vary() -> None:
    with pytest.raises(DataError, match="found 0 and 1 scores on 1 independent rows"):
        method_difference([], [0.5], row_variance=0.1, rows=1)
    with pytest.raises(DataError, match=r"of variance 0; expected .* a variance above 0"):
        method_difference([0.9, 0.9], [0.9], row_variance=0.0, rows=26)


def test_out_of_fold_scores_of_few_rows_are_neither_certain_nor_raised() -> None:
    targets = ["a"] * 44 + ["b"] * 4
    for name in ("accuracy", "macro_f1", "mcc"):
        for groups in (None, [f"group {row % 12}" for row in range(48)]):
            metric = metrics.get(name)
            found = out_of_fold_choice(metric, [targets, ["a"] * 48], targets, groups)
            assert (found.chosen, found.apparent) == (0, 1.0)
            assert found.value <= 1.0
            assert found.interval.low < 0.97
            alone = out_of_fold_choice(metric, [["a"] * 48], targets, groups)
            assert alone.value == alone.apparent == metric.score(["a"] * 48, targets)
            assert alone.interval.low <= alone.value <= alone.interval.high


def test_a_margin_prefers_the_first_within_it() -> None:
    right = np.array([[1] * 80 + [0] * 20, [1] * 82 + [0] * 18, [1] * 60 + [0] * 40], dtype=bool)
    assert corrected_choice(accuracies(right), 100, resamples=50).chosen == 1
    assert corrected_choice(accuracies(right), 100, margin=0.02, resamples=50).chosen == 0
    assert corrected_choice(accuracies(right), 100, margin=0.01, resamples=50).chosen == 1
