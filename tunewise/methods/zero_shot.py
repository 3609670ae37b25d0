"""The instruction alone, no training: labels scored over their probabilities, calibrations competing.

Raw, length-normalised, contextual, PMI and batch-calibrated scores share one scoring of the inputs, so trying
all of them costs little more than trying one; validation chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import BATCH_ROWS, AdaptedModel, ModelRef, Predictor
from tunewise.methods.base import SearchSpace, Trial, Verdict
from tunewise.task import Choices, Dataset, TaskSpec

CALIBRATIONS = ("none", "length", "contextual", "pmi", "batch")


@dataclass(frozen=True)
class ZeroShot:
    """The task's instruction as a prompt, without examples and without training."""

    name: ClassVar[str] = "zero-shot"
    family: ClassVar[str] = "prompt engineering"
    needs: ClassVar[frozenset[str]] = frozenset({"label-scores"})
    starts_from: ClassVar[str | None] = None
    order: ClassVar[int] = 0
    work: ClassVar[str | None] = "score"

    calibrations: tuple[str, ...] = CALIBRATIONS
    """Ways of making label scores comparable, to choose from on validation."""

    @classmethod
    def applies(cls, spec: TaskSpec, model: ModelRef | None) -> str | None:
        """It applies to every task."""
        return None

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """Nothing beyond its own list of calibrations."""
        return {}

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Offer each calibration; validation chooses."""
        assert isinstance(start, AdaptedModel)
        return best_calibrated(start, self.calibrations, train, validation, trial)


def best_calibrated(
    start: AdaptedModel, kinds: tuple[str, ...], train: Dataset, validation: Dataset, trial: Trial
) -> AdaptedModel:
    """The calibration of `start` that validation prefers; plain text has none to choose from.

    Without validation rows nothing can be chosen, and the scores stay as they are.
    """
    if not isinstance(start.spec.answer, Choices) or not len(validation):
        kinds = ("none",)
    best: tuple[Verdict, AdaptedModel] | None = None
    for step, kind in enumerate(kinds, 1):
        candidate = start
        if kind != "none":
            candidate = start.with_calibration(kind, train.inputs[:BATCH_ROWS])
        verdict = trial.check(step, candidate)
        if best is None or verdict.better_than(best[0]):
            best = verdict, candidate
        if verdict.stop:
            break
    assert best is not None
    return best[1]
