"""Does what the race asks for, once: has trials run, repeats recorded ones, records everything.

The runner is what makes a study resumable. Asked for a trial that the journal has ended, it answers from the
journal; asked for one that was interrupted, it starts it again from its kept state. The race cannot tell. It is
the one writer of the journal, wherever trials run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError
from tunewise.study.attempts import Attempts, waiting, work_of
from tunewise.study.evaluation import preference
from tunewise.study.executors import Executor, Here, Needs, side_by_side
from tunewise.study.forecast import Forecaster
from tunewise.study.journal import ENDED, Event, Journal, repeats_of
from tunewise.study.proposals import Outcome, Proposal, method_of, number_of
from tunewise.study.stored import begun_with
from tunewise.study.trials import STATE
from tunewise.whole import put_folder

LEAST_DONE_SECONDS = 20.0
LEAST_DONE_SHARE = 0.2
"""Of the budget: so much is taken to run as fast as forecast before the speed of the machine is judged by what was
done. Half a minute in which something else was busy must not end a study that keeps half of its time for folds."""


@dataclass
class Worker:
    """The runner that works."""

    folder: Path
    journal: Journal
    forecaster: Forecaster
    attempts: Attempts
    """Runs trials in this process, and records for those that run elsewhere; its events come here."""
    executor: Executor
    """Where trials run that ask a model and may run side by side."""
    past: list[Event]
    """Events that earlier processes recorded."""
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Forecast memory of a trial of each method."""
    budget_seconds: float | None = None
    """The budget, where it is in time."""
    kept_seconds: dict[str, float] = field(default_factory=dict)
    """Of a budget in time, what follows the search will take: the test of each method, and saving."""
    stopped_by_clock: bool = False
    _said: set[str] = field(default_factory=set)
    _live: dict[str, float] = field(default_factory=dict)
    """Work so far of the trials that run."""

    def __post_init__(self) -> None:
        self.attempts.sink = self
        self.attempts.must_end = self._clock_has_stopped
        self._here = Here(self.attempts.run)
        self._recorded: dict[str, list[Event]] = {}
        repeats = repeats_of(self.past)
        for event in self.past:
            if event["trial"]:
                self._recorded.setdefault(event["trial"], []).append(event)
            elif event["event"] == "message":
                self._said.add(event["text"])
                self.stopped_by_clock |= bool(event.get("hard_stop"))
        for event in self.past:
            if event["event"] == "finished" and event["trial"] not in repeats:
                self._install(event["trial"])

    def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """Run, continue or repeat trials that do not depend on each other, several at a time if there is room.

        Raises:
            CandidateError: one of them is on record as another trial.
        """
        outcomes: dict[str, Outcome] = {}
        left: list[Proposal] = []
        for proposal in proposals:
            if proposal.repeats:  # its test comes beside that of the trial that it repeats
                self.kept_seconds[proposal.trial] = self.kept_seconds.get(proposal.method.name, 0.0)
            self._check_identity(proposal)
            recorded = self._from_journal(proposal)
            if recorded is None:
                left.append(proposal)
            else:
                outcomes[proposal.trial] = recorded

        def goes(proposal: Proposal) -> bool:
            refused = self._refused(proposal)
            if refused is not None:
                outcomes[proposal.trial] = refused
            return refused is None

        # One alone has all cores here, and one that asks no model would only load it elsewhere.
        several = len(proposals) > 1 and any(proposal.method.work is not None for proposal in left)
        for proposal, outcome in side_by_side(
            self.executor if several else self._here,
            left,
            goes,
            lambda proposal: self.needs(proposal.method.name, len(proposals)),
            self,
            lambda proposal: self._recorded.get(proposal.trial, []),
        ):
            self._settle(proposal, outcome)
            outcomes[proposal.trial] = outcome
        return [outcomes[proposal.trial] for proposal in proposals]

    def needs(self, method: str, beside: int) -> Needs:
        """What a trial or a fit of a method takes that is asked for with so many, itself included."""
        if self.executor.jobs == 1:
            return Needs()
        cores = max(1, self.executor.cores // min(self.executor.jobs, beside))
        return Needs(self.memory_mb.get(method, 0.0), cores, int(self.attempts.uses_gpu))

    def prune(self, trial: str, reason: str) -> None:
        """Record that a paused trial does not go on."""
        events = self._recorded.get(trial, [])
        if any(event["event"] in ENDED for event in events):
            return
        paused = next(event for event in reversed(events) if event["event"] == "paused")
        kept = {name: paused.get(name) for name in ("value", "log_loss", "work", "seconds", "step")}
        self.write("pruned", trial, reason=reason, **kept)
        shutil.rmtree(self.folder / "trials" / trial, ignore_errors=True)

    def give_up(self, method: str) -> None:
        """Nothing needs to be kept for the test of `method`."""
        self.kept_seconds.pop(method, None)

    def say(self, text: str) -> None:
        """Record a message, once."""
        if text not in self._said:
            self._said.add(text)
            self.journal.write("message", None, text=text)

    def write(self, event: str, trial: str, **fields: Any) -> None:
        """Record what happens to a trial."""
        if event == "started":
            fields["number"] = len(self._recorded)
        self._recorded.setdefault(trial, []).append(self.journal.write(event, trial, **fields))

    def tell(self, event: dict[str, Any]) -> None:
        """Show how far a trial is, with what of the budget is used."""
        self._live[str(event["trial"])] = work_of(event)
        used = self.journal.elapsed
        share = used / self.budget_seconds if self.budget_seconds else None
        self.journal.tell(
            {**event, "used_seconds": used, "budget_seconds": self.budget_seconds, "used_share": share}
        )

    def is_late(self) -> bool:
        """Whether trials that run elsewhere must end now."""
        return self._clock_has_stopped()

    def slowdown(self) -> float:
        """How many times as long as its forecast the work of the trials took so far, 1 at least."""
        if self.budget_seconds is None:
            return 1.0
        trusted = max(LEAST_DONE_SECONDS, LEAST_DONE_SHARE * self.budget_seconds)
        return max(1.0, (self.journal.elapsed + trusted) / (self.forecaster.seconds(self._work_done()) + trusted))

    def lost(self, proposal: Proposal, reason: str) -> Outcome:
        """What becomes of a trial whose process is gone: what it had said last, or its failure."""
        trial = proposal.trial
        said = self._recorded.get(trial, [])
        if said and said[-1]["event"] in (*ENDED, "paused"):
            found = self._from_journal(proposal)
            if found is not None:
                return found
        work = max(self._work_recorded(trial), self._live.get(trial, 0.0))
        names = {"method": proposal.method.name, "model": self.attempts.model_name}
        self.write("failed", trial, reason=reason, error="WorkError", work=work, **names)
        return Outcome(trial, "failed", work=work)

    def _refused(self, proposal: Proposal) -> Outcome | None:
        """What becomes of a trial for which the clock leaves no time."""
        recorded = self._recorded.get(proposal.trial, [])
        # Baselines cost next to nothing, and a trial that was checked has a result that only wants to be taken.
        exempt = proposal.method.family == "baseline" or "value" in self.attempts.kept(proposal, recorded)
        if not self._clock_has_stopped() or exempt:
            return None
        work = self._work_recorded(proposal.trial)
        reason = "the time of the budget was used up before it could start"
        return self.attempts.out_of_budget(proposal, work, reason)

    def _settle(self, proposal: Proposal, outcome: Outcome) -> None:
        """Clear away what a trial leaves, and put its candidate in its place where it leads."""
        self._live.pop(proposal.trial, None)
        folder = self.folder / "trials" / proposal.trial
        if proposal.repeats:  # it waits where it is, for the test
            if outcome.status != "finished":
                self.kept_seconds.pop(proposal.trial, None)
            (folder / STATE).unlink(missing_ok=True)
        elif outcome.status == "finished":
            self._install(proposal.trial)
            shutil.rmtree(folder, ignore_errors=True)

    def _check_identity(self, proposal: Proposal) -> None:
        """Refuse to take what another version of Tunewise recorded under the same name for this trial's."""
        from tunewise import __version__

        wanted: Event = json.loads(json.dumps(self.attempts.identity(proposal)))  # as a journal spells it
        recorded = self._recorded.get(proposal.trial, [])
        begun = next((event for event in recorded if event["event"] == "started"), wanted)
        differ = [name for name, value in wanted.items() if begun.get(name) != value]
        if differ:
            found, expected = (", ".join(f"{name} {one.get(name)}" for name in differ) for one in (begun, wanted))
            raise CandidateError(
                f"{self.journal.path}: {proposal.trial} is on record with {found}; expected {expected}. The run "
                f"was begun with Tunewise {begun_with(self.folder)}, this is {__version__}: install that version "
                "to go on, or compare again with a new --out."
            )

    def _from_journal(self, proposal: Proposal) -> Outcome | None:
        for event in self._recorded.get(proposal.trial, []):
            rung = event["event"] == "paused" and proposal.until is not None
            if event["event"] in ENDED or rung:
                return Outcome(
                    proposal.trial,
                    "paused" if rung else event["event"],
                    event.get("value"),
                    event.get("log_loss"),
                    work_of(event),
                )
        return None

    def _install(self, trial: str) -> None:
        """Put a waiting candidate in its place where its trial leads; killed in between, it waits on."""
        pending, place = waiting(self.folder, trial), self.folder / "candidates" / method_of(trial)
        if pending.exists() and self._leads(trial):
            place.parent.mkdir(exist_ok=True)
            put_folder(pending, place)

    def _leads(self, trial: str) -> bool:
        """Whether no trial of its method that has finished is better; of equals, the first leads."""
        repeats = repeats_of(event for events in self._recorded.values() for event in events)
        finished = {
            other: (*preference(event["value"], event["log_loss"]), -number_of(other))
            for other, events in self._recorded.items()
            for event in events
            if event["event"] == "finished" and method_of(other) == method_of(trial) and other not in repeats
        }
        return max(finished, key=finished.__getitem__) == trial

    def _clock_has_stopped(self) -> bool:
        if self.budget_seconds is None or self.stopped_by_clock:
            return self.stopped_by_clock
        # What is still to come will be as slow as what was done: the machine may be busy with something else.
        if self.journal.elapsed + self.slowdown() * sum(self.kept_seconds.values()) > self.budget_seconds:
            self.stopped_by_clock = True
            text = (
                "The clock stopped the search: the work took longer than this machine's measured rates said. "
                "What had been checked by then went on."
            )
            self._said.add(text)
            self.journal.write("message", None, text=text, hard_stop=True)
        return self.stopped_by_clock

    def _work_done(self) -> float:
        """Work counted so far in all trials, those that run included."""
        done = {trial: self._work_recorded(trial) for trial in self._recorded}
        for trial, work in self._live.items():
            done[trial] = max(done.get(trial, 0.0), work)
        return sum(done.values())

    def _work_recorded(self, trial: str) -> float:
        return max(map(work_of, self._recorded.get(trial, [])), default=0.0)
