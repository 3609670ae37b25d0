"""How often a loss of the whole margin passes where scores are no rates of rows, on outcomes of a known truth.

Macro-F1, where one class may be rare; scores of rows that are mostly alike, as two translations are; the same
where few rows differ much and others hardly. Rates of rows are in `claims.py`, where the chance is exact; rows
that come in groups are in `grouped.py`.

    python benchmarks/evidence/bounds.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import bars
import numpy as np
from bars import Bar
from numpy.typing import NDArray
from scipy.optimize import brentq

from tunewise import metrics
from tunewise.statistics import bootstrap, paired_difference

MARGIN = 0.02
FAR = (0.3, 0.9)
"""How much rows differ that differ much."""

Upper = Callable[[np.random.Generator], float]
"""Draws outcomes of two candidates; the upper bound of the other's score minus the nominee's."""


def of_two_classes(rows: int, larger: float, accuracy: float, discordance: float, ahead: float) -> Upper:
    """Macro-F1, the other ahead by so much in truth.

    Args:
        rows: of the test.
        larger: share of the larger class.
        accuracy: of the nominee on rows of either class.
        discordance: share of rows on which one of the two is right.
        ahead: macro-F1 of the other minus that of the nominee.
    """
    truth = macro_f1(larger, accuracy)
    more = brentq(lambda right: macro_f1(larger, right) - truth - ahead, accuracy, 1) - accuracy if ahead else 0.0
    names = np.array(["larger", "smaller"])

    def upper(rng: np.random.Generator) -> float:
        target = (rng.random(rows) >= larger).astype(int)
        luck = rng.random(rows)
        wins, loses = luck < (discordance + more) / 2, luck >= 1 - (discordance - more) / 2
        both = ~wins & ~loses & (rng.random(rows) < (accuracy - (discordance - more) / 2) / (1 - discordance))
        other, own = (list(names[np.where(right, target, 1 - target)]) for right in (both | wins, both | loses))
        seed = int(rng.integers(2**31))
        return paired_difference(metrics.get("macro_f1"), other, own, list(names[target]), seed=seed).upper

    return upper


def macro_f1(larger: float, accuracy: float) -> float:
    """Of two classes, each right with the same chance."""
    return float(
        np.mean([2 * p * accuracy / (p + p * accuracy + (1 - p) * (1 - accuracy)) for p in (larger, 1 - larger)])
    )


def of_rows(rows: int, share: float, spread: float, ahead: float) -> Upper:
    """Scores of rows, of which a share differs by much and the others by a normal spread."""
    more = ahead / (sum(FAR) / 2)

    def upper(rng: np.random.Generator) -> float:
        luck, far = rng.random(rows), rng.uniform(*FAR, rows)
        signs = (luck < (share + more) / 2) * 1.0 - (luck >= 1 - (share - more) / 2)
        found: NDArray[np.float64] = np.where(signs, signs * far, rng.normal(0, spread, rows) if spread else 0.0)
        drawn = bootstrap(
            lambda weights: weights @ found / weights.sum(axis=1),
            rows,
            seed=int(rng.integers(2**31)),
            is_difference=True,
        )
        return drawn.interval(0.90).high

    return upper


def cases(quick: bool) -> Iterator[tuple[str, Callable[[float], Upper], float | None]]:
    """What is drawn, by how far the other is ahead, and how often a false claim may pass."""
    for rows, larger, accuracy, discordance in (
        (26, 0.5, 0.9, 0.05),
        (26, 0.5, 0.9, 0.10),
        (26, 0.5, 0.9, 0.20),
        (26, 0.85, 0.95, 0.06),
        (26, 0.85, 0.95, 0.10),
        (100, 0.85, 0.95, 0.06),
        (300, 0.85, 0.95, 0.06),
    )[: 1 if quick else None]:
        yield (
            f"macro-F1, {larger:.0%} in one class, {rows} rows, {discordance:.0%} discordant",
            lambda ahead, given=(rows, larger, accuracy, discordance): of_two_classes(*given, ahead),
            0.06,
        )
    for rows, share, spread in (
        (26, 0.10, 0.0),
        (60, 0.10, 0.0),
        (200, 0.06, 0.0),
        (100, 0.06, 0.1),
        (60, 0.06, 0.03),
    )[: 1 if quick else None]:
        beside = f", others by {spread:g}" if spread else ""
        yield (
            f"scores of {rows} rows, {share:.0%} differ by {FAR[0]:g} to {FAR[1]:g}{beside}",
            lambda ahead, given=(rows, share, spread): of_rows(*given, ahead),
            # Few rows that differ much hide among many that differ little: reported, with no bar.
            None if spread else 0.06,
        )


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws, found = 20 if quick else 2_000, []
    for number, (text, ahead, most) in enumerate(cases(quick)):
        rng = np.random.default_rng(number)
        for by, what, bar in (
            (MARGIN, f"worse by {100 * MARGIN:g} points passes", most),
            (0.0, "equal passes", None),
        ):
            upper = ahead(by)
            passed = sum(upper(rng) < MARGIN for _ in range(draws)) / draws
            found.append(Bar(f"{text}: {what}", passed, most=bar, count=draws))
    return found


if __name__ == "__main__":
    bars.run("bounds", __doc__, measure)
