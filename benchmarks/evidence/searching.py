"""Fifty prompts searched on a hundred rows: is the number announced for the best of them right?

Two ways: rows kept apart announce what others chose (what a study with 100 rows and more does), and the corrected
choice on all rows (what is there for fewer). Prompts differ by a little, rows by more; both decide how likely a
prompt answers a row rightly.

    python benchmarks/evidence/searching.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import bars
import numpy as np
import rows
from bars import Bar
from numpy.typing import NDArray

from tunewise.statistics import ScoresOf, wilson
from tunewise.statistics.selection import corrected_choice

PROMPTS, ROWS = 50, 100
RESAMPLES = 500
SKILLS = {"equal": 0.0, "close": 0.15, "apart": 0.5}
"""Spread of what prompts add to the log-odds of a right answer, from none to ten points of accuracy."""
EASE = 1.2
"""Mean log-odds."""


def drawn(rng: np.random.Generator, odds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which prompt has which row right, [prompts, rows], from the log-odds of each prompt."""
    ease = rows.ease(rng, ROWS)
    right: NDArray[np.bool_] = rng.random((len(odds), ROWS)) < rows.chance(odds[:, None] + ease)
    return right


Announced = tuple[int, float, float, float]
"""The prompt chosen, its announced score, and the two ends of the interval."""


def kept_apart(right: NDArray[np.bool_], seed: int) -> Announced:
    """Half of the rows choose, the other half announces."""
    half = right.shape[1] // 2
    best = int(right[:, :half].mean(axis=1).argmax())
    announcing = right[best, half:]
    interval = wilson(int(announcing.sum()), len(announcing))
    return best, float(announcing.mean()), interval.low, interval.high


def corrected(right: NDArray[np.bool_], seed: int) -> Announced:
    """All rows choose, and the corrected score is announced."""

    def of(prompt: NDArray[np.float64]) -> ScoresOf:
        return lambda weights: weights @ prompt / weights.sum(axis=1)

    prompts = [of(prompt) for prompt in right.astype(np.float64)]
    found = corrected_choice(prompts, right.shape[1], resamples=RESAMPLES, seed=seed)
    return found.chosen, found.value, found.interval.low, found.interval.high


WAYS: dict[str, tuple[Callable[[NDArray[np.bool_], int], Announced], float, float]] = {
    "rows kept apart": (kept_apart, 0.93, 0.98),
    "corrected choice": (corrected, 0.93, 1.0),
}
"""What announces, and how often its interval must hold the truth."""


def bars_of(spread: str, draws: int) -> Sequence[Bar]:
    """Coverage and bias of both ways, and of the highest score as it is."""
    rng = np.random.default_rng([ord(letter) for letter in spread])
    held = dict.fromkeys(WAYS, 0)
    off = {name: 0.0 for name in [*WAYS, "highest score"]}
    for draw in range(draws):
        odds = EASE + SKILLS[spread] * rng.standard_normal(PROMPTS)
        right, truth = drawn(rng, odds), rows.accuracies(odds)
        for name, (announce, _, _) in WAYS.items():
            best, score, low, high = announce(right, draw)
            held[name] += bool(low <= truth[best] <= high)
            off[name] += float(score - truth[best]) / draws
        best = int(right.mean(axis=1).argmax())
        off["highest score"] += float(right[best].mean() - truth[best]) / draws
    found = []
    for name, (_, least, most) in WAYS.items():
        text = f"{spread} prompts, {name}"
        found.append(Bar(f"{text}: the interval holds the truth", held[name] / draws, least, most, draws))
        found.append(Bar(f"{text}: announced minus true", off[name], -0.02, 0.01, draws))
    return [
        *found,
        Bar(f"{spread} prompts, highest score: announced minus true", off["highest score"], count=draws),
    ]


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    return [bar for spread in SKILLS for bar in bars_of(spread, 20 if quick else 2_000)]


if __name__ == "__main__":
    bars.run("searching", __doc__, measure)
