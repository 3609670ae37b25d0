"""What fixed sets of trials reach on the grid: how much a policy could gain by listing other trials.

A set is run to the end on every cell, whatever comes of it, and what its members leave of the budget goes into
folds, as in a study of so few rows. The best set in hindsight says what another list could gain at most; the sets
that are best on all tasks but one, each scored on that one, say how much of it carries over.

    python benchmarks/evidence/sets.py                 # at a third of the full run's work; half a minute
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from cells import Cell
from choosers import InFolds, as_in_a_study
from outcomes import Case, Line, cases
from replay import over_tasks, points

from tunewise.study.policy import RESERVE_SHARE

DRAWS = 40
"""Of the rows that choose."""
MOST = 4
"""Tuned trials in a set."""

Trial = tuple[str, float]
"""A tuned method and its rate."""


def trial_of(line: Line) -> Trial | None:
    """Which tuned trial a line is; None for one that is not tuned, and runs in any case."""
    rate = line["parameters"].get("learning_rate")
    return None if rate is None else (line["method"], rate)


def sets(found: Sequence[Case]) -> Iterator[tuple[Trial, ...]]:
    """Every set of trials that all cells list."""
    listed = [{trial for trial in map(trial_of, case.listed()) if trial} for case in found]
    everywhere = sorted(set.intersection(*listed))
    for count in range(1, MOST + 1):
        yield from itertools.combinations(everywhere, count)


def excess(choosers: Sequence[InFolds], chosen: Sequence[Trial], share: float) -> float:
    """Points behind the full run, the mean over draws; infinite where the budget does not hold the set."""
    wanted, lost = {None, *chosen}, []
    for chooser in choosers:
        lines = [line for line in chooser.case.listed() if trial_of(line) in wanted]
        left = (1 - RESERVE_SHARE) * share * chooser.full.work - math.fsum(map(chooser.case.whole, lines))
        if left < 0:
            return math.inf
        line, _ = chooser.through_folds(lines, left)
        lost.append(chooser.unseen.score(chooser.full.line) - chooser.unseen.score(line))
    return statistics.fmean(lost)


def fitting(found: Sequence[Case], share: float) -> dict[tuple[Trial, ...], dict[Cell, float]]:
    """By set, what it loses on each cell; the sets that the budget holds on all of them."""
    anew, once = as_in_a_study(found, DRAWS)
    choosers = {some[0].case.cell: some for some in (*anew, *once)}
    lost: dict[tuple[Trial, ...], dict[Cell, float]] = {}
    for chosen in sets(found):
        values = {cell: excess(some, chosen, share) for cell, some in choosers.items()}
        if all(map(math.isfinite, values.values())):
            lost[chosen] = values
    return lost


def best(lost: Mapping[tuple[Trial, ...], Mapping[Cell, float]], without: str = "") -> list[tuple[Trial, ...]]:
    """The sets, the best first, judged by all tasks but one."""

    def mean(chosen: tuple[Trial, ...]) -> float:
        return over_tasks([(cell, value) for cell, value in lost[chosen].items() if cell.task != without])[0]

    return sorted(lost, key=mean)


def carried_over(lost: Mapping[tuple[Trial, ...], Mapping[Cell, float]]) -> list[tuple[Cell, float]]:
    """What the set that is best on all other tasks loses on each cell."""
    tasks = {cell.task for values in lost.values() for cell in values}
    chosen = {task: best(lost, without=task)[0] for task in sorted(tasks)}
    return [
        (cell, value) for task, one in chosen.items() for cell, value in lost[one].items() if cell.task == task
    ]


def main() -> None:
    """Read the flags and try all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=1 / 3, help="the budget as a share of the full run's work")
    parser.add_argument("--show", type=int, default=8, help="how many of the best sets to show")
    flags = parser.parse_args()
    found = [case for case in cases() if case.chooses_in_folds]
    if len({case.cell.task for case in found}) < 2:
        raise SystemExit("the grid holds full cells of fewer than two tasks; fill it with grid.py.")
    lost = fitting(found, flags.share)
    print(
        f"{len(lost)} sets of tuned trials fit {flags.share:.0%} of the full run's work on all {len(found)} cells"
    )
    for chosen in best(lost)[: flags.show]:
        names = ", ".join(f"{method} {rate:g}" for method, rate in chosen)
        behind, worst = points(over_tasks(list(lost[chosen].items()))), 100 * max(lost[chosen].values())
        print(f"  {behind}  worst cell {worst:4.1f}  {names}")
    print(f"  {points(over_tasks(carried_over(lost)))}  the set that is best on all other tasks, task by task")


if __name__ == "__main__":
    main()
