"""A finalist fitted to other rows, in whichever process: without one of the folds, or to all rows of a study.

Like a trial it writes into a folder of its own, beside the candidate that it hands over, and tells whoever keeps
the journal what happened. So fits may run side by side.

>>> outcome = Refits(...).run(Refit(made, fold=1))
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.adapted import AdaptedModel, Predictor, forget_scores
from tunewise.candidates import add_origin
from tunewise.errors import reason_of
from tunewise.methods import get
from tunewise.reading.folds import SCREENING, rows_without
from tunewise.study.again import Made, make_again
from tunewise.study.attempts import Sink, waiting
from tunewise.study.evaluation import evaluate, write_predictions
from tunewise.study.files import artifact_mb, origin
from tunewise.study.forecast import Forecaster
from tunewise.study.journal import Event
from tunewise.study.proposals import Outcome
from tunewise.study.trials import MeteredTrial, standing_of
from tunewise.task import Dataset, Task
from tunewise.whole import put_folder


@dataclass(frozen=True)
class Refit:
    """A fit that is asked for."""

    made: Made
    fold: int | None = None
    """Whose rows it answers, without having seen them; None for a fit to all rows, which is used."""
    repeat: str = ""
    """Name of the trial that it is, where it repeats one that finished with another seed."""
    more_seed: int = 0
    """Added to the seed of the study."""

    @property
    def trial(self) -> str:
        """The trial that it belongs to."""
        return self.repeat or self.made.trial

    @property
    def key(self) -> str:
        """What tells it from the others that run."""
        return f"{self.trial}/{self._place}"

    @property
    def method(self) -> Any:
        """That is fitted."""
        return self.made.method

    def within(self, run: Path) -> Path:
        """Where it keeps its state, and what came of it until that is put in its place."""
        if self.repeat:
            return waiting(run, self.repeat).parent
        return run / "trials" / self.made.trial / self._place

    @property
    def where(self) -> str:
        """What stands before the reason for which it failed."""
        if self.repeat:
            return ""
        return "on all rows: " if self.fold is None else f"in fold {self.fold + 1}: "

    @property
    def _place(self) -> str:
        return "all-rows" if self.fold is None else f"fold-{self.fold + 1}"


def packed_refit(refit: Refit) -> dict[str, Any]:
    """A fit as plain values."""
    return {**vars(refit), "made": _packed(refit.made)}


def unpacked_refit(values: Mapping[str, Any]) -> Refit:
    """The inverse of `packed_refit`."""
    return Refit(**{**values, "made": _unpacked(values["made"])})


def _packed(made: Made) -> dict[str, Any]:
    start = _packed(made.start) if made.start else None
    return {**vars(made), "method": made.method.name, "parameters": dict(made.parameters), "start": start}


def _unpacked(values: Mapping[str, Any]) -> Made:
    start = _unpacked(values["start"]) if values["start"] else None
    return Made(**{**values, "method": get(values["method"]), "start": start})


@dataclass
class Refits:
    """Fits finalists of a study to other rows."""

    folder: Path
    """Of the run."""
    task: Task
    base: AdaptedModel
    seed: int
    forecaster: Forecaster
    sink: Sink | None = None
    """Set before anything runs."""

    def run(self, refit: Refit, recorded: Sequence[Event] = ()) -> Outcome:
        """Fit once, and keep what came of it; whatever goes wrong is recorded, and ends that finalist only.

        Args:
            refit: what is asked for.
            recorded: not asked for; that a state is kept says enough.
        """
        assert self.sink is not None
        forget_scores()
        folder, begun = refit.within(self.folder), time.perf_counter()
        kept = standing_of(folder)
        trial = MeteredTrial(self.seed, folder, Dataset(()), weigh=self.forecaster.weigh, keeps=True)

        def standing() -> dict[str, Any]:
            seconds = time.perf_counter() - begun + kept.get("seconds", 0.0)
            return {"work": trial.work + kept.get("work", 0.0), "seconds": round(seconds, 3)}

        trial.standing = lambda best: standing()
        trial.on_progress = lambda step, steps, loss: self._show(refit, step, steps, standing()["work"])
        try:
            came = self._keep(refit, self._fit(refit, trial, goes_on=bool(kept)), standing)
        except Exception as error:  # as in a trial: recorded with its reason, and the others go on
            reason = f"{refit.where}{reason_of(error)}"
            self.sink.write("failed", refit.trial, reason=reason, error=type(error).__name__, **standing())
            return Outcome(refit.key, "failed")
        return Outcome(refit.key, "finished", came)

    def _fit(self, refit: Refit, trial: MeteredTrial, *, goes_on: bool) -> Predictor:
        """An interrupted fit goes on from the state that it kept."""
        trial.watch(self.base)
        if not goes_on:
            trial.spend("overhead", self.forecaster.overhead(refit.method.work))
        rows, screening = rows_without(self.task, refit.fold), self.task.folds[SCREENING]
        return make_again(refit.made, self.base, rows, screening, trial, refit.more_seed, goes_on=goes_on)

    def _keep(self, refit: Refit, fitted: Predictor, standing: Callable[[], dict[str, Any]]) -> float | None:
        """The answers to a fold, or the candidate, and that it is there; the score of the answers."""
        assert self.sink is not None
        folder = refit.within(self.folder)
        if refit.fold is not None:
            forget_scores()
            evaluation = evaluate(fitted, self.task.folds[refit.fold])
            write_predictions(folder / ANSWERS, evaluation)
            told = {"fold": refit.fold + 1, "score": round(evaluation.score, 6)}
            self.sink.write("folded", refit.trial, **told, **standing())
            return evaluation.score
        made, n_train, pending = refit.made, len(rows_without(self.task, None)), folder / "candidate"
        seed = self.seed + refit.more_seed
        shutil.rmtree(pending, ignore_errors=True)
        pending.mkdir(parents=True)
        fitted.save(pending)
        add_origin(pending, origin(made.method, made.parameters, refit.trial, seed, n_train))
        if refit.repeat:  # it waits there for the test
            kept = {"step": made.step_on(n_train), "value": None, "log_loss": None, "cut_short": False}
            self.sink.write("finished", refit.trial, **kept, **standing())
            return None
        target = self.folder / "candidates" / made.method.name
        put_folder(pending, target)
        size = artifact_mb(target)
        self.sink.write("refitted", refit.trial, n_train=n_train, artifact_mb=size, **standing())
        return None

    def _show(self, refit: Refit, step: int, steps: int, work: float) -> None:
        assert self.sink is not None
        told = {"step": step, "steps": steps, "value": None, "work": work}
        self.sink.tell({"event": "progress", "trial": refit.trial, "fit": refit.key, **told})


ANSWERS = "answers.jsonl"
"""Of a fit, to the rows of its fold, in its folder."""
