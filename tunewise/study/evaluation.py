"""The one evaluation loop: every candidate, on every split, is scored by this code.

>>> evaluation = evaluate(adapted, task.test)
>>> evaluation.score, evaluation.interval
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewise import metrics, statistics
from tunewise.adapted import AdaptedModel, Prediction, Predictor
from tunewise.errors import DataError
from tunewise.task import Choices, Dataset
from tunewise.whole import write_text


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a predictor is worth on a data set."""

    metric: str
    score: float
    """Value of the task's metric, 0 to 1, higher is better."""
    predictions: list[Prediction]
    """One for each row, in order."""
    seconds: float
    """Wall clock of predicting; loading the model is not in it."""
    log_loss: float | None
    """Mean negative log-probability of the targets, in nats; None without probabilities or with one that is 0;
    NaN where what the model gives is not a number."""
    dataset: Dataset

    @cached_property
    def interval(self) -> statistics.Interval:
        """The 95 % interval of the score: Wilson for rates, BCa bootstrap otherwise."""
        metric = metrics.get(self.metric)
        return statistics.score_interval(metric, self._outputs, self.dataset.targets, self.dataset.groups)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric that fits the kind of task."""
        kind = metrics.get(self.metric).kind
        return metrics.all_scores(kind, self._outputs, self.dataset.targets)

    @property
    def valid_rate(self) -> float:
        """Share of answers that the task allows."""
        return sum(prediction.valid for prediction in self.predictions) / len(self.predictions)

    @property
    def _outputs(self) -> list[str]:
        return [prediction.output for prediction in self.predictions]


def evaluate(predictor: Predictor, dataset: Dataset) -> Evaluation:
    """Predict every row of `dataset` and score the answers with the task's metric.

    Raises:
        DataError: the data set is empty, or an input does not fit the model.
    """
    if not len(dataset):
        raise DataError("there is nothing to evaluate on: the data set has no rows.")
    start = time.perf_counter()
    predictions = predictor.predict(dataset.inputs)
    seconds = time.perf_counter() - start
    if not any(prediction.milliseconds for prediction in predictions):  # by no model, which would have timed them
        each = 1000 * seconds / len(predictions)
        predictions = [replace(prediction, milliseconds=each) for prediction in predictions]
    metric = metrics.get(predictor.spec.metric)
    score = metric.score([prediction.output for prediction in predictions], dataset.targets)
    loss = _log_loss(predictor, predictions, dataset)
    return Evaluation(metric.name, float(score), predictions, seconds, loss, dataset)


def preference(score: float | None, log_loss: float | None) -> tuple[float, float]:
    """Orders finished trials by validation, higher is better: the score, then the lower log-loss."""
    return (-math.inf if score is None else score, -(math.inf if log_loss is None else log_loss))


def write_predictions(path: Path, evaluation: Evaluation) -> None:
    """Store an evaluation row by row, whole or not at all."""
    lines = []
    for example, prediction in zip(evaluation.dataset, evaluation.predictions, strict=True):
        line: dict[str, Any] = {
            "row": example.row,
            "source": example.source,
            "target": example.target,
            "prediction": prediction.output,
            "scores": {k: round(v, 6) for k, v in prediction.scores.items()} if prediction.scores else None,
            "probability": None if prediction.probability is None else round(prediction.probability, 6),
            "valid": prediction.valid,
            "milliseconds": round(prediction.milliseconds, 3),
            "prompt_tokens": prediction.prompt_tokens,
            "cached_tokens": prediction.cached_tokens,
        }
        if example.group is not None:
            line["group"] = example.group
        lines.append(json.dumps(line, ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def _log_loss(predictor: Predictor, predictions: list[Prediction], dataset: Dataset) -> float | None:
    if isinstance(predictor.spec.answer, Choices):
        logprobs = [
            prediction.scores[target]
            for prediction, target in zip(predictions, dataset.targets, strict=True)
            if prediction.scores is not None
        ]
    elif isinstance(predictor, AdaptedModel):
        logprobs = list(predictor.target_logprobs(dataset.inputs, dataset.targets))
    else:
        return None
    if len(logprobs) < len(dataset):
        return None
    loss = -math.fsum(float(value) for value in logprobs) / len(logprobs)
    return None if math.isinf(loss) else loss
