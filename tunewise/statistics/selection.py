"""What the best of many candidates is worth, when the rows that score it also chose it.

The highest of many noisy scores is too high. Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and
Borboudakis 2018) repeats the choice on resampled rows, and scores what it chooses on the rows left out: candidates
are not fitted again, so it costs nothing but arithmetic.

>>> corrected = corrected_choice([metric.resampler(outputs, targets) for outputs in candidates], len(targets))
>>> corrected.value, corrected.interval.low
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE, Interval
from tunewise.statistics.resampling import Floats, ScoresOf, draws

CHOICE_RESAMPLES = 1000


@dataclass(frozen=True)
class Choice:
    """A candidate chosen by its score, and what that score is worth."""

    chosen: int
    """Number of the candidate with the highest score on all rows; of equals, the first."""
    apparent: float
    """That score: too high, as it was chosen by."""
    value: float
    """The corrected score: the mean over resamples of the choice's score on the rows left out."""
    interval: Interval
    """From the spread of those scores; the rows left out are about a third, so it is on the safe side."""


def corrected_choice(
    candidates: Sequence[ScoresOf],
    n: int,
    *,
    resamples: int = CHOICE_RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> Choice:
    """Choose the best of `candidates` on `n` rows, and correct its score for having been chosen on them.

    Args:
        candidates: of each, row weights (resamples, rows) to scores; out-of-fold rows where it was fitted on some.
        n: rows.
        resamples: bootstrap resamples.
        seed: of the resamples.
        groups: of each row; whole groups are drawn.
        confidence: of the interval.

    Raises:
        DataError: there is no candidate, or fewer than two rows or groups.
    """
    if not candidates or n < 2 or (groups is not None and len(set(groups)) < 2):
        raise DataError(
            f"corrected choice: found {len(candidates)} candidates on {n} rows; "
            "expected one candidate and two rows (or groups) at least."
        )
    whole = np.ones((1, n))
    apparent = [float(scores_of(whole)[0]) for scores_of in candidates]
    chosen = int(np.argmax(apparent))
    found = []
    for weights in draws(n, resamples, seed, groups):
        left_out = (weights == 0).astype(np.float64)
        some = left_out.any(axis=1)  # a resample that draws every row leaves none to score
        best = np.argmax(np.stack([scores_of(weights[some]) for scores_of in candidates], axis=1), axis=1)
        outside = np.stack([scores_of(left_out[some]) for scores_of in candidates], axis=1)
        found.append(outside[np.arange(len(best)), best])
    scores: Floats = np.concatenate(found)
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Choice(
        chosen=chosen,
        apparent=apparent[chosen],
        value=float(scores.mean()),
        interval=Interval(float(low), float(high), "bootstrap bias-corrected"),
    )
