"""How a study chooses among what it ran, and what its choices are worth on rows that nothing was chosen on.

`OnSplit` chooses on validation rows, `InFolds` screens on a first fold and lets the finalists through all of them.
`drawn` draws those rows, many times, from the ones that no study saw; `across` does so with another training for
every fold and for what is handed over; `on_own_rows` takes a cell's own.
"""

from __future__ import annotations

import itertools
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import cells
import numpy as np
from numpy.typing import NDArray
from outcomes import Case, Line, Replayed, best_of_each, is_tuned, preferred_check

from tunewise import metrics
from tunewise.methods import get
from tunewise.reading.folds import CHOOSING
from tunewise.rule import Finalist, nominate
from tunewise.statistics import ScoresOf
from tunewise.study.advice import promise
from tunewise.study.budget import MOST_FOLDS_SHARE
from tunewise.study.folding import FINALISTS, fits_of, folding_of, going_on
from tunewise.study.policy import MORE_SEEDS, RESERVE_SHARE, Race
from tunewise.study.proposals import Allowance

CHOICES = 400
"""Draws of rows, to see what the choice alone costs."""


@dataclass(frozen=True)
class Picked:
    """What a way of going about it ends with."""

    line: Line
    work: float
    """That it took in all."""
    cut: int = 0
    """Trials cut short."""


@dataclass(frozen=True)
class Unseen:
    """Scores of every line of a case on rows that nothing was chosen on."""

    whole: Sequence[float]
    halves: tuple[NDArray[np.float64], NDArray[np.float64]]

    def score(self, line: Line) -> float:
        """Of one line, less what it lost where it was cut short."""
        return self.whole[line["number"]] - line.get("lost", 0.0)

    def below_best(self, line: Line) -> float:
        """The best line minus this one: each half of the rows names the best for the other half to score."""
        one, other = self.halves
        own = line["number"]
        below = np.mean([other[one.argmax()] - other[own], one[other.argmax()] - one[own]])
        return float(below) + line.get("lost", 0.0)


@dataclass(frozen=True)
class Scores:
    """Every line of a case, to be scored on any of the rows that no study saw."""

    scores_of: Sequence[ScoresOf]
    """Of each line: weights of the rows to scores."""
    rows: int

    @classmethod
    def of(cls, case: Case, lines: Sequence[Line]) -> Scores:
        """From what the grid keeps of some lines of a case."""
        return cls.joined([replace(case, lines=lines)])

    @classmethod
    def joined(cls, cases: Sequence[Case]) -> Scores:
        """Of lines that `aligned` has paired: the rows of each case behind those of the one before."""
        metric = metrics.get(cases[0].spec.metric)
        targets = [target for case in cases for target in case.texts(case.facts["targets"]["evaluation"])]
        outputs = [
            [answer for case, line in zip(cases, alike, strict=True) for answer in case.texts(line["evaluation"])]
            for alike in zip(*(case.lines for case in cases), strict=True)
        ]
        return cls([metric.resampler(some, targets) for some in outputs], len(targets))

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[draws, rows] to [draws, lines]"""
        return np.stack([scores(weights) for scores in self.scores_of], axis=1)

    def on(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """[draws, lines] on so many of the rows a draw."""
        weights = np.zeros((len(rows), self.rows))
        np.put_along_axis(weights, rows, 1.0, axis=1)
        return self(weights)

    def unseen(self, rows: NDArray[np.int64]) -> list[Unseen]:
        """Of each draw, on those rows."""
        whole, one, other = self.on(rows), self.on(rows[:, ::2]), self.on(rows[:, 1::2])
        return [Unseen([float(x) for x in whole[draw]], (one[draw], other[draw])) for draw in range(len(rows))]

    def lost(self, count: int) -> float:
        """The best score minus that of the line chosen on `count` rows, on the others; of equals the first."""
        rng = np.random.default_rng(0)
        orders = np.stack([rng.permutation(self.rows) for _ in range(CHOICES)])
        seen, unseen = self.on(orders[:, :count]), self.on(orders[:, count:])
        chosen = unseen[np.arange(CHOICES), seen.argmax(axis=1)]
        return float((unseen.max(axis=1) - chosen).mean())


@dataclass(frozen=True)
class Chooser(ABC):
    """A case whose lines have validation scores, and scores on other rows."""

    name: ClassVar[str]
    case: Case
    """Its values are those on the rows that a race sees."""
    values: Sequence[float]
    """Of each line, on all rows that choose."""
    unseen: Unseen

    @cached_property
    @abstractmethod
    def full(self) -> Picked:
        """Every listed setting to its last step, one seed."""

    @abstractmethod
    def raced(self, limit: float) -> Picked:
        """A study with so much work."""

    def named(self, lines: Sequence[Line]) -> Line:
        """The reference: the highest score on the rows that choose, the cheapest of equals."""
        case = self.case
        by_name = {str(line["number"]): line for line in lines}
        finalists = [
            Finalist(
                name,
                self.values[line["number"]] - line.get("lost", 0.0),
                case.cost(line),
                case.artifact_mb(line),
            )
            for name, line in by_name.items()
        ]
        return by_name[nominate(finalists, 0.0)[0].candidate]

    def race(self, allowance: Allowance, seeds: Sequence[int] = MORE_SEEDS) -> tuple[Race, Replayed]:
        """The policy of a study, on what the grid kept."""
        runner = Replayed(self.case)
        case = self.case
        expected = promise(case.situation)
        race = Race(case.spec, None, case.methods, case.forecaster, allowance, runner, expected, seeds)
        race.go()
        return race, runner


@dataclass(frozen=True)
class OnSplit(Chooser):
    """Validation rows choose."""

    name = "a split"

    @cached_property
    def full(self) -> Picked:
        """Every listed setting to its last step, one seed."""
        return Picked(self.named(list(best_of_each(self.case.listed()).values())), self.case.full_work)

    def raced(self, limit: float) -> Picked:
        """A study with so much work."""
        race, runner = self.race(Allowance((1 - RESERVE_SHARE) * limit, None))
        ended = best_of_each(list(runner.ended.values()))
        return Picked(self.named(list(ended.values())), race.spent, runner.cut)


@dataclass(frozen=True)
class InFolds(Chooser):
    """A first fold screens, all folds choose."""

    name = "folds"
    on_split: OnSplit | None = None
    """What a study does instead where its budget holds no folds; None where these stand in place of a test too."""
    folds: int = CHOOSING
    most: int = sys.maxsize
    """Finalists that go through the other folds, baselines left out of account."""

    @cached_property
    def full(self) -> Picked:
        """Every listed setting to its last step, then every method in the other folds."""
        listed = self.case.listed()
        line, work = self.through_folds(listed, math.inf)
        return Picked(line, work + math.fsum(map(self.case.whole, listed)))

    def raced(self, limit: float) -> Picked:
        """A study with so much work for its search and its folds."""
        case = self.case
        folding = folding_of(case.spec, None, case.methods, case.forecaster, self.folds, self.most)
        room = MOST_FOLDS_SHARE * limit
        if self.on_split is not None and room < folding.needed:
            return self.on_split.raced(limit)
        kept, left = min(folding.work, room), (1 - RESERVE_SHARE) * limit
        allowance = Allowance(left - kept, None, {}, room / folding.fits, spends_rest=kept >= folding.work)
        race, runner = self.race(allowance, ())
        reserve = RESERVE_SHARE * limit
        line, more = self.through_folds(list(runner.ended.values()), left - race.spent, reserve)
        return Picked(line, race.spent + more, runner.cut)

    def through_folds(self, lines: Sequence[Line], left: float, reserve: float = 0.0) -> tuple[Line, float]:
        """The pick among the best of each method that so much work takes through the folds, and what it took.

        The first may take `reserve` work more.
        """
        best = best_of_each(lines)
        ranked = sorted(best.values(), key=cells.preferred, reverse=True)
        baselines = [line["method"] for line in ranked if get(line["method"]).family == "baseline"]
        prices = {line["method"]: self._price(line, best) for line in ranked if line["method"] not in baselines}
        taken, _ = going_on(prices, left, self.most, reserve)
        line = self.named([best[method] for method in (*baselines, *taken)])
        return line, math.fsum(prices[method] for method in taken)

    def _price(self, line: Line, best: Mapping[str, Line]) -> float:
        """Work of a finalist in the other folds and on all rows, its start included; none without a model."""
        method = get(line["method"])
        if method.work is None:
            return 0.0
        start = best.get(method.starts_from or "")
        return fits_of(self.folds) * (self.case.whole(line) + (self.case.whole(start) if start else 0.0))


def drawn(case: Case, draws: int, validation: int | None = None) -> Iterator[InFolds]:
    """Choosers in folds, and on a split of the same rows, of so many draws of those rows.

    Args:
        case: of a cell.
        draws: how many.
        validation: rows that choose on a split; as many as the cell's where it is None.
    """
    scores, sizes = Scores.of(case, case.lines), case.facts["rows"]
    rows, validation = sizes["train"] + sizes["validation"], validation or sizes["validation"]
    rng = np.random.default_rng(0)
    orders = np.stack([rng.permutation(scores.rows) for _ in range(draws)])
    chosen = [orders[:, :count] for count in (rows // CHOOSING, validation, rows)]
    yield from _choosing_on(chosen, case, scores, validation, scores.unseen(orders[:, max(rows, validation) :]))


def _choosing_on(
    chosen: Sequence[NDArray[np.int64]], case: Case, scores: Scores, validation: int, unseen: Sequence[Unseen]
) -> Iterator[InFolds]:
    """Choosers of each draw, from the rows of the first fold, those of a split, and those of all folds."""
    screened, split, pooled = ([[float(x) for x in values] for values in scores.on(rows)] for rows in chosen)
    split_case = case.with_validation(validation)
    for draw, found in enumerate(unseen):
        on_split = OnSplit(split_case.with_values(split[draw]), split[draw], found)
        yield InFolds(case.with_values(screened[draw]), pooled[draw], found, on_split)


def across(first: Case, second: Case, third: Case, draws: int) -> Iterator[InFolds]:
    """Choosers in folds where every fold was another training, as in a study.

    The first case answers the rows of the first fold, the second those of the others, and the third is what is
    handed over: trained anew, so that the luck of the models that were measured is not what a pick is worth. They
    are draws of one task, so their rows are others, too. In a study the fits of two folds share half of their
    rows, and the second and the third fold are two trainings; one that answers for both tells less.

    Args:
        first: a cell.
        second: another draw of its rows.
        third: yet another.
        draws: of the rows that choose.
    """
    first, second, third = aligned([first, second, third])
    scores, sizes = Scores.joined([first, second]), first.facts["rows"]
    begins = len(first.facts["targets"]["evaluation"])
    rows, validation = sizes["train"] + sizes["validation"], sizes["validation"]
    screening = rows // CHOOSING
    rng = np.random.default_rng(0)
    own = np.stack([rng.permutation(begins) for _ in range(draws)])
    others = np.stack([begins + rng.permutation(scores.rows - begins) for _ in range(draws)])
    screened = own[:, :screening]
    pooled = np.concatenate([screened, others[:, : rows - screening]], axis=1)
    chosen = [screened, own[:, :validation], pooled]
    yield from _choosing_on(chosen, first, scores, validation, [whole(third)] * draws)


def as_in_a_study(cases: Sequence[Case], draws: int) -> tuple[list[list[InFolds]], list[list[InFolds]]]:
    """Choosers in folds of each cell: of tasks drawn three times, `across` the draws; of the others, `drawn`."""
    anew, once = [], []
    for alike in drawn_again(cases):
        for case in alike:
            orders = itertools.permutations([one for one in alike if one is not case], 2)
            some = [chooser for second, third in orders for chooser in across(case, second, third, draws)]
            (anew if some else once).append(some or list(drawn(case, draws)))
    return anew, once


def drawn_again(cases: Sequence[Case]) -> list[list[Case]]:
    """The draws of each task with so many rows, side by side."""
    found: dict[tuple[str, int], list[Case]] = {}
    for case in cases:
        found.setdefault((case.cell.task, case.cell.rows), []).append(case)
    return list(found.values())


def whole(case: Case) -> Unseen:
    """Scores on all rows of a case that no study saw."""
    scores = Scores.of(case, case.lines)
    (unseen,) = scores.unseen(np.arange(scores.rows)[None])
    return unseen


def aligned(cases: Sequence[Case]) -> list[Case]:
    """The cases with the settings that all of them know, in the same order."""
    ways = [{_setting(line): line for line in case.lines} for case in cases]
    known = set.intersection(*map(set, ways))
    return [
        case.with_lines([way[key] for key in ways[0] if key in known])
        for case, way in zip(cases, ways, strict=True)
    ]


def in_fifths(cases: Sequence[Case]) -> InFolds:
    """The chooser of a cell in folds: what each trial answered to the rows of all folds but the first chooses.

    Those of the first screened, and chose settings and steps; they are no part of it, as in a study.

    A training is used at its last check, as it is made again in a study, anything else at the one that the first
    fold prefers. It is worth the mean over the folds of what it scores on rows that no study saw, at the check
    that each fold preferred: what is handed over, fitted on all rows, is not among what the grid keeps.

    Args:
        cases: of the folds, the one that screens first.
    """
    cases = aligned(cases)
    first = cases[0]
    metric = metrics.get(first.spec.metric)
    targets = [target for case in cases[1:] for target in case.texts(case.facts["targets"]["validation"])]
    values = []
    for screened, *others in zip(*(case.lines for case in cases), strict=True):
        place = len(screened["checks"]) - 1 if is_tuned(screened) else preferred_check(screened)
        answers = [
            answer
            for case, line in zip(cases[1:], others, strict=True)
            for answer in case.texts(line["checks"][min(place, len(line["checks"]) - 1)]["outputs"])
        ]
        values.append(float(metric.score(answers, targets)))
    found = [whole(case) for case in cases]
    mean = np.mean([one.whole for one in found], axis=0)
    one, other = (np.mean([unseen.halves[half] for unseen in found], axis=0) for half in (0, 1))
    unseen = Unseen([float(x) for x in mean], (one, other))
    return InFolds(first, values, unseen, folds=len(cases), most=FINALISTS)


def _setting(line: Line) -> tuple[str, str]:
    """What a line has in common with that of another fold."""
    return line["method"], repr(sorted(line["parameters"].items()))


def on_own_rows(case: Case) -> OnSplit:
    """The cell's own validation rows choose; all rows that no study saw score."""
    return OnSplit(case, [line["value"] for line in case.lines], whole(case))
