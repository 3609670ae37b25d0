"""How often claims are false where rows come in groups, on outcomes drawn from a known truth.

Rows of one group share luck: the difference of two candidates is another one in every group, so the number of
groups says how well it is known, and not the number of rows.

    python benchmarks/evidence/grouped.py
"""

from __future__ import annotations

from collections.abc import Sequence

import bars
import numpy as np
from bars import Bar

from tunewise import metrics
from tunewise.statistics.comparing import Difference, paired_difference

ROWS = 100
DISCORDANCE = 0.20
SPREAD = 0.05
"""Standard deviation of the groups' differences."""
MARGIN = 0.02
GROUPS = (2, 3, 5, 7, 10, 20)


def drawn(rng: np.random.Generator, groups: int, behind: float) -> Difference:
    """Another finalist against the nominee, which is `behind` it by so much in the mean over groups."""
    group = np.arange(ROWS) % groups
    more = np.clip(rng.normal(behind, SPREAD, groups), -DISCORDANCE, DISCORDANCE)[group] / 2
    luck = rng.random(ROWS)
    wins = luck < DISCORDANCE / 2 + more
    loses = ~wins & (luck < DISCORDANCE)
    names = [str(one) for one in group]
    return paired_difference(
        metrics.get("accuracy"),
        _answers(~loses),
        _answers(~wins),
        ["right"] * ROWS,
        names,
        int(rng.integers(2**31)),
    )


def _answers(right: Sequence[bool] | np.ndarray) -> list[str]:
    return ["right" if one else "wrong" for one in right]


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    draws = 20 if quick else 2_000
    found = []
    for groups in GROUPS[:2] if quick else GROUPS:
        rng = np.random.default_rng(groups)
        passed = sum(drawn(rng, groups, MARGIN).upper < MARGIN for _ in range(draws)) / draws
        apart = sum(drawn(rng, groups, 0.0).p < 0.05 for _ in range(draws)) / draws
        text = f"{ROWS} rows in {groups} groups"
        found.append(Bar(f"{text}: worse by {100 * MARGIN:g} points passes", passed, most=0.06, count=draws))
        found.append(Bar(f"{text}: equal ones told apart", apart, most=0.07, count=draws))
    return found


if __name__ == "__main__":
    bars.run("grouped", __doc__, measure)
