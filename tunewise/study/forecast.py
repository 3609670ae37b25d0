"""What a trial will cost before it starts: tokens of the real rows × the model's shape × measured rates.

Work is in operations at the machine's scoring rate: an operation of a kind that runs slower here counts for more,
so that work divided by the scoring rate is seconds. With a budget in operations all kinds count the same, and
nothing depends on the machine.

>>> forecaster.seconds(forecaster.evaluation(200))
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from tunewise.adapted import BATCH_ROWS, AdaptedModel
from tunewise.cost import ModelShape, flop
from tunewise.engine.forward import common_prefix
from tunewise.engine.scoring import LabelTrie, close_labels
from tunewise.task import Choices, Dataset

PADDING = 1.25
"""Padded over real tokens where rows of mixed lengths stand side by side; the count itself is exact afterwards."""
OVERHEAD_SECONDS = {"baseline": 1.0, "trial": 0.5, "train-full": 4.0}
"""What a trial takes beside its counted work: features and files; `full` writes a whole model."""


@dataclass(frozen=True)
class TokenStatistics:
    """Token counts of the rows under the task's plain prompt."""

    prefix: int
    """Tokens that all prompts share."""
    suffix: float
    """Mean tokens of a prompt beyond the shared ones."""
    answer: float
    """Mean tokens of an answer, its end token included."""
    nodes: int
    """Inner nodes of the labels' trie; 0 for text."""
    turn: float
    """Mean tokens that one demonstration adds to the prefix."""
    longest: int
    """Tokens of the longest prompt."""
    median: float
    """Median tokens of a prompt."""

    @classmethod
    def of(cls, start: AdaptedModel, rows: Dataset) -> TokenStatistics:
        """Counted on `rows` under the prompt of `start`."""
        renderer = start.renderer()
        pairs = renderer.pairs(rows.inputs, rows.targets)
        prefix = common_prefix(pairs.prompts) if len(rows) > 1 else 0
        suffix = statistics.fmean(len(prompt) - prefix for prompt in pairs.prompts)
        answer = statistics.fmean(len(tokens) for tokens in pairs.answers)
        nodes = 0
        if isinstance(start.spec.answer, Choices):
            labels = [renderer.answer(word) for word in start.spec.answer.words]
            nodes = len(LabelTrie.of(close_labels(labels, renderer.model.end_id)).tokens)
        lengths = [len(prompt) for prompt in pairs.prompts]
        return cls(prefix, suffix, answer, nodes, suffix + answer + 2, max(lengths), statistics.median(lengths))


@dataclass(frozen=True)
class Forecaster:
    """Forecasts of work for one task, one model and one machine."""

    shape: ModelShape
    tokens: TokenStatistics
    rates: Mapping[str, float]
    """Operations per second by kind; empty when work is counted in operations alone."""
    n_train: int
    n_validation: int
    n_test: int
    text_tokens: int | None
    """Longest generated answer; None where labels are scored."""

    def weigh(self, kind: str, operations: float) -> float:
        """Work of `operations` of a kind."""
        if not self.rates:
            return 0.0 if kind == "overhead" else operations
        if kind == "overhead":  # counted in seconds already
            return operations * self.rates["score"]
        return operations * self.rates["score"] / self.rates[kind]

    def seconds(self, work: float, rates: Mapping[str, float] | None = None) -> float:
        """Seconds that `work` takes at the measured rates."""
        return work / (rates or self.rates)["score"]

    def overhead(self, kind: str | None) -> float:
        """Seconds of a trial of a method of one kind of work, beside that work."""
        if kind is None:
            return OVERHEAD_SECONDS["baseline"]
        return OVERHEAD_SECONDS.get(kind, OVERHEAD_SECONDS["trial"])

    def evaluation(self, rows: int, demonstrations: int = 0) -> float:
        """Work of predicting `rows` rows, and of their targets' log-probabilities where these cost extra."""
        if self.text_tokens is None:
            return self.prediction(rows, demonstrations)
        t = self.tokens
        prefix = t.prefix + demonstrations * t.turn
        tokens = rows * (t.suffix * PADDING + t.answer) + prefix
        return self.prediction(rows, demonstrations) + self._work(
            "score", tokens, prefix + t.suffix, rows * t.answer
        )

    def prediction(self, rows: int, demonstrations: int = 0) -> float:
        """Work of predicting `rows` rows."""
        t = self.tokens
        prefix = t.prefix + demonstrations * t.turn
        if self.text_tokens is None:
            tokens = rows * (t.suffix * PADDING**0.5 + t.nodes) + prefix
            return self._work("score", tokens, prefix + t.suffix, rows * (1 + t.nodes))
        new = rows * min(self.text_tokens, 1.2 * t.answer + 2)
        tokens = rows * t.suffix * PADDING + prefix
        return self._work("generate", tokens + new, prefix + t.suffix, new)

    def prompt_trial(self, demonstrations: int) -> float:
        """Work of one prompt with its calibrations: validation rows, and training inputs for the batch bias."""
        biased = min(BATCH_ROWS, self.n_train) if self.text_tokens is None else 0
        return self.evaluation(self.n_validation + biased, demonstrations)

    def epoch(self, kind: str, batch_size: int, demonstrations: int = 0) -> float:
        """Work of one pass over the training rows, checked once on validation."""
        t = self.tokens
        prefix = t.prefix + demonstrations * t.turn + (20 if kind == "train-soft-prompt" else 0)
        steps = math.ceil(self.n_train / batch_size)
        tokens = steps * prefix + self.n_train * (t.suffix + t.answer)
        training = self._work(kind, tokens, prefix + t.suffix / 2, self.n_train * t.answer)
        checks = 1.0 if steps >= 8 else steps / 8
        return training + checks * self.evaluation(self.n_validation, demonstrations)

    def memory_mb(self, kind: str | None, batch_size: int, parameters: int, bytes_each: int) -> float:
        """Peak resident memory of a trial: libraries, weights, optimizer state, activations."""
        weights = parameters * bytes_each / 1e6
        if kind is None:
            return 300.0
        # Per token and layer: inputs of the linear layers and of the gated feed-forward, kept for the backward.
        rows = batch_size if kind.startswith("train") else 2048 / max(1.0, self.tokens.suffix)
        per_token = self.shape.layers * (10 * self.shape.hidden + 4 * self.shape.intermediate) * bytes_each
        tokens = rows * self.tokens.suffix * PADDING + self.tokens.prefix
        activations = tokens * per_token / 1e6 if kind.startswith("train") else tokens * 0.05
        learned = {"train-full": parameters, "train-lora": 0.04 * parameters}.get(kind, 0.0)
        state = learned * (12 + 4 + bytes_each) / 1e6
        logits = rows * max(1.0, self.tokens.answer) * self.shape.vocabulary * 12 / 1e6
        return 700.0 + weights + activations + state + logits

    def _work(self, kind: str, tokens: float, context: float, projected: float) -> float:
        count = flop(kind, self.shape, tokens=round(tokens), context=context, projected=round(projected))
        return self.weigh(kind, count)
