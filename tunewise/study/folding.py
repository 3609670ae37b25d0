"""What finalists take in the other folds, as forecast before a study and priced within it, and who goes on.

>>> fits_of(5)
5.25
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.adapted import ModelRef
from tunewise.methods.base import first_of
from tunewise.study.forecast import Forecaster
from tunewise.task import Task, TaskSpec

FINALISTS = 4
"""That go through the other folds where these are the test, at most; baselines beside them."""


@dataclass(frozen=True)
class Folding:
    """What a study in folds takes after its first fold, as forecast."""

    work: float = 0.0
    """Of as many finalists as there may be."""
    needed: float = 0.0
    """Of one on average, and of the cheapest that is tuned."""
    fits: float = 0.0
    """Of each, in fits like that on the first fold."""


NO_FOLDS = Folding()


def fits_of(folds: int) -> float:
    """What a finalist takes after it was screened, in fits like that one: each other fold, and all rows."""
    return folds - 1 + folds / (folds - 1)


def folding_of(
    spec: TaskSpec, model: ModelRef | None, methods: Sequence[Any], forecaster: Forecaster, folds: int, most: int
) -> Folding:
    """What finalists would take in the other folds.

    Args:
        spec: of the task.
        model: the base model.
        methods: that are compared.
        forecaster: of the first fold.
        folds: how many.
        most: finalists.
    """
    fits, n_train = fits_of(folds), forecaster.n_train
    settings = {method.name: first_of(method.search_space(spec, model, n_train)) for method in methods}
    works, trained = [], []
    for method in methods:
        # A chain without what it starts from cannot run.
        if method.work is not None and method.starts_from in (None, *settings):
            prompt = settings.get(method.starts_from or "")
            shots = int((prompt or settings[method.name]).get("shots", 0))
            tuned = method.work.startswith("train")
            fit = forecaster.fit(method, settings[method.name], shots)
            start = forecaster.prompt_trial(shots) if prompt is not None else 0.0
            again = fits * (fit + start)
            works.append(again + forecaster.evaluation(n_train, tuned=tuned))
            trained += [again] if tuned else []
    works.sort(reverse=True)
    needed = max(statistics.fmean(works or [0.0]), min(trained, default=0.0))
    return Folding(math.fsum(works[:most]), needed, fits)


def most_finalists(task: Task) -> int:
    """How many go through the other folds at most, baselines left out of account."""
    return FINALISTS if task.tested_in_folds else sys.maxsize


def going_on(
    prices: Mapping[str, float], left: float, most: int, reserve: float = 0.0
) -> tuple[list[str], list[str]]:
    """Which methods go through the other folds, and which of the best `left` work does not hold.

    Args:
        prices: what each would take there, the best on the first fold first.
        left: work for all of them together.
        most: methods that go on at most.
        reserve: work beyond it that the first of them may take: a forecast that was a little too low must not
            leave the best method out.
    """
    taken: list[str] = []
    left_out: list[str] = []
    for method, price in prices.items():
        if len(taken) == most:
            break
        if price <= left + (0.0 if taken else reserve):
            taken.append(method)
            left -= price
        else:
            left_out.append(method)
    return taken, left_out
