"""Seeded, stratified splits that keep whole clusters on one side.

A cluster is what must not be torn apart: rows of one group, and near-duplicates of each other.

>>> order = stratified_order(["a", "a", "a", "b"], random.Random(0))
>>> sorted(order), sorted(["a", "a", "a", "b"][row] for row in order[:2])
([0, 1, 2, 3], ['a', 'b'])
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from tunewise.errors import SettingError
from tunewise.task import Choices, Example, TaskSpec

DEFAULT_TEST = 0.2
"""Share of the rows that become the test split when no test file is given."""
DEFAULT_VALIDATION = 0.2
"""Share of the rows that are not for the test."""


def wanted_validation(value: Any) -> Any:
    """`value` as a share (float), a count (int), or unchanged when it names a file or holds rows.

    Text such as "0.2" or "200" is a number. Raises SettingError for a number that is neither a share between 0
    and 1 nor a whole number.
    """
    if value is None:
        return DEFAULT_VALIDATION
    number: float | None = None
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
    elif isinstance(value, Real):
        number = float(value)
    if number is None:
        return value
    if isinstance(value, bool) or not math.isfinite(number) or number < 0 or (number > 1 and number % 1):
        raise SettingError(
            f"validation={value}: expected a share between 0 and 1 (0.2), a count (200), a file, or 0 for none."
        )
    return number if 0 < number < 1 else int(number)


def wanted_rows(value: Any) -> int | None:
    """`train_rows` as a whole number; raises SettingError for anything else."""
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal() or int(text) < 1:
        raise SettingError(f"train_rows={value}: expected a whole number greater than 0.")
    return int(text)


def carve(strata: Sequence[str], clusters: Sequence[int], total: int, seed: str) -> list[int]:
    """About `total` positions, drawn cluster by cluster so that each stratum keeps its share.

    Without clusters of several rows there are exactly `total`, where each stratum can spare a row. At least one
    row of every stratum is left behind. Clusters are visited in a random order: first those that fit into what
    their strata still lack, then those that bring the counts closer to it.

    Args:
        strata: the label of each row; the same text for all where there are no labels.
        clusters: the cluster of each row.
        total: rows wanted.
        seed: of the draw.

    Returns:
        Positions in ascending order; empty when no cluster can be spared.
    """
    draw = random.Random(seed)
    units = _units(clusters, draw)
    counts = [Counter(strata[position] for position in unit) for unit in units]
    left = Counter(strata)
    lacking = _quotas(left, total, draw)
    taken: list[int] = []

    def take(unit: int) -> None:
        left.subtract(counts[unit])
        lacking.subtract(counts[unit])
        taken.append(unit)

    def spared(unit: int) -> bool:
        return all(left[stratum] > rows for stratum, rows in counts[unit].items())

    for unit, rows in enumerate(counts):
        if spared(unit) and all(lacking[stratum] >= number for stratum, number in rows.items()):
            take(unit)
    first_round = set(taken)
    for unit, rows in enumerate(counts):
        if unit not in first_round and spared(unit) and _distance_added(rows, lacking) < 0:
            take(unit)
    if not taken:
        possible = [unit for unit in range(len(units)) if spared(unit)]
        taken = sorted(possible, key=lambda unit: _distance_added(counts[unit], lacking))[:1]
    return sorted(position for unit in taken for position in units[unit])


def in_folds(strata: Sequence[str], clusters: Sequence[int], folds: int, seed: str) -> list[list[int]]:
    """Positions of each fold, in ascending order; clusters stay whole.

    The largest clusters go first, each into the fold that holds the fewest rows of its strata, of equals into that
    with the fewest rows. So folds are alike in size; where clusters are single rows, in each stratum within a row.

    Args:
        strata: the label of each row; the same text for all where there are no labels.
        clusters: the cluster of each row.
        folds: how many.
        seed: decides the order of equals.
    """
    found: list[list[int]] = [[] for _ in range(folds)]
    held: list[Counter[str]] = [Counter() for _ in range(folds)]
    for unit in sorted(_units(clusters, random.Random(seed)), key=len, reverse=True):
        counts = Counter(strata[position] for position in unit)

        def load(fold: int, counts: Counter[str] = counts) -> tuple[int, int]:
            return sum(number * held[fold][stratum] for stratum, number in counts.items()), len(found[fold])

        best = min(range(folds), key=load)
        found[best] += unit
        held[best] += counts
    return [sorted(fold) for fold in found]


def strata_of(rows: Iterable[Example], spec: TaskSpec) -> list[str]:
    """What each row is stratified by: its label, or the same for all where the answer is free text."""
    return [row.target if isinstance(spec.answer, Choices) else "" for row in rows]


def stratified_order(strata: Sequence[str], draw: random.Random) -> list[int]:
    """All positions, so ordered that the first N hold each stratum by its share, for every N.

    One row of each stratum comes first, the most frequent stratum leading; a shorter beginning is a subset of a
    longer one, so that smaller training sets are nested in larger ones.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for position, stratum in enumerate(strata):
        members[stratum].append(position)
    placed = []
    for rows in members.values():
        draw.shuffle(rows)
        for place, position in enumerate(rows):
            share = -len(rows) if place == 0 else (place + 0.5) / len(rows)
            placed.append((place > 0, share, draw.random(), position))
    return [position for *_, position in sorted(placed)]


def share_of(share: float, rows: int) -> int:
    """`share` of `rows` in whole rows, at least one."""
    return max(1, round(share * rows))


def _units(clusters: Sequence[int], draw: random.Random) -> list[list[int]]:
    """Positions cluster by cluster, in a random order of clusters."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position, cluster in enumerate(clusters):
        members[cluster].append(position)
    units = list(members.values())
    draw.shuffle(units)
    return units


def _quotas(counts: Mapping[str, int], total: int, draw: random.Random) -> Counter[str]:
    """`total` rows divided among strata by size (largest remainder), always leaving one of each behind."""
    rows = sum(counts.values())
    exact = {stratum: total * number / rows for stratum, number in counts.items()}
    quotas = Counter({name: min(int(exact[name]), counts[name] - 1) for name in counts})
    # Ties are broken by the draw, else labels early in the file would always win.
    order = sorted(counts, key=lambda name: (int(exact[name]) - exact[name], draw.random()))
    missing = total - sum(quotas.values())
    while missing > 0:
        open_to_more = [name for name in order if quotas[name] < counts[name] - 1][:missing]
        if not open_to_more:
            break
        quotas.update(open_to_more)
        missing -= len(open_to_more)
    return quotas


def _distance_added(rows: Mapping[str, int], lacking: Mapping[str, int]) -> int:
    """How much further from the quotas the counts would be with these `rows` (negative: closer)."""
    return sum(abs(lacking[stratum] - number) - abs(lacking[stratum]) for stratum, number in rows.items())
