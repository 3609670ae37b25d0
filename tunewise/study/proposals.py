"""What a race asks for and is told: trials, what became of them, what all of them may spend.

>>> proposal = Proposal("lora-1", lora, {"learning_rate": 1e-3}, "rung", until=2)
>>> method_of(proposal.trial), number_of(proposal.trial)
('lora', 1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Proposal:
    """A trial that is asked for."""

    trial: str
    method: Any
    parameters: Mapping[str, Any]
    stage: str
    start_from: str | None = None
    """Trial whose result is adapted further; None for the base model."""
    until: int | None = None
    """Passes after which the trial pauses; None lets it run to its end."""
    forecast_work: float = 0.0
    work_limit: float | None = None
    repeats: str | None = None
    """Trial that it repeats with another seed; None for a candidate."""
    more_seed: int = 0
    """Added to the seed of the study."""

    @property
    def key(self) -> str:
        """What tells it from the others that run."""
        return self.trial


@dataclass(frozen=True)
class Outcome:
    """What became of a trial, or of one fit of a finalist."""

    trial: str
    """The key of what was asked for."""
    status: str
    value: float | None = None
    log_loss: float | None = None
    work: float = 0.0

    @property
    def rank(self) -> tuple[float, float]:
        """Sorts outcomes of one method, best first: by log-loss where there is one, else by score."""
        loss = self.log_loss if self.log_loss is not None else math.inf
        return (loss, -(self.value if self.value is not None else -math.inf))


@dataclass(frozen=True)
class Allowance:
    """What the race may spend before the test, in work or in trials."""

    work: float | None
    trials: int | None
    tests: Mapping[str, float] = field(default_factory=dict)
    """Work put aside for the test of each method; free again when a method is left out."""
    longest: float = math.inf
    """Work that a trial of a model may take to be done again in the other folds, to its last step."""
    spends_rest: bool = True
    """Whether work left over goes to further rates; not where the other folds could do with more."""

    @property
    def pays_folds(self) -> bool:
        """Whether finalists go through other folds on the budget that the race is run on."""
        return self.longest < math.inf


def method_of(trial: str) -> str:
    """The name of the method that a trial is one of: trials are called METHOD-NUMBER."""
    return trial.rpartition("-")[0]


def number_of(trial: str) -> int:
    """The number of a trial within its method."""
    return int(trial.rpartition("-")[2])


class Runner(Protocol):
    """Does, repeats or forecasts what the race asks for."""

    def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """Run trials that do not depend on each other, or continue paused ones; their outcomes, in that order."""
        ...

    def prune(self, trial: str, reason: str) -> None:
        """Take a paused trial out of the race; a decision, not a claim that it is worse."""
        ...

    def give_up(self, method: str) -> None:
        """Take a method out of the race without a finished trial: it will not be tested either."""
        ...

    def say(self, text: str) -> None:
        """Record something that the reader should know."""
        ...
