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

from tunewise.adapted import AdaptedModel, Predictor, forget_scores
from tunewise.candidates import add_origin, replace_folder
from tunewise.errors import TunewiseError
from tunewise.methods import load_predictor
from tunewise.study.evaluation import write_predictions
from tunewise.study.files import artifact_mb, trainable_parameters
from tunewise.study.forecast import Forecaster
from tunewise.study.journal import ENDED, Event, Journal
from tunewise.study.policy import Outcome, Proposal
from tunewise.study.trials import Checked, MeteredTrial, peak_rss_mb, reset_peak_rss
from tunewise.task import Task
from tunewise.whole import put_folder

LEAST_DONE_SECONDS = 20.0
"""Counted work below which nothing is concluded about the speed of the machine."""
MOST_SLOWDOWN = 4.0


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
    _best: dict[str, tuple[float, float]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _current: tuple[str, MeteredTrial, float] | None = None
    """The trial that runs: its name, itself, and the work it had done before it was paused."""

    def __post_init__(self) -> None:
        self._recorded: dict[str, list[Event]] = {}
        for event in self.past:
            if event["trial"]:
                self._recorded.setdefault(event["trial"], []).append(event)
            elif event["event"] == "message":
                self._said.add(event["text"])
                self.stopped_by_clock |= bool(event.get("hard_stop"))
            if event["event"] == "finished":
                self._install(event["trial"], event["trial"].rpartition("-")[0])

    def run(self, proposal: Proposal) -> Outcome:
        """Run, continue or repeat a trial."""
        recorded = self._from_journal(proposal)
        if recorded is not None:
            self._remember(proposal.method.name, recorded)
            return recorded
        # Baselines cost next to nothing, and a paused trial has a result that only wants to be kept.
        exempt = proposal.method.family == "baseline" or bool(self._before(proposal))
        if self._clock_has_stopped() and not exempt:
            reason = "the time of the budget was used up before it could start"
            before = self._recorded.get(proposal.trial, [])
            work = max((e.get("work", 0.0) for e in before), default=0.0)
            self._write("out_of_budget", proposal, reason=reason, work=work)
            return Outcome(proposal.trial, "out_of_budget", work=work)
        return self._attempt(proposal)

    def prune(self, trial: str, reason: str) -> None:
        """Record that a paused trial does not go on."""
        events = self._recorded.get(trial, [])
        if any(event["event"] in ENDED for event in events):
            return
        paused = next(event for event in reversed(events) if event["event"] == "paused")
        kept = {name: paused.get(name) for name in ("value", "log_loss", "work", "seconds", "step")}
        self._record(trial, self.journal.write("pruned", trial, reason=reason, **kept))
        shutil.rmtree(self.folder / "trials" / trial, ignore_errors=True)

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
                    event.get("work") or 0.0,
                )
        return None

    def _attempt(self, proposal: Proposal) -> Outcome:
        """Run a trial; whatever goes wrong in it is recorded, and ends that trial only."""
        forget_scores()
        before = self._before(proposal)
        trial = self._trial(proposal, before)
        self._current = (proposal.trial, trial, before.get("work") or 0.0)
        self._write_start(proposal, continued=bool(before))
        begun = time.perf_counter()
        try:
            reset_peak_rss()
            start = self._start(proposal)
            trial.watch(start)
            trial.spend("overhead", 0.0 if before else self.forecaster.overhead(proposal.method.work))
            method = proposal.method(**proposal.parameters)
            fitted = method.fit(start, self.task.train, self.task.validation, trial)
            seconds = time.perf_counter() - begun + (before.get("seconds") or 0.0)
            work = trial.work + (before.get("work") or 0.0)
            if trial.paused and not trial.ended_by_clock:
                return self._pause(proposal, trial, work, seconds)
            return self._finish(proposal, trial, fitted, work, seconds)
        except Exception as error:
            work = trial.work + (before.get("work") or 0.0)
            reason = str(error) if isinstance(error, TunewiseError) else f"{type(error).__name__}: {error}"
            seconds = time.perf_counter() - begun + (before.get("seconds") or 0.0)
            self._write("failed", proposal, reason=reason, error=type(error).__name__, work=work, seconds=seconds)
            shutil.rmtree(trial.folder, ignore_errors=True)
            return Outcome(proposal.trial, "failed", work=work)

    def _before(self, proposal: Proposal) -> Event:
        """The rung from which a trial goes on; empty for one that starts."""
        events = self._recorded.get(proposal.trial, [])
        paused = [event for event in events if event["event"] == "paused"]
        return paused[-1] if paused else {}

    def _trial(self, proposal: Proposal, before: Event) -> MeteredTrial:
        folder = self.folder / "trials" / proposal.trial
        if not before:  # what an interrupted attempt left is not to be trusted
            shutil.rmtree(folder, ignore_errors=True)
        pause_at = None
        if proposal.until is not None:
            size = proposal.parameters.get("batch_size", 16)
            pause_at = proposal.until * -(-len(self.task.train) // size)
        limit = proposal.work_limit
        trial = MeteredTrial(
            seed=self.seed,
            folder=folder,
            validation=self.task.validation,
            weigh=self.forecaster.weigh,
            must_end=self._clock_has_stopped,
            pause_at=pause_at,
            work_limit=None if limit is None else limit - (before.get("work") or 0.0),
        )
        trial.best = self._kept_best(proposal)
        trial.on_check = lambda checked, epoch: self._report(proposal, trial, checked, epoch, before)
        trial.on_progress = lambda step, steps, loss: self._show(proposal, trial, step, steps)
        return trial

    def _start(self, proposal: Proposal) -> Predictor:
        if proposal.start_from is None:
            return self.base
        return load_predictor(self.folder / "candidates" / proposal.start_from.rpartition("-")[0])

    def _pause(self, proposal: Proposal, trial: MeteredTrial, work: float, seconds: float) -> Outcome:
        assert trial.best is not None
        verdict = trial.best.verdict
        self._write_validation(proposal, trial.best)
        self._write(
            "paused",
            proposal,
            step=trial.best.step,
            value=verdict.value,
            log_loss=verdict.log_loss,
            work=work,
            seconds=round(seconds, 3),
        )
        return Outcome(proposal.trial, "paused", verdict.value, verdict.log_loss, work)

    def _finish(
        self, proposal: Proposal, trial: MeteredTrial, fitted: Predictor, work: float, seconds: float
    ) -> Outcome:
        best = trial.best
        if best is None:
            reason = "the time of the budget was used up before its first check"
            self._write("out_of_budget", proposal, reason=reason, work=work)
            return Outcome(proposal.trial, "out_of_budget", work=work)
        verdict = best.verdict
        outcome = Outcome(proposal.trial, "finished", verdict.value, verdict.log_loss, work)
        self._write_validation(proposal, best)
        if self._remember(proposal.method.name, outcome):
            self._save(proposal, fitted)
        self._write(
            "finished",
            proposal,
            step=best.step,
            value=verdict.value,
            log_loss=verdict.log_loss,
            work=work,
            seconds=round(seconds, 3),
            peak_rss_mb=round(peak_rss_mb(), 1),
            trainable_parameters=trainable_parameters(fitted),
            artifact_mb=artifact_mb(self._pending(proposal.trial)),
            request_work=self._request_work(proposal, fitted),
            cut_short=trial.ended_by_clock or trial.ended_by_work,
        )
        self._install(proposal.trial, proposal.method.name)
        shutil.rmtree(trial.folder, ignore_errors=True)
        return outcome

    def _kept_best(self, proposal: Proposal) -> Checked | None:
        """The best of a trial that went on from its rung and was ended before its next check."""
        from tunewise.methods.base import Verdict

        before = self._before(proposal)
        if not before:
            return None
        return Checked(before["step"], Verdict(before["value"], True, before["log_loss"]), None)

    def _save(self, proposal: Proposal, fitted: Predictor) -> None:
        from tunewise import __version__

        def write(folder: Path) -> None:
            fitted.save(folder)
            origin = {
                "method": proposal.method.name,
                "family": proposal.method.family,
                "parameters": dict(proposal.parameters),
                "trial": proposal.trial,
                "seed": self.seed,
                "n_train": len(self.task.train),
                "tunewise": __version__,
            }
            add_origin(folder, origin)

        replace_folder(self._pending(proposal.trial), write)

    def _pending(self, trial: str) -> Path:
        """Where a candidate waits until its trial is on record as finished."""
        return self.folder / "trials" / trial / "candidate"

    def _install(self, trial: str, method: str) -> None:
        """Put a waiting candidate in its place; killed in between, it waits on for the next process."""
        pending, place = self._pending(trial), self.folder / "candidates" / method
        if pending.exists():
            place.parent.mkdir(exist_ok=True)
            put_folder(pending, place)

    def _write_validation(self, proposal: Proposal, best: Checked) -> None:
        if best.evaluation is not None:
            name = f"{proposal.trial}-validation.jsonl"
            write_predictions(self.folder / "predictions" / name, best.evaluation)

    def _remember(self, method: str, outcome: Outcome) -> bool:
        """Whether `outcome` is the best finished trial of its method so far."""
        if outcome.status != "finished":
            return False
        value = outcome.value if outcome.value is not None else 0.0
        rank = (value, -(outcome.log_loss if outcome.log_loss is not None else float("inf")))
        if method in self._best and rank <= self._best[method]:
            return False
        self._best[method] = rank
        return True

    def _request_work(self, proposal: Proposal, fitted: Predictor) -> float:
        """Work of one more request, the fixed prefix cached."""
        if not isinstance(fitted, AdaptedModel):
            return 0.0
        rows = 100
        shots = len(fitted.prompt.demonstrations)
        return (self.forecaster.prediction(rows + 1, shots) - self.forecaster.prediction(1, shots)) / rows

    def _report(
        self, proposal: Proposal, trial: MeteredTrial, checked: Checked, epoch: float | None, before: Event
    ) -> None:
        self._write(
            "reported",
            proposal,
            step=checked.step,
            epoch=epoch,
            value=checked.verdict.value,
            log_loss=checked.verdict.log_loss,
            work=trial.work + (before.get("work") or 0.0),
            seconds=round(checked.evaluation.seconds, 3) if checked.evaluation else None,
            best=trial.best is checked,
        )

    def _show(self, proposal: Proposal, trial: MeteredTrial, step: int, steps: int) -> None:
        best = trial.best.verdict.value if trial.best else None
        self.journal.tell(
            {
                "event": "progress",
                "trial": proposal.trial,
                "step": step,
                "steps": steps,
                "value": best,
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
        done = {
            trial: max((event.get("work") or 0.0 for event in events), default=0.0)
            for trial, events in self._recorded.items()
        }
        if self._current is not None:
            name, trial, before = self._current
            done[name] = max(done.get(name, 0.0), before + trial.work)
        return sum(done.values())

    def _write_start(self, proposal: Proposal, *, continued: bool) -> None:
        work = proposal.forecast_work
        seconds = round(self.forecaster.seconds(work), 1) if self.forecaster.rates else None
        self._write(
            "continued" if continued else "started",
            proposal,
            number=len(self._recorded),
            method=proposal.method.name,
            family=proposal.method.family,
            model=self.model_name,
            parameters=dict(proposal.parameters),
            seed=self.seed,
            n_train=len(self.task.train),
            stage=proposal.stage,
            forecast_work=work,
            forecast_seconds=seconds,
            start_from=proposal.start_from,
        )

    def _write(self, event: str, proposal: Proposal, **fields: Any) -> None:
        if event == "out_of_budget":
            fields = {"method": proposal.method.name, "model": self.model_name, **fields}
        self._record(proposal.trial, self.journal.write(event, proposal.trial, **fields))

    def _record(self, trial: str, event: Event) -> None:
        self._recorded.setdefault(trial, []).append(event)
