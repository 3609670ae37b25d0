"""Scores and differences of candidates: which method is used, and what it must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise import metrics, statistics


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


@pytest.mark.parametrize("n", [26, 60, 900])
@pytest.mark.parametrize(("better", "worse"), [(0, 1), (1, 0), (2, 1), (0, 3)])
def test_the_bootstrap_claims_no_more_of_few_rows_that_differ_than_tango(n: int, better: int, worse: int) -> None:
    metric, targets = metrics.get("accuracy"), ["a"] * n
    a, b = answers(n - worse, n), answers(n - better, n)[::-1]
    rows = [str(i) for i in range(n)]
    found = statistics.paired_difference(metric, a, b, targets, groups=rows)
    alone = statistics.paired_difference(metric, a, b, targets)
    assert found.value == pytest.approx(alone.value)
    assert found.low <= alone.low + 1e-9
    assert found.upper >= alone.upper - 1e-9
    assert found.high >= alone.high - 1e-9
    assert found.high - found.low < 1.3 * (alone.high - alone.low)


def test_of_very_many_rows_blocks_of_them_say_nearly_the_same() -> None:
    metric, targets, n = metrics.get("accuracy"), ["a"] * 2_500, 2_500
    a, b = answers(n - 3, n), answers(n, n)
    found = statistics.paired_difference(metric, a, b, targets, groups=[str(i) for i in range(n)])
    alone = statistics.paired_difference(metric, a, b, targets)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), rel=0.1)


def test_one_row_that_differs_a_little_does_not_show_that_none_differs_much() -> None:
    n = 26
    rows = np.zeros(n)
    rows[0] = 0.01
    found = statistics.bootstrap(lambda weights: weights @ rows / weights.sum(axis=1), n, is_difference=True)
    nothing = statistics.bootstrap(lambda weights: weights @ np.zeros(n) / n, n, is_difference=True)
    assert found.interval(0.90).high > 0.02
    assert found.interval(0.90).high < nothing.interval(0.90).high


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


def test_holm_gives_a_worked_example() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(ps: list[float]) -> None:
    adjusted = statistics.holm(ps)
    assert all(p <= q <= min(1, len(ps) * p) + 1e-12 for p, q in zip(ps, adjusted, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_the_standard_error_of_few_groups_is_widened_once() -> None:
    rng = np.random.default_rng(4)
    targets = ["a"] * 200
    one, other = (["a" if right else "b" for right in rng.random(200) < share] for share in (0.8, 0.7))
    groups = [str(row % 5) for row in range(200)]
    found = statistics.paired_difference(metrics.get("macro_f1"), one, other, targets, groups)
    values = [
        statistics.paired_difference(
            metrics.get("macro_f1"), one[place::5], other[place::5], targets[place::5]
        ).value
        for place in range(5)
    ]
    assert found.units == 5
    assert found.standard_error < 2 * float(np.std(values, ddof=1)) / 5**0.5
