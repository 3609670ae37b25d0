"""Learning curves of a finished run: its finalists made again from fewer labelled rows, in several draws.

Each is fitted as the study fitted its best trial, with the same settings and the same validation rows, and answers
the test after everything has been decided, so nothing is chosen by it. The answers stand in `curve.jsonl`; what
follows from them is derived in `tunewise.recommend.learning`.

>>> survey(folder, read_stored(folder), Budget.parse("10m"), tell)
"""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunewise.adapted import NO_MODEL, loaded
from tunewise.errors import CandidateError, SettingError, reason_of
from tunewise.figures import counted, duration, score
from tunewise.reading.folds import rows_without
from tunewise.reading.splits import strata_of, stratified_order
from tunewise.rule import FEWEST_ROWS
from tunewise.run_files import CURVE, Fields, predictions_of, read_json, read_lines
from tunewise.settings import Budget
from tunewise.statistics.curves import LEAST_DRAWS, LEAST_SIZES
from tunewise.study.again import Made, made_by, make_again
from tunewise.study.budget import amount
from tunewise.study.evaluation import evaluate
from tunewise.study.files import best_rows
from tunewise.study.forecast import BATCH_SIZE, Forecaster, steps_of
from tunewise.study.ground import Ground, prepare
from tunewise.study.journal import Event, mend
from tunewise.study.rates import WITHOUT_MODEL, checked_rates
from tunewise.study.stored import Stored, finished_events
from tunewise.study.trials import MeteredTrial
from tunewise.task import Dataset, Task

FIRST_SIZE = 8
LEAST_ROWS = 32
"""Training rows below which there are no five sizes worth telling apart."""
SPARSE = 1.4
"""The last size before all rows is at most all rows divided by this."""
LEAST_STEPS = 40
"""Of training: a pass over eight rows is one step, and says nothing of what more of them would teach."""
GO_ON = "`tunewise curve` goes on with them."
Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fit:
    """One point of one curve."""

    finalist: Made
    size: int
    draw: int

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells it from the others."""
        return self.finalist.method.name, self.size, self.draw


def sizes_of(rows: int) -> tuple[int, ...]:
    """Numbers of training rows: 8, 16, 32 … and all of them; closer together where that gives fewer than five.

    Raises:
        SettingError: there are too few rows.
    """
    if rows < LEAST_ROWS:
        raise SettingError(
            f"a learning curve needs at least {LEAST_ROWS} training rows; found {rows}. Add labelled rows."
        )
    doubled = [FIRST_SIZE << power for power in range(rows.bit_length()) if FIRST_SIZE << power <= rows / SPARSE]
    if len(doubled) + 1 >= LEAST_SIZES:
        return (*doubled, rows)
    ratio = (rows / FIRST_SIZE) ** (1 / (LEAST_SIZES - 1))
    return tuple(round(FIRST_SIZE * ratio**place) for place in range(LEAST_SIZES))


def learnt_from(task: Task) -> Dataset:
    """The rows that what meets the test was fitted on."""
    return rows_without(task, None) if task.folds else task.train


def check_curves(task: Task) -> None:
    """Refuse curves of a task that has too few rows for them.

    Raises:
        SettingError: with how many it takes.
    """
    if task.tested_in_folds:
        raise SettingError(
            f"a learning curve needs rows for a test beside those for training; found {sum(map(len, task.folds))} "
            f"rows, which are compared in folds. Add rows, up to {FEWEST_ROWS} or more, or give a test file."
        )
    sizes_of(len(learnt_from(task)))


def survey(folder: Path, stored: Stored, budget: Budget, tell: Tell, *, in_all: bool = False) -> None:
    """Fit what is missing of the curves of the run in `folder`, as far as `budget` goes.

    Called again, it goes on where it ended.

    Args:
        folder: of a run that is finished.
        stored: what the folder records of it.
        budget: of this call.
        tell: told of every fit.
        in_all: take what was measured before off the budget.

    Raises:
        CandidateError: the run is not finished, or damaged.
        SettingError: there are too few training rows.
    """
    events = finished_events(folder)
    if events is None:
        raise CandidateError(f"{folder} is not finished yet; finish it with: tunewise resume {folder}")
    check_curves(stored.task)
    path = folder / CURVE
    mend(path)
    lines = list(read_lines(path))
    done = {(line.needed("method"), line.count("size") or 0, line.count("draw") or 0) for line in lines}
    missing: list[Fit] = []
    for finalist in _finalists(folder, events):
        name = finalist.method.name
        if finalist.method.learns_from_rows:
            fits = itertools.product(sizes_of(len(learnt_from(stored.task))), range(LEAST_DRAWS))
            missing += [Fit(finalist, size, draw) for size, draw in fits if (name, size, draw) not in done]
        elif (name, 0, 0) not in done:
            _write(path, {"method": name, "size": 0, "draw": 0, "constant": True})
    if not missing:
        tell({"event": "phase", "trial": None, "text": "the learning curves are whole already"})
        return
    left = budget.limit - (_spent(lines, budget) if in_all else 0.0)
    if left <= 0:
        tell({"event": "phase", "trial": None, "text": f"the learning curves took their {budget.text}; {GO_ON}"})
        return
    tell({"event": "phase", "trial": None, "text": f"measuring learning curves, for {budget.text}"})
    ground = prepare(stored.task, stored.request, rates=stored.rates, expected=stored.checksum)
    _Survey.of(path, stored, ground, replace(budget, limit=left), tell).go(missing)


def _spent(lines: Sequence[Fields], budget: Budget) -> float:
    """What fits on record took, in the unit of the budget."""
    if budget.unit == "trials":
        return float(sum(bool(line.number("work")) for line in lines))
    return math.fsum(line.number("seconds" if budget.unit == "seconds" else "work") or 0.0 for line in lines)


@dataclass
class _Survey:
    """The curves of a run on their way."""

    path: Path
    """Of `curve.jsonl`, in the run folder."""
    stored: Stored
    ground: Ground
    forecaster: Forecaster
    budget: Budget
    limit: float
    """Work, or fits."""
    tell: Tell
    _begun: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, path: Path, stored: Stored, ground: Ground, budget: Budget, tell: Tell) -> _Survey:
        """With what the budget is worth."""
        forecaster, limit = ground.forecaster, budget.limit
        if budget.unit == "seconds":
            rates = forecaster.rates or _rates(ground)
            forecaster = replace(forecaster, rates=rates)
            limit *= rates["score"]
        elif budget.unit == "flop":
            forecaster = replace(forecaster, rates={})
        return cls(path, stored, ground, forecaster, budget, limit, tell)

    def go(self, missing: Sequence[Fit]) -> None:
        """Curve by curve, the first as far as the budget goes, of the others those that it holds whole."""
        curves: dict[str, list[Fit]] = {}
        for fit in missing:
            curves.setdefault(fit.finalist.method.name, []).append(fit)
        prices = {name: math.fsum(map(self._price, fits)) for name, fits in curves.items()}
        first, *others = curves
        spent = 0.0
        for name in (first, *sorted(others, key=prices.__getitem__)):
            if name != first and spent + prices[name] > self.limit:
                self._say(f"{name}: no learning curve yet, it takes {self._amount(prices[name])} more.")
                continue
            for fit in curves[name]:
                price = self._price(fit)
                if spent + price > self.limit or self._late():
                    self._say(f"{name}: the budget ended before its learning curve was whole; {GO_ON}")
                    break
                line = self._line(fit)
                spent += price if self.budget.unit == "trials" else line["work"]
                _write(self.path, line)

    def _amount(self, price: float) -> str:
        """A price as a budget is written."""
        if self.budget.unit == "trials":
            return f"{math.ceil(price)}trials"
        return amount(price, self.budget, self.forecaster)

    def _price(self, fit: Fit) -> float:
        """Forecast of one fit and its answers to the test."""
        if self._known(fit):
            return 0.0
        if self.budget.unit == "trials":
            return 1.0
        finalist = self._finalist(fit)
        kind = finalist.method.work
        work = finalist.forecast(replace(self.forecaster, n_train=fit.size))
        if kind is None:
            return work
        rows = self.forecaster.n_test
        return work + self.forecaster.evaluation(rows, finalist.shots, tuned=kind.startswith("train"))

    def _finalist(self, fit: Fit) -> Made:
        """As the study made it; with more passes over few rows."""
        settings = dict(fit.finalist.parameters)
        if "epochs" in settings and fit.size <= len(self.stored.task.train) and not self._is_whole(fit):
            steps = steps_of(fit.size, settings.get("batch_size", BATCH_SIZE))
            settings["epochs"] = max(settings["epochs"], math.ceil(LEAST_STEPS / steps))
        return replace(fit.finalist, parameters=settings)

    def _known(self, fit: Fit) -> bool:
        """Whether the study itself made this fit: all rows, in its own order, from its own seed."""
        return self._is_whole(fit) and fit.draw == 0 and not fit.finalist.cut_short

    def _is_whole(self, fit: Fit) -> bool:
        return fit.size == len(learnt_from(self.stored.task))

    def _line(self, fit: Fit) -> dict[str, Any]:
        """Make one fit, and say what came of it."""
        name = fit.finalist.method.name
        head = {"method": name, "size": fit.size, "draw": fit.draw}
        if self._known(fit):
            stored = read_lines(predictions_of(self.path.parent, fit.finalist.trial))
            outputs = [line.text("prediction") for line in stored]
            return {**head, "work": 0.0, "seconds": 0.0, "outputs": outputs}
        begun = time.perf_counter()
        with TemporaryDirectory() as folder:
            task, seed = self.ground.task, self.stored.request.seed + fit.draw
            # A fit that learns from validation rows ends where the study's did, after as many passes.
            validation = task.validation if fit.size <= len(task.train) else Dataset(())
            trial = MeteredTrial(seed, Path(folder), validation, weigh=self.forecaster.weigh)
            trial.watch(self.ground.base)
            trial.spend("overhead", self.forecaster.overhead(fit.finalist.method.work))
            try:
                came: dict[str, Any] = {"outputs": self._answers(fit, trial)}
            except Exception as error:  # as in a trial: on record with its reason, and the others go on
                came = {"failed": reason_of(error)}
                self._say(f"learning curve: {name}, {counted(fit.size, 'row')}: {came['failed']}")
        return {**head, **came, "work": trial.work, "seconds": round(time.perf_counter() - begun, 3)}

    def _answers(self, fit: Fit, trial: MeteredTrial) -> list[str]:
        """What the finalist, made from so many rows, answers to the test."""
        task, finalist = self.ground.task, self._finalist(fit)
        fitted = make_again(finalist, self.ground.base, self._rows(fit), task.validation, trial)
        found = evaluate(fitted, task.test)
        which = f"{finalist.method.name}, {counted(fit.size, 'row')}, draw {fit.draw + 1} of {LEAST_DRAWS}"
        took = duration(time.monotonic() - self._begun)
        text = f"learning curve: {which}: {score(found.score)} ({took})"
        self.tell({"event": "phase", "trial": None, "text": text})
        return [one.output for one in found.predictions]

    def _rows(self, fit: Fit) -> Dataset:
        """The first `size` rows of a stratified order: smaller sizes of a draw stand in its larger ones."""
        task = self.ground.task
        if self._is_whole(fit) and fit.draw == 0:  # as the study had them
            return learnt_from(task)
        draw = random.Random(f"{self.stored.request.seed}/curve/{fit.draw}")
        parts = (task.train, task.validation) if task.folds else (task.train,)
        rows = [
            part.examples[place] for part in parts for place in stratified_order(strata_of(part, task.spec), draw)
        ]
        return Dataset(tuple(rows[: fit.size]))

    def _late(self) -> bool:
        """The clock's hard stop: work took longer than this machine's rates said."""
        return self.budget.unit == "seconds" and time.monotonic() - self._begun > self.budget.limit

    def _say(self, text: str) -> None:
        self.tell({"event": "message", "trial": None, "text": text})


def _write(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _rates(ground: Ground) -> Mapping[str, float]:
    """This machine's rates, for a run whose own budget was in no time."""
    base = ground.base.base
    return WITHOUT_MODEL if base == NO_MODEL else checked_rates(loaded(base))[0]


def _finalists(folder: Path, events: Sequence[Event]) -> list[Made]:
    """The tested finalists, the pick first."""
    made = made_by(events)
    tested = {event["trial"] for event in events if event["event"] == "tested"}
    pick = _pick(folder)
    found = [made[row.trial] for row in best_rows(events) if row.trial in tested]
    return sorted(found, key=lambda finalist: finalist.method.name != pick)


def _pick(folder: Path) -> str:
    verdict = read_json(folder / "recommendation.json")
    return verdict.text("pick") if verdict else ""
