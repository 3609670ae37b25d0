"""A finalist made again from other rows, as the study made it: for learning curves, and in the other folds.

>>> made_by(read_events(folder / "trials.jsonl"))["lora-2"].parameters
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunewise.adapted import Predictor
from tunewise.methods import get
from tunewise.study.forecast import BATCH_SIZE, Forecaster, steps_of
from tunewise.study.journal import Event
from tunewise.study.trials import MeteredTrial
from tunewise.task import Dataset


@dataclass(frozen=True)
class Made:
    """A trial that finished, as the study made it."""

    trial: str
    method: Any
    parameters: Mapping[str, Any]
    step: int
    """At which it is made again: of a training the last that it reached, else that of its best candidate.

    The step that a few rows prefer of one training is not what is best for another (docs/decisions/0011)."""
    rows: int
    """That it was trained on."""
    start: Made | None
    """What it starts from, where that is not the base model."""
    cut_short: bool = False
    """Whether it was ended by the budget."""

    @property
    def shots(self) -> int:
        """Demonstrations in its prompt."""
        return int((self.start or self).parameters.get("shots", 0))

    def forecast(self, forecaster: Forecaster) -> float:
        """Work of making it again, what it starts from first."""
        start = forecaster.prompt_trial(self.shots) if self.start else 0.0
        return start + forecaster.fit(self.method, self.parameters, self.shots)

    def step_on(self, rows: int) -> int:
        """The step after as many passes over another number of rows."""
        if "epochs" not in self.parameters:
            return self.step
        size = self.parameters.get("batch_size", BATCH_SIZE)
        return max(1, round(self.step * steps_of(rows, size) / steps_of(self.rows, size)))


def made_by(events: Iterable[Event]) -> dict[str, Made]:
    """Every trial that finished, by its name; repeats with other seeds too."""
    found: dict[str, Made] = {}
    started: dict[str, Event] = {}
    reached: dict[str, int] = {}
    for event in events:
        if event["event"] == "started":
            started[event["trial"]] = event
        if event["event"] == "reported":
            reached[event["trial"]] = event["step"]
        if event["event"] == "finished":
            trial = event["trial"]
            begun = started[trial]
            trained = "epochs" in begun["parameters"] and trial in reached
            found[trial] = Made(
                trial=trial,
                method=get(begun["method"]),
                parameters=begun["parameters"],
                step=reached[trial] if trained else event["step"],
                rows=begun["n_train"],
                start=found.get(begun.get("start_from") or ""),
                cut_short=event.get("cut_short", False),
            )
    return found


def make_again(
    made: Made,
    base: Predictor,
    rows: Dataset,
    validation: Dataset,
    trial: MeteredTrial,
    more_seed: int = 0,
    *,
    goes_on: bool = False,
) -> Predictor:
    """Fit it on `rows`, what it starts from first.

    Args:
        made: settings and steps.
        base: the base model with the task's plain prompt.
        rows: to train on.
        validation: rows whose inputs must fit the model; where `trial` has none to score candidates on, it ends at
            the step of `made`.
        trial: meters the work.
        more_seed: added to the seed of `trial` for what is learnt; what it starts from is made as it was.
        goes_on: whether it goes on from a kept state, whose work holds what making its start took.
    """
    start = base if made.start is None else make_again(made.start, base, rows, validation, trial)
    if goes_on:
        trial.count_anew(base)
    trial.seed += more_seed
    if not len(trial.validation):
        trial.stop_at = made.step_on(len(rows))
    return made.method(**made.parameters).fit(start, rows, validation, trial)  # type: ignore[no-any-return]
