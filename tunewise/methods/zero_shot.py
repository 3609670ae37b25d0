"""The instruction alone, no training: labels scored over their probabilities, calibrations competing.

Raw, length-normalised, contextual, PMI and batch-calibrated scores share one scoring of the inputs, so trying
all of them costs little more than trying one; validation chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tunewise.adapted import BATCH_ROWS, AdaptedModel, Predictor
from tunewise.methods.base import Method, Trial
from tunewise.methods.choosing import best_of
from tunewise.methods.context import check_fits
from tunewise.task import Choices, Dataset

CALIBRATIONS = ("none", "length", "contextual", "pmi", "batch")


@dataclass(frozen=True)
class ZeroShot(Method):
    """The task's instruction as a prompt, without examples and without training."""

    name: ClassVar[str] = "zero-shot"
    family: ClassVar[str] = "prompt engineering"
    needs: ClassVar[frozenset[str]] = frozenset({"label-scores"})
    order: ClassVar[int] = 0
    learns_from_rows: ClassVar[bool] = False
    work: ClassVar[str | None] = "score"

    calibrations: tuple[str, ...] = CALIBRATIONS
    """Ways of making label scores comparable, to choose from on validation."""

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Offer each calibration; validation chooses."""
        assert isinstance(start, AdaptedModel)
        return best_calibrated(start, self.calibrations, train, validation, trial)


def best_calibrated(
    start: AdaptedModel, kinds: tuple[str, ...], train: Dataset, validation: Dataset, trial: Trial
) -> AdaptedModel:
    """The calibration of `start` that validation prefers; plain text has none to choose from.

    Without validation rows nothing can be chosen, and the scores stay as they are.

    Raises:
        TrialError: a prompt is longer than the model reads.
    """
    if not isinstance(start.spec.answer, Choices) or not len(validation):
        kinds = ("none",)
    unlabelled = train.inputs[:BATCH_ROWS]
    renderer = start.renderer()
    check_fits(renderer, renderer.tokens([*validation.inputs, *unlabelled]))
    return best_of(
        (start if kind == "none" else start.with_calibration(kind, unlabelled) for kind in kinds), trial
    )
