"""Any policy, judged in seconds on outcomes that were measured once: the grid, raced again from its files.

A race asks for trials and gets what the grid kept of them, so a policy spends counted work and picks as it would
have done. Its pick is scored on rows that no study saw, beside the pick of the full run (every listed setting to
its last step, by the same rule) and beside fixed habits.

A study of so few rows chooses in folds. The rows that it chooses on are therefore drawn, many times, from those
that no study saw, and the pick is scored on the others: a first fold to screen on, all folds for the finalists.
What the grid cannot tell is what fitting without another fold would change; its models were fitted once, on 82 of
128 rows. With `--split`, the cell's own 20 validation rows choose instead, as where the budget holds no folds.

    python benchmarks/evidence/replay.py                  # at several budgets, as shares of the full run's work
    python benchmarks/evidence/replay.py --share 0.33 --cells
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cells
import numpy as np
from cells import Cell, Outcomes
from numpy.typing import NDArray

from tunewise import metrics
from tunewise.cost import USUAL, ModelShape, Works
from tunewise.methods import get, registered
from tunewise.methods.base import Verdict
from tunewise.reading.folds import CHOOSING, FEWEST_VALIDATION
from tunewise.rule import Finalist, judge, nominate
from tunewise.statistics import ScoresOf, paired_difference
from tunewise.study.budget import MOST_TEST_SHARE
from tunewise.study.folds import fits_of, folding_of, going_on
from tunewise.study.forecast import Forecaster, TokenStatistics
from tunewise.study.policy import MORE_SEEDS, RESERVE_SHARE, Allowance, Outcome, Proposal, Race
from tunewise.task import Choices, TaskSpec, Text

SHARES = (0.15, 0.25, 1 / 3, 0.5, 1.0)
"""Budgets, as shares of the work of the full run."""
HABITS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "always LoRA": lambda line: line["method"] == "lora",
    "always few-shot": lambda line: line["method"] == "few-shot",
    "always full": lambda line: line["method"] == "full",
}
"""Fixed habits: the first setting of a method, and no question asked."""
BYTES = 2
"""Of a learned value that is saved."""
CHOOSING_ROWS = (10, 20, 30, 46, 60, 100, 150)
"""Numbers of rows that candidates are chosen on, to see what the choice alone costs."""
CHOICES = 400
"""Draws of such rows."""
DRAWS = 40
"""Of the rows in the folds."""


@dataclass(frozen=True)
class Case:
    """A cell with its outcomes, and what a race over it needs."""

    cell: Cell
    facts: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    """First seeds alone."""
    all_lines: Sequence[Mapping[str, Any]]
    """Failed ones too."""
    spec: TaskSpec
    forecaster: Forecaster
    methods: Sequence[Any]
    """In the order in which a study takes them."""

    @classmethod
    def of(cls, cell: Cell, outcomes: Outcomes) -> Case:
        """From what is kept of a cell."""
        facts = outcomes.facts
        labels = tuple(facts["labels"])
        answer = Choices(labels, labels) if labels else Text(facts["text_tokens"])
        rows = facts["rows"]
        forecaster = Forecaster(
            shape=ModelShape(**facts["shape"]),
            tokens=TokenStatistics(**facts["tokens"]),
            rates=facts["rates"],
            n_train=rows["train"],
            n_validation=rows["validation"],
            n_test=rows["test"],
            text_tokens=facts["text_tokens"],
        )
        kind = "classification" if labels else "generation"
        spec = TaskSpec(kind, ("text",), answer, "", facts["metric"])
        lines = [line for line in outcomes.trials if line["seed"] == 0 and "failed" not in line]
        named = {line["method"] for line in outcomes.trials}
        methods = [method for name, method in registered().items() if name in named]
        return cls(cell, facts, lines, outcomes.trials, spec, forecaster, methods)

    def work(self, counted: Mapping[str, float]) -> float:
        """Operations by kind as work at the rates of the machine that the grid was filled on."""
        return math.fsum(self.forecaster.weigh(kind, count) for kind, count in counted.items())

    def overhead(self, method: str) -> float:
        """Work of what a trial takes beside its operations."""
        return self.forecaster.weigh("overhead", self.forecaster.overhead(get(method).work))

    def listed(self) -> list[Mapping[str, Any]]:
        """The settings that a study lists."""
        rows = self.facts["rows"]["train"]
        spaces = {method.name: method.search_space(self.spec, None, rows) for method in self.methods}
        return [
            line
            for line in self.lines
            if all(line["parameters"][name] in values for name, values in spaces[line["method"]].items())
        ]

    @property
    def full_work(self) -> float:
        """Of every listed setting to its last step."""
        return math.fsum(map(self.whole, self.listed()))

    def whole(self, line: Mapping[str, Any]) -> float:
        """Work of a trial from start to end."""
        return self.work(line["work"]) + self.overhead(line["method"])

    def score(self, line: Mapping[str, Any], half: int | None = None) -> float:
        """On the rows that no study saw, or on one half of them."""
        rows = slice(None) if half is None else slice(half, None, 2)
        outputs, targets = (
            self.texts(each)[rows] for each in (line["evaluation"], self.facts["targets"]["evaluation"])
        )
        return float(metrics.get(self.spec.metric).score(outputs, targets))

    def choose(self, finalists: Mapping[str, Mapping[str, Any]], margin: float) -> tuple[Mapping[str, Any], str]:
        """What the picking rule says of the best line of each method, and its status."""
        named = [
            Finalist(name, line["value"], self.cost(line), self.artifact_mb(line))
            for name, line in finalists.items()
        ]
        reference, nominee = nominate(named, margin)
        metric, targets = metrics.get(self.spec.metric), self.texts(self.facts["targets"]["test"])
        own = self.texts(finalists[nominee.candidate]["test"])
        differences = {
            name: paired_difference(metric, self.texts(line["test"]), own, targets)
            for name, line in finalists.items()
            if name != nominee.candidate
        }
        labelled = sum(self.facts["rows"][name] for name in ("train", "validation", "test"))
        verdict = judge(reference.candidate, nominee.candidate, differences, margin, labelled)
        return finalists[verdict.pick], verdict.status

    def cost(self, line: Mapping[str, Any]) -> float:
        """Of a candidate, for the usual demand."""
        request = self.forecaster.request(line["shots"]) if line["asks_a_model"] else 0.0
        return USUAL.cost(Works(self.work(line["work"]), request))

    def artifact_mb(self, line: Mapping[str, Any]) -> float:
        """Size of what is saved of a candidate, about."""
        return float(BYTES * line["trainable_parameters"] / 1e6)

    def texts(self, letters: str | Sequence[str]) -> list[str]:
        """Answers as they were kept, spelt out."""
        return cells.decoded(letters, self.facts["labels"])


@dataclass
class Replayed:
    """A runner that answers from the grid."""

    case: Case
    ended: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Lines of trials that finished."""
    cut: int = 0
    """Trials that ended before the grid's did: their answers on unseen rows are those of the whole trial."""

    def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """What became of each."""
        return [self.run(proposal) for proposal in proposals]

    def run(self, proposal: Proposal) -> Outcome:
        """What became of the trial, up to where it is asked for."""
        line = self._line(proposal)
        if line is not None and proposal.repeats:  # evidence about the method: it costs, and is no candidate
            work = self.case.work(line["work"]) + self.case.overhead(proposal.method.name)
            return Outcome(proposal.trial, "finished", line["value"], line["log_loss"], work)
        if line is None:  # it failed when the grid was filled
            return Outcome(proposal.trial, "failed")
        overhead = self.case.overhead(proposal.method.name)
        pause_at, end_at = (
            self._step(proposal, proposal.until),
            self._step(proposal, proposal.parameters.get("epochs")),
        )
        limit = math.inf if proposal.work_limit is None else proposal.work_limit
        best: Verdict | None = None
        for check in line["checks"]:
            verdict = Verdict(check["value"], False, check["log_loss"])
            best = verdict if verdict.better_than(best) else best
            work = self.case.work(check["work"]) + overhead
            assert best is not None
            if check["step"] >= pause_at:
                return Outcome(proposal.trial, "paused", best.value, best.log_loss, work)
            if (work > limit or check["step"] >= end_at) and check is not line["checks"][-1]:
                self.cut += 1
                self.ended[proposal.trial] = {
                    **line,
                    "value": best.value,
                    "log_loss": best.log_loss,
                    "work": check["work"],
                }
                return Outcome(proposal.trial, "finished", best.value, best.log_loss, work)
        self.ended[proposal.trial] = line
        return Outcome(
            proposal.trial, "finished", line["value"], line["log_loss"], self.case.work(line["work"]) + overhead
        )

    def _step(self, proposal: Proposal, passes: int | None) -> float:
        """The step after so many passes over the training rows."""
        size = proposal.parameters.get("batch_size", 16)
        return math.inf if passes is None else passes * -(-self.case.facts["rows"]["train"] // size)

    def _line(self, proposal: Proposal) -> Mapping[str, Any] | None:
        """The trial of the grid; one of fewer passes is its beginning, as rates warm up and then stay."""
        wanted = {name: value for name, value in proposal.parameters.items() if name != "epochs"}
        known = [line for line in self.case.all_lines if self._is(line, proposal, wanted)]
        if not known:
            raise SystemExit(f"the grid holds no {proposal.method.name} with {wanted}; fill it with grid.py.")
        return next((line for line in self.case.lines if self._is(line, proposal, wanted)), None)

    def _is(self, line: Mapping[str, Any], proposal: Proposal, wanted: Mapping[str, Any]) -> bool:
        own = {name: value for name, value in line["parameters"].items() if name != "epochs"}
        return line["method"] == proposal.method.name and own == wanted

    def prune(self, trial: str, reason: str) -> None:
        """Nothing is kept of it."""

    def give_up(self, method: str) -> None:
        """Nothing was put aside for it."""

    def say(self, text: str) -> None:
        """Nobody listens."""


@dataclass(frozen=True)
class Judged:
    """What a policy did on a case."""

    case: Case
    pick: Mapping[str, Any]
    status: str
    work: float
    """As a share of the full run's."""
    excess: float
    """Score of the full run's pick minus that of this one, on rows that no study saw."""
    cut: int
    """See `Replayed`."""


def best_of_each(lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The best line of each method by validation."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        before = found.get(line["method"])
        if before is None or cells.preferred(line) > cells.preferred(before):
            found[line["method"]] = line
    return found


def full_run(case: Case) -> Mapping[str, Any]:
    """The pick of every listed setting to its last step, at margin 0."""
    return case.choose(best_of_each(case.listed()), 0.0)[0]


def raced(case: Case, share: float, margin: float = 0.0) -> Judged:
    """The policy of a study, at a share of the full run's work."""
    runner = Replayed(case)
    whole = case.full_work
    race = Race(case.spec, None, case.methods, case.forecaster, Allowance(share * whole, None), runner)
    race.go()
    pick, status = case.choose(best_of_each(list(runner.ended.values())), margin)
    return Judged(
        case, pick, status, race.spent / whole, case.score(full_run(case)) - case.score(pick), runner.cut
    )


def habit(case: Case, name: str) -> float:
    """Excess regret of a fixed habit."""
    line = next(line for line in case.lines if HABITS[name](line))
    return case.score(full_run(case)) - case.score(line)


def oracle_regret(case: Case, pick: Mapping[str, Any]) -> float:
    """How far a pick lies below the best candidate, which one half of the rows names and the other scores."""
    found = []
    for half in (0, 1):
        best = max(case.lines, key=lambda line: case.score(line, half))
        found.append(case.score(best, 1 - half) - case.score(pick, 1 - half))
    return statistics.fmean(found)


@dataclass(frozen=True)
class Choosing:
    """All listed settings of a case, to be chosen among on rows that no study saw; cheaper ones stand first."""

    lines: Sequence[Mapping[str, Any]]
    scores_of: Sequence[ScoresOf]
    """Of each line: weights of the rows to scores."""
    rows: int

    @classmethod
    def of(cls, case: Case, lines: Sequence[Mapping[str, Any]]) -> Choosing:
        """From what the grid keeps of some lines of a case."""
        metric, targets = metrics.get(case.spec.metric), case.texts(case.facts["targets"]["evaluation"])
        outputs = [case.texts(line["evaluation"]) for line in lines]
        return cls(lines, [metric.resampler(some, targets) for some in outputs], len(targets))

    def lost(self, rows: int) -> float:
        """The best score minus that of the line chosen on `rows` rows, both on the others; of equals the first."""
        rng = np.random.default_rng(0)
        chosen_on = np.zeros((CHOICES, self.rows))
        for draw in range(CHOICES):
            chosen_on[draw, rng.permutation(self.rows)[:rows]] = 1
        seen, unseen = self.scores(chosen_on), self.scores(1 - chosen_on)
        chosen = unseen[np.arange(CHOICES), seen.argmax(axis=1)]
        return float((unseen.max(axis=1) - chosen).mean())

    def scores(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """[draws, lines]"""
        return np.stack([scores(weights) for scores in self.scores_of], axis=1)


@dataclass(frozen=True)
class Drawn:
    """A case whose rows to choose on were drawn from those that no study saw."""

    case: Case
    screened: Sequence[float]
    """Score of each line in the first fold."""
    pooled: Sequence[float]
    """In all folds."""
    split: Sequence[float]
    """On as many rows as a split leaves for validation."""
    unseen: Sequence[float]
    """And on the other rows."""

    @classmethod
    def of(cls, case: Case, draws: int) -> Iterator[Drawn]:
        """So many draws of a case."""
        outcomes, sizes = Choosing.of(case, case.lines), case.facts["rows"]
        rows = sizes["train"] + sizes["validation"]
        rng = np.random.default_rng(0)
        orders = np.stack([rng.permutation(outcomes.rows) for _ in range(draws)])

        def scores(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            weights = np.zeros((draws, outcomes.rows))
            np.put_along_axis(weights, orders[:, :count], 1.0, axis=1)
            return outcomes.scores(weights), outcomes.scores(1 - weights)

        (screened, _), (split, _), (pooled, unseen) = map(scores, (rows // CHOOSING, sizes["validation"], rows))
        for draw in range(draws):
            yield cls(case, *([float(one) for one in of[draw]] for of in (screened, pooled, split, unseen)))

    def with_values(self, values: Sequence[float]) -> Case:
        """The case with other validation scores.

        A trial is worth the same however early it is cut, as the answers that the grid keeps are those of its end;
        rungs compare by the log-loss on the cell's own validation rows.
        """
        lines = []
        for number, (line, value) in enumerate(zip(self.case.lines, values, strict=True)):
            checks = [{**check, "value": value} for check in line["checks"]]
            lines.append({**line, "number": number, "value": value, "checks": checks})
        failed = [line for line in self.case.all_lines if "failed" in line]
        return replace(self.case, lines=lines, all_lines=[*lines, *failed])

    def price(self, line: Mapping[str, Any], best: Mapping[str, Mapping[str, Any]]) -> float:
        """Work of a finalist in the other folds and on all rows, its start included; none without a model."""
        method = get(line["method"])
        if method.work is None:
            return 0.0
        last = line["checks"][-1]["step"]
        share = line["step"] / last if "epochs" in line["parameters"] and last else 1.0
        start = best.get(method.starts_from or "")
        return fits_of(CHOOSING) * (share * self.case.whole(line) + (self.case.whole(start) if start else 0.0))

    def chosen(self, lines: Sequence[Mapping[str, Any]], left: float) -> tuple[Mapping[str, Any], float]:
        """The pick at margin 0, and what its rivals and it took beside the race."""
        best = best_of_each(lines)
        ranked = sorted(best.values(), key=cells.preferred, reverse=True)
        baselines = [line["method"] for line in ranked if get(line["method"]).family == "baseline"]
        prices = {line["method"]: self.price(line, best) for line in ranked if line["method"] not in baselines}
        taken, _ = going_on(prices, left, len(prices))
        pick = self._named([best[method] for method in (*baselines, *taken)], self.pooled)
        return pick, math.fsum(prices[method] for method in taken)

    def _named(self, lines: Sequence[Mapping[str, Any]], values: Sequence[float]) -> Mapping[str, Any]:
        """The pick at margin 0 by such scores."""
        case = self.case
        finalists = [
            Finalist(str(line["number"]), values[line["number"]], case.cost(line), case.artifact_mb(line))
            for line in lines
        ]
        return case.lines[int(nominate(finalists, 0.0)[0].candidate)]

    def full(self) -> tuple[Mapping[str, Any], float]:
        """Pick and work of the full run: every listed setting, then every method in the other folds."""
        listed = self.with_values(self.screened).listed()
        pick, work = self.chosen(listed, math.inf)
        return pick, work + math.fsum(map(self.case.whole, listed))

    def full_on_split(self) -> tuple[Mapping[str, Any], float]:
        """Pick and work of every listed setting, chosen on the rows of a split."""
        listed = self.with_values(self.split).listed()
        return self._named(list(best_of_each(listed).values()), self.split), self.case.full_work

    def raced_on_split(self, limit: float) -> tuple[Mapping[str, Any], float, int]:
        """Pick, work and trials cut short of a study that chooses on the rows of a split."""
        race, runner = self._race(self.split, Allowance((1 - RESERVE_SHARE) * limit, None))
        best = best_of_each(list(runner.ended.values()))
        return self._named(list(best.values()), self.split), race.spent, runner.cut

    def raced(self, limit: float) -> tuple[Mapping[str, Any], float, int]:
        """Pick, work and trials cut short of a study with so much work for its search and its folds."""
        case = self.case
        folding = folding_of(case.spec, None, case.methods, case.forecaster, CHOOSING, len(case.methods))
        room = MOST_TEST_SHARE * limit
        if room < folding.typical:  # as a study does
            return self.raced_on_split(limit)
        kept, left = min(folding.work, room), (1 - RESERVE_SHARE) * limit
        allowance = Allowance(left - kept, None, {}, room / folding.fits, spends_rest=kept >= folding.work)
        race, runner = self._race(self.screened, allowance, ())
        pick, more = self.chosen(list(runner.ended.values()), left - race.spent)
        return pick, race.spent + more, runner.cut

    def _race(
        self, values: Sequence[float], allowance: Allowance, seeds: Sequence[int] = MORE_SEEDS
    ) -> tuple[Race, Replayed]:
        case = self.with_values(values)
        runner = Replayed(case)
        race = Race(case.spec, None, case.methods, case.forecaster, allowance, runner, seeds=seeds)
        race.go()
        return race, runner

    def score(self, line: Mapping[str, Any]) -> float:
        """On rows that nothing was chosen on."""
        return self.unseen[self.case.lines.index(line)]


def cases() -> Iterator[Case]:
    """Every cell that is full, cross-validated ones left out: a race over folds is none over a split."""
    for cell in cells.grid():
        outcomes = cells.read(cell)
        if outcomes.trials and cell.fold is None and _full(outcomes):
            yield Case.of(cell, outcomes)


def _full(outcomes: Outcomes) -> bool:
    """The second seeds come last."""
    tuned = {line["method"] for line in outcomes.trials if "learning_rate" in line["parameters"]}
    again = {line["method"] for line in outcomes.trials if line["seed"]}
    return bool(tuned) and tuned == again


def over_tasks(values: Mapping[str, Sequence[float]]) -> tuple[float, float, float]:
    """The mean over tasks of their means, and its bootstrap interval over tasks."""
    means = np.array([statistics.fmean(found) for found in values.values()])
    drawn = np.random.default_rng(0).choice(means, size=(10_000, len(means))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(means.mean()), float(low), float(high)


def by_task(judged: Sequence[tuple[Case, float]]) -> dict[str, list[float]]:
    """Values by task."""
    found: dict[str, list[float]] = {}
    for case, value in judged:
        found.setdefault(case.cell.task, []).append(value)
    return found


def _points(values: tuple[float, float, float]) -> str:
    mean, low, high = (100 * value for value in values)
    return f"{mean:5.1f} ({low:.1f} to {high:.1f})"


def report(found: Sequence[Case], shares: Sequence[float], *, each: bool) -> None:
    """Print what the policy and the habits lose against the full run."""
    print(
        f"{len(found)} cells; points lost against the full run's pick on rows that no study saw, mean over tasks"
    )
    for share in shares:
        judged = [raced(case, share) for case in found]
        lost = over_tasks(by_task([(one.case, one.excess) for one in judged]))
        sizes = itertools.groupby(
            sorted(judged, key=lambda one: (one.case.cell.task, one.case.cell.rows)),
            key=lambda one: (one.case.cell.task, one.case.cell.rows),
        )
        worst = max((statistics.fmean(one.excess for one in some), key) for key, some in sizes)
        spent = max(one.work for one in judged)
        print(
            f"  race at {share:4.0%} of its work: {_points(lost)}; worst {100 * worst[0]:.1f} "
            f"({worst[1][0]}, {worst[1][1]} rows); most work {spent:.0%}; "
            f"{sum(one.cut for one in judged)} trials cut short"
        )
        if each:
            for one in judged:
                print(
                    f"      {one.case.cell.name:22} {one.pick['method']:17} {one.status:12} "
                    f"{100 * one.excess:6.1f}  work {one.work:.0%}"
                )
    for name in HABITS:
        print(f"  {name:23} {_points(over_tasks(by_task([(case, habit(case, name)) for case in found])))}")
    for name, pick in (("full run", full_run), ("race at a third", lambda case: raced(case, 1 / 3).pick)):
        lost = over_tasks(by_task([(case, oracle_regret(case, pick(case))) for case in found]))
        print(f"  {name} below the oracle: {_points(lost)}")
    choosing = [(case, Choosing.of(case, sorted(case.listed(), key=case.cost))) for case in found]
    for rows in CHOOSING_ROWS:
        lost = over_tasks(by_task([(case, one.lost(rows)) for case, one in choosing]))
        print(f"  the choice alone, on {rows:3} rows: {_points(lost)}")


@dataclass(frozen=True)
class InFolds:
    """What a way of going about it does on a case, the mean over draws of its folds."""

    case: Case
    excess: float
    """Score of the full run's pick minus that of this one."""
    below: float
    """Score of the best candidate on the unseen rows minus that of this one: a little high, as these chose it."""
    work: float
    """As a share of the full run's."""
    cut: float = 0.0


Decides = Callable[[Drawn, float], tuple[Mapping[str, Any], float, int]]


def in_folds(case: Case, decide: Decides, *, split: bool = False) -> InFolds:
    """`decide` gets a draw and the work of its full run; it answers with its pick, its work, trials cut short."""
    found = []
    for drawn in Drawn.of(case, DRAWS):
        full, whole = drawn.full_on_split() if split else drawn.full()
        pick, work, cut = decide(drawn, whole)
        own = drawn.score(pick)
        found.append((drawn.score(full) - own, max(drawn.unseen) - own, work / whole, cut))
    return InFolds(case, *(statistics.fmean(values) for values in zip(*found, strict=True)))


def report_folds(found: Sequence[Case], shares: Sequence[float], *, each: bool) -> None:
    """Print what is lost against the full run, and against the best candidate, where folds choose."""
    draws = f"{len(found)} cells, {DRAWS} draws of the rows that choose in {CHOOSING} folds; points lost"
    print(f"{draws} against the full run, and against the best candidate, mean over tasks")

    def line(name: str, decide: Decides, *, split: bool = False) -> list[InFolds]:
        judged = [in_folds(case, decide, split=split) for case in found]
        excess, below = (
            over_tasks(by_task([(one.case, value(one)) for one in judged]))
            for value in (lambda one: one.excess, lambda one: one.below)
        )
        sizes = by_task([(one.case, one.excess) for one in judged])
        worst = max((statistics.fmean(values), task) for task, values in sizes.items())
        mean, most = statistics.fmean(one.work for one in judged), max(one.work for one in judged)
        print(
            f"  {name:23} {_points(excess):22} {_points(below):20} worst task {100 * worst[0]:4.1f} ({worst[1]}); "
            f"work {mean:.0%}, at most {most:.0%}"
        )
        return judged

    line("full run", lambda drawn, whole: (*drawn.full(), 0))
    for share in shares:
        judged = line(f"study at {share:.0%}", lambda drawn, whole, share=share: drawn.raced(share * whole))
        for one in judged if each else ():
            print(f"      {one.case.cell.name:22} {100 * one.excess:5.1f}  work {one.work:.0%}  cut {one.cut:.1f}")
    for name, is_it in HABITS.items():
        line(name, lambda drawn, whole, is_it=is_it: (next(one for one in drawn.case.lines if is_it(one)), 0.0, 0))
    print("The same where a split of the rows chooses, against every listed setting chosen likewise:")
    line("full run", lambda drawn, whole: (*drawn.full_on_split(), 0), split=True)
    for share in shares:
        work = lambda drawn, whole, share=share: drawn.raced_on_split(share * whole)  # noqa: E731
        line(f"race at {share:.0%}", work, split=True)


def main() -> None:
    """Read the flags and replay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, nargs="+", default=SHARES, help="budgets as shares of the full run")
    parser.add_argument("--cells", action="store_true", help="one line a cell")
    parser.add_argument("--split", action="store_true", help="choose on the validation rows of the cell")
    flags = parser.parse_args()
    found = list(cases())
    if not found:
        raise SystemExit("the grid holds no full cell yet; fill it with grid.py.")
    if flags.split:
        report(found, flags.share, each=flags.cells)
    else:
        few = [case for case in found if case.facts["rows"]["validation"] < FEWEST_VALIDATION]
        report_folds(few, flags.share, each=flags.cells)


if __name__ == "__main__":
    main()
