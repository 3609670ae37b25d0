"""One study from start to verdict: set up, race, open the test once, derive leaderboard and recommendation.

>>> contest = Contest.begin(task, request, folder)
>>> contest.run()
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunewise.adapted import forget_scores
from tunewise.candidates import CANDIDATE, read_json, write_json
from tunewise.errors import CandidateError, SettingError, WorkError
from tunewise.methods import load_predictor
from tunewise.rule import Finalist, nominate
from tunewise.run_files import NOT_AGAIN, PREDICTIONS, predictions_of
from tunewise.study import files
from tunewise.study.advice import promise, situation_of
from tunewise.study.attempts import waiting
from tunewise.study.budget import SAVING_SECONDS
from tunewise.study.evaluation import evaluate, write_predictions
from tunewise.study.executors import executor_of
from tunewise.study.folds import Folds
from tunewise.study.ground import Ground, attempts_of, memory_mb, prepare, refits_of
from tunewise.study.journal import Event, Journal, finished_repeats, mend, read_events, repeats_of
from tunewise.study.policy import MORE_SEEDS, Race
from tunewise.study.proposals import method_of
from tunewise.study.runner import Worker
from tunewise.study.stored import JOURNAL, ROWS, RUN, TASK, Request, Stored, changed_since
from tunewise.study.trials import STATE, standing_of
from tunewise.task import Task

NONE_TESTED = "not one finalist could be tested; {} tells why."


@dataclass(eq=False)
class Contest:
    """A study in its run folder."""

    folder: Path
    request: Request
    ground: Ground
    journal: Journal
    past: list[Event]

    @classmethod
    def begin(
        cls,
        folder: Path,
        request: Request,
        ground: Ground,
        record: Mapping[str, Any],
        on_event: Callable[[Event], None] | None,
    ) -> Contest:
        """Write the settings, the task and its rows into `folder`, and open the journal.

        `record` holds what else `run.json` tells: the command and the settings with where they came from.
        """
        run = {
            "format": 1,
            "name": folder.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **record,
            "methods": list(request.methods),
            "versions": files.versions(),
            "hardware": files.hardware(),
            "model": files.model_record(ground.base.base) if request.model else None,
            "budget": ground.terms.to_json(ground.forecaster.rates),
            "truncate": request.truncate,
            "seed": request.seed,
            "margin": request.margin,
            "curve": request.curve.text if request.curve else None,
            "jobs": request.jobs,
            "notes": list(ground.notes),
        }
        _write_whole(folder, ground.task, run)
        return cls(folder, request, ground, Journal(folder / JOURNAL, on_event), [])

    @classmethod
    def again(cls, stored: Stored, on_event: Callable[[Event], None] | None, jobs: int) -> Contest:
        """Open a run folder to go on with it, so many trials at a time.

        Raises:
            CandidateError: the run is damaged.
        """
        folder = stored.folder
        # Read before anything is loaded: a damaged journal is the one thing that cannot be made good.
        mend(folder / JOURNAL)
        past = read_events(folder / JOURNAL)
        if not past and any((folder / PREDICTIONS).glob("*.jsonl")):
            raise CandidateError(
                f"{folder / JOURNAL} is missing or empty, but trials were run: going on would open the test split "
                f"a second time. {NOT_AGAIN}"
            )
        ground = prepare(stored.task, stored.request, rates=stored.rates, expected=stored.checksum)
        journal = Journal(folder / JOURNAL, on_event, elapsed_before=_elapsed(folder, past))
        changed = changed_since(stored, jobs)
        if changed and not any(event.get("text") == changed for event in past):
            journal.write("message", None, text=changed)
        return cls(folder, replace(stored.request, jobs=jobs), ground, journal, past)

    def _note(self) -> None:
        """Say what the reader should know of how the study was prepared, once."""
        said = {event.get("text") for event in self.past}
        for note in dict.fromkeys(self.ground.notes):
            if note not in said:
                self.journal.write("message", None, text=note)

    def run(self) -> None:
        """Race, nominate, test, and derive what follows from them.

        Raises:
            WorkError: not one trial finished.
        """
        ground = self.ground
        self._note()
        worker = self._worker()
        self._phase("searching")
        contestants = race(ground, worker)
        with closing(worker.executor):
            contestants.go()
            rows = self._finished()
            if ground.task.folds:
                rows = self._fold(rows, contestants.spent, len(contestants.outcomes), worker)
        if not ground.task.tested_in_folds:
            if not rows:
                raise WorkError(NONE_TESTED.format(self.folder / JOURNAL))
            self._nominate(rows)
            self._phase("testing the finalists, once")
            for row in rows:
                self._test(row.trial, self.folder / "candidates" / row.method)
            for trial in finished_repeats(read_events(self.folder / JOURNAL)):
                candidate = waiting(self.folder, trial)
                if candidate.exists() and not self._is_tested(trial):  # it is cleared away after the tests
                    self._test(trial, candidate)
        shutil.rmtree(self.folder / "trials", ignore_errors=True)
        if not any(event["event"] == "tested" for event in read_events(self.folder / JOURNAL)):
            raise WorkError(NONE_TESTED.format(self.folder / JOURNAL))
        self._phase("writing the report")
        files.write_leaderboard(self.folder, read_events(self.folder / JOURNAL))

    def _finished(self) -> list[files.Row]:
        """The best trial of each method that finished.

        Raises:
            WorkError: there is none.
        """
        events = read_events(self.folder / JOURNAL)
        if not any(event["event"] == "finished" for event in events):
            raise WorkError(f"not one trial finished; {self.folder / JOURNAL} tells what became of each.")
        rows = [row for row in files.best_rows(events) if row.status == "finished"]
        if not rows:
            raise WorkError(NONE_TESTED.format(self.folder / JOURNAL))
        return rows

    def _worker(self) -> Worker:
        """What runs the trials."""
        ground = self.ground
        attempts = attempts_of(self.folder, self.request, ground)
        executor, note = executor_of(self.folder, attempts, self.request.jobs)
        worker = Worker(
            folder=self.folder,
            journal=self.journal,
            forecaster=ground.forecaster,
            attempts=attempts,
            executor=executor,
            past=self.past,
            memory_mb=memory_mb(ground) if executor.jobs > 1 else {},
            budget_seconds=ground.terms.seconds,
            kept_seconds=_kept_seconds(ground),
        )
        if note:
            worker.say(note)
        return worker

    def _fold(self, rows: Sequence[files.Row], spent: float, taken: int, worker: Worker) -> list[files.Row]:
        """The finalists in the other folds; those that went through them all, as they ship.

        Args:
            rows: the best trial of each method that finished.
            spent: work of the search.
            taken: its trials.
            worker: that ran them.
        """
        ground = self.ground
        self._phase("the finalists in the other folds")
        seconds = ground.terms.seconds

        events = read_events(self.folder / JOURNAL)
        repeated = repeats_of(events)
        done = {event["trial"] for event in events if event["event"] == "finished"}
        tested = {method_of(trial) for trial in done if trial not in repeated}
        kept = sum(kept for name, kept in _kept_seconds(ground).items() if name in tested)
        # Seconds of the fits to come were measured; those of the tests were forecast, and become as slow.
        tests = worker.slowdown() * kept

        def is_late(more: float) -> bool:
            return seconds is not None and self.journal.elapsed + more + tests + SAVING_SECONDS > seconds

        allowed = ground.terms.allowance.work
        freed = sum(work for method, work in ground.terms.tests.items() if method not in tested)
        left = math.inf if allowed is None else allowed + freed + ground.terms.folds - spent
        folds = Folds(
            folder=self.folder,
            task=ground.task,
            journal=self.journal,
            refits=refits_of(self.folder, self.request, ground),
            executor=worker.executor,
            needs=worker.needs,
            is_late=is_late,
        )
        folds.go(rows, left, ground.terms.reserve)
        events = read_events(self.folder / JOURNAL)
        through = [row for row in files.best_rows(events) if row.status == "finished"]
        if not ground.task.tested_in_folds:
            trials = ground.terms.allowance.trials
            most = math.inf if trials is None else trials - taken
            folds.repeat(through, left - folds.work, most)
        return through

    def _nominate(self, rows: Sequence[files.Row]) -> None:
        """Fix the two names that rule 5 needs, before the test split is opened."""
        if any(event["event"] == "nominated" for event in self.past):
            return
        finalists = [
            Finalist(row.method, row.validation_score or 0.0, row.cost_work, row.artifact_mb) for row in rows
        ]
        chosen, nominee = nominate(finalists, self.request.margin)
        self.journal.write(
            "nominated",
            None,
            reference=chosen.candidate,
            nominee=nominee.candidate,
            finalists=[row.method for row in rows],
        )

    def _test(self, trial: str, candidate: Path) -> None:
        origin = read_json(candidate / CANDIDATE).get("trial")
        if origin != trial:
            raise CandidateError(f"{candidate} holds trial {origin}, expected {trial}; the folder was changed.")
        if self._is_tested(trial):
            return
        forget_scores()
        try:
            evaluation = evaluate(load_predictor(candidate), self.ground.task.test)
        except Exception as error:  # as in a trial: recorded with its reason, and the others go on
            self.journal.write("failed", trial, reason=f"in the test: {error}", error=type(error).__name__)
            return
        write_predictions(self._answers(trial), evaluation)
        self.journal.write("tested", trial, score=round(evaluation.score, 6), seconds=round(evaluation.seconds, 3))

    def _is_tested(self, trial: str) -> bool:
        done = any(event["event"] == "tested" and event["trial"] == trial for event in self.past)
        return done and self._answers(trial).exists()

    def _answers(self, trial: str) -> Path:
        return predictions_of(self.folder, trial)

    def _phase(self, text: str) -> None:
        self.journal.tell({"event": "phase", "trial": None, "text": text})


def _elapsed(folder: Path, past: Sequence[Event]) -> float:
    """Seconds that earlier processes spent: up to the last event, and to the last state that was kept after it."""
    told = max((event.get("elapsed", 0.0) for event in past), default=0.0)
    at = max((event.get("time", math.inf) for event in past), default=math.inf)
    states = (folder / "trials").rglob(STATE)
    kept = max((standing_of(state.parent).get("time", 0.0) for state in states), default=0.0)
    return told + max(0.0, kept - at)


def _kept_seconds(ground: Ground) -> dict[str, float]:
    """Of a budget in time, what the test of each method (or the other folds) and writing files will take."""
    if ground.terms.seconds is None:
        return {}
    tests = {name: ground.forecaster.seconds(work) for name, work in ground.terms.tests.items()}
    return {**tests, "": SAVING_SECONDS + ground.forecaster.seconds(ground.terms.folds)}


def _write_whole(folder: Path, task: Task, run: Mapping[str, Any]) -> None:
    """Make the run folder with all that a study begins with; killed midway, there is none.

    One that is there, empty, is filled where it is: it may be a link, or another disk.
    """
    target = folder.resolve()
    if target.exists():
        _fill(target, task, run)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as place:
        begun = Path(place) / target.name
        begun.mkdir()
        _fill(begun, task, run)
        begun.rename(target)


def _fill(folder: Path, task: Task, run: Mapping[str, Any]) -> None:
    """The file that makes it a run comes last."""
    from tunewise.reading import write_rows

    write_rows(task, folder / ROWS)
    write_json(folder / TASK, files.task_record(task))
    write_json(folder / RUN, run)


def race(ground: Ground, runner: Any) -> Race:
    """The race of a study, on a runner that works or one that only forecasts."""
    return Race(
        spec=ground.task.spec,
        model=ground.base.base,
        methods=ground.methods,
        forecaster=ground.forecaster,
        allowance=ground.terms.allowance,
        runner=runner,
        promise=promise(situation_of(ground)),
        seeds=() if ground.task.folds else MORE_SEEDS,
    )


def check_out(folder: Path) -> None:
    """Refuse an output folder that holds something, or cannot be written.

    Raises:
        SettingError: with what to do.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"the output folder {folder} is a file; name another with --out.")
    if folder.exists() and any(folder.iterdir()):
        raise SettingError(f"the output folder {folder} exists and is not empty; name another with --out.")
    # Asking for rights is not enough (a root user, a full or special file system): make it, and leave no trace.
    target = folder.resolve()
    made = [path for path in (target, *target.parents) if not path.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / ".writable").touch()
        (target / ".writable").unlink()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingError(
            f"the output folder {folder} cannot be written: {reason}. Name another with --out."
        ) from error
    finally:
        for path in made:
            if path.is_dir():
                path.rmdir()
