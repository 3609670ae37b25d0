"""The answer of the most similar training examples: a vote for labels, a copy for text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tunewise.adapted import Prediction, Predictor
from tunewise.candidates import describe, read_json, seal, write_json
from tunewise.methods.base import Method, Trial
from tunewise.methods.choosing import best_of
from tunewise.methods.similarity import joined, vectorizer
from tunewise.task import Choices, Dataset, Input, TaskSpec


@dataclass(frozen=True, eq=False)
class NearestPredictor:
    """Remembers the training rows and answers as the `neighbours` most similar ones do."""

    kind: ClassVar[str] = "nearest-example"
    spec: TaskSpec
    texts: tuple[str, ...] = field(repr=False)
    targets: tuple[str, ...] = field(repr=False)
    neighbours: int

    @cached_property
    def _index(self) -> tuple[Any, Any]:
        features = vectorizer()
        return features, features.fit_transform(self.texts)

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """Similarity-weighted vote over labels, or the nearest example's text."""
        rows = self.spec.rows(inputs)
        if not rows:
            return []
        features, matrix = self._index
        asked = features.transform([joined(fields) for fields in rows])
        similarities = (asked @ matrix.T).toarray()
        return [self._answer(row) for row in similarities]

    def _answer(self, similarities: np.ndarray) -> Prediction:
        # A stable sort, so that ties go to the earlier training row.
        nearest = np.argsort(-similarities, kind="stable")[: self.neighbours]
        if not isinstance(self.spec.answer, Choices):
            return Prediction(self.targets[int(nearest[0])])
        labels = self.spec.answer.labels
        # A little of every label, so that one without a neighbour keeps a finite score.
        votes = dict.fromkeys(labels, 0.01)
        for place in nearest:
            votes[self.targets[int(place)]] += float(similarities[place]) + 1e-6
        total = sum(votes.values())
        output = max(labels, key=lambda label: votes[label])
        scores = {label: math.log(vote / total) for label, vote in votes.items()}
        return Prediction(output, scores, votes[output] / total)

    def save(self, folder: Path) -> None:
        """Write the remembered rows as JSON; the index is built again on loading."""
        folder.mkdir(parents=True, exist_ok=True)
        describe(folder, self.kind, self.spec, neighbours=self.neighbours)
        write_json(folder / "examples.json", {"texts": list(self.texts), "targets": list(self.targets)})
        seal(folder)

    @classmethod
    def load(cls, folder: Path, spec: TaskSpec) -> NearestPredictor:
        """The inverse of `save`."""
        rows = read_json(folder / "examples.json")
        neighbours = int(read_json(folder / "candidate.json")["neighbours"])
        return cls(spec, tuple(rows["texts"]), tuple(rows["targets"]), neighbours)


@dataclass(frozen=True)
class NearestExample(Method):
    """Vote (labels) or copy (text) of the most similar training examples."""

    name: ClassVar[str] = "nearest-example"
    family: ClassVar[str] = "baseline"
    needs: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[int] = 1
    work: ClassVar[str | None] = None
    predictor: ClassVar[Any] = NearestPredictor

    neighbours: tuple[int, ...] = (1, 3, 7)
    """Numbers of neighbours to choose from on validation."""

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Remember the rows; validation chooses how many neighbours vote."""
        texts = tuple(joined(inputs) for inputs in train.inputs)
        counts = self.neighbours if isinstance(start.spec.answer, Choices) else self.neighbours[:1]
        targets = tuple(train.targets)
        return best_of((NearestPredictor(start.spec, texts, targets, count) for count in counts), trial)
