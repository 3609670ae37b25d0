"""How often the picking rule claims what is not so, and finds what is, on outcomes drawn from a known truth.

Equal finalists must not be announced superior, a loss of the whole margin must not pass for non-inferior, and a
planted gap must be found. Finalists answer the same rows; what they share is set by the share of rows on which two
of them differ (the discordance).

    python benchmarks/evidence/claims.py
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import bars
import numpy as np
from bars import Bar
from numpy.typing import NDArray
from scipy.stats import multinomial

from tunewise.rule import Finalist, judge, nominate
from tunewise.statistics import Difference
from tunewise.statistics.comparing import rate_difference

MARGIN = 2.0
TEST_ROWS = 300
VALIDATION_ROWS = 150
DISCORDANCE = 0.20
GAP = 0.08
LABELLED = 1_000
"""Rows in all: more than those below which nothing is claimed."""

Answers = NDArray[np.bool_]
"""Which of the finalists has which row right, [finalists, rows]."""


def equal(rng: np.random.Generator, finalists: int, rows: int, accuracy: float = 0.8) -> Answers:
    """Finalists of one accuracy: rows differ in how many get them right, by a beta distribution.

    Two of them differ on 2·E[p(1-p)] of the rows, which sets the distribution's variance.
    """
    variance = accuracy * (1 - accuracy) - DISCORDANCE / 2
    together = accuracy * (1 - accuracy) / variance - 1
    rights = rng.beta(accuracy * together, (1 - accuracy) * together, size=rows)
    found: Answers = rng.random((finalists, rows)) < rights
    return found


def one_better(rng: np.random.Generator, finalists: int, rows: int, accuracy: float = 0.84) -> Answers:
    """The first is better than each of the others by `GAP`, and differs from each on `DISCORDANCE` of the rows."""
    wins, losses = (DISCORDANCE + GAP) / 2, (DISCORDANCE - GAP) / 2
    first = rng.random(rows) < accuracy
    chance = np.where(first, 1 - wins / accuracy, losses / (1 - accuracy))
    others = rng.random((finalists - 1, rows)) < chance
    found: Answers = np.vstack([first, others])
    return found


def announced(
    validation: Answers, test: Answers, costs: Sequence[float], margin: float = MARGIN
) -> tuple[str, int]:
    """Status and pick of a study with these outcomes, by the very functions that a study calls."""
    scores = validation.mean(axis=1)
    finalists = [Finalist(str(number), float(score), costs[number]) for number, score in enumerate(scores)]
    reference, nominee = nominate(finalists, margin)
    own = test[int(nominee.candidate)]
    to_nominee = {
        str(number): difference(int((row & ~own).sum()), int((own & ~row).sum()), len(row))
        for number, row in enumerate(test)
        if str(number) != nominee.candidate
    }
    verdict = judge(reference.candidate, nominee.candidate, to_nominee, margin, LABELLED)
    return verdict.status, int(verdict.pick)


@cache
def difference(b: int, c: int, n: int) -> Difference:
    """Of `n` rows only the first has `b` right, only the second `c`."""
    return rate_difference(b, c, n)


def equal_finalists(finalists: int, draws: int) -> Bar:
    """A/A: how often one of several equal finalists is announced superior."""
    rng = np.random.default_rng(finalists)
    superior = 0
    for _ in range(draws):
        both = equal(rng, finalists, VALIDATION_ROWS), equal(rng, finalists, TEST_ROWS)
        superior += announced(*both, rng.permutation(finalists) + 1.0)[0] == "superior"
    return Bar(f"{finalists} equal finalists: `superior` announced", superior / draws, most=0.05, count=draws)


def planted(finalists: int, draws: int, least: float | None) -> list[Bar]:
    """How often the better one is announced superior; picked; and superior once nominated."""
    rng = np.random.default_rng(100 + finalists)
    found = picked = nominated = 0
    for _ in range(draws):
        validation, test = (one_better(rng, finalists, rows) for rows in (VALIDATION_ROWS, TEST_ROWS))
        costs = rng.permutation(finalists) + 1.0
        status, pick = announced(validation, test, costs)
        found += status == "superior" and pick == 0
        picked += pick == 0
        # What the test can do by itself: the better one is the nominee already.
        nominated += announced(one_better(rng, finalists, 4_000), test, costs)[0] == "superior"
    gap = f"{GAP * 100:g} points planted, {finalists} finalists"
    return [
        Bar(f"{gap}: found on {TEST_ROWS} test rows", nominated / draws, least=least, count=draws),
        Bar(f"{gap}: found with {VALIDATION_ROWS} validation rows as well", found / draws, count=draws),
        Bar(f"{gap}: picked", picked / draws, count=draws),
    ]


def false_non_inferiority(rows: int, discordance: float) -> float:
    """The exact chance that a finalist worse by the whole margin is shown not to be, on so many rows."""
    margin = MARGIN / 100
    wins, losses = (discordance + margin) / 2, (discordance - margin) / 2
    passing = [
        (win, loss)
        for win in range(_most(rows, wins))
        for loss in range(_most(rows, losses))
        # Only more losses than wins can bring the bound below the margin.
        if win + loss <= rows and win - loss < margin * rows and difference(win, loss, rows).upper < margin
    ]
    if not passing:
        return 0.0
    counts = np.array([(win, loss, rows - win - loss) for win, loss in passing])
    return float(multinomial.pmf(counts, rows, [wins, losses, 1 - wins - losses]).sum())


def _most(rows: int, share: float) -> int:
    """A count that is exceeded with a chance of less than one in a billion."""
    return min(rows, int(rows * share + 6.5 * (rows * share * (1 - share)) ** 0.5 + 12)) + 1


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws = 40 if quick else 2_000
    found = [equal_finalists(2, draws), equal_finalists(8, draws)]
    found += planted(2, draws, least=0.80) + planted(3, draws, None) + planted(8, draws, None)
    for rows in (30, 100) if quick else (30, 100, 300, 1_000):
        for discordance in (0.03, 0.05, 0.10, 0.20):
            text = f"worse by {MARGIN:g} points, {rows:,} rows, {discordance:.0%} discordant: passes"
            found.append(Bar(text, false_non_inferiority(rows, discordance), most=0.06))
    return found


if __name__ == "__main__":
    bars.run("claims", __doc__, measure)
