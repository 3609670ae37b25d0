"""Finalists of a task in folds: fitted without each of the other folds in turn, they answer the rows of that fold.

Candidates were screened on the first fold. Where there is no test, what the finalists answer to the other folds
stands in its place; the rows of the first chose, so they are no part of it. Beside a test, their answers to all
folds choose among them. What ships is fitted once more, on the rows of all folds.

>>> Folds(folder, ground.task, journal, refits).go(rows, left=1e12)
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise.candidates import CANDIDATE
from tunewise.methods import get
from tunewise.reading.folds import SCREENING, rows_without
from tunewise.run_files import predictions_of, read_lines
from tunewise.study.again import Made, made_by
from tunewise.study.budget import TEST_MARGIN
from tunewise.study.evaluation import preference
from tunewise.study.executors import Executor, Here, Needs, side_by_side
from tunewise.study.files import Row
from tunewise.study.folding import fits_of, going_on, most_finalists
from tunewise.study.journal import ENDED, Event, Journal, read_events, repeats_of
from tunewise.study.policy import ANOTHER_SEED, MORE_SEEDS, REPEATED
from tunewise.study.proposals import Outcome, method_of, number_of
from tunewise.study.refits import ANSWERS, Refit, Refits
from tunewise.study.stored import JOURNAL
from tunewise.study.trials import STATE, standing_of
from tunewise.task import Task
from tunewise.whole import write_text

NO_ROOM = "the budget did not hold it in the other folds"
NO_TIME = "the time of the budget was used up before it could go through the other folds"


def _others_among(methods: Sequence[str]) -> int:
    """How many of the methods are no baselines."""
    return sum(get(method).family != "baseline" for method in methods)


def _alone(method: str, beside: int) -> Needs:
    return Needs()


@dataclass
class Folds:
    """The finalists on their way through the folds."""

    folder: Path
    """Of the run."""
    task: Task
    journal: Journal
    refits: Refits
    """Fits in this process, and tells of those that are fitted elsewhere."""
    executor: Executor | None = None
    """Where fits run that may run side by side."""
    needs: Callable[[str, int], Needs] = _alone
    """What a fit of a method takes that runs with so many, itself included."""
    is_late: Callable[[float], bool] = lambda seconds: False
    """Whether the clock leaves no room for so many seconds; the first finalist is not asked."""
    _events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refits.sink = self._sink = _Sink(self.journal)
        self._here: Executor = Here(self.refits.run)

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
            self._take([by_method[method] for method in finalists if method in by_method], gone_on)
            gone_on += finalists
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

    def _take(self, rows: Sequence[Row], gone_on: Sequence[str]) -> None:
        """Take them through the folds, as far as the clock leaves time; the first is not asked.

        What goes wrong in a fit is recorded, and ends its finalist only.
        """
        by_trial = {row.trial: row for row in rows}
        others = [row.trial for row in rows if get(row.method).family != "baseline"]
        asked = {row.trial: self._fits(row) for row in rows}
        exempt = {trial for trial in by_trial if trial not in others or self._has_begun(trial)}
        exempt |= set(() if _others_among(gone_on) else others[:1])
        ended: set[str] = set()

        def goes(refit: Refit) -> bool:
            trial = refit.trial
            if trial not in exempt and self.is_late(self._price(by_trial[trial], "seconds")):
                self.journal.write("message", None, text=f"{method_of(trial)}: {NO_TIME}.")
                self._prune(by_trial[trial], NO_TIME)
                ended.add(trial)
            exempt.add(trial)
            return trial not in ended | self._sink.failed

        left = Counter({trial: len(fits) for trial, fits in asked.items()})
        for trial in asked:
            if not left[trial]:
                self._join(by_trial[trial])
        # Baselines ask no model: they would only load it elsewhere.
        here = [fit for trial, fits in asked.items() if trial not in others for fit in fits]
        elsewhere = [fit for trial in others for fit in asked[trial]]
        beside = len(others) * len(self.task.folds)
        for refit in itertools.chain(self._fitted(here, goes, 1), self._fitted(elsewhere, goes, beside)):
            left[refit.trial] -= 1
            if not left[refit.trial]:
                self._join(by_trial[refit.trial])

    def _fits(self, row: Row) -> list[Refit]:
        """Without each fold but the first, and of all rows: those of them that are not on record."""
        if self._is_through(row):  # what it left on its way is gone
            return []
        made = self._made[row.trial]
        fits = [
            Refit(made, fold)
            for fold in self._others()
            if not self._has("folded", row.trial, fold=fold + 1) or not self._answered(row.trial, fold).exists()
        ]
        target = self.folder / "candidates" / made.method.name
        shipped = self._has("refitted", row.trial) and (target / CANDIDATE).exists()
        return fits if shipped else [*fits, Refit(made)]

    def _fitted(self, fits: Sequence[Refit], goes: Callable[[Refit], bool], beside: int) -> Iterator[Refit]:
        """Those that go, one after the other as they succeed; several at a time if there is room."""

        def starts(refit: Refit) -> bool:
            started = goes(refit)
            if started:
                self._say(refit)
            return started

        several = self.executor is not None and self.executor.jobs > 1 and beside > 1
        executor = self.executor if self.executor is not None and several else self._here
        for refit, outcome in side_by_side(
            executor, fits, starts, lambda refit: self.needs(refit.method.name, beside), self._sink
        ):
            if outcome.status == "finished":
                (refit.within(self.folder) / STATE).unlink(missing_ok=True)
                yield refit

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
        forecaster, tests = self.refits.forecaster, 0.0
        seconds: dict[str, float] = {}
        models: dict[str, str] = {}
        fits: list[Refit] = []
        for place, (more, row) in enumerate(itertools.product(MORE_SEEDS, leading[:REPEATED])):
            test = TEST_MARGIN * forecaster.test(get(row.method))
            left -= row.work + test
            if left < 0 or place >= most:
                break
            tests += forecaster.seconds(test) if forecaster.rates else 0.0
            refit = Refit(self._made[row.trial], None, self._name_of(row, more, fits), more)
            seconds[refit.trial], models[refit.trial] = row.seconds + tests, row.model
            fits.append(refit)
        is_late = False

        def goes(refit: Refit) -> bool:
            nonlocal is_late
            begun = self._has("started", refit.trial)
            is_late |= not begun and self.is_late(seconds[refit.trial])
            if not is_late and not begun:
                self._begin(refit, models[refit.trial])
            return not is_late

        ended = {event["trial"] for event in self._events if event["event"] in ENDED}
        for _ in self._fitted([refit for refit in fits if refit.trial not in ended], goes, len(fits)):
            pass

    def _name_of(self, row: Row, more: int, others: Sequence[Refit]) -> str:
        """What the repeat of a finalist with one more seed is called, `others` being named already."""
        for event in self._events:
            repeats = event["event"] == "started" and event.get("repeats") == row.trial
            if repeats and event["seed"] == self.refits.seed + more:
                return str(event["trial"])
        taken = {event["trial"] for event in self._events if event["trial"]} | {other.trial for other in others}
        return f"{row.method}-{max(number_of(name) for name in taken if method_of(name) == row.method) + 1}"

    def _begin(self, refit: Refit, model: str) -> None:
        """Put a repeat on record."""
        made = refit.made
        told: dict[str, Any] = {"method": made.method.name, "family": made.method.family, "model": model}
        told |= {"parameters": dict(made.parameters), "seed": self.refits.seed + refit.more_seed}
        told |= {"n_train": len(rows_without(self.task, None)), "stage": ANOTHER_SEED}
        told |= {"start_from": made.start.trial if made.start else None, "repeats": made.trial}
        self.journal.write("started", refit.trial, **told)

    @cached_property
    def _made(self) -> dict[str, Made]:
        return made_by(self._events)

    def _price(self, row: Row, what: str) -> float:
        """Work or seconds of the fits to come, by what the trial took with its start; 0 without a model."""
        taken = {event["trial"]: event[what] for event in self._events if event["event"] == "finished"}
        made: Made | None = self._made[row.trial]
        once = 0.0
        while made is not None and made.method.work is not None:
            once += taken[made.trial]
            made = made.start
        return fits_of(len(self.task.folds)) * once

    def _has(self, event: str, trial: str, **fields: Any) -> bool:
        """Whether an earlier process recorded it."""
        wanted = {"event": event, "trial": trial, **fields}
        return any(wanted.items() <= one.items() for one in self._events)

    def _prune(self, row: Row, reason: str) -> None:
        if not self._has("pruned", row.trial):
            stood = {"value": row.validation_score, "log_loss": row.log_loss}
            took = {"work": row.work, "seconds": row.seconds}
            self.journal.write("pruned", row.trial, reason=reason, **stood, **took)
        shutil.rmtree(self.folder / "candidates" / row.method, ignore_errors=True)

    def _join(self, row: Row) -> None:
        """All its answers as one file, fold after fold, and their score; once."""
        if self._is_through(row):
            return
        paths = [self._answered(row.trial, fold) for fold in self._others()]
        if not self.task.tested_in_folds:
            paths.insert(SCREENING, predictions_of(self.folder, row.trial, "validation"))
        write_text(self._answers(row), "".join(path.read_text(encoding="utf-8") for path in paths))
        lines = [line.values for line in read_lines(self._answers(row))]
        metric = metrics.get(self.task.spec.metric)
        score = metric.score([line["prediction"] for line in lines], [line["target"] for line in lines])
        seconds = math.fsum(line["milliseconds"] for line in lines) / 1000
        self.journal.write(self._ends_with, row.trial, score=round(float(score), 6), seconds=round(seconds, 3))

    def _is_through(self, row: Row) -> bool:
        """Whether an earlier process joined its answers."""
        return self._has(self._ends_with, row.trial) and self._answers(row).exists()

    def _others(self) -> list[int]:
        return [fold for fold in range(len(self.task.folds)) if fold != SCREENING]

    @property
    def _ends_with(self) -> str:
        """The event that a finalist's way through the folds ends with."""
        return "tested" if self.task.tested_in_folds else "validated"

    def _answers(self, row: Row) -> Path:
        return predictions_of(self.folder, row.trial, "test" if self.task.tested_in_folds else "folds")

    def _say(self, refit: Refit) -> None:
        """That it begins."""
        which = "all rows" if refit.fold is None else f"fold {refit.fold + 1} of {len(self.task.folds)}"
        why = f", {ANOTHER_SEED}" if refit.repeat else ", to be used" if refit.fold is None else ""
        told = {"text": f"{refit.trial}: {which}{why}", "used_seconds": self.journal.elapsed}
        self.journal.tell({"event": "phase", "trial": None, **told})

    def _answered(self, trial: str, fold: int) -> Path:
        return self._within(trial, fold) / ANSWERS

    def _within(self, trial: str, fold: int | None) -> Path:
        return Refit(self._made[trial], fold).within(self.folder)

    def _has_begun(self, trial: str) -> bool:
        """Whether an earlier process answered a fold, or kept a state on its way through one."""
        return self._has("folded", trial) or any(standing_of(self._within(trial, fold)) for fold in self._others())


@dataclass
class _Sink:
    """Records what fits tell, wherever they run."""

    journal: Journal
    failed: set[str] = field(default_factory=set)
    """Trials of which a fit failed in this process."""
    _live: dict[str, float] = field(default_factory=dict)
    """Work so far of the fits that run."""

    def write(self, event: str, trial: str, **fields: Any) -> None:
        """Record it; of a finalist that has failed nothing more, as nothing more would have been begun."""
        if trial in self.failed:
            return
        if event == "failed":
            self.failed.add(trial)
        self.journal.write(event, trial, **fields)

    def tell(self, event: dict[str, Any]) -> None:
        """Show it."""
        self._live[event["fit"]] = event["work"]
        self.journal.tell({**event, "used_seconds": self.journal.elapsed})

    def is_late(self) -> bool:
        """Whoever has begun a fit waits for it."""
        return False

    def lost(self, asked: Refit, reason: str) -> Outcome:
        """Its process is gone."""
        work = self._live.get(asked.key, 0.0)
        self.write("failed", asked.trial, reason=f"{asked.where}{reason}", error="WorkError", work=work)
        return Outcome(asked.key, "failed")
