"""Any policy, judged in seconds on outcomes that were measured once: the grid, raced again from its files.

A race asks for trials and gets what the grid kept of them, so a policy spends counted work and picks as it would
have done. Its pick is scored on rows that no study saw, beside the pick of the full run (every listed setting to
its last step, by the same rule), beside the best candidate, and beside fixed habits.

A study of so few rows chooses in folds. The rows that it chooses on are therefore drawn, many times, from those
that no study saw: a first fold to screen on, all folds for the finalists. Every fold is another training, and so
is what is handed over; three draws of a task stand for them, in all six orders. A second table lets one training
answer for all folds and scores it on the rest of the rows, as tasks of one draw must: there the luck of that
training counts as if it came with the setting. What the grid cannot tell is what fitting on other numbers of rows
would change; its models were fitted on 82 of 128. With `--validation 100`, so many rows of a split choose (the
rungs of a race still compare by the cell's own). With `--own-rows`, the cell's own validation rows choose, once.

    python benchmarks/evidence/replay.py                  # at several budgets, as shares of the full run's work
    python benchmarks/evidence/replay.py --share 0.33 --cells
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import cells
import numpy as np
from cells import Cell
from choosers import Chooser, Picked, Scores, as_in_a_study, drawn, in_fifths, on_own_rows
from outcomes import cases, in_folds

from tunewise.methods import get, registered
from tunewise.reading.folds import CHOOSING
from tunewise.study.advice import advise

SHARES = (0.15, 0.25, 1 / 3, 0.5, 1.0)
"""Budgets, as shares of the work of the full run."""
AGAINST = 1 / 3
"""The share at which a study is held against everything else."""
CHOOSING_ROWS = (10, 20, 30, 46, 60, 100, 150)
"""Numbers of rows that candidates are chosen on, to see what the choice alone costs."""
DRAWS = 40
"""Of the rows that choose."""
ALWAYS = "always "

Way = Callable[[Chooser], Picked]
"""A way of going about it."""


@dataclass(frozen=True)
class Judged:
    """What a way does on a cell, the mean over the draws of the rows that choose."""

    cell: Cell
    excess: float
    """Score of the full run's pick minus that of this one, on rows that nothing was chosen on."""
    below: float
    """Score of the best candidate minus that of this one."""
    work: float
    """As a share of the full run's."""
    cut: float
    """Trials cut short: they score less than the grid's by what their methods lose in the mean."""


def judged(choosers: Sequence[Chooser], way: Way) -> Judged:
    """One way on the draws of one cell."""
    found = []
    for chooser in choosers:
        full, own, unseen = chooser.full, way(chooser), chooser.unseen
        excess = unseen.score(full.line) - unseen.score(own.line)
        found.append((excess, unseen.below_best(own.line), own.work / full.work, own.cut))
    return Judged(choosers[0].case.cell, *(statistics.fmean(values) for values in zip(*found, strict=True)))


def study(share: float) -> Way:
    """The policy of a study, at a share of the full run's work."""
    return lambda chooser: chooser.raced(share * chooser.full.work)


def always(method: str) -> Way:
    """A fixed habit: the first setting of a method, and no question asked."""

    def way(chooser: Chooser) -> Picked:
        line = next(line for line in chooser.case.lines if line["method"] == method)
        return Picked(line, chooser.case.whole(line))

    return way


def advised(chooser: Chooser) -> Picked:
    """The plan's advice alone: the family that it expects most from, by that family's usual method."""
    case = chooser.case
    methods = sorted((get(line["method"]) for line in case.lines), key=lambda method: method.order)
    family = advise(case.situation, [method.family for method in methods], past=[]).families[0]
    return always(next(method.name for method in methods if method.family == family))(chooser)


def over_tasks(values: Sequence[tuple[Cell, float]]) -> tuple[float, float, float]:
    """The mean over tasks of their means, and its bootstrap interval over tasks."""
    tasks: dict[str, list[float]] = {}
    for cell, value in values:
        tasks.setdefault(cell.task, []).append(value)
    means = np.array([statistics.fmean(found) for found in tasks.values()])
    resampled = np.random.default_rng(0).choice(means, size=(10_000, len(means))).mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(means.mean()), float(low), float(high)


def worst_size(found: Sequence[Judged]) -> tuple[float, str]:
    """The largest mean over draws of what is lost against the full run, by task and rows, and where that is."""
    sizes: dict[str, list[float]] = {}
    for one in found:
        sizes.setdefault(f"{one.cell.task}-{one.cell.rows}", []).append(one.excess)
    return max((statistics.fmean(values), name) for name, values in sizes.items())


@dataclass(frozen=True)
class Compared:
    """Ways by name, all on the same draws of the same cells."""

    ways: Mapping[str, Sequence[Judged]]
    ours: str
    """The way that the others are held against."""

    @classmethod
    def of(cls, judged_on: Sequence[Sequence[Chooser]], shares: Sequence[float], against: float) -> Compared:
        """The full run, a study at several shares of its work, fixed habits, and advice alone, draw by draw."""
        tried = [{line["method"] for line in choosers[0].case.lines} for choosers in judged_on]
        everywhere = [name for name in registered() if name in set.intersection(*tried)]
        ways: dict[str, Way] = {"full run": lambda chooser: chooser.full}
        ways |= {_name(share): study(share) for share in sorted({*shares, against})}
        ways |= {f"{ALWAYS}{name}": always(name) for name in everywhere} | {"advice alone": advised}
        return cls({name: [judged(some, way) for some in judged_on] for name, way in ways.items()}, _name(against))

    @property
    def best_habit(self) -> str:
        """The single method that is best in hindsight, over all tasks."""
        habits = [name for name in self.ways if name.startswith(ALWAYS)]
        return min(habits, key=lambda name: self.below(name)[0])

    @property
    def closed(self) -> float:
        """The share of what lies between the best habit and the best candidate that ours closes."""
        gap = self.below(self.best_habit)[0]
        return 1 - self.below(self.ours)[0] / gap if gap > 0 else 0.0

    def below(self, name: str) -> tuple[float, float, float]:
        """Below the best candidate, the mean over tasks and its interval."""
        return over_tasks([(one.cell, one.below) for one in self.ways[name]])

    def excess(self, name: str) -> tuple[float, float, float]:
        """Below the full run's pick."""
        return over_tasks([(one.cell, one.excess) for one in self.ways[name]])

    def behind_ours(self, name: str) -> tuple[float, float, float]:
        """Below ours, cell by cell: above zero where ours is better."""
        pairs = zip(self.ways[self.ours], self.ways[name], strict=True)
        return over_tasks([(ours.cell, one.excess - ours.excess) for ours, one in pairs])

    def lines(self, *, each: bool) -> Iterator[str]:
        """A table, with a line a cell under each way where `each` is set."""
        yield f"{'points behind':27}{'the full run':23}{'the best candidate':23}{self.ours}"
        for name, found in self.ways.items():
            columns = "".join(f"{points(of(name)):23}" for of in (self.excess, self.below, self.behind_ours))
            lost, where = worst_size(found)
            mean, most = statistics.fmean(one.work for one in found), max(one.work for one in found)
            yield f"  {name:25}{columns}worst {100 * lost:4.1f} ({where}); work {mean:.0%}, at most {most:.0%}"
            for one in found if each else ():
                both = f"{100 * one.excess:5.1f}{'':18}{100 * one.below:5.1f}"
                yield f"    {one.cell.name:23}{both}{'':18}work {one.work:.0%}, {one.cut:.1f} trials cut short"
        gap = f"of the gap that the best single method in hindsight leaves ({self.best_habit})"
        yield f"  {self.ours} closes {self.closed:.0%} {gap}"


def _name(share: float) -> str:
    return f"study at {share:.0%}"


def points(values: tuple[float, float, float]) -> str:
    """A mean with its interval, in points."""
    mean, low, high = (100 * value for value in values)
    return f"{mean:5.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Read the flags and replay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, nargs="+", default=SHARES, help="budgets as shares of the full run")
    parser.add_argument("--against", type=float, default=AGAINST, help="the share that all else is held against")
    parser.add_argument(
        "--validation", type=int, help="rows that choose on a split, where not as many as the cell's"
    )
    parser.add_argument("--cells", action="store_true", help="one line a cell")
    parser.add_argument("--own-rows", action="store_true", help="choose on the validation rows of the cell, once")
    flags = parser.parse_args()
    found, fifths = list(cases()), [[in_fifths(folds)] for folds in in_folds()]
    if not found:
        raise SystemExit("the grid holds no full cell yet; fill it with grid.py.")

    def tell(how: str, choosers: Sequence[Sequence[Chooser]]) -> None:
        print(f"{len(choosers)} cells, {how}; means over tasks")
        print("\n".join(Compared.of(choosers, flags.share, flags.against).lines(each=flags.cells)), flush=True)

    if flags.own_rows:
        tell("the validation rows of each choose, once", [[on_own_rows(case)] for case in found])
        scores = [(case.cell, Scores.of(case, sorted(case.listed(), key=case.cost))) for case in found]
        for rows in CHOOSING_ROWS:
            lost = over_tasks([(cell, one.lost(rows)) for cell, one in scores])
            print(f"  the choice alone, on {rows:3} rows: {points(lost)}")
    else:
        every = [list(drawn(case, DRAWS, flags.validation)) for case in found]
        on_split: list[list[Chooser]] = [[one.on_split for one in some if one.on_split] for some in every]
        if flags.validation is None:
            anew, once = as_in_a_study([case for case in found if case.chooses_in_folds], DRAWS)
            enough = [some for some in on_split if not some[0].case.chooses_in_folds]
            tell("each by what chooses in a study of so many rows", [*anew, *once, *enough, *fifths])
            tell("the same from 128 rows on", [*anew, *once, *enough])
            tell(f"{CHOOSING} folds choose, each fit another training", anew)
            in_three = [some for some in every if some[0].case.chooses_in_folds]
            tell(f"{CHOOSING} folds choose, one training for all of them and to hand over", in_three)
        tell(f"{flags.validation or 'as many'} rows of a split choose, {DRAWS} draws of them", on_split)
        if fifths and flags.validation is None:
            tell(f"{cells.FOLDS} folds screen, choose and test", fifths)


if __name__ == "__main__":
    main()
