"""How often the band of a learning curve holds what twice the labels bring, where the curve is known.

Curves are a power law, one that flattens early, and one that starts late, so that the fitted forms are right
for two and wrong for the third. Draws of few labels differ more than draws of many; all are scored on the same
rows.

    python benchmarks/evidence/curves.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import bars
import numpy as np
import rows
from bars import Bar
from numpy.typing import NDArray

from tunewise.statistics.curves import Curve, fit

SIZES, DRAWS, ROWS = (8, 16, 32, 64, 128), 3, 300
SPREAD = 0.06
"""Standard deviation between draws of the smallest size; it falls with the root of the labels."""
LEAST = 0.90
RESAMPLES = 300
TRUTHS: Mapping[str, Callable[[float], float]] = {
    "power law": lambda n: 0.92 - 1.1 * n**-0.5,
    "flattens early": lambda n: 0.85 - 0.45 * math.exp(-n / 25),
    "starts late": lambda n: 0.35 + 0.55 / (1 + math.exp(-1.8 * (math.log2(n) - 5.0))),
}


def drawn(rng: np.random.Generator, truth: Callable[[float], float]) -> Curve:
    """Measured scores of a method whose true scores are known: each draw is a model, scored row by row.

    Rows are easy or hard for every model alike, so the luck of the test is shared between sizes and draws in part.
    """
    ease = rows.ease(rng, ROWS)
    scores = np.empty((len(SIZES), DRAWS))
    for place, size in enumerate(SIZES):
        for draw in range(DRAWS):
            accuracy = truth(size) + SPREAD * math.sqrt(SIZES[0] / size) * rng.standard_normal()
            odds = _odds(min(max(accuracy, 0.02), 0.98))
            scores[place, draw] = (rng.random(ROWS) < rows.chance(odds + ease)).mean()
    return Curve(SIZES, scores, rows=ROWS)


@cache
def _odds_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracies over rows of all kinds, and the log-odds of a row of middling ease that give them."""
    odds = np.linspace(-9, 9, 721)
    return rows.accuracies(odds), odds


def _odds(accuracy: float) -> float:
    return float(np.interp(accuracy, *_odds_table()))


def coverage(name: str, factor: float, draws: int) -> list[Bar]:
    """The band that is told, and the one of a plain fit."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    n, truth = factor * SIZES[-1], TRUTHS[name](factor * SIZES[-1])
    told = plain = foretold = held = 0
    for draw in range(draws):
        curve = drawn(rng, TRUTHS[name])
        found = curve.expected(n, resamples=RESAMPLES, seed=draw)
        inside = found.low <= truth <= found.high
        told += bool(inside)
        laws = fit(SIZES, curve.resampled(RESAMPLES, draw))
        low, high = np.quantile([law(n) for law in laws], [0.025, 0.975])
        plain += bool(low <= truth <= high)
        if curve.foretells_its_end(resamples=RESAMPLES, seed=draw):
            foretold += 1
            held += bool(inside)
    text = f"{name}, {factor:g} times the labels"
    asked = LEAST if factor == 2 else None
    found_bars = [
        Bar(f"{text}: the band holds the truth", told / draws, least=asked, count=draws),
        Bar(f"{text}: the band of the plain fit does", plain / draws, count=draws),
    ]
    if factor > 2 and foretold:
        found_bars.append(Bar(f"{text}: told at all", foretold / draws, count=draws))
        found_bars.append(Bar(f"{text}: the band holds where it is told", held / foretold, LEAST, count=foretold))
    return found_bars


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws = 10 if quick else 500
    return [bar for factor in (2.0, 4.0) for name in TRUTHS for bar in coverage(name, factor, draws)]


if __name__ == "__main__":
    bars.run("curves", __doc__, measure)
