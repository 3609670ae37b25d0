"""Rows that are easy or hard for every candidate alike: who has one right, and how many right over all rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPREAD = 1.5
"""Standard deviation of how easy rows are, in log-odds."""


def ease(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """How easy each row is, in log-odds, [rows]."""
    found: NDArray[np.float64] = SPREAD * rng.standard_normal(rows)
    return found


def chance(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance of a right answer, from its log-odds."""
    found: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return found


def accuracies(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy over all rows, from the log-odds on a row of middling ease, [candidates].

    By Gauss-Hermite quadrature over how easy rows are.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    found: NDArray[np.float64] = chance(odds[:, None] + SPREAD * nodes) @ weights / weights.sum()
    return found
