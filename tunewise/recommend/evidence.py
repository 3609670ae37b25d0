"""What a run folder holds that bears on the recommendation.

Scores are taken from the stored predictions, not from the leaderboard, so that score, interval and paired
differences come from the same rows by the same code.

>>> # evidence = read_evidence(Path("runs/tickets")); evidence.difference("lora", "full").delta
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tunewise import metrics
from tunewise.cost import USUAL, Demand
from tunewise.recommend.costs import Costs
from tunewise.rule import Finalist
from tunewise.statistics import (
    CONFIDENCE,
    Choice,
    Difference,
    Interval,
    for_all,
    out_of_fold_choice,
    paired_difference,
    score_interval,
)
from tunewise.task import TaskSpec

FEWEST_GROUPS = 10
"""Groups of test rows below which their spread is hardly known."""


@dataclass(frozen=True)
class Entry:
    """A finalist: its leaderboard row and its answers to the test rows."""

    finalist: Finalist
    trial: str
    family: str
    valid_rate: float
    outputs: tuple[str, ...]
    score: float
    costs: Costs

    @property
    def candidate(self) -> str:
        """The candidate's name."""
        return self.finalist.candidate

    @property
    def answers(self) -> str:
        """The file with its answers to the test rows, in the run folder."""
        return f"predictions/{self.trial}-test.jsonl"


@dataclass(frozen=True)
class Evidence:
    """Everything the recommendation is derived from."""

    spec: TaskSpec
    entries: tuple[Entry, ...]
    """Finalists, the highest test score first; of equals, the cheaper."""
    targets: tuple[str, ...]
    groups: tuple[str, ...] | None
    margin: float
    """The margin the run was started with, in points."""
    split_rows: Mapping[str, int]
    learnt_from: int
    """Rows that finalists were fitted on, as they met the test."""
    chosen_in_folds: bool
    """Whether validation scores are of the answers in folds beside the test."""
    profile: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    untested: tuple[str, ...]
    """Candidates that finished but never met the test split."""
    repeats: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Of candidates that were trained again with other seeds, what these answered to the test rows."""
    rate: float | None = None
    """Work that the run's machine does in a second; None where the run counted operations alone."""
    demand: Demand = USUAL
    """What costs are counted for."""
    folds: int = 0
    """Folds of which all but the first take the place of a test; 0 where there is a test."""
    _compared: dict[tuple[str, str, float], Difference] = field(default_factory=dict)
    """Differences by candidates and confidence, which alone depends on how many the wishes leave."""

    @cached_property
    def metric(self) -> metrics.Metric:
        """The metric that ranks."""
        return metrics.get(self.spec.metric)

    @property
    def labelled_rows(self) -> int:
        """Rows of all splits together."""
        return sum(self.split_rows.values())

    @property
    def units(self) -> int:
        """Test rows that are independent; the groups, where rows come in groups."""
        return len(self.targets if self.groups is None else set(self.groups))

    @property
    def few_groups(self) -> bool:
        """Whether test rows come in so few groups that intervals are rough."""
        return self.groups is not None and self.units < FEWEST_GROUPS

    @property
    def chosen_on(self) -> int:
        """Rows that validation scores are of."""
        return self.learnt_from if self.chosen_in_folds else self.split_rows.get("validation", 0)

    @property
    def chooser(self) -> str:
        """What validation scores are of, in a sentence."""
        return "the folds" if self.chosen_in_folds else "validation"

    @property
    def where_chosen(self) -> str:
        """Where validation scores were measured, in a sentence."""
        return "in the folds" if self.chosen_in_folds else "on validation"

    @property
    def where(self) -> str:
        """Where scores were measured, in a sentence."""
        return "in the folds" if self.folds else "on test"

    @property
    def opened(self) -> str:
        """What had happened when the run was over, in a sentence."""
        return "the folds had been answered" if self.folds else "the test had been opened"

    @property
    def nominated(self) -> tuple[str, str] | None:
        """Reference and nominee as the journal fixed them before the test split was opened, where it did."""
        for event in self.events:
            if event.get("event") == "nominated":
                return str(event.get("reference")), str(event.get("nominee"))
        return None

    def at(self, demand: Demand) -> Evidence:
        """The same with costs counted for another demand."""
        entries = [
            replace(entry, finalist=replace(entry.finalist, cost_work=demand.cost(entry.costs.works)))
            for entry in self.entries
        ]
        return replace(self, entries=ranked(entries), demand=demand)

    def only(self, candidates: Collection[str]) -> Evidence:
        """The same without the other finalists."""
        entries = tuple(entry for entry in self.entries if entry.candidate in candidates)
        repeats = {name: found for name, found in self.repeats.items() if name in candidates}
        return replace(self, entries=entries, repeats=repeats)

    def entry(self, candidate: str) -> Entry:
        """The finalist of that name."""
        return next(entry for entry in self.entries if entry.candidate == candidate)

    def interval(self, entry: Entry) -> Interval:
        """The 95 % interval of a finalist's test score."""
        return score_interval(self.metric, entry.outputs, self.targets, self.groups)

    def choice(self, preferred: Sequence[str], margin: float) -> Choice:
        """What choosing among finalists by their answers to these rows is worth, the `preferred` ones first."""
        outputs = [self.entry(candidate).outputs for candidate in preferred]
        return out_of_fold_choice(self.metric, outputs, self.targets, self.groups, margin)

    def difference(self, a: str, b: str) -> Difference:
        """Test score of candidate `a` minus that of `b`, paired.

        In folds the same rows chose whom the others are compared with, so intervals hold for all pairs at once.
        """
        confidence = for_all(math.comb(len(self.entries), 2)) if self.folds else CONFIDENCE
        key = a, b, confidence
        if key not in self._compared:
            outputs = self.entry(a).outputs, self.entry(b).outputs
            self._compared[key] = paired_difference(
                self.metric, *outputs, self.targets, self.groups, confidence=confidence
            )
        return self._compared[key]

    def differences_to(self, candidate: str) -> dict[str, Difference]:
        """For every other finalist, its test score minus that of `candidate`."""
        others = (entry.candidate for entry in self.entries if entry.candidate != candidate)
        return {other: self.difference(other, candidate) for other in others}


def ranked(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The highest test score first; of equals, the cheaper."""
    return tuple(sorted(entries, key=lambda e: (-e.score, e.finalist.cost_work, e.candidate)))
