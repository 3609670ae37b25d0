"""Candidates that compete within one trial: each is offered to the study, and validation chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tunewise.adapted import Predictor
from tunewise.methods.base import Trial, Verdict

Candidate = TypeVar("Candidate", bound=Predictor)


def best_of(candidates: Iterable[Candidate], trial: Trial) -> Candidate:
    """The candidate with the best verdict; none is made, let alone offered, once the study says stop."""
    best: tuple[Verdict, Candidate] | None = None
    for step, candidate in enumerate(candidates, 1):
        verdict = trial.check(step, candidate)
        if best is None or verdict.better_than(best[0]):
            best = verdict, candidate
        if verdict.stop:
            break
    assert best is not None
    return best[1]
