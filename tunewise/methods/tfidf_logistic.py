"""TF-IDF features and logistic regression: the classifier that needs no language model, and often is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tunewise.adapted import ModelRef, Prediction, Predictor
from tunewise.candidates import describe, read_json, seal, write_json
from tunewise.errors import CandidateError
from tunewise.methods.base import Method, Trial
from tunewise.methods.choosing import best_of
from tunewise.methods.similarity import joined, vectorizer
from tunewise.task import Choices, Dataset, Input, TaskSpec

TENSORS = "tfidf.safetensors"


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """A linear classifier over TF-IDF features, kept as plain arrays."""

    kind: ClassVar[str] = "tfidf-logistic"
    spec: TaskSpec
    terms: tuple[str, ...] = field(repr=False)
    """Feature names, in the order of the columns."""
    idf: np.ndarray = field(repr=False)
    """[features]"""
    coefficients: np.ndarray = field(repr=False)
    """[labels, features]; labels in the spec's order, a label never seen in training at minus infinity."""
    intercepts: np.ndarray = field(repr=False)
    """[labels]"""

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """The most probable label of each input."""
        rows = self.spec.rows(inputs)
        if not rows:
            return []
        assert isinstance(self.spec.answer, Choices)
        labels = self.spec.answer.labels
        features = self._features().transform([joined(fields) for fields in rows])
        logits = features @ self.coefficients.T + self.intercepts
        top = logits.max(axis=1, keepdims=True)
        logprobs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return [
            Prediction(
                output=labels[int(row.argmax())],
                scores={label: float(value) for label, value in zip(labels, row, strict=True)},
                probability=float(np.exp(row.max())),
            )
            for row in logprobs
        ]

    def save(self, folder: Path) -> None:
        """Write the terms as JSON and the arrays as safetensors."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        describe(folder, self.kind, self.spec)
        write_json(folder / "terms.json", list(self.terms))
        arrays = {"idf": self.idf, "coefficients": self.coefficients, "intercepts": self.intercepts}
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / TENSORS)
        seal(folder)

    @classmethod
    def load(cls, folder: Path, spec: TaskSpec) -> LinearPredictor:
        """The inverse of `save`."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays = load_file(folder / TENSORS)
        except (OSError, SafetensorError) as error:
            raise CandidateError(f"{folder / TENSORS} is damaged: {error}. Copy the candidate again.") from error
        terms = tuple(read_json(folder / "terms.json"))
        return cls(spec, terms, arrays["idf"], arrays["coefficients"], arrays["intercepts"])

    def _features(self) -> Any:
        features = vectorizer()
        features.vocabulary_ = {term: column for column, term in enumerate(self.terms)}
        features.idf_ = self.idf
        return features


@dataclass(frozen=True)
class TfidfLogistic(Method):
    """Logistic regression over TF-IDF of words and word pairs."""

    name: ClassVar[str] = "tfidf-logistic"
    family: ClassVar[str] = "baseline"
    needs: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[int] = 2
    work: ClassVar[str | None] = None
    predictor: ClassVar[Any] = LinearPredictor

    inverse_penalties: tuple[float, ...] = (1.0, 10.0, 100.0)
    """Inverse strengths of the L2 penalty to choose from on validation."""

    @classmethod
    def applies(cls, spec: TaskSpec, model: ModelRef | None) -> str | None:
        """It needs a closed list of labels."""
        return None if isinstance(spec.answer, Choices) else "it chooses among labels; this task asks for text"

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Fit one classifier for each penalty; validation chooses."""
        return best_of((_fitted(start.spec, train, penalty) for penalty in self.inverse_penalties), trial)


def _fitted(spec: TaskSpec, train: Dataset, inverse_penalty: float) -> LinearPredictor:
    from sklearn.linear_model import LogisticRegression

    assert isinstance(spec.answer, Choices)
    labels = spec.answer.labels
    features = vectorizer()
    matrix = features.fit_transform([joined(inputs) for inputs in train.inputs])
    seen = sorted(set(train.targets))
    if len(seen) > 1:
        model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(matrix, train.targets)
        seen, rows, intercepts = list(model.classes_), model.coef_, model.intercept_
    else:  # of one label there is nothing to tell apart
        rows, intercepts = np.zeros((1, matrix.shape[1])), np.zeros(1)
    if len(seen) == 2:  # scikit-learn keeps one row for two labels: that of the second
        rows, intercepts = np.vstack([-rows[0] / 2, rows[0] / 2]), np.array([-intercepts[0], intercepts[0]]) / 2
    coefficients = np.zeros((len(labels), matrix.shape[1]))
    biases = np.full(len(labels), -1e9)
    for label, row, intercept in zip(seen, rows, intercepts, strict=True):
        place = labels.index(str(label))
        coefficients[place], biases[place] = row, intercept
    terms = tuple(str(term) for term in features.get_feature_names_out())
    return LinearPredictor(spec, terms, np.asarray(features.idf_), coefficients, biases)
