"""What all tuning methods share: learn weights through the task's prompt, keep the best step, stop early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunewise.adapted import AdaptedModel
from tunewise.methods.base import Trial, Verdict
from tunewise.methods.context import check_fits
from tunewise.task import Dataset

if TYPE_CHECKING:
    from tunewise.engine.adapters import Weights
    from tunewise.engine.training import Recipe, Training

MIN_STEPS_BETWEEN_CHECKS = 8
PATIENCE = 3
"""Checks without a better score after which training stops."""


def tune(
    start: AdaptedModel,
    weights: Weights,
    train: Dataset,
    validation: Dataset,
    recipe: Recipe,
    epochs: int,
    trial: Trial,
) -> AdaptedModel:
    """Learn `weights` through the prompt of `start`, loss on the answer only.

    The study scores a candidate at every check, and says when to keep the state. A later call with the same trial
    goes on from what was kept as if nothing had happened.

    Args:
        start: the prompt to learn through; its calibration is dropped, the new weights need none.
        weights: where learning starts.
        train: the rows to learn from.
        validation: the rows that the trial scores candidates on; only whether they fit is looked at here.
        recipe: rate, batch size and the like.
        epochs: passes over the rows, at most.
        trial: scores candidates, keeps state.

    Raises:
        TrialError: a prompt of either split is longer than the model reads.
    """
    from tunewise.adapted import loaded
    from tunewise.engine.memory import give_back
    from tunewise.engine.training import Training

    start = replace(start, calibration=None)
    renderer = replace(start, weights=weights).renderer()  # a soft prompt takes room too
    pairs = renderer.pairs(train.inputs, train.targets)
    check_fits(renderer, pairs.prompts, pairs.answers)
    check_fits(renderer, renderer.tokens(validation.inputs))
    training = Training(loaded(start.base), weights, pairs, recipe)
    best = _Best(start)
    kept = trial.state()
    if kept is not None:
        training.restore(kept)
        best.restore(kept)
        del kept
    total = epochs * training.steps_per_epoch
    every = max(training.steps_per_epoch, MIN_STEPS_BETWEEN_CHECKS)
    while training.step < total and best.stale < PATIENCE:
        until = min(total, (training.step // every + 1) * every, trial.ends_at or total)
        if _learn(training, until, total, trial, best):
            break
        candidate = replace(start, weights=training.weights())
        epoch = training.step / training.steps_per_epoch
        verdict = trial.check(training.step, candidate, epoch=epoch)
        best.offer(candidate, verdict, training.step)
        if verdict.keep:
            trial.save_state(_state(training, best))
        if verdict.stop:
            break
    tuned = best.candidate or replace(start, weights=training.weights())
    del training  # with its moments and gradients
    give_back()
    return tuned


def _learn(training: Training, until: int, total: int, trial: Trial, best: _Best) -> bool:
    """Train up to step `until`, a state kept on the way where passes are long; whether to end at once."""
    for report in training.steps(until):
        if trial.progress(report.step, total, report.loss):
            return True
        if report.step < until and trial.wants_state():
            trial.save_state(_state(training, best))
    return False


def _state(training: Training, best: _Best) -> dict[str, Any]:
    """Everything that a trial goes on from; views, so whoever holds it holds masters and moments."""
    state = training.state()
    return {**state, **best.state(state["tensors"])}


class _Best:
    """The best candidate so far, and for how many checks none was better."""

    def __init__(self, start: AdaptedModel) -> None:
        self.start = start
        self.candidate: AdaptedModel | None = None
        self.verdict: Verdict | None = None
        self.stale = 0

    def offer(self, candidate: AdaptedModel, verdict: Verdict, step: int) -> None:
        if verdict.better_than(self.verdict):
            self.candidate, self.verdict, self.stale = candidate, verdict, 0
        else:
            self.stale += 1

    def state(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values, and the tensors together with those of the best weights, once there are any."""
        if self.candidate is None:
            return {"tensors": tensors}
        assert self.verdict is not None
        assert self.candidate.weights is not None
        best = {f"best.{name}": tensor for name, tensor in self.candidate.weights.tensors.items()}
        return {
            "tensors": {**tensors, **best},
            "best_value": self.verdict.value,
            "best_log_loss": self.verdict.log_loss,
            "stale": self.stale,
            "kind": self.candidate.weights.kind,
            "settings": dict(self.candidate.weights.settings),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        if "kind" not in state:  # it was kept before the first check
            return
        from tunewise.engine.adapters import Weights

        tensors = {
            name.removeprefix("best."): state["tensors"][name].clone()
            for name in state["tensors"]
            if name.startswith("best.")
        }
        weights = Weights(state["kind"], tensors, state["settings"])
        self.candidate = replace(self.start, weights=weights)
        self.verdict = Verdict(state["best_value"], False, state["best_log_loss"])
        self.stale = int(state["stale"])
