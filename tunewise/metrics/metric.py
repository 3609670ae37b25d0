"""What every metric offers: a score, its per-row parts where it has any, and a fast way to score resamples.

A bootstrap scores the same rows thousands of times with different weights. Every metric here is a function of
sums over rows, so a `Resampler` keeps the per-row terms and scores a whole batch of weight vectors with one
matrix product: 2,000 resamples of 500 rows take milliseconds, for corpus metrics such as chrF as well.

>>> import numpy as np
>>> from tunewise import metrics
>>> rescore = metrics.get("accuracy").resampler(["a", "b"], ["a", "a"])
>>> rescore(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist()
[0.5, 1.0]
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import DataError

Floats = NDArray[np.float64]
Resampler = Callable[[Floats], Floats]
"""Weights of shape (resamples, rows), how often each row was drawn, to scores of shape (resamples,)."""


class Metric(Protocol):
    """A score of outputs against targets; higher is better, 1 is perfect."""

    @property
    def name(self) -> str:
        """The name used in settings, files and on the command line."""

    @property
    def kind(self) -> str:
        """The kind of task it scores: `classification` or `generation`."""

    @property
    def is_rate(self) -> bool:
        """True when `rows` are 0 or 1, so that the methods for proportions (Wilson, McNemar, Tango) apply."""

    @property
    def lowest(self) -> float:
        """The lowest score there is."""

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The score of all rows together; raises DataError for no rows or unequal lengths."""

    def rows(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats | None:
        """Values per row, shape (rows,), whose mean is the score; None when it is not a mean over rows."""

    def resampler(self, outputs: Sequence[str], targets: Sequence[str]) -> Resampler:
        """A function that scores many weightings of these rows at once."""


@dataclass(frozen=True)
class RowMean(ABC):
    """A metric that is the mean of a value per row."""

    name: str
    kind: str
    is_rate: bool
    lowest: float = 0.0

    @abstractmethod
    def values(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """The value of every row, shape (rows,)."""

    def rows(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """The value of every row, shape (rows,)."""
        require_pairs(self.name, outputs, targets)
        return self.values(outputs, targets)

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The mean over rows."""
        return float(self.rows(outputs, targets).mean())

    def resampler(self, outputs: Sequence[str], targets: Sequence[str]) -> Resampler:
        """Weighted means of the rows."""
        values = self.rows(outputs, targets)

        def rescore(weights: Floats) -> Floats:
            means: Floats = (weights @ values) / weights.sum(axis=1)
            return means

        return rescore


@dataclass(frozen=True)
class OfSums(ABC):
    """A metric that is a function of sums over rows, but not a mean: macro-F1, MCC, chrF, BLEU."""

    name: str
    kind: str
    is_rate: bool = False
    lowest: float = 0.0

    @abstractmethod
    def terms(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """The terms to be summed, shape (rows, terms)."""

    @abstractmethod
    def from_sums(self, sums: Floats) -> Floats:
        """Scores, shape (resamples,), from summed terms, shape (resamples, terms)."""

    def rows(self, outputs: Sequence[str], targets: Sequence[str]) -> None:
        """None: the score is not a mean over rows."""
        return None

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The score of all rows together."""
        require_pairs(self.name, outputs, targets)
        return float(self.from_sums(self.terms(outputs, targets).sum(axis=0, keepdims=True))[0])

    def resampler(self, outputs: Sequence[str], targets: Sequence[str]) -> Resampler:
        """Scores from weighted sums of the terms."""
        require_pairs(self.name, outputs, targets)
        terms = self.terms(outputs, targets)
        return lambda weights: self.from_sums(weights @ terms)


def require_pairs(name: str, outputs: Sequence[str], targets: Sequence[str]) -> None:
    """Raise DataError unless there is at least one row and one target for every output."""
    if len(outputs) != len(targets):
        raise DataError(
            f"metric {name}: found {len(outputs)} outputs and {len(targets)} targets; "
            "expected one target for every output. Score the rows that were predicted."
        )
    if not targets:
        raise DataError(f"metric {name}: found no rows; expected at least one. Give a split that has rows.")


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """`numerator / denominator` with 0 wherever the denominator is 0."""
    out = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    quotient: Floats = np.divide(numerator, denominator, out=out, where=denominator != 0)
    return quotient
