"""Solved examples in the prompt: a fixed, balanced choice of demonstrations, no training."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import ClassVar

from tunewise.adapted import AdaptedModel, ModelRef, Predictor
from tunewise.methods.base import Method, SearchSpace, Trial
from tunewise.methods.zero_shot import CALIBRATIONS, best_calibrated
from tunewise.prompt import Demonstration
from tunewise.task import Choices, Dataset, TaskSpec


@dataclass(frozen=True)
class FewShot(Method):
    """The instruction and a balanced set of solved training examples."""

    name: ClassVar[str] = "few-shot"
    family: ClassVar[str] = "prompt engineering"
    needs: ClassVar[frozenset[str]] = frozenset({"label-scores"})
    order: ClassVar[int] = 1
    work: ClassVar[str | None] = "score"

    shots: int = 8
    """How many demonstrations; drawn label by label, so that each label is shown about equally often."""
    draw: int = 0
    """Which of the random draws of demonstrations and their order."""
    calibrations: tuple[str, ...] = CALIBRATIONS
    """Ways of making label scores comparable, to choose from on validation."""

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """Two numbers of shots and two draws: which examples are shown, and in which order, matters as much."""
        each = len(spec.answer.labels) if isinstance(spec.answer, Choices) else 4
        shots = [count for count in (min(2 * each, 24), min(each, 12)) if count <= n_train]
        return {"shots": list(dict.fromkeys(shots)) or [min(8, n_train)], "draw": [0, 1]}

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Choose the demonstrations, then offer each calibration."""
        assert isinstance(start, AdaptedModel)
        shown = balanced(train, self.shots, seed=trial.seed * 1000 + self.draw)
        demonstrations = tuple(Demonstration(dict(example.inputs), example.target) for example in shown)
        prompted = replace(start, prompt=replace(start.prompt, demonstrations=demonstrations))
        return best_calibrated(prompted, self.calibrations, train, validation, trial)


def balanced(train: Dataset, count: int, seed: int) -> Dataset:
    """`count` examples, one of each target in turn, in a random order.

    Whether targets repeat decides what balance means: labels take turns, free texts are drawn from all rows.
    """
    draw = random.Random(seed)
    places = list(range(len(train)))
    draw.shuffle(places)
    by_target: dict[str, list[int]] = {}
    for place in places:
        by_target.setdefault(train.examples[place].target, []).append(place)
    targets = sorted(by_target)
    draw.shuffle(targets)
    chosen: list[int] = []
    while len(chosen) < min(count, len(train)):
        for target in targets:
            if by_target[target] and len(chosen) < count:
                chosen.append(by_target[target].pop())
    draw.shuffle(chosen)
    return train.take(chosen)
