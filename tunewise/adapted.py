"""An adapted model: base + prompt + constraint + calibration + weights, for one task spec.

It is what every method on a language model takes and gives. Prompt methods change the prompt, tuning methods
the weights, so a hybrid is a chain of methods and needs no code of its own.

>>> adapted = AdaptedModel(spec, base, Prompt(spec.instruction))
>>> adapted.predict(["my card was charged twice"])[0].output
'card_payment'
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tunewise.errors import CandidateError, DataError
from tunewise.prompt import Prompt, Renderer
from tunewise.task import Choices, Input, TaskSpec, Text

if TYPE_CHECKING:
    from tunewise.engine.adapters import Weights
    from tunewise.engine.model import LanguageModel
    from tunewise.engine.scoring import LabelScores

BATCH_ROWS = 128
"""Training inputs that batch calibration looks at, without their labels."""
CONTENT_FREE = ("N/A", "[MASK]", "")
"""Inputs without content, as Zhao et al. 2021 use them."""


@dataclass(frozen=True)
class Prediction:
    """The answer to one input, and what it took."""

    output: str
    """A label as it stands in the data, or text."""
    scores: Mapping[str, float] | None = None
    """Log-probability of each label, normalised over the labels; None for text."""
    probability: float | None = None
    """Probability of the output among the labels; None for text."""
    valid: bool = True
    """Whether the answer is one the task allows; text is valid when it ended by itself."""
    milliseconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@runtime_checkable
class Predictor(Protocol):
    """Anything that predicts for a task spec."""

    @property
    def spec(self) -> TaskSpec:
        """The task it was made for."""
        ...

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One prediction for each input, in order."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything needed to load it again into `folder`."""
        ...


@dataclass(frozen=True)
class ModelRef:
    """Which base model: a name to find it by, and a checksum to know it by."""

    name: str
    sha256: str

    def to_json(self) -> dict[str, str]:
        """Plain values that the constructor takes back."""
        return {"name": self.name, "sha256": self.sha256}


NO_MODEL = ModelRef("", "")
"""Stands where nothing needs a language model: it is never fetched or loaded."""


@dataclass(frozen=True)
class Constraint:
    """What an answer may be. `choices`: one of the task's labels, scored over all of them."""

    kind: str = "choices"


@dataclass(frozen=True)
class Calibration:
    """How raw label scores become comparable: an optional length normalisation, then a bias for each label."""

    kind: str
    """`length`, `contextual` (Zhao et al. 2021), `pmi` (Holtzman et al. 2021) or `batch` (Zhou et al. 2024)."""
    length_normalised: bool
    bias: tuple[float, ...]
    """Subtracted from the labels' scores, in the labels' order."""

    def apply(self, logprobs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Calibrated log-probabilities [rows, labels], normalised over the labels."""
        scores = logprobs / lengths if self.length_normalised else logprobs
        return _normalised(_normalised(scores) - np.array(self.bias))


@dataclass(frozen=True)
class AdaptedModel:
    """A base model and everything that adapts it to one task."""

    spec: TaskSpec
    base: ModelRef
    prompt: Prompt
    constraint: Constraint | None = None
    calibration: Calibration | None = None
    weights: Weights | None = None

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """One prediction for each input, in order.

        Raises:
            DataError: an input lacks a field, or is longer than the model's context.
        """
        inputs = self.spec.rows(inputs)
        if not inputs:
            return []
        if isinstance(self.spec.answer, Text):
            return self._generate(inputs, self.spec.answer)
        return self._choose(inputs, self.spec.answer)

    def raw_scores(self, inputs: Sequence[Input]) -> LabelScores:
        """Uncalibrated label scores of `inputs`, kept for the next caller with the same question.

        Calibrations compete on the same raw scores, which are all that costs anything.
        """
        from tunewise.engine.scoring import close_labels, score_labels

        assert isinstance(self.spec.answer, Choices)
        model, renderer = self._ready()
        prompts = tuple(tuple(tokens) for tokens in self._prompts(renderer, inputs))
        key = (self.base, self.spec.answer.words, prompts)
        kept = _scored.get(key) if self.weights is None else None  # tuned models have no calibrations to try
        if kept is not None:
            return kept
        labels = close_labels([renderer.answer(word) for word in self.spec.answer.words], model.end_id)
        with model.carrying(self.weights):
            scores = score_labels(model, prompts, labels)
        if self.weights is None:
            _scored[key] = scores
            while len(_scored) > SCORES_KEPT:
                _scored.popitem(last=False)
        return scores

    def target_logprobs(self, inputs: Sequence[Input], targets: Sequence[str]) -> np.ndarray:
        """Log-probability of each target after its input: over the labels, or over all text."""
        if isinstance(self.spec.answer, Choices):
            logprobs = self._calibrated(self.raw_scores(inputs))
            columns = [self.spec.answer.labels.index(target) for target in targets]
            picked: np.ndarray = logprobs[np.arange(len(columns)), columns]
            return picked
        from tunewise.engine.answers import score_answers

        model, renderer = self._ready()
        with model.carrying(self.weights):
            return score_answers(model, renderer.pairs(inputs, targets))

    def with_calibration(self, kind: str, inputs: Sequence[Input]) -> AdaptedModel:
        """This model calibrated by `kind`, its bias estimated from `inputs` where it needs any.

        `inputs` are unlabelled; take them from the training split.
        """
        assert isinstance(self.spec.answer, Choices)
        zero = tuple(0.0 for _ in self.spec.answer.labels)
        if kind == "length":
            return replace(self, calibration=Calibration(kind, True, zero))
        if kind == "batch":
            asked: Sequence[Input] = inputs
        else:
            contents = CONTENT_FREE if kind == "contextual" else ("",)
            asked = [dict.fromkeys(self.spec.inputs, content) for content in contents]
        scores = _normalised(self.raw_scores(asked).logprobs)
        bias = np.log(np.exp(scores).mean(axis=0) + 1e-12)
        return replace(self, calibration=Calibration(kind, False, tuple(float(value) for value in bias)))

    def save(self, folder: Path) -> None:
        """Write the candidate into `folder`; weights in PEFT's or Hugging Face's own format."""
        from tunewise.candidates import save_adapted

        save_adapted(self, folder)

    def check_lengths(self, inputs: Sequence[Input]) -> list[int]:
        """Positions of the inputs whose prompt and answer do not fit the model's context."""
        renderer = self.renderer()
        return [place for place, tokens in enumerate(renderer.tokens(inputs)) if len(tokens) > renderer.room]

    def renderer(self) -> Renderer:
        """What turns this model's inputs into tokens."""
        return self._ready()[1]

    @property
    def _soft_tokens(self) -> int:
        if self.weights is None or self.weights.kind != "soft-prompt":
            return 0
        return next(iter(self.weights.tensors.values())).shape[0]

    def _ready(self) -> tuple[LanguageModel, Renderer]:
        model = loaded(self.base)
        return model, Renderer(self.prompt, self.spec, model, self._soft_tokens)

    def _prompts(self, renderer: Renderer, inputs: Sequence[Input]) -> list[list[int]]:
        prompts = renderer.tokens(inputs)
        room = renderer.room
        long = [place for place, tokens in enumerate(prompts) if len(tokens) > room]
        if long:
            raise DataError(
                f"{len(long)} of {len(prompts)} inputs do not fit the model's context of "
                f"{renderer.model.context} tokens (the first is number {long[0] + 1}, {len(prompts[long[0]]):,} "
                f"tokens with its prompt; there is room for {room:,}). Shorten them."
            )
        return prompts

    def _calibrated(self, scores: LabelScores) -> np.ndarray:
        if self.calibration is None:
            return _normalised(scores.logprobs)
        return self.calibration.apply(scores.logprobs, scores.lengths)

    def _choose(self, inputs: Sequence[Input], answer: Choices) -> list[Prediction]:
        scores = self.raw_scores(inputs)
        logprobs = self._calibrated(scores)
        predictions = []
        for row, values in enumerate(logprobs):
            best = int(values.argmax())
            predictions.append(
                Prediction(
                    output=answer.labels[best],
                    scores={label: float(value) for label, value in zip(answer.labels, values, strict=True)},
                    probability=float(np.exp(values[best])),
                    valid=True,
                    milliseconds=float(scores.milliseconds[row]),
                    prompt_tokens=int(scores.prompt_tokens[row]),
                    cached_tokens=int(scores.cached_tokens[row]),
                )
            )
        return predictions

    def _generate(self, inputs: Sequence[Input], answer: Text) -> list[Prediction]:
        from tunewise.engine.generating import generate

        model, renderer = self._ready()
        prompts = self._prompts(renderer, inputs)
        with model.carrying(self.weights):
            texts = generate(model, prompts, max_tokens=answer.max_tokens, stop=(*answer.stop, *renderer.stop))
        return [
            Prediction(
                output=text.text.strip(),
                valid=text.finished,
                milliseconds=text.milliseconds,
                prompt_tokens=text.prompt_tokens,
                cached_tokens=text.cached_tokens,
            )
            for text in texts
        ]


SCORES_KEPT = 8
_scored: OrderedDict[Any, LabelScores] = OrderedDict()


def forget_scores() -> None:
    """Forget the label scores kept so far, so that what the next trial costs depends on itself alone."""
    _scored.clear()


@functools.lru_cache(maxsize=2)
def loaded(base: ModelRef) -> LanguageModel:
    """The base model in memory, loaded once.

    Raises:
        CandidateError: what the name leads to today is not the model that the checksum names.
    """
    from tunewise import catalog
    from tunewise.engine.loading import load

    folder = catalog.resolve_model(base.name)
    found = checksum(folder)
    if found != base.sha256:
        raise CandidateError(
            f"the base model {base.name!r} in {folder} has checksum {found[:12]}…, expected {base.sha256[:12]}…: "
            "it is not the model this was adapted from. Restore that model, or adapt again."
        )
    return load(folder)


@functools.lru_cache(maxsize=8)
def reference(name: str) -> ModelRef:
    """Find a base model by catalog name, folder, GGUF file or hub name, fetching it where needed."""
    from tunewise import catalog

    return ModelRef(name, checksum(catalog.resolve_model(name)))


@functools.lru_cache(maxsize=8)
def checksum(folder: Path) -> str:
    """SHA-256 over the weights and the tokenizer of a model folder, in the files' order of names."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("tokenizer.json")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _normalised(scores: np.ndarray) -> np.ndarray:
    top = scores.max(axis=1, keepdims=True)
    result: np.ndarray = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
    return result
