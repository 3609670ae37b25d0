"""What the best of many candidates is worth, when the rows that score it also chose it.

The highest of many noisy scores is too high. Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and
Borboudakis 2018) repeats the choice on resampled rows, and scores what it chooses on the rows left out: candidates
are not fitted again, so it costs nothing but arithmetic.

>>> corrected = corrected_choice([metric.resampler(outputs, targets) for outputs in candidates], len(targets))
>>> corrected.value, corrected.interval.low
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunewise.errors import DataError
from tunewise.statistics.comparing import score_interval
from tunewise.statistics.interval import CONFIDENCE, Interval
from tunewise.statistics.resampling import Floats, ScoresOf, draws

if TYPE_CHECKING:
    from tunewise.metrics import Metric

CHOICE_RESAMPLES = 1000
ROUNDING = 2e-6
"""`leaderboard.csv` keeps six decimals; a choice must not depend on whether a score went through it."""


@dataclass(frozen=True)
class Choice:
    """A candidate chosen by its score, and what that score is worth."""

    chosen: int
    """Number of the first candidate whose score on all rows is within the margin of the highest."""
    apparent: float
    """Its score: too high, as it was chosen by."""
    value: float
    """The corrected score: less by what a resample's choice loses to this one on the rows left out of it."""
    interval: Interval
    """From the spread of scores on rows left out; these are about a third, so it is on the safe side."""


def corrected_choice(
    candidates: Sequence[ScoresOf],
    n: int,
    *,
    margin: float = 0.0,
    resamples: int = CHOICE_RESAMPLES,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
) -> Choice:
    """Choose among `candidates` on `n` rows, and correct the score of the choice for having been made on them.

    Args:
        candidates: of each, row weights (resamples, rows) to scores; out-of-fold rows where it was fitted on some.
        n: rows.
        margin: how far below the highest score the first candidates, the preferred ones, are still chosen.
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
    chosen = int(_first_within(np.array([apparent]), margin)[0])
    moved, found = [], []
    for weights in draws(n, resamples, seed, groups):
        left_out = (weights == 0).astype(np.float64)
        some = left_out.any(axis=1)  # a resample that draws every row leaves none to score
        best = _first_within(np.stack([scores_of(weights[some]) for scores_of in candidates], axis=1), margin)
        outside = np.stack([scores_of(left_out[some]) for scores_of in candidates], axis=1)
        found.append(outside[np.arange(len(best)), best])
        moved.append(found[-1] - outside[:, chosen])
    scores: Floats = np.concatenate(found)
    # A metric may be worth less on fewer rows; that cancels against the same candidate on the same rows.
    value = min(apparent[chosen], apparent[chosen] + float(np.concatenate(moved).mean()))
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Choice(
        chosen=chosen,
        apparent=apparent[chosen],
        value=value,
        interval=Interval(min(float(low), value), max(float(high), value), "bootstrap bias-corrected"),
    )


def out_of_fold_choice(
    metric: Metric,
    candidates: Sequence[Sequence[str]],
    targets: Sequence[str],
    groups: Sequence[str] | None = None,
    margin: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Choice:
    """Choose among candidates by their out-of-fold answers to the same rows, and say what the choice is worth.

    The resamples of a candidate that is right everywhere all score the same, so the interval holds that of the
    score itself at least.

    Args:
        metric: that scores.
        candidates: answers of each, the preferred ones first.
        targets: of the rows.
        groups: of each row.
        margin: see `corrected_choice`.
        confidence: of the interval.
    """
    scored = [metric.resampler(outputs, targets) for outputs in candidates]
    found = corrected_choice(scored, len(targets), margin=margin, groups=groups, confidence=confidence)
    own = score_interval(metric, candidates[found.chosen], targets, groups, confidence=confidence)
    drawn = found.interval
    return replace(found, interval=Interval(min(drawn.low, own.low), max(drawn.high, own.high), drawn.method))


def _first_within(scores: Floats, margin: float) -> NDArray[np.intp]:
    """Of each line of [draws, candidates], the first candidate within the margin of the highest."""
    found: NDArray[np.intp] = (scores >= scores.max(axis=1, keepdims=True) - margin - ROUNDING).argmax(axis=1)
    return found
