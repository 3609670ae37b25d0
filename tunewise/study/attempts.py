"""One trial at work, in whichever process: metered, scored, paused and continued, its candidate saved.

It writes into folders of its own alone, and hands every event to whoever keeps the journal. So trials may run side
by side, and the journal has one writer.

>>> outcome = Attempts(...).run(proposal, recorded=[])
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunewise.adapted import NO_MODEL, AdaptedModel, Predictor, forget_scores, loaded
from tunewise.candidates import add_origin
from tunewise.engine import peaks
from tunewise.errors import reason_of
from tunewise.methods import load_predictor
from tunewise.methods.base import Verdict
from tunewise.run_files import predictions_of
from tunewise.study.evaluation import write_predictions
from tunewise.study.files import artifact_mb, origin, trainable_parameters
from tunewise.study.forecast import BATCH_SIZE, Forecaster, steps_of
from tunewise.study.journal import Event
from tunewise.study.proposals import Outcome, Proposal, method_of
from tunewise.study.trials import Checked, MeteredTrial, standing_of
from tunewise.task import Task


def waiting(run: Path, trial: str) -> Path:
    """Where the candidate of a trial waits: until it is on record as finished, or, of a repeat, until its test."""
    return run / "trials" / trial / "candidate"


class Sink(Protocol):
    """Where the events of a trial go."""

    def write(self, event: str, trial: str, **fields: Any) -> None:
        """Record one."""
        ...

    def tell(self, event: dict[str, Any]) -> None:
        """Pass on one that is worth showing but not recording."""
        ...


@dataclass
class Attempt:
    """A trial at work: what was asked, what meters it, and where it goes on from."""

    proposal: Proposal
    trial: MeteredTrial
    kept: Event
    """How the trial stood when its state was last kept; empty for one that starts."""
    _begun: float = field(default_factory=time.perf_counter)

    @property
    def work(self) -> float:
        """Work counted so far, that of earlier processes included as far as its state was kept."""
        return self.trial.work + work_of(self.kept)

    @property
    def seconds(self) -> float:
        """Seconds so far, counted likewise."""
        return time.perf_counter() - self._begun + (self.kept.get("seconds") or 0.0)


@dataclass
class Attempts:
    """Runs trials of a study."""

    folder: Path
    """Of the run."""
    task: Task
    base: AdaptedModel
    seed: int
    forecaster: Forecaster
    sink: Sink | None = None
    """Set before anything runs."""
    must_end: Callable[[], bool] = lambda: False
    """The clock's hard stop."""
    model_name: str = ""

    @property
    def uses_gpu(self) -> bool:
        """Whether trials that ask the model run on a GPU."""
        return self.base.base != NO_MODEL and loaded(self.base.base).device.type == "cuda"

    def run(self, proposal: Proposal, recorded: Sequence[Event]) -> Outcome:
        """Run a trial, or go on with it; whatever goes wrong in it is recorded, and ends that trial only.

        Args:
            proposal: what is asked for.
            recorded: its events so far.
        """
        forget_scores()
        attempt = self._prepared(proposal, recorded)
        trial = attempt.trial
        self._write_start(attempt)
        try:
            if trial.pause_at is not None and attempt.kept.get("at", 0) >= trial.pause_at:
                # It had reached its rung, and was interrupted before that stood in the journal.
                return self._paused(proposal, attempt.kept)
            peaks.reset()
            start = self._start(proposal)
            trial.watch(start)
            trial.spend("overhead", 0.0 if attempt.kept else self.forecaster.overhead(proposal.method.work))
            method = proposal.method(**proposal.parameters)
            fitted = method.fit(start, self.task.train, self.task.validation, trial)
            seconds = attempt.seconds
            if trial.paused and not trial.ended_by_clock:
                assert trial.best is not None
                return self._paused(proposal, self._standing(attempt, trial.best))
            return self._finish(attempt, fitted, seconds)
        except Exception as error:
            name, work = type(error).__name__, attempt.work
            self._write(
                "failed", proposal, reason=reason_of(error), error=name, work=work, seconds=attempt.seconds
            )
            shutil.rmtree(trial.folder, ignore_errors=True)
            return Outcome(proposal.trial, "failed", work=work)

    def identity(self, proposal: Proposal) -> Event:
        """What its start records to tell it from any other trial that could have its name."""
        return {
            "parameters": dict(proposal.parameters),
            "seed": self.seed + proposal.more_seed,
            "start_from": proposal.start_from,
        }

    def kept(self, proposal: Proposal, recorded: Sequence[Event]) -> Event:
        """How the trial stood at its rung, or when its state was kept after it; empty for one that starts."""
        paused = [event for event in recorded if event["event"] == "paused"]
        found = standing_of(self._folder(proposal.trial)) if recorded else {}
        return paused[-1] if paused and work_of(paused[-1]) >= work_of(found) else found

    def out_of_budget(self, proposal: Proposal, work: float, reason: str) -> Outcome:
        """Record that it does not run, or not to its end."""
        method = proposal.method.name
        self._write("out_of_budget", proposal, method=method, model=self.model_name, reason=reason, work=work)
        return Outcome(proposal.trial, "out_of_budget", work=work)

    def _prepared(self, proposal: Proposal, recorded: Sequence[Event]) -> Attempt:
        kept = self.kept(proposal, recorded)
        folder = self._folder(proposal.trial)
        # What an interrupted attempt left is not to be trusted, but for the state that was kept.
        shutil.rmtree(waiting(self.folder, proposal.trial) if kept else folder, ignore_errors=True)
        pause_at = None
        if proposal.until is not None:
            size = proposal.parameters.get("batch_size", BATCH_SIZE)
            pause_at = proposal.until * steps_of(len(self.task.train), size)
        limit = proposal.work_limit
        trial = MeteredTrial(
            seed=self.seed + proposal.more_seed,
            folder=folder,
            validation=self.task.validation,
            weigh=self.forecaster.weigh,
            must_end=self.must_end,
            pause_at=pause_at,
            work_limit=None if limit is None else limit - work_of(kept),
            keeps=True,
        )
        if "value" in kept:  # it may be ended before its next check
            trial.best = Checked(kept["step"], Verdict(kept["value"], True, kept["log_loss"]), None)
        attempt = Attempt(proposal, trial, kept)
        trial.standing = lambda best: self._standing(attempt, best)
        trial.on_check = lambda checked, epoch: self._report(attempt, checked, epoch)
        trial.on_progress = lambda step, steps, loss: self._show(attempt, step, steps)
        return attempt

    def _standing(self, attempt: Attempt, best: Checked | None) -> Event:
        """What is kept with a state: as much as the journal tells of a rung; before the first check no result."""
        spent = {"work": attempt.work, "seconds": round(attempt.seconds, 3)}
        if best is None:
            return spent
        self._write_validation(attempt.proposal, best)
        result = {"step": best.step, "value": best.verdict.value, "log_loss": best.verdict.log_loss}
        return {"at": attempt.trial.step, **result, **spent}

    def _start(self, proposal: Proposal) -> Predictor:
        if proposal.start_from is None:
            return self.base
        return load_predictor(self.folder / "candidates" / method_of(proposal.start_from))

    def _paused(self, proposal: Proposal, standing: Event) -> Outcome:
        self._write("paused", proposal, **{name: value for name, value in standing.items() if name != "time"})
        return Outcome(proposal.trial, "paused", standing["value"], standing["log_loss"], standing["work"])

    def _finish(self, attempt: Attempt, fitted: Predictor, seconds: float) -> Outcome:
        proposal, trial, work = attempt.proposal, attempt.trial, attempt.work
        best = trial.best
        if best is None:
            reason = "the time of the budget was used up before its first check"
            return self.out_of_budget(proposal, work, reason)
        verdict = best.verdict
        self._write_validation(proposal, best)
        self._save(proposal, fitted)
        self._write(
            "finished",
            proposal,
            step=best.step,
            value=verdict.value,
            log_loss=verdict.log_loss,
            work=work,
            seconds=round(seconds, 3),
            peak_rss_mb=round(peaks.resident_mb(), 1),
            peak_gpu_mb=peaks.gpu_mb(),
            trainable_parameters=trainable_parameters(fitted),
            artifact_mb=artifact_mb(waiting(self.folder, proposal.trial)),
            request_work=self._request_work(fitted),
            serving_mb=self._serving_mb(fitted),
            cut_short=trial.cut_short,
        )
        return Outcome(proposal.trial, "finished", verdict.value, verdict.log_loss, work)

    def _save(self, proposal: Proposal, fitted: Predictor) -> None:
        pending = waiting(self.folder, proposal.trial)
        pending.mkdir(parents=True)
        fitted.save(pending)
        seed, rows = self.seed + proposal.more_seed, len(self.task.train)
        add_origin(pending, origin(proposal.method, proposal.parameters, proposal.trial, seed, rows))

    def _folder(self, trial: str) -> Path:
        """What a trial needs until it has ended."""
        return self.folder / "trials" / trial

    def _write_validation(self, proposal: Proposal, best: Checked) -> None:
        if best.evaluation is not None:
            path = predictions_of(self.folder, proposal.trial, "validation")
            write_predictions(path, best.evaluation)

    def _request_work(self, fitted: Predictor) -> float:
        """Work of one more request; none where no model is asked."""
        if not isinstance(fitted, AdaptedModel):
            return 0.0
        return self.forecaster.request(len(fitted.prompt.demonstrations), tuned=fitted.weights is not None)

    def _serving_mb(self, fitted: Predictor) -> float:
        """Memory that answering takes, forecast from tensors: the process also holds what trials leave behind."""
        if not isinstance(fitted, AdaptedModel):
            return round(self.forecaster.memory_mb(None, 1, 0, 0), 1)
        footprint = loaded(fitted.base).footprint
        learned = trainable_parameters(fitted)
        return round(self.forecaster.serving_mb(footprint.parameters, footprint.itemsize, learned), 1)

    def _report(self, attempt: Attempt, checked: Checked, epoch: float | None) -> None:
        self._write(
            "reported",
            attempt.proposal,
            step=checked.step,
            epoch=epoch,
            value=checked.verdict.value,
            log_loss=checked.verdict.log_loss,
            work=attempt.work,
            seconds=round(checked.evaluation.seconds, 3) if checked.evaluation else None,
            best=attempt.trial.best is checked,
        )

    def _show(self, attempt: Attempt, step: int, steps: int) -> None:
        best = attempt.trial.best
        assert self.sink is not None
        self.sink.tell(
            {
                "event": "progress",
                "trial": attempt.proposal.trial,
                "step": step,
                "steps": steps,
                "value": best.verdict.value if best else None,
                "work": attempt.work,
            }
        )

    def _write_start(self, attempt: Attempt) -> None:
        proposal = attempt.proposal
        work = proposal.forecast_work
        seconds = round(self.forecaster.seconds(work), 1) if self.forecaster.rates else None
        self._write(
            "continued" if attempt.kept else "started",
            proposal,
            method=proposal.method.name,
            family=proposal.method.family,
            model=self.model_name,
            **self.identity(proposal),
            n_train=len(self.task.train),
            stage=proposal.stage,
            forecast_work=work,
            forecast_seconds=seconds,
            **({"repeats": proposal.repeats} if proposal.repeats else {}),
            **({"kept_at": attempt.kept["time"]} if "time" in attempt.kept else {}),
        )

    def _write(self, event: str, proposal: Proposal, **fields: Any) -> None:
        assert self.sink is not None
        self.sink.write(event, proposal.trial, **fields)


def work_of(event: Event) -> float:
    """Work that an event tells of; 0 for one that tells of none."""
    return event.get("work") or 0.0
