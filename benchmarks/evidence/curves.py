"""How often the band of a learning curve holds what twice the labels bring, where the curve is known.

Curves are a power law, one that flattens early, and one that starts late, so that the fitted forms are right
for two and wrong for the third. Draws of few labels differ more than draws of many; all are scored on the same
rows. Of pairs of curves it is asked as well how often the intervals hold what one is worth beside the other in
labels, and where it overtakes it.

    python benchmarks/evidence/curves.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import bars
import numpy as np
import rows
from bars import Bar
from numpy.typing import NDArray

from tunewise.recommend.learning import SELDOM
from tunewise.statistics.curves import Curve, crossing, data_advantage, data_advantage_interval, fit, level_by
from tunewise.statistics.resampling import draws as draws_of

SIZES, DRAWS, ROWS = (8, 16, 32, 64, 128), 3, 300
SPREAD = 0.06
"""Standard deviation between draws of the smallest size; it falls with the root of the labels."""
LEAST = 0.90
RESAMPLES = 300
REACH = 2 * SIZES[-1]
"""Labels up to which a crossing is told."""
TRUTHS: Mapping[str, Callable[[float], float]] = {
    "power law": lambda n: 0.92 - 1.1 * n**-0.5,
    "flattens early": lambda n: 0.85 - 0.45 * math.exp(-n / 25),
    "starts late": lambda n: 0.35 + 0.55 / (1 + math.exp(-1.8 * (math.log2(n) - 5.0))),
}


PAIRS: Mapping[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "always ahead": (lambda n: 0.92 - 0.8 * n**-0.5, lambda n: 0.92 - 1.1 * n**-0.5),
    "overtaken at 36 labels": (lambda n: 0.75 - 0.4 * n**-0.5, lambda n: 0.95 - 1.6 * n**-0.5),
    "overtaken at 196 labels": (lambda n: 0.80 - 0.4 * n**-0.5, lambda n: 0.90 - 1.8 * n**-0.5),
    "far behind": (lambda n: 0.92 - 0.8 * n**-0.5, lambda n: 0.75 - 1.1 * n**-0.5),
}
"""Two methods, the leader with few labels first."""


def answered(
    rng: np.random.Generator, truth: Callable[[float], float], ease: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which rows are answered rightly, [sizes, draws, rows]: each draw is a model, scored row by row.

    Rows are easy or hard for every model alike, so the luck of the test is shared between sizes and draws in part.
    """
    right = np.empty((len(SIZES), DRAWS, ROWS), dtype=bool)
    for place, size in enumerate(SIZES):
        for draw in range(DRAWS):
            accuracy = truth(size) + SPREAD * math.sqrt(SIZES[0] / size) * rng.standard_normal()
            odds = _odds(min(max(accuracy, 0.02), 0.98))
            right[place, draw] = rng.random(ROWS) < rows.chance(odds + ease)
    return right


def drawn(rng: np.random.Generator, truths: Sequence[Callable[[float], float]], seed: int) -> list[Curve]:
    """Measured curves of methods with known scores, on the same rows, and on these drawn again."""
    ease = rows.ease(rng, ROWS)
    weights = np.concatenate(list(draws_of(ROWS, RESAMPLES, seed))) / ROWS
    found = []
    for truth in truths:
        right = answered(rng, truth, ease)
        redrawn = np.moveaxis(right.astype(np.float64) @ weights.T, 2, 0)
        found.append(Curve(SIZES, right.mean(axis=2), ROWS, redrawn))
    return found


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
        (curve,) = drawn(rng, [TRUTHS[name]], draw)
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


def beside(name: str, draws: int) -> list[Bar]:
    """Intervals of the data advantage and of the crossing."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    leader, follower = (
        Curve(SIZES, np.tile([[truth(size)] for size in SIZES], (1, DRAWS))) for truth in PAIRS[name]
    )
    saved, level = data_advantage(leader, follower), crossing(leader, follower, REACH, resamples=10)
    told = held = found = inside = never = 0
    for draw in range(draws):
        one, other = drawn(rng, PAIRS[name], draw)
        advantage = data_advantage_interval(one, other, resamples=RESAMPLES, seed=draw)
        if advantage is not None and data_advantage(one, other) is not None:
            told += 1
            held += bool(saved is not None and advantage[0] <= saved <= advantage[1])
        point = crossing(one, other, REACH, resamples=RESAMPLES, seed=draw)
        behind, back = other.means[-1] <= one.means[-1], crossing(other, one, REACH, resamples=10)
        if behind and point is None and back is None:
            never += level_by(one, other, REACH, resamples=RESAMPLES, seed=draw) <= SELDOM
        if point is not None and point.high is not None:  # only then it is said
            found += 1
            inside += bool(level is not None and point.low <= level.at <= point.high)
    most = None if level is None else 0.05
    found_bars = [
        Bar(f"{name}: `not within reach` is told", never / draws, most=most, count=draws),
        Bar(f"{name}: rows saved are told", told / draws, most=0.05 if saved is None else None, count=draws),
    ]
    if saved is not None:
        found_bars.append(Bar(f"{name}: their interval holds the truth", held / max(told, 1), LEAST, count=told))
    if level is None:
        return [*found_bars, Bar(f"{name}: a crossing is told", found / draws, most=0.05, count=draws)]
    found_bars.append(Bar(f"{name}: the crossing is told", found / draws, count=draws))
    if found:
        found_bars.append(Bar(f"{name}: its interval holds the truth", inside / found, LEAST, count=found))
    return found_bars


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws = 10 if quick else 500
    bands = [bar for factor in (2.0, 4.0) for name in TRUTHS for bar in coverage(name, factor, draws)]
    return [*bands, *(bar for name in PAIRS for bar in beside(name, 10 if quick else 300))]


if __name__ == "__main__":
    bars.run("curves", __doc__, measure)
