"""What a study would do, before anything is spent: the same race, on a runner that only forecasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tunewise.adapted import NO_MODEL, loaded
from tunewise.cost import USUAL, Demand
from tunewise.study.advice import Advice, advise, situation_of
from tunewise.study.contest import race
from tunewise.study.forecast import BATCH_SIZE
from tunewise.study.ground import Ground, folding
from tunewise.study.history import past_studies
from tunewise.study.policy import ANOTHER_SEED
from tunewise.study.proposals import Outcome, Proposal
from tunewise.study.rates import WITHOUT_MODEL, rates_of
from tunewise.task import Task


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that would run."""

    trial: str
    method: str
    family: str
    parameters: Mapping[str, Any]
    stage: str
    """What it is for: `baseline`, `prompt`, `rung`, `full run`, `another seed` or `next rate`."""
    passes: int | None
    """Passes over the training rows; None where nothing is trained."""
    all_passes: int | None
    """Passes of a whole run of the method; a trial that ends at the rung has fewer."""
    forecast_seconds: float
    forecast_memory_mb: float


@dataclass(frozen=True)
class Plan:
    """The data's profile and the trials that the budget would buy."""

    task: Task
    profile: Any
    trials: list[PlannedTrial]
    total_seconds: float
    """All trials and the test."""
    test_seconds: float
    """Of the finalists on the test rows, or in the other folds."""
    budget: str
    budget_seconds: float | None
    token_lengths: Mapping[str, float]
    notes: list[str]
    advice: Advice
    """What to expect, before anything is spent."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        apart = ("task", "profile", "trials", "advice")
        kept = {name: value for name, value in vars(self).items() if name not in apart}
        return {
            "spec": self.task.spec.to_json(),
            "guessed": self.task.source.get("guessed", {}),
            "profile": self.profile.to_json() if self.profile else None,
            "trials": [asdict(trial) for trial in self.trials],
            "advice": self.advice.to_json(),
            **kept,
        }


@dataclass
class Forecasting:
    """A runner that spends nothing: every trial finishes, at its forecast."""

    ground: Ground
    rates: Mapping[str, float]
    trials: dict[str, PlannedTrial] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    untested: set[str] = field(default_factory=set)
    """Methods that are left out."""
    _work: dict[str, float] = field(default_factory=dict)
    _parameters: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """Note the trials, and answer as if they had cost what was forecast."""
        return [self._noted(proposal) for proposal in proposals]

    def _noted(self, proposal: Proposal) -> Outcome:
        work = self._work[proposal.trial] = self._work.get(proposal.trial, 0.0) + proposal.forecast_work
        self._parameters[proposal.trial] = proposal.parameters
        kind = proposal.method.work
        epochs = proposal.parameters.get("epochs")
        self.trials[proposal.trial] = PlannedTrial(
            trial=proposal.trial,
            method=proposal.method.name,
            family=proposal.method.family,
            parameters=dict(proposal.parameters),
            stage=proposal.stage,
            passes=proposal.until or epochs,
            all_passes=epochs,
            forecast_seconds=round(self._seconds(proposal), 1),
            forecast_memory_mb=round(self._memory_mb(kind, proposal.parameters.get("batch_size", BATCH_SIZE))),
        )
        # Equal outcomes: which rate would win cannot be known, and any of them goes on to the same cost.
        status = "finished" if proposal.until is None else "paused"
        return Outcome(proposal.trial, status, 0.5, 1.0, work)

    def _memory_mb(self, kind: str | None, batch_size: int) -> float:
        forecaster = self.ground.forecaster
        if kind is None:
            return forecaster.memory_mb(None, batch_size, 0, 0)
        footprint = loaded(self.ground.base.base).footprint
        return forecaster.memory_mb(kind, batch_size, footprint.parameters, footprint.itemsize)

    def _seconds(self, proposal: Proposal) -> float:
        """From its first pass to the last one asked for; work that decides may count no rates."""
        forecaster = replace(self.ground.forecaster, rates=self.rates)
        passes = proposal.until or proposal.parameters.get("epochs")
        prompt = self._parameters.get(proposal.start_from or "", proposal.parameters)
        settings = {**proposal.parameters, "epochs": passes}
        return forecaster.seconds(forecaster.fit(proposal.method, settings, int(prompt.get("shots", 0))))

    def prune(self, trial: str, reason: str) -> None:
        """Nothing is pruned that did not run."""

    def give_up(self, method: str) -> None:
        """Nothing is put aside for the test of `method`."""
        self.untested.add(method)

    def say(self, text: str) -> None:
        """Keep what the race has to say."""
        self.notes.append(text)


def plan_of(ground: Ground, demand: Demand = USUAL, *, real_time: bool = False) -> Plan:
    """What the race would do on `ground`, with times at this machine's rates."""
    base = ground.base.base
    rates = WITHOUT_MODEL if base == NO_MODEL else rates_of(loaded(base))
    runner = Forecasting(ground, rates)
    race(ground, runner).go()
    tests = {name: work for name, work in ground.terms.tests.items() if name not in runner.untested}
    again = [trial.method for trial in runner.trials.values() if trial.stage == ANOTHER_SEED]
    test_work = math.fsum((*tests.values(), *(tests.get(method, 0.0) for method in again), _folds(ground, runner)))
    test_seconds = ground.forecaster.seconds(test_work, rates)
    total = math.fsum(trial.forecast_seconds for trial in runner.trials.values()) + test_seconds
    return Plan(
        task=ground.task,
        profile=ground.task.profile,
        trials=list(runner.trials.values()),
        total_seconds=round(total, 1),
        test_seconds=round(test_seconds, 1),
        budget=ground.terms.budget.text,
        budget_seconds=ground.terms.seconds,
        token_lengths={} if base == NO_MODEL else _token_lengths(ground),
        notes=[*ground.notes, *runner.notes],
        advice=_advice(ground, runner, demand, real_time=real_time),
    )


def _advice(ground: Ground, runner: Forecasting, demand: Demand, *, real_time: bool) -> Advice:
    """What to expect, within what the budget holds."""
    families = tuple(dict.fromkeys(method.family for method in ground.methods))
    planned = {trial.family for trial in runner.trials.values()}
    starts = (None, *(method.name for method in ground.methods))
    able = {method.family for method in ground.methods if method.starts_from in starts}
    return advise(
        situation_of(ground, demand, real_time=real_time),
        families,
        past_studies(),
        unheld=[family for family in families if family in able - planned],
        budget=ground.terms.budget.text,
    )


def _folds(ground: Ground, runner: Forecasting) -> float:
    """Work of the finalists in the other folds, of the methods that are not left out."""
    left = [method for method in ground.methods if method.name not in runner.untested]
    return min(folding(ground.task, ground.base, left, ground.forecaster).work, ground.terms.folds)


def _token_lengths(ground: Ground) -> dict[str, float]:
    tokens = ground.forecaster.tokens
    return {
        "shared_prefix": tokens.prefix,
        "median_prompt": tokens.median,
        "longest_prompt": tokens.longest,
        "mean_answer": round(tokens.answer, 2),
        "context": loaded(ground.base.base).context,
    }
