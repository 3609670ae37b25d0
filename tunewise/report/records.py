"""A run folder as frozen records: everything the page shows, and nothing it has to trust.

>>> Difference(0.03, interval=None, p=0.008).value
0.03
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from tunewise.report.journal import Trial
from tunewise.run_files import Fields, Interval, read_lines
from tunewise.task import TaskSpec

PLAIN_NAME = re.compile(r"[^/\\\x00]+")


@dataclass(frozen=True)
class Finalist:
    """One row of the leaderboard."""

    candidate: str
    method: str
    family: str
    model: str
    trial: str
    score: float | None
    interval: Interval | None
    validation_score: float | None
    fit_seconds: float | None
    ms_per_example: float | None
    prompt_tokens: float | None
    trainable_parameters: int | None
    artifact_mb: float | None
    valid_rate: float | None
    status: str


@dataclass(frozen=True)
class Difference:
    """A paired difference of two scores, as shares."""

    value: float
    interval: Interval | None
    p: float | None


@dataclass(frozen=True)
class Cost:
    """What a candidate took to make, and what a thousand requests take."""

    labels: float | None
    setup_work: float | None
    setup_seconds: float | None
    setup_mb: float | None
    work: float | None
    milliseconds: float | None
    prompt_tokens: float | None
    cached_tokens: float | None
    serving_mb: float | None
    even_at: float | None
    """Requests at which it has cost as much as the pick; None at no number."""


@dataclass(frozen=True)
class Band:
    """A figure, such as a score that is expected, and its 95 % band."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class LearningCurve:
    """Scores of one candidate by the number of training rows, and what follows from them."""

    name: str
    family: str
    scores: Mapping[int, tuple[float, ...]]
    """Of each size, its draws."""
    twice: Band | None
    """With twice the rows; None where the curve is not whole."""
    four_times: Band | None
    advantage: float | None
    """Rows that the pick needs less of for the same score."""
    advantage_interval: Interval | None
    saves: Mapping[str, Band] = field(default_factory=dict)
    """Rows that it saves beside each other candidate; empty in older runs."""

    @property
    def means(self) -> dict[int, float]:
        """Mean score of each size, the smallest first."""
        return {size: fmean(found) for size, found in sorted(self.scores.items())}


@dataclass(frozen=True)
class Learning:
    """What more labels are worth."""

    labels: int
    validation: int
    curves: tuple[LearningCurve, ...]
    constant: Mapping[str, float]
    unmeasured: tuple[str, ...]
    failed: Mapping[str, str]
    """Reasons of those that failed."""


@dataclass(frozen=True)
class Recommendation:
    """The pick and the evidence for it."""

    pick: str
    status: str
    score: float | None
    interval: Interval | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    tied_with: tuple[str, ...]
    runner_up: str
    difference: Difference | None
    differences: Mapping[str, Difference]
    margin: float | None
    metric: str
    n_test: int | None
    folds: int
    """Folds that take the place of a test; 0 where there is one."""
    smallest_margin_shown: float | None
    nominee: str
    """That the test was asked about; empty in older runs."""
    next_commands: tuple[str, ...]
    sources: tuple[str, ...]
    conditions: tuple[str, ...]
    costs: Mapping[str, Cost]
    """By candidate; empty in older runs."""
    front: tuple[str, ...]
    updates: float | None
    """Set-ups that costs are counted for."""
    learning: Learning | None
    """None where no learning curves were measured."""


@dataclass(frozen=True)
class Answered:
    """One test row and what the pick answered."""

    row: int
    source: str
    target: str
    prediction: str
    probability: float | None
    valid: bool


@dataclass(frozen=True)
class Run:
    """Everything the page is built from."""

    folder: Path
    info: Fields
    """`run.json`."""
    task: Fields
    """`task.json`."""
    spec: TaskSpec
    trials: tuple[Trial, ...] | None
    messages: tuple[str, ...]
    finalists: tuple[Finalist, ...] | None
    recommendation: Recommendation | None
    answers: tuple[Answered, ...] | None
    """The pick's answers to the test rows, in the split's order."""

    @property
    def metric(self) -> str:
        """Name of the metric every score on the page is in."""
        return (self.recommendation.metric if self.recommendation else "") or self.spec.metric

    @property
    def pick(self) -> Finalist | None:
        """The leaderboard row of the pick."""
        name = self.recommendation.pick if self.recommendation else ""
        return next((row for row in self.finalists or () if name and row.candidate == name), None)

    def inputs(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], Mapping[str, str]]:
        """Input fields of the `wanted` rows, by (source, row); empty when the run keeps no `rows.jsonl`."""
        found: dict[tuple[str, int], Mapping[str, str]] = {}
        for line in read_lines(self.folder / "rows.jsonl"):
            row = line.count("row")
            if row is None:
                continue
            key = (line.text("source", "data"), row)
            if key in wanted:
                fields = line.section("inputs")
                found[key] = {name: fields.text(name) for name in fields.values}
        return found
