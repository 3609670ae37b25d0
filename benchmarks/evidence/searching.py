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
from bars import Bar
from numpy.typing import NDArray

from tunewise.statistics import ScoresOf, wilson
from tunewise.statistics.selection import corrected_choice

PROMPTS, ROWS = 50, 100
RESAMPLES = 500
SKILLS = {"equal": 0.0, "close": 0.15, "apart": 0.5}
"""Spread of what prompts add to the log-odds of a right answer, from none to ten points of accuracy."""
ROW_SPREAD = 1.5
EASE = 1.2
"""Mean log-odds."""
MANY = 20_000
"""Rows that the truth is averaged over."""


def drawn(rng: np.random.Generator, skills: NDArray[np.float64], rows: int) -> NDArray[np.bool_]:
    """Which prompt has which row right, [prompts, rows]."""
    ease = EASE + ROW_SPREAD * rng.standard_normal(rows)
    right: NDArray[np.bool_] = rng.random((len(skills), rows)) < _chance(skills[:, None] + ease)
    return right


def _chance(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-odds))
    return found


def truths(skills: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracy of each prompt over all rows, by quadrature over how easy they are."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    chances = _chance(skills[:, None] + EASE + ROW_SPREAD * nodes)
    found: NDArray[np.float64] = chances @ weights / weights.sum()
    return found


Announced = tuple[int, float, float, float]
"""The prompt chosen, its announced score, and the two ends of the interval."""


def kept_apart(right: NDArray[np.bool_], seed: int) -> Announced:
    """Half of the rows choose, the other half announces."""
    half = right.shape[1] // 2
    best = int(right[:, :half].mean(axis=1).argmax())
    rows = right[best, half:]
    interval = wilson(int(rows.sum()), len(rows))
    return best, float(rows.mean()), interval.low, interval.high


def corrected(right: NDArray[np.bool_], seed: int) -> Announced:
    """All rows choose, and the corrected score is announced."""
    rows = right.astype(np.float64)

    def of(prompt: NDArray[np.float64]) -> ScoresOf:
        return lambda weights: weights @ prompt / weights.sum(axis=1)

    found = corrected_choice([of(prompt) for prompt in rows], rows.shape[1], resamples=RESAMPLES, seed=seed)
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
        skills = SKILLS[spread] * rng.standard_normal(PROMPTS)
        right, truth = drawn(rng, skills, ROWS), truths(skills)
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
