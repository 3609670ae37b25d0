"""The most frequent answer of the training rows, whatever the input: what any method has to beat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunewise.adapted import Prediction, Predictor
from tunewise.candidates import describe, read_json, seal, write_json
from tunewise.methods.base import Method, Trial
from tunewise.task import Choices, Dataset, Input, TaskSpec


@dataclass(frozen=True)
class MajorityPredictor:
    """Answers with the training rows' most frequent target; its scores are their shares."""

    kind: ClassVar[str] = "majority"
    spec: TaskSpec
    counts: tuple[tuple[str, int], ...]
    """Targets and how often each stood in the training rows, most frequent first."""

    def predict(self, inputs: Sequence[Input]) -> list[Prediction]:
        """The same answer for every input."""
        total = sum(count for _, count in self.counts)
        output = self.counts[0][0]
        scores = None
        if isinstance(self.spec.answer, Choices):
            seen = dict(self.counts)
            labels = self.spec.answer.labels
            # One more of each (Laplace), so that a label never seen keeps a finite score.
            scores = {label: math.log((seen.get(label, 0) + 1) / (total + len(labels))) for label in labels}
        probability = math.exp(scores[output]) if scores else None
        return [Prediction(output, scores, probability) for _ in self.spec.rows(inputs)]

    def save(self, folder: Path) -> None:
        """Write the counts as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        describe(folder, self.kind, self.spec)
        write_json(folder / "majority.json", [list(pair) for pair in self.counts[:1000]])
        seal(folder)

    @classmethod
    def load(cls, folder: Path, spec: TaskSpec) -> MajorityPredictor:
        """The inverse of `save`."""
        return cls(spec, tuple((str(t), int(c)) for t, c in read_json(folder / "majority.json")))


@dataclass(frozen=True)
class Majority(Method):
    """Always the most frequent answer of the training rows."""

    name: ClassVar[str] = "majority"
    family: ClassVar[str] = "baseline"
    needs: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[int] = 0
    learns_from_rows: ClassVar[bool] = False
    work: ClassVar[str | None] = None
    predictor: ClassVar[Any] = MajorityPredictor

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Count the targets."""
        counts = Counter(train.targets)
        order = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        fitted = MajorityPredictor(start.spec, tuple(order))
        trial.check(1, fitted)
        return fitted
