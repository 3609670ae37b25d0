"""Margins and rows against the tests that they speak of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunewise import statistics
from tunewise.errors import DataError


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
