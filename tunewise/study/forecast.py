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
from typing import Any

from tunewise.adapted import BATCH_ROWS, AdaptedModel
from tunewise.cost import STEP, ModelShape, operations
from tunewise.engine.generating import MOST_ROWS
from tunewise.engine.memory import BATCH_TOKENS, LIBRARIES, PASS_TOKENS, Footprint
from tunewise.engine.scoring import LabelTrie, close_labels
from tunewise.engine.tree import common_prefix
from tunewise.task import Choices, Dataset

CANDIDATES = 2
"""Of a tuned trial, held at once beside what learns: the best so far, and the one that is scored."""
PREPARED = 600e6
"""Bytes of what stays prepared for sizes of passes: a thousand products of oneDNN, 0.6 MB each (docs/LOG.md)."""
BATCH_SIZE = 16
"""Of a tuned method that says nothing of it."""
PADDING = 1.3
"""In attention, rows of similar lengths stand side by side; the count itself is exact afterwards."""
SOFT_TOKENS = 20
"""Of a soft prompt, as far as a forecast goes."""
OVERHEAD_SECONDS = {"baseline": 1.0, "trial": 0.5, "train-full": 4.0}
"""What a trial takes beside its counted work: features and files; `full` writes a whole model."""


def steps_of(rows: int, batch_size: int) -> int:
    """Training steps of one pass over so many rows."""
    return math.ceil(rows / batch_size)


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
        """Work of `operations` of a kind, of so many steps, or of so many seconds of overhead."""
        if kind.endswith(STEP):
            return operations * self.rates["score"] / self.rates[kind] if kind in self.rates else 0.0
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

    def beginning(self, method: Any) -> float:
        """Work of a trial of `method` beside what it computes."""
        return self.weigh("overhead", self.overhead(method.work))

    def evaluation(self, rows: int, demonstrations: int = 0, *, tuned: bool = False) -> float:
        """Work of predicting `rows` rows, and of their targets' log-probabilities where these cost extra."""
        work = self.prediction(rows, demonstrations, tuned=tuned)
        if self.text_tokens is not None:
            t = self.tokens
            work += self._pass("score", rows, t.suffix + t.answer, t.answer, self._prefix(demonstrations))
        return work

    def prediction(self, rows: int, demonstrations: int = 0, *, tuned: bool = False) -> float:
        """Work of predicting `rows` rows.

        A model that was tuned on the answers ends them by itself; any other may go on to the longest allowed.
        """
        t, prefix = self.tokens, self._prefix(demonstrations)
        if self.text_tokens is None:
            return self._pass("score", rows, t.suffix + t.nodes, 1 + t.nodes, prefix)
        each = min(self.text_tokens, 1.5 * t.answer + 2) if tuned else self.text_tokens
        new = rows * each
        context = prefix + t.suffix + each
        writing = operations("generate", self.shape, tokens=new, products=new * context, projected=new)
        return self._pass("score", rows, t.suffix, 1, prefix) + self._weighed(writing)

    def request(self, demonstrations: int, *, tuned: bool = False) -> float:
        """Work of one more request, the fixed prefix cached; `tuned` as in `prediction`."""
        rows = 100
        many, one = (self.prediction(count, demonstrations, tuned=tuned) for count in (rows + 1, 1))
        return (many - one) / rows

    def test(self, method: Any) -> float:
        """Work of predicting the test rows with what `method` gives; none where folds are the test."""
        if method.work is None or not self.n_test:
            return 0.0
        return self.evaluation(self.n_test, tuned=method.work.startswith("train"))

    def prompt_trial(self, demonstrations: int) -> float:
        """Work of one prompt with its calibrations: validation rows, and training inputs for the batch bias."""
        biased = min(BATCH_ROWS, self.n_train) if self.text_tokens is None else 0
        return self.evaluation(self.n_validation + biased, demonstrations)

    def fit(self, method: Any, settings: Mapping[str, Any], shots: int = 0) -> float:
        """Work of making a candidate from its start to its last step.

        Args:
            method: of the candidate.
            settings: its hyper-parameters.
            shots: demonstrations in its prompt.
        """
        work = self.beginning(method)
        if method.work is None:
            return work
        if not method.work.startswith("train"):
            work += self.prompt_trial(shots)
        else:
            work += int(settings["epochs"]) * self.epoch(
                method.work, settings.get("batch_size", BATCH_SIZE), shots
            )
        return work

    def epoch(self, kind: str, batch_size: int, demonstrations: int = 0) -> float:
        """Work of one pass over the training rows, checked once on validation."""
        t = self.tokens
        steps = steps_of(self.n_train, batch_size)
        prefix = self._prefix(demonstrations) + (SOFT_TOKENS if kind == "train-soft-prompt" else 0)
        step = self._pass(kind, self.n_train / steps, t.suffix + t.answer, t.answer, prefix)
        checks = 1.0 if steps >= 8 else steps / 8
        step += self.weigh(kind + STEP, 1)
        return steps * step + checks * self.evaluation(self.n_validation, demonstrations, tuned=True)

    def memory_mb(self, kind: str | None, batch_size: int, parameters: int, bytes_each: int) -> float:
        """Peak resident memory of a trial: libraries, weights, optimizer state, activations."""
        if kind is None:
            return LIBRARIES / 2e6
        footprint = Footprint(self.shape, bytes_each, parameters)
        if not kind.startswith("train"):
            return footprint.scoring(BATCH_TOKENS) / 1e6
        tokens = self.tokens.prefix + batch_size * (self.tokens.suffix + self.tokens.answer)
        learned = {"train-full": parameters, "train-lora": round(0.04 * parameters)}.get(kind, 0)
        training = footprint.training(kind.removeprefix("train-"), learned, min(tokens, PASS_TOKENS))
        return (training + CANDIDATES * learned * bytes_each + PREPARED) / 1e6

    def serving_mb(self, parameters: int, bytes_each: int, learned: int) -> float:
        """Resident memory of answering: libraries, weights, what was learned beside them, a pass, keys and values.

        Args:
            parameters: of the base model.
            bytes_each: of a value.
            learned: values that stand beside those of the base model.
        """
        footprint = Footprint(self.shape, bytes_each, parameters)
        written = 0.0
        if self.text_tokens is not None:
            own = self.tokens.suffix + self.text_tokens
            written = footprint.cache(self.tokens.prefix + MOST_ROWS * own)
        return (footprint.scoring(BATCH_TOKENS) + learned * bytes_each + written) / 1e6

    def _prefix(self, demonstrations: int) -> float:
        return self.tokens.prefix + demonstrations * self.tokens.turn

    def _pass(self, kind: str, rows: float, each: float, projected: float, prefix: float) -> float:
        """Work of `rows` rows of `each` tokens that continue a prefix."""
        tokens = prefix + rows * each
        products = prefix**2 + rows * each * (prefix + PADDING * each)
        work = operations(kind, self.shape, tokens=tokens, products=products, projected=rows * projected)
        return self._weighed(work)

    def _weighed(self, work: Mapping[str, float]) -> float:
        return math.fsum(self.weigh(kind, count) for kind, count in work.items())
