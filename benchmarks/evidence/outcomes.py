"""What the grid kept, as a race sees it: a case answers for trials as it was measured, and knows their cost."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cells
from cells import Cell, Outcomes

from tunewise.cost import USUAL, ModelShape, Works
from tunewise.methods import get, registered
from tunewise.methods.base import Verdict
from tunewise.reading.folds import FEWEST_VALIDATION
from tunewise.study.advice import Situation
from tunewise.study.forecast import Forecaster, TokenStatistics
from tunewise.study.proposals import Outcome, Proposal
from tunewise.task import Choices, TaskSpec, Text

Line = Mapping[str, Any]
"""What the grid kept of a trial."""

PARAMETERS = 134.5e6
"""Of the model that the grid was filled with."""
RATES = {
    "score": 5.39e11,
    "attention": 3.47e11,
    "generate": 6.29e10,
    "train-lora": 2.97e11,
    "train-soft-prompt": 3.29e11,
    "train-full": 2.59e11,
}
"""Operations a second on two cores with AMX, what any step takes within: the same for all cells. What a cell's own
were when it was begun stands among its facts, and tells how busy the machine was."""
BYTES = 2
"""Of a learned value that is saved."""


@dataclass(frozen=True)
class Case:
    """A cell with its outcomes, and what a race over it needs."""

    cell: Cell
    facts: Mapping[str, Any]
    lines: Sequence[Line]
    """First seeds alone; each knows its `number` among them."""
    all_lines: Sequence[Line]
    """Failed ones too."""
    spec: TaskSpec
    forecaster: Forecaster
    methods: Sequence[Any]
    """In the order in which a study takes them."""
    lost: Mapping[tuple[str, int], float]
    """What a trial of a method scores less for ending at a check, the first being 0; see `lost_by_cutting`."""

    @classmethod
    def of(cls, cell: Cell, outcomes: Outcomes, lost: Mapping[tuple[str, int], float] | None = None) -> Case:
        """From what is kept of a cell."""
        facts = outcomes.facts
        labels = tuple(facts["labels"])
        answer = Choices(labels, labels) if labels else Text(facts["text_tokens"])
        rows = facts["rows"]
        forecaster = Forecaster(
            shape=ModelShape(**facts["shape"]),
            tokens=TokenStatistics(**facts["tokens"]),
            rates=RATES,
            n_train=rows["train"],
            n_validation=rows["validation"],
            n_test=rows["test"],
            text_tokens=facts["text_tokens"],
        )
        kind = "classification" if labels else "generation"
        spec = TaskSpec(kind, ("text",), answer, "", facts["metric"])
        first = [line for line in outcomes.trials if line["seed"] == 0 and "failed" not in line]
        lines = [{**line, "number": number} for number, line in enumerate(first)]
        named = {line["method"] for line in outcomes.trials}
        methods = [method for name, method in registered().items() if name in named]
        return cls(cell, facts, lines, outcomes.trials, spec, forecaster, methods, lost or {})

    @property
    def chooses_in_folds(self) -> bool:
        """Whether folds choose in a study of so many rows."""
        return int(self.facts["rows"]["validation"]) < FEWEST_VALIDATION

    @property
    def situation(self) -> Situation:
        """What is known of the task before it is worked on."""
        labels = self.facts["labels"]
        return Situation(
            classification=bool(labels),
            rows=self.facts["rows"]["train"],
            labels=len(labels),
            parameters=PARAMETERS,
            prompt_tokens=self.forecaster.tokens.median,
            metric=self.spec.metric,
            model="",
        )

    def work(self, counted: Mapping[str, float]) -> float:
        """Operations by kind as work."""
        return math.fsum(self.forecaster.weigh(kind, count) for kind, count in counted.items())

    def overhead(self, method: str) -> float:
        """Work of what a trial takes beside its operations."""
        return self.forecaster.weigh("overhead", self.forecaster.overhead(get(method).work))

    def listed(self) -> list[Line]:
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

    def whole(self, line: Line) -> float:
        """Work of a trial from start to end."""
        return self.work(line["work"]) + self.overhead(line["method"])

    def cost(self, line: Line) -> float:
        """Of a candidate, for the usual demand."""
        asks = line["asks_a_model"]
        request = self.forecaster.request(line["shots"], tuned=is_tuned(line)) if asks else 0.0
        return USUAL.cost(Works(self.work(line["work"]), request))

    def artifact_mb(self, line: Line) -> float:
        """Size of what is saved of a candidate, about."""
        return float(BYTES * line["trainable_parameters"] / 1e6)

    def texts(self, letters: str | Sequence[str]) -> list[str]:
        """Answers as they were kept, spelt out."""
        return cells.decoded(letters, self.facts["labels"])

    def with_lines(self, lines: Sequence[Line]) -> Case:
        """The case with these of its lines alone, numbered anew."""
        numbered = [{**line, "number": number} for number, line in enumerate(lines)]
        return replace(self, lines=numbered)

    def with_validation(self, rows: int) -> Case:
        """The case as if so many validation rows were looked at on the way, in work and in forecasts."""
        more = rows - self.facts["rows"]["validation"]
        lines = []
        for line in self.all_lines:
            if line.get("asks_a_model") and "failed" not in line:
                extra = self.forecaster.evaluation(more, line["shots"], tuned=is_tuned(line))
                checks = [
                    {**check, "work": {**check["work"], "score": check["work"].get("score", 0.0) + place * extra}}
                    for place, check in enumerate(line["checks"], start=1)
                ]
                whole = line["work"].get("score", 0.0) + len(checks) * extra
                line = {**line, "checks": checks, "work": {**line["work"], "score": whole}}
            lines.append(line)
        forecaster = replace(self.forecaster, n_validation=rows)
        first = [line for line in lines if line["seed"] == 0 and "failed" not in line]
        return replace(self, all_lines=lines, forecaster=forecaster).with_lines(first)

    def with_values(self, values: Sequence[float]) -> Case:
        """The case with other validation scores.

        On its way there, a trial has less by what its method has in the mean: the answers that the grid keeps are
        those of its end. Rungs compare by the log-loss on the cell's own validation rows.
        """
        lines = []
        for line, value in zip(self.lines, values, strict=True):
            checks = [
                {**check, "value": value - self.lost.get((line["method"], place), 0.0)}
                for place, check in enumerate(line["checks"])
            ]
            lines.append({**line, "value": value, "checks": checks})
        failed = [line for line in self.all_lines if "failed" in line]
        return replace(self, lines=lines, all_lines=[*lines, *failed])


@dataclass
class Replayed:
    """A runner that answers from the grid."""

    case: Case
    ended: dict[str, Line] = field(default_factory=dict)
    """Lines of trials that finished."""
    cut: int = 0
    """Trials that ended before the grid's did."""

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
        for place, check in enumerate(line["checks"]):
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
                    "lost": self.case.lost.get((line["method"], place), 0.0),
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

    def _is(self, line: Line, proposal: Proposal, wanted: Mapping[str, Any]) -> bool:
        own = {name: value for name, value in line["parameters"].items() if name != "epochs"}
        return line["method"] == proposal.method.name and own == wanted

    def prune(self, trial: str, reason: str) -> None:
        """Nothing is kept of it."""

    def give_up(self, method: str) -> None:
        """Nothing was put aside for it."""

    def say(self, text: str) -> None:
        """Nobody listens."""


def is_tuned(line: Line) -> bool:
    """Whether it was trained."""
    return "learning_rate" in line["parameters"]


def preferred_check(line: Line) -> int:
    """The place of the check that a trial is used at, by its own validation rows."""
    checks = line["checks"]
    return max(range(len(checks)), key=lambda at: cells.preferred(checks[at]))


def best_of_each(lines: Sequence[Line]) -> dict[str, Line]:
    """The best line of each method by validation."""
    found: dict[str, Line] = {}
    for line in lines:
        before = found.get(line["method"])
        if before is None or cells.preferred(line) > cells.preferred(before):
            found[line["method"]] = line
    return found


def cases() -> Iterator[Case]:
    """Every cell that is full, those in folds left out: `in_folds` has them."""
    full = list(_full_ones(folds=False))
    lost = lost_by_cutting([outcomes for _, outcomes in full])
    yield from (Case.of(cell, outcomes, lost) for cell, outcomes in full)


def in_folds() -> Iterator[list[Case]]:
    """Cells in folds of which all folds are full, the fold that screens first."""
    full = list(_full_ones(folds=True))
    lost = lost_by_cutting([outcomes for _, outcomes in full])
    for _, folds in itertools.groupby(full, key=lambda one: replace(one[0], fold=None)):
        found = [Case.of(cell, outcomes, lost) for cell, outcomes in folds]
        if len(found) == cells.FOLDS:
            yield found


def _full_ones(*, folds: bool) -> Iterator[tuple[Cell, Outcomes]]:
    found = ((cell, cells.read(cell)) for cell in cells.grid() if (cell.fold is not None) == folds)
    return ((cell, outcomes) for cell, outcomes in found if outcomes.trials and _full(outcomes))


def lost_by_cutting(found: Sequence[Outcomes]) -> dict[tuple[str, int], float]:
    """How much lower the best validation score up to each check is than that of the whole trial, by method.

    The mean over cells and settings. The best of more checks is higher by chance too, so it is rather too much.
    """
    falls: dict[tuple[str, int], list[float]] = {}
    for line in (line for outcomes in found for line in outcomes.trials if "failed" not in line):
        so_far = itertools.accumulate((check["value"] for check in line["checks"]), max)
        for place, value in enumerate(so_far):
            falls.setdefault((line["method"], place), []).append(max(0.0, line["value"] - value))
    return {key: statistics.fmean(values) for key, values in falls.items()}


def _full(outcomes: Outcomes) -> bool:
    """The second seeds come last."""
    tuned = {line["method"] for line in outcomes.trials if is_tuned(line)}
    again = {line["method"] for line in outcomes.trials if line["seed"]}
    return bool(tuned) and tuned == again
