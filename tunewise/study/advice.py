"""What to expect before anything is spent: which families tend to win on tasks like this one, and why.

A table of priors from the literature, each with its source, and what past studies on this machine found on tasks
like it. Evidence overturns a prior; where a budget does not hold every method, the priors say which come first.

>>> advice = advise(situation_of(ground), past=[])
>>> advice.families[0], advice.reasons[0]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewise.adapted import NO_MODEL, loaded
from tunewise.cost import USUAL, Demand
from tunewise.figures import counted, listed, short
from tunewise.methods.base import FAMILIES
from tunewise.study.ground import Ground
from tunewise.task import Choices

BASELINE, PROMPT, SOFT, TUNED, HYBRID = FAMILIES
SMALL_MODEL = 1e9
"""Parameters below which prompts alone do badly."""
MANY_REQUESTS, MANY_UPDATES = 1e6, 10
ALIKE = 3.0
"""Past studies count where they had at most so many times as many training rows and labels, or as few."""


@dataclass(frozen=True)
class Situation:
    """What is known of a task before it is worked on."""

    classification: bool
    rows: int
    """To train on."""
    labels: int
    """0 where answers are free text."""
    parameters: float
    """Of the base model; 0 where none is used."""
    prompt_tokens: float
    """Median of a prompt."""
    metric: str
    model: str
    requests: float = USUAL.requests
    """Expected a month."""
    updates: float = USUAL.updates
    """How often it will be made again in a month."""
    real_time: bool = False
    """Whether the instruction must be free to change with each request."""

    @property
    def per_label(self) -> float:
        """Training rows of a label, in the mean."""
        return self.rows / self.labels if self.labels else float(self.rows)


@dataclass(frozen=True)
class Prior:
    """What tends to win in a regime."""

    regime: str
    holds: Callable[[Situation], bool]
    weights: Mapping[str, float]
    """How much it speaks for each family, against it below zero."""
    why: str
    source: str


PRIORS = (
    Prior(
        "fewer than 50 training rows",
        lambda s: s.rows < 50,
        {PROMPT: 1, BASELINE: 1, SOFT: -1},
        "With so few rows no choice can be checked: choosing among prompts on held-out rows barely beats chance. "
        "Calibrated zero-shot, the nearest example and defaults are hard to beat.",
        "Perez et al. 2021",
    ),
    Prior(
        "8 to 64 rows a label",
        lambda s: s.classification and 8 <= s.per_label <= 64,
        {TUNED: 2, HYBRID: 1},
        "From 8 to 64 rows a label a tuned model gains most: its head rose from 43 to 70 points over five tasks.",
        "Tunstall et al. 2022 (SetFit)",
    ),
    Prior(
        "more than 50 labels",
        lambda s: s.labels > 50,
        {BASELINE: 1, TUNED: 1, PROMPT: -1},
        "With many labels the nearest example carries much of it (81 % on Banking77 with one retrieved example "
        "and a 7B model), and a fixed prompt cannot show them all.",
        "Bertsch et al. 2024",
    ),
    Prior(
        "500 rows or more",
        lambda s: s.rows >= 500,
        {TUNED: 2, HYBRID: 1, BASELINE: 0.5},
        "With 500 rows or more tuning wins on most tasks, and the search for a rate decides more than the method.",
        "Le Scao & Rush 2021; Biderman et al. 2024",
    ),
    Prior(
        "a model below a billion parameters",
        lambda s: 0 < s.parameters < SMALL_MODEL,
        {TUNED: 2, HYBRID: 1, PROMPT: -1, SOFT: -0.5},
        "Small models follow instructions and examples badly, and soft prompts reach fine-tuning only near a "
        "billion parameters; their weights learn well.",
        "Lester et al. 2021",
    ),
    Prior(
        "a model of ten billion parameters or more",
        lambda s: s.parameters >= 10 * SMALL_MODEL,
        {PROMPT: 2, HYBRID: 1},
        "Large models do much of what tuning would teach them from a good prompt.",
        "Brown et al. 2020",
    ),
    Prior(
        "little data for free text",
        lambda s: not s.classification and s.rows < 500,
        {TUNED: 1, SOFT: 1, PROMPT: 0.5},
        "For text with little data LoRA and prefixes learn the form of the answer, which prompts leave open.",
        "Li & Liang 2021",
    ),
    Prior(
        "long prompts",
        lambda s: s.prompt_tokens > 400,
        {TUNED: 0.5, PROMPT: -0.5},
        "Demonstrations make long prompts longer; a tuned model needs none of them.",
        "Liu et al. 2022 (T-Few)",
    ),
    Prior(
        "an instruction that changes with each request",
        lambda s: s.real_time,
        {PROMPT: 10},
        "Weights and soft prompts are made for one instruction; only a prompt may change with each request.",
        "what they are",
    ),
    Prior(
        "a million requests a month or more",
        lambda s: s.requests >= MANY_REQUESTS,
        {BASELINE: 1, TUNED: 0.5, SOFT: 0.5, PROMPT: -0.5},
        "Making it is paid once, what a request reads every time: a baseline reads nothing with a model, a tuned "
        "one no demonstrations.",
        "Liu et al. 2022 (T-Few)",
    ),
    Prior(
        "ten updates a month or more",
        lambda s: s.updates >= MANY_UPDATES,
        {PROMPT: 1, BASELINE: 1, TUNED: -0.5, SOFT: -0.5, HYBRID: -0.5},
        "What is trained is trained again at each update; a prompt or a baseline is made again in seconds.",
        "what they are",
    ),
)
"""The table of docs/guide.md; a family's place is the sum of what speaks for it."""


@dataclass(frozen=True)
class Past:
    """What a study on this machine found: of each family the best test score."""

    classification: bool
    rows: int
    labels: int
    model: str
    metric: str
    scores: Mapping[str, float]

    def like(self, situation: Situation) -> bool:
        """Whether it was about a task like this one: same kind, model and metric, about as many rows."""
        same = (self.classification, self.model, self.metric) == (
            situation.classification,
            situation.model,
            situation.metric,
        )
        sizes = ((self.rows, situation.rows), (self.labels, situation.labels))
        near = all(1 / ALIKE <= max(one, 1) / max(other, 1) <= ALIKE for one, other in sizes)
        return same and near and len(self.scores) > 1

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return {**vars(self), "scores": dict(self.scores)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Past:
        """The inverse of `to_json`; raises KeyError or TypeError for anything else."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Advice:
    """What to expect, and why."""

    families: tuple[str, ...]
    """The most promising first."""
    reasons: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"families": list(self.families), "reasons": list(self.reasons)}


def situation_of(ground: Ground, demand: Demand = USUAL, *, real_time: bool = False) -> Situation:
    """What is known of a task, from its rows, the base model, and how it will be used."""
    task, base = ground.task, ground.base.base
    answer = task.spec.answer
    without = base == NO_MODEL
    return Situation(
        classification=isinstance(answer, Choices),
        rows=len(task.train),
        labels=len(answer.labels) if isinstance(answer, Choices) else 0,
        parameters=0.0 if without else float(loaded(base).footprint.parameters),
        prompt_tokens=ground.forecaster.tokens.median,
        metric=task.spec.metric,
        model="" if without else base.name,
        requests=demand.requests,
        updates=demand.updates,
        real_time=real_time,
    )


def promise(situation: Situation) -> dict[str, float]:
    """How much the priors speak for each family: what a study goes by, so that it is the same on every machine."""
    weights: dict[str, float] = dict.fromkeys(FAMILIES, 0.0)
    for prior in PRIORS:
        if prior.holds(situation):
            for family, weight in prior.weights.items():
                weights[family] += weight
    return weights


def advise(
    situation: Situation,
    families: Sequence[str],
    past: Sequence[Past],
    *,
    unheld: Sequence[str] = (),
    budget: str = "",
) -> Advice:
    """Which of `families` to expect most from.

    Args:
        situation: what is known of the task.
        families: that would be compared.
        past: studies of this machine.
        unheld: families that the budget holds no trial of; nothing can be expected of them, so they come last.
        budget: as it was given.

    Each past study on a task like this one counts one point for the family that scored highest, as much as a weak
    prior: a few of them outweigh what the literature says.
    """
    found = [prior for prior in PRIORS if prior.holds(situation)]
    weights = promise(situation)
    alike = [one for one in past if one.like(situation)]
    won = Counter(max(one.scores, key=lambda family: one.scores[family]) for one in alike)
    for family, count in won.items():
        weights[family] = weights.get(family, 0.0) + count
    order = sorted(families, key=lambda family: (family in unheld, -weights.get(family, 0.0)))
    reasons = [f"{prior.why} ({prior.source})" for prior in found]
    if alike:
        rows = sorted(one.rows for one in alike)
        said = ", ".join(f"{family} in {count}" for family, count in won.most_common())
        span = short(rows[0]) if rows[0] == rows[-1] else f"{rows[0]:,} to {rows[-1]:,}"
        studies = counted(len(alike), "study", "studies")
        reasons.append(
            f"In {studies} of the same kind on this machine, with {situation.model or 'no model'} and {span} "
            f"training rows, the highest score was that of {said}."
        )
    if unheld:
        reasons.append(f"A budget of {budget} holds no trial of {listed(unheld)}; a larger one would try them.")
    return Advice(tuple(order), tuple(reasons))
