"""How often the band of a learning curve holds what twice the labels bring, where the curve is known.

Curves are a power law, one that flattens early, and one that starts late, so that the fitted form is right once
and wrong twice. Draws of few labels differ more than draws of many; all sizes are scored on the same rows.

    python benchmarks/evidence/curves.py
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import bars
import numpy as np
from bars import Bar
from numpy.typing import NDArray

from tunewise.statistics.curves import Curve

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
    """Measured scores of a method whose true scores are known."""
    means = np.array([truth(size) for size in SIZES])
    between = SPREAD * np.sqrt(SIZES[0] / np.array(SIZES))
    luck = rng.standard_normal()  # the same rows for all sizes
    rows = luck * np.sqrt(means * (1 - means) / ROWS)
    scores: NDArray[np.float64] = (means + rows)[:, None] + between[:, None] * rng.standard_normal(
        (len(SIZES), DRAWS)
    )
    return Curve(SIZES, np.clip(scores, 0, 1), rows=ROWS)


def coverage(name: str, factor: float, draws: int) -> list[Bar]:
    """The band that is told, and the one of a plain fit."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    n, truth = factor * SIZES[-1], TRUTHS[name](factor * SIZES[-1])
    told = plain = foretold = held = 0
    for draw in range(draws):
        curve = drawn(rng, TRUTHS[name])
        found = curve.expected(n, resamples=RESAMPLES, seed=draw)
        inside = found.low <= truth <= found.high
        told += inside
        miss = curve.reach(n)
        plain += found.low + miss <= truth <= found.high - miss
        if curve.foretells_its_end(resamples=RESAMPLES, seed=draw):
            foretold += 1
            held += inside
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
