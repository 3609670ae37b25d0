"""Does what the race asks for, once: runs trials, repeats recorded ones, records everything.

The runner is what makes a study resumable. Asked for a trial that the journal has ended, it answers from the
journal; asked for one that was interrupted, it starts it again from its kept state. The race cannot tell.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.adapted import AdaptedModel, Predictor, forget_scores, loaded
from tunewise.candidates import add_origin
from tunewise.engine import peaks
from tunewise.errors import reason_of
from tunewise.methods import load_predictor
from tunewise.methods.base import Verdict
from tunewise.study.evaluation import preference, write_predictions
from tunewise.study.files import artifact_mb, origin, trainable_parameters
from tunewise.study.forecast import Forecaster
from tunewise.study.journal import ENDED, Event, Journal, repeats_of
from tunewise.study.policy import Outcome, Proposal, method_of
from tunewise.study.trials import STATE, Checked, MeteredTrial, standing_of
from tunewise.task import Task
from tunewise.whole import put_folder

LEAST_DONE_SECONDS = 20.0
"""Counted work below which nothing is concluded about the speed of the machine."""
MOST_SLOWDOWN = 4.0


def waiting(run: Path, trial: str) -> Path:
    """Where the candidate of a trial waits: until it is on record as finished, or, of a repeat, until its test."""
    return run / "trials" / trial / "candidate"


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
        return self.trial.work + _work(self.kept)

    @property
    def seconds(self) -> float:
        """Seconds so far, counted likewise."""
        return time.perf_counter() - self._begun + (self.kept.get("seconds") or 0.0)


@dataclass
class Worker:
    """The runner that works."""

    folder: Path
    task: Task
    base: AdaptedModel
    seed: int
    journal: Journal
    forecaster: Forecaster
    past: list[Event]
    """Events that earlier processes recorded."""
    budget_seconds: float | None = None
    """The budget, where it is in time."""
    kept_seconds: dict[str, float] = field(default_factory=dict)
    """Of a budget in time, what follows the search will take: the test of each method, and saving."""
    model_name: str = ""
    stopped_by_clock: bool = False
    _said: set[str] = field(default_factory=set)
    _current: Attempt | None = None

    def __post_init__(self) -> None:
        self._recorded: dict[str, list[Event]] = {}
        repeats = repeats_of(self.past)
        for event in self.past:
            if event["trial"]:
                self._recorded.setdefault(event["trial"], []).append(event)
            elif event["event"] == "message":
                self._said.add(event["text"])
                self.stopped_by_clock |= bool(event.get("hard_stop"))
            if event["event"] == "finished" and event["trial"] not in repeats:
                self._install(event["trial"])

    def run(self, proposal: Proposal) -> Outcome:
        """Run, continue or repeat a trial."""
        if proposal.repeats:  # its test comes beside that of the trial that it repeats
            self.kept_seconds[proposal.trial] = self.kept_seconds.get(proposal.method.name, 0.0)
        recorded = self._from_journal(proposal)
        if recorded is not None:
            return recorded
        # Baselines cost next to nothing, and a trial with a kept state has a result that only wants to be taken.
        exempt = proposal.method.family == "baseline" or bool(self._kept(proposal))
        if self._clock_has_stopped() and not exempt:
            work = self._work_recorded(proposal.trial)
            return self._out_of_budget(proposal, work, "the time of the budget was used up before it could start")
        outcome = self._attempt(proposal)
        if proposal.repeats and outcome.status != "finished":
            self.kept_seconds.pop(proposal.trial, None)
        return outcome

    def prune(self, trial: str, reason: str) -> None:
        """Record that a paused trial does not go on."""
        events = self._recorded.get(trial, [])
        if any(event["event"] in ENDED for event in events):
            return
        paused = next(event for event in reversed(events) if event["event"] == "paused")
        kept = {name: paused.get(name) for name in ("value", "log_loss", "work", "seconds", "step")}
        self._record(trial, self.journal.write("pruned", trial, reason=reason, **kept))
        shutil.rmtree(self._folder(trial), ignore_errors=True)

    def give_up(self, method: str) -> None:
        """Nothing needs to be kept for the test of `method`."""
        self.kept_seconds.pop(method, None)

    def say(self, text: str) -> None:
        """Record a message, once."""
        if text not in self._said:
            self._said.add(text)
            self.journal.write("message", None, text=text)

    def _from_journal(self, proposal: Proposal) -> Outcome | None:
        for event in self._recorded.get(proposal.trial, []):
            rung = event["event"] == "paused" and proposal.until is not None
            if event["event"] in ENDED or rung:
                return Outcome(
                    proposal.trial,
                    "paused" if rung else event["event"],
                    event.get("value"),
                    event.get("log_loss"),
                    _work(event),
                )
        return None

    def _attempt(self, proposal: Proposal) -> Outcome:
        """Run a trial; whatever goes wrong in it is recorded, and ends that trial only."""
        forget_scores()
        attempt = self._current = self._prepared(proposal)
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
                return self._pause(attempt)
            return self._finish(attempt, fitted, seconds)
        except Exception as error:
            name, work = type(error).__name__, attempt.work
            self._write(
                "failed", proposal, reason=reason_of(error), error=name, work=work, seconds=attempt.seconds
            )
            shutil.rmtree(trial.folder, ignore_errors=True)
            return Outcome(proposal.trial, "failed", work=work)

    def _kept(self, proposal: Proposal) -> Event:
        """How the trial stood at its rung, or when its state was kept after it; empty for one that starts."""
        events = self._recorded.get(proposal.trial, [])
        paused = [event for event in events if event["event"] == "paused"]
        found = standing_of(self._folder(proposal.trial)) if events else {}
        return paused[-1] if paused and _work(paused[-1]) >= _work(found) else found

    def _prepared(self, proposal: Proposal) -> Attempt:
        kept = self._kept(proposal)
        folder = self._folder(proposal.trial)
        # What an interrupted attempt left is not to be trusted, but for the state that was kept.
        shutil.rmtree(self._pending(proposal.trial) if kept else folder, ignore_errors=True)
        pause_at = None
        if proposal.until is not None:
            size = proposal.parameters.get("batch_size", 16)
            pause_at = proposal.until * -(-len(self.task.train) // size)
        limit = proposal.work_limit
        trial = MeteredTrial(
            seed=self.seed + proposal.more_seed,
            folder=folder,
            validation=self.task.validation,
            weigh=self.forecaster.weigh,
            must_end=self._clock_has_stopped,
            pause_at=pause_at,
            work_limit=None if limit is None else limit - _work(kept),
            keeps=True,
        )
        if kept:  # it may be ended before its next check
            trial.best = Checked(kept["step"], Verdict(kept["value"], True, kept["log_loss"]), None)
        attempt = Attempt(proposal, trial, kept)
        trial.standing = lambda best: self._standing(attempt, best)
        trial.on_check = lambda checked, epoch: self._report(attempt, checked, epoch)
        trial.on_progress = lambda step, steps, loss: self._show(attempt, step, steps)
        return attempt

    def _standing(self, attempt: Attempt, best: Checked) -> Event:
        """What is kept with a state: as much as the journal tells of a rung."""
        self._write_validation(attempt.proposal, best)
        verdict = best.verdict
        return {
            "step": best.step,
            "at": attempt.trial.step,
            "value": verdict.value,
            "log_loss": verdict.log_loss,
            "work": attempt.work,
            "seconds": round(attempt.seconds, 3),
            "time": round(time.time(), 3),
        }

    def _start(self, proposal: Proposal) -> Predictor:
        if proposal.start_from is None:
            return self.base
        return load_predictor(self.folder / "candidates" / method_of(proposal.start_from))

    def _pause(self, attempt: Attempt) -> Outcome:
        assert attempt.trial.best is not None
        return self._paused(attempt.proposal, self._standing(attempt, attempt.trial.best))

    def _paused(self, proposal: Proposal, standing: Event) -> Outcome:
        self._write("paused", proposal, **{name: value for name, value in standing.items() if name != "time"})
        return Outcome(proposal.trial, "paused", standing["value"], standing["log_loss"], standing["work"])

    def _finish(self, attempt: Attempt, fitted: Predictor, seconds: float) -> Outcome:
        proposal, trial, work = attempt.proposal, attempt.trial, attempt.work
        best = trial.best
        if best is None:
            return self._out_of_budget(proposal, work, "the time of the budget was used up before its first check")
        verdict = best.verdict
        outcome = Outcome(proposal.trial, "finished", verdict.value, verdict.log_loss, work)
        self._write_validation(proposal, best)
        if proposal.repeats or self._leads(outcome):
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
            artifact_mb=artifact_mb(self._pending(proposal.trial)),
            request_work=self._request_work(proposal, fitted),
            serving_mb=self._serving_mb(fitted),
            cut_short=trial.ended_by_clock or trial.ended_by_work,
        )
        if not proposal.repeats:  # else it waits where it is, for the test
            self._install(proposal.trial)
            shutil.rmtree(trial.folder, ignore_errors=True)
        (trial.folder / STATE).unlink(missing_ok=True)
        return outcome

    def _out_of_budget(self, proposal: Proposal, work: float, reason: str) -> Outcome:
        method = proposal.method.name
        self._write("out_of_budget", proposal, method=method, model=self.model_name, reason=reason, work=work)
        return Outcome(proposal.trial, "out_of_budget", work=work)

    def _leads(self, outcome: Outcome) -> bool:
        """Whether no trial of its method that has finished is as good."""
        method = method_of(outcome.trial)
        repeats = repeats_of(event for events in self._recorded.values() for event in events)
        finished = [
            preference(event["value"], event["log_loss"])
            for trial, events in self._recorded.items()
            for event in events
            if event["event"] == "finished" and method_of(trial) == method and trial not in repeats
        ]
        return all(preference(outcome.value, outcome.log_loss) > other for other in finished)

    def _save(self, proposal: Proposal, fitted: Predictor) -> None:
        pending = self._pending(proposal.trial)
        pending.mkdir(parents=True)
        fitted.save(pending)
        seed, rows = self.seed + proposal.more_seed, len(self.task.train)
        add_origin(pending, origin(proposal.method, proposal.parameters, proposal.trial, seed, rows))

    def _folder(self, trial: str) -> Path:
        """What a trial needs until it has ended."""
        return self.folder / "trials" / trial

    def _pending(self, trial: str) -> Path:
        """Where its candidate waits until it is on record as finished."""
        return waiting(self.folder, trial)

    def _install(self, trial: str) -> None:
        """Put a waiting candidate in its place; killed in between, it waits on for the next process."""
        pending, place = self._pending(trial), self.folder / "candidates" / method_of(trial)
        if pending.exists():
            place.parent.mkdir(exist_ok=True)
            put_folder(pending, place)

    def _write_validation(self, proposal: Proposal, best: Checked) -> None:
        if best.evaluation is not None:
            name = f"{proposal.trial}-validation.jsonl"
            write_predictions(self.folder / "predictions" / name, best.evaluation)

    def _request_work(self, proposal: Proposal, fitted: Predictor) -> float:
        """Work of one more request; none where no model is asked."""
        return (
            self.forecaster.request(len(fitted.prompt.demonstrations)) if isinstance(fitted, AdaptedModel) else 0.0
        )

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
        self.journal.tell(
            {
                "event": "progress",
                "trial": attempt.proposal.trial,
                "step": step,
                "steps": steps,
                "value": best.verdict.value if best else None,
                "used_seconds": self.journal.elapsed,
                "budget_seconds": self.budget_seconds,
                "used_share": self.journal.elapsed / self.budget_seconds if self.budget_seconds else None,
            }
        )

    def _clock_has_stopped(self) -> bool:
        if self.budget_seconds is None or self.stopped_by_clock:
            return self.stopped_by_clock
        elapsed = self.journal.elapsed
        # What is still to come will be as slow as what was done: the machine may be busy with something else.
        done = self.forecaster.seconds(self._work_done())
        slowdown = min(MOST_SLOWDOWN, max(1.0, elapsed / max(done, LEAST_DONE_SECONDS)))
        if elapsed + slowdown * sum(self.kept_seconds.values()) > self.budget_seconds:
            self.stopped_by_clock = True
            text = (
                "The clock stopped the search: the work took longer than this machine's measured rates said. "
                "What had been checked by then went on to the test."
            )
            self._said.add(text)
            self.journal.write("message", None, text=text, hard_stop=True)
        return self.stopped_by_clock

    def _work_done(self) -> float:
        """Work counted so far in all trials, the running one included."""
        done = {trial: self._work_recorded(trial) for trial in self._recorded}
        if self._current is not None:
            name = self._current.proposal.trial
            done[name] = max(done.get(name, 0.0), self._current.work)
        return sum(done.values())

    def _work_recorded(self, trial: str) -> float:
        return max(map(_work, self._recorded.get(trial, [])), default=0.0)

    def _write_start(self, attempt: Attempt) -> None:
        proposal = attempt.proposal
        work = proposal.forecast_work
        seconds = round(self.forecaster.seconds(work), 1) if self.forecaster.rates else None
        self._write(
            "continued" if attempt.kept else "started",
            proposal,
            number=len(self._recorded),
            method=proposal.method.name,
            family=proposal.method.family,
            model=self.model_name,
            parameters=dict(proposal.parameters),
            seed=self.seed + proposal.more_seed,
            n_train=len(self.task.train),
            stage=proposal.stage,
            forecast_work=work,
            forecast_seconds=seconds,
            start_from=proposal.start_from,
            **({"repeats": proposal.repeats} if proposal.repeats else {}),
            **({"kept_at": attempt.kept["time"]} if "time" in attempt.kept else {}),
        )

    def _write(self, event: str, proposal: Proposal, **fields: Any) -> None:
        self._record(proposal.trial, self.journal.write(event, proposal.trial, **fields))

    def _record(self, trial: str, event: Event) -> None:
        self._recorded.setdefault(trial, []).append(event)


def _work(event: Event) -> float:
    """Work that an event tells of; 0 for one that tells of none."""
    return event.get("work") or 0.0
