"""Finalists of a task in folds: fitted without each of the other folds in turn, they answer the rows of that fold.

Candidates were screened on the first fold. Where there is no test, what the finalists answer to the other folds
stands in its place; the rows of the first chose, so they are no part of it. Beside a test, their answers to all
folds choose among them. What ships is fitted once more, on the rows of all folds.

>>> Folds(folder, ground.task, ground.base, seed, journal, forecaster).go(rows, left=1e12)
"""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise.adapted import AdaptedModel, Predictor, forget_scores
from tunewise.candidates import CANDIDATE, add_origin
from tunewise.errors import reason_of
from tunewise.methods import get
from tunewise.reading.folds import SCREENING, rows_without
from tunewise.run_files import predictions_of, read_lines
from tunewise.study.again import Made, made_by, make_again
from tunewise.study.attempts import waiting
from tunewise.study.budget import TEST_MARGIN
from tunewise.study.evaluation import evaluate, preference, write_predictions
from tunewise.study.files import Row, artifact_mb, origin
from tunewise.study.folding import fits_of, going_on, most_finalists
from tunewise.study.forecast import Forecaster
from tunewise.study.journal import ENDED, Event, Journal, read_events, repeats_of
from tunewise.study.policy import ANOTHER_SEED, MORE_SEEDS, REPEATED
from tunewise.study.proposals import method_of, number_of
from tunewise.study.stored import JOURNAL
from tunewise.study.trials import STATE, MeteredTrial, standing_of
from tunewise.task import Dataset, Task
from tunewise.whole import put_folder, write_text

NO_ROOM = "the budget did not hold it in the other folds"
NO_TIME = "the time of the budget was used up before it could go through the other folds"


def _others_among(methods: Sequence[str]) -> int:
    """How many of the methods are no baselines."""
    return sum(get(method).family != "baseline" for method in methods)


@dataclass
class Folds:
    """The finalists on their way through the folds."""

    folder: Path
    """Of the run."""
    task: Task
    base: AdaptedModel
    seed: int
    journal: Journal
    forecaster: Forecaster
    is_late: Callable[[float], bool] = lambda seconds: False
    """Whether the clock leaves no room for so many seconds; the first finalist is not asked."""
    _events: list[Event] = field(default_factory=list)
    _standing: Callable[[], dict[str, Any]] = dict
    """Work and seconds of the fit that runs, or ran last."""

    def go(self, rows: Sequence[Row], left: float, reserve: float = 0.0) -> None:
        """Take as many of the finished trials in `rows` through the folds as `left` work holds, one at least.

        The first that is no baseline may take `reserve` work more. Who seemed too dear gets another turn when the
        others took less than was thought. Called again, it goes on where it ended.
        """
        most = most_finalists(self.task)
        self._events = read_events(self.folder / JOURNAL)
        decided = [event for event in self._events if event["event"] == "screened"]
        by_method = {row.method: row for row in rows}
        best = sorted(rows, key=lambda row: preference(row.validation_score, row.log_loss), reverse=True)
        baselines = [row.method for row in rows if get(row.method).family == "baseline"]
        waiting_for = [row.method for row in best if row.method not in baselines]
        gone_on: list[str] = []
        left_out: list[str] = []
        while decided or _others_among(gone_on) < most:
            if decided:
                event = decided.pop(0)
                finalists, left_out = list(event["finalists"]), list(event["left_out"])
            else:
                prices = {method: self._price(by_method[method], "work") for method in waiting_for}
                spare = 0.0 if _others_among(gone_on) else reserve
                finalists, left_out = going_on(prices, left - self.work, most - _others_among(gone_on), spare)
                if not gone_on and not baselines and not finalists and left_out:
                    finalists.append(left_out.pop(0))
                if gone_on and not finalists:
                    break
                finalists = finalists if gone_on else [*baselines, *finalists]
                self.journal.write("screened", None, finalists=finalists, left_out=left_out)
            for method in finalists:
                if method in by_method:
                    self._take(by_method[method], first=not _others_among(gone_on))
                gone_on.append(method)
            waiting_for = [method for method in left_out if method in by_method]
            if not waiting_for:
                break
        for row in rows:
            if row.method not in gone_on:
                self._prune(row, NO_ROOM if row.method in left_out else "the first fold preferred others")
        if left_out:
            text = f"The budget does not hold {', '.join(left_out)} in the other folds."
            if not any(event.get("text") == text for event in self._events):
                self.journal.write("message", None, text=text)

    def _take(self, row: Row, *, first: bool) -> None:
        """Take one through the folds, where the clock leaves time for it; the first is not asked."""
        baseline = get(row.method).family == "baseline"
        states = (standing_of(self._place(row.trial, fold)) for fold in self._others())
        begun = self._has("folded", row.trial) or any(states)
        if baseline or first or begun or not self.is_late(self._price(row, "seconds")):
            self._through(row)
            return
        self.journal.write("message", None, text=f"{row.method}: {NO_TIME}.")
        self._prune(row, NO_TIME)

    @property
    def work(self) -> float:
        """That the finalists took in the folds so far; repeats are not counted."""
        events = read_events(self.folder / JOURNAL)
        screened = next((place for place, event in enumerate(events) if event["event"] == "screened"), len(events))
        kinds = ("folded", "refitted", "failed")
        repeats = repeats_of(events)
        counted = [
            event for event in events[screened:] if event["event"] in kinds and event["trial"] not in repeats
        ]
        return math.fsum(event.get("work") or 0.0 for event in counted)

    def repeat(self, rows: Sequence[Row], left: float, most: float) -> None:
        """The leading tuned finalists on all rows again, with a second and a third seed, as far as work goes.

        They wait for the test beside those that they repeat.

        Args:
            rows: finalists that went through the folds.
            left: work, their test included.
            most: repeats.
        """
        self._events = read_events(self.folder / JOURNAL)
        if any(event["event"] == "nominated" for event in self._events):
            return  # the test has been opened since
        tuned = [row for row in rows if (get(row.method).work or "").startswith("train")]
        leading = sorted(tuned, key=lambda row: preference(row.validation_score, row.log_loss), reverse=True)
        tests = 0.0
        for place, (more, row) in enumerate(itertools.product(MORE_SEEDS, leading[:REPEATED])):
            test = TEST_MARGIN * self.forecaster.test(get(row.method))
            left -= row.work + test
            name, begun = self._name_of(row, more)
            if self.forecaster.rates:
                tests += self.forecaster.seconds(test)
            if left < 0 or place >= most or (not begun and self.is_late(row.seconds + tests)):
                return
            self._again(row, name, more)

    def _name_of(self, row: Row, more: int) -> tuple[str, bool]:
        """What the repeat of a finalist with one more seed is called, and whether an earlier process began it."""
        for event in self._events:
            repeats = event["event"] == "started" and event.get("repeats") == row.trial
            if repeats and event["seed"] == self.seed + more:
                return event["trial"], True
        taken = [event["trial"] for event in self._events if event["trial"]]
        number = max(number_of(trial) for trial in taken if method_of(trial) == row.method)
        return f"{row.method}-{number + 1}", False

    def _again(self, row: Row, name: str, more: int) -> None:
        """One of them; what goes wrong is recorded, and ends it only."""
        made, pending = self._made[row.trial], waiting(self.folder, name)
        if any(event["trial"] == name and event["event"] in ENDED for event in self._events):
            return
        rows = rows_without(self.task, None)
        if not self._has("started", name):
            start = made.start.trial if made.start else None
            head = {"method": row.method, "family": get(row.method).family, "model": row.model}
            told = {"seed": self.seed + more, "n_train": len(rows), "stage": ANOTHER_SEED, "start_from": start}
            begun = self.journal.write(
                "started", name, **head, parameters=dict(made.parameters), **told, repeats=row.trial
            )
            self._events.append(begun)
        self._say(f"{name}: all rows, {ANOTHER_SEED}")
        try:
            predictor, standing = self._fit(made, rows, pending.parent, name, more)
        except Exception as error:  # as in a trial: recorded with its reason, and the others go on
            self._fail(name, error)
            return
        self._save(predictor, made, pending, name, len(rows), self.seed + more)
        kept = {"step": made.step_on(len(rows)), "value": None, "log_loss": None, "cut_short": False}
        self.journal.write("finished", name, **kept, **standing())
        (pending.parent / STATE).unlink(missing_ok=True)

    def _save(self, predictor: Predictor, made: Made, folder: Path, trial: str, rows: int, seed: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        predictor.save(folder)
        add_origin(folder, origin(made.method, made.parameters, trial, seed, rows))

    @cached_property
    def _made(self) -> dict[str, Made]:
        return made_by(self._events)

    def _price(self, row: Row, what: str) -> float:
        """Work or seconds of the fits to come, by what the trial took with its start; 0 without a model.

        They end at the step that was preferred, and nothing is checked on the way.
        """
        taken = {event["trial"]: event[what] for event in self._events if event["event"] == "finished"}
        steps = {event["trial"]: event["step"] for event in self._events if event["event"] == "reported"}
        made: Made | None = self._made[row.trial]
        once = 0.0
        while made is not None and made.method.work is not None:
            share = made.step / max(made.step, steps.get(made.trial, 0)) if "epochs" in made.parameters else 1.0
            once += share * taken[made.trial]
            made = made.start
        return fits_of(len(self.task.folds)) * once

    def _has(self, event: str, trial: str, **fields: Any) -> bool:
        """Whether an earlier process recorded it."""
        wanted = {"event": event, "trial": trial, **fields}
        return any(wanted.items() <= one.items() for one in self._events)

    def _fail(self, trial: str, error: Exception, where: str = "") -> None:
        """Record why a fit ended, with what it took."""
        told = {"reason": f"{where}{reason_of(error)}", "error": type(error).__name__}
        self.journal.write("failed", trial, **told, **self._standing())

    def _prune(self, row: Row, reason: str) -> None:
        if not self._has("pruned", row.trial):
            stood = {"value": row.validation_score, "log_loss": row.log_loss}
            took = {"work": row.work, "seconds": row.seconds}
            self.journal.write("pruned", row.trial, reason=reason, **stood, **took)
        shutil.rmtree(self.folder / "candidates" / row.method, ignore_errors=True)

    def _through(self, row: Row) -> None:
        """All folds but the first, then all rows; what goes wrong is recorded, and ends this finalist only."""
        if self._has(self._ends_with, row.trial) and self._answers(row).exists():
            return
        made, where = self._made[row.trial], ""
        try:
            for fold in self._others():
                where = f"in fold {fold + 1}"
                self._answer(made, fold)
            where = "on all rows"
            self._ship(made)
        except Exception as error:  # as in a trial: recorded with its reason, and the others go on
            self._fail(row.trial, error, f"{where}: ")
            return
        self._join(row)

    def _answer(self, made: Made, fold: int) -> None:
        """Fit it without one fold, and keep what it answers to that fold."""
        path = self._place(made.trial, fold) / "answers.jsonl"
        if self._has("folded", made.trial, fold=fold + 1) and path.exists():
            return
        self._say(f"{made.trial}: fold {fold + 1} of {len(self.task.folds)}")
        predictor, standing = self._fit(made, rows_without(self.task, fold), path.parent)
        forget_scores()
        evaluation = evaluate(predictor, self.task.folds[fold])
        write_predictions(path, evaluation)
        self.journal.write("folded", made.trial, fold=fold + 1, score=round(evaluation.score, 6), **standing())
        (path.parent / STATE).unlink(missing_ok=True)

    def _ship(self, made: Made) -> None:
        """Fit it on all rows, and put it where the candidate of its method stands."""
        target = self.folder / "candidates" / made.method.name
        if self._has("refitted", made.trial) and (target / CANDIDATE).exists():
            return
        self._say(f"{made.trial}: all rows, to be used")
        rows = rows_without(self.task, None)
        predictor, standing = self._fit(made, rows, self._place(made.trial, None))
        pending = self._place(made.trial, None) / "candidate"
        self._save(predictor, made, pending, made.trial, len(rows), self.seed)
        put_folder(pending, target)
        size = artifact_mb(target)
        self.journal.write("refitted", made.trial, n_train=len(rows), artifact_mb=size, **standing())
        (pending.parent / STATE).unlink(missing_ok=True)

    def _fit(
        self, made: Made, rows: Dataset, folder: Path, name: str = "", more_seed: int = 0
    ) -> tuple[Predictor, Callable[[], dict[str, Any]]]:
        """It made from `rows`, and what that took so far; an interrupted fit goes on from the state it kept."""
        forget_scores()
        kept, begun = standing_of(folder), time.perf_counter()
        trial = MeteredTrial(self.seed, folder, Dataset(()), weigh=self.forecaster.weigh, keeps=True)

        def standing() -> dict[str, Any]:
            seconds = time.perf_counter() - begun + kept.get("seconds", 0.0)
            return {"work": trial.work + kept.get("work", 0.0), "seconds": round(seconds, 3)}

        self._standing = standing
        trial.standing = lambda best: standing()
        trial.on_progress = lambda step, steps, loss: self._show(name or made.trial, step, steps)
        trial.watch(self.base)
        if not kept:
            trial.spend("overhead", self.forecaster.overhead(made.method.work))
        screening = self.task.folds[SCREENING]
        found = make_again(made, self.base, rows, screening, trial, more_seed, goes_on=bool(kept))
        return found, standing

    def _join(self, row: Row) -> None:
        """All its answers as one file, fold after fold, and their score."""
        paths = [self._place(row.trial, fold) / "answers.jsonl" for fold in self._others()]
        if not self.task.tested_in_folds:
            paths.insert(SCREENING, predictions_of(self.folder, row.trial, "validation"))
        write_text(self._answers(row), "".join(path.read_text(encoding="utf-8") for path in paths))
        lines = [line.values for line in read_lines(self._answers(row))]
        metric = metrics.get(self.task.spec.metric)
        score = metric.score([line["prediction"] for line in lines], [line["target"] for line in lines])
        seconds = math.fsum(line["milliseconds"] for line in lines) / 1000
        self.journal.write(self._ends_with, row.trial, score=round(float(score), 6), seconds=round(seconds, 3))

    def _others(self) -> list[int]:
        return [fold for fold in range(len(self.task.folds)) if fold != SCREENING]

    @property
    def _ends_with(self) -> str:
        """The event that a finalist's way through the folds ends with."""
        return "tested" if self.task.tested_in_folds else "validated"

    def _answers(self, row: Row) -> Path:
        return predictions_of(self.folder, row.trial, "test" if self.task.tested_in_folds else "folds")

    def _place(self, trial: str, fold: int | None) -> Path:
        """Where a fit keeps its state, and its answers until they are joined."""
        return self.folder / "trials" / trial / ("all-rows" if fold is None else f"fold-{fold + 1}")

    def _say(self, text: str) -> None:
        self.journal.tell({"event": "phase", "trial": None, "text": text, "used_seconds": self.journal.elapsed})

    def _show(self, trial: str, step: int, steps: int) -> None:
        told = {"step": step, "steps": steps, "value": None, "used_seconds": self.journal.elapsed}
        self.journal.tell({"event": "progress", "trial": trial, **told})
