"""Fills the grid: every method with every setting on every cell, each trial once, to its last step.

Trials are kept as they end (`grid/*.jsonl.gz`), so the script may be stopped at any moment and goes on where it
was. It runs for hours; nothing in it is timed for its own sake, so other work may run beside it.

    python benchmarks/evidence/grid.py --minutes 9          # as much as fits into nine minutes
    python benchmarks/evidence/grid.py --cells trec-512-0   # this cell alone, beside another process for others
    python benchmarks/evidence/grid.py --show               # how far it is
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cells
from cells import Cell

from tunewise.adapted import AdaptedModel, Predictor, forget_scores, loaded
from tunewise.errors import TunewiseError
from tunewise.methods.base import FAMILIES
from tunewise.reading.clean import without_leaks
from tunewise.reading.folds import folded, rows_without
from tunewise.reading.similar import likeness
from tunewise.settings import Budget
from tunewise.study.files import trainable_parameters
from tunewise.study.ground import Ground, prepare
from tunewise.study.rates import checked_rates
from tunewise.study.stored import Request
from tunewise.study.trials import Checked, MeteredTrial
from tunewise.task import Choices, Dataset, Example, Task

sys.path.insert(0, str(Path(__file__).parents[1]))
import workloads
from harness import DEFAULT_MODEL

EVALUATION = 1_000
EVALUATIONS = {"english-spanish": 300}
"""Rows never given to a study, where they are fewer than `EVALUATION`."""
THIRD_RATES = {"full": 2e-4, "soft-prompt": 5e-2}
"""Where a method lists two rates, one more, so that the grid knows what a wider search would find."""
SEEDS = (0, 1)
"""Training seeds; the second at the best rate alone."""
TEN_OF = {"banking77": "category", "clinc150": "domain"}
"""Tasks of which the first ten labels of a column are taken."""


@dataclass(frozen=True)
class Planned:
    """A trial of the grid."""

    method: Any
    parameters: Mapping[str, Any]
    seed: int = 0

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the others of its cell."""
        return self.method.name, repr(sorted(self.parameters.items())), self.seed


@cache
def pool(task: str) -> tuple[Task, Dataset]:
    """All labelled rows of a task that may be drawn, and the rows for the evaluation, which no study sees."""
    whole = _ten(task) if task in TEN_OF else Task.read(task, validation=0)
    if task == "trec":  # its test split is official
        return whole, whole.test
    rows = [*whole.train, *whole.test]
    random.Random(f"{task}/evaluation").shuffle(rows)
    count = EVALUATIONS.get(task, EVALUATION)
    # No row that a study may see is nearly one that it is judged on.
    left = without_leaks(rows[count:], rows[:count], likeness(rows)).kept
    return replace(whole, train=Dataset(tuple(left))), Dataset(tuple(rows[:count]))


def _ten(task: str) -> Task:
    """The first ten intents of Banking77, or the ten domains of CLINC150."""
    import csv

    folder = workloads.data_folder(None)
    column, rows = TEN_OF[task], []
    for part in ("train", "test"):
        with workloads.data_file(folder, f"{task}-{part}.csv").open(encoding="utf-8", newline="") as file:
            rows += [{"text": row["text"], "label": row[column]} for row in csv.DictReader(file)]
    names = sorted({row["label"] for row in rows} - set(workloads.OUT_OF_SCOPE))[:10]
    return Task.read(
        [row for row in rows if row["label"] in names],
        input="text",
        target="label",
        kind="classification",
        labels={name: name.replace("_", " ") for name in names},
        instruction="Classify the sentence by what it is about.",
        validation=0,
        name=task,
    )


def given(cell: Cell) -> Task:
    """What a study of the cell is given: its labelled rows, split as Tunewise splits them."""
    whole, _ = pool(cell.task)
    field_name = whole.spec.inputs[0]
    by_label: dict[str, list[Example]] = {}
    rows = list(whole.train)
    random.Random(f"{cell.task}/{cell.draw}").shuffle(rows)
    for example in rows:
        by_label.setdefault(example.target if isinstance(whole.spec.answer, Choices) else "", []).append(example)
    drawn = _in_proportion(by_label, cell.rows)
    answer = whole.spec.answer
    labels = dict(zip(answer.labels, answer.words, strict=True)) if isinstance(answer, Choices) else None
    task = Task.read(
        [{field_name: example.inputs[field_name], "target": example.target} for example in drawn],
        input=field_name,
        target="target",
        kind="classification" if labels else "generation",
        metric=whole.spec.metric,
        labels=labels,
        instruction=whole.spec.instruction,
        name=cell.name,
    )
    if cell.fold is None:
        return task
    task = folded(task)
    held = task.folds[cell.fold]
    return replace(task, train=rows_without(task, cell.fold), validation=held, test=held, folds=())


def _in_proportion(by_label: Mapping[str, Sequence[Example]], count: int) -> list[Example]:
    """About `count` rows, of each label as many as its share (largest remainders), and two at least."""
    total = sum(map(len, by_label.values()))
    shares = {label: count * len(rows) / total for label, rows in by_label.items()}
    counts = {label: max(2, int(share)) for label, share in shares.items()}
    missing = max(0, count - sum(counts.values()))
    for label in sorted(shares, key=lambda name: counts[name] - shares[name])[:missing]:
        counts[label] += 1
    return [example for label, rows in by_label.items() for example in rows[: counts[label]]]


def planned(ground: Ground) -> Iterator[Planned]:
    """Every method with every setting, one seed; hybrids last, as they start from the best prompt."""
    order = sorted(ground.methods, key=lambda method: (FAMILIES.index(method.family), method.order))
    for method in order:
        space = dict(method.search_space(ground.task.spec, ground.base.base, len(ground.task.train)))
        if method.name in THIRD_RATES:
            space["learning_rate"] = [*space["learning_rate"], THIRD_RATES[method.name]]
        for values in itertools.product(*space.values()):
            yield Planned(method, dict(zip(space, values, strict=True)))


@dataclass
class Recorder:
    """Every candidate that a trial offers: its score, its outputs on validation, and the work so far."""

    labels: Sequence[str]
    begun: Mapping[str, float]
    meter: Mapping[str, float]
    checks: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, checked: Checked, epoch: float | None) -> None:
        """Note one."""
        evaluation = checked.evaluation
        assert evaluation is not None
        self.checks.append(
            {
                "step": checked.step,
                "epoch": epoch,
                "value": checked.verdict.value,
                "log_loss": checked.verdict.log_loss,
                "work": self.work(),
                "outputs": cells.coded([one.output for one in evaluation.predictions], self.labels),
            }
        )

    def work(self) -> dict[str, float]:
        """Operations so far, by kind."""
        done = {kind: count - self.begun.get(kind, 0) for kind, count in self.meter.items()}
        return {kind: count for kind, count in done.items() if count}


def run(trial: Planned, ground: Ground, start: Predictor) -> tuple[Predictor, dict[str, Any]]:
    """Run one to its last step; what came of it, and its line."""
    labels = _labels(ground.task)
    model = loaded(ground.base.base)
    forget_scores()
    with TemporaryDirectory() as folder:
        metered = MeteredTrial(trial.seed, Path(folder), ground.task.validation)
        recorder = Recorder(labels, dict(model.meter), model.meter)
        metered.on_check = recorder
        metered.watch(start)
        begun = time.perf_counter()
        fitted = trial.method(**trial.parameters).fit(start, ground.task.train, ground.task.validation, metered)
        seconds = time.perf_counter() - begun
    assert metered.best is not None
    shots = len(fitted.prompt.demonstrations) if isinstance(fitted, AdaptedModel) else 0
    line = {
        "method": trial.method.name,
        "family": trial.method.family,
        "parameters": dict(trial.parameters),
        "seed": trial.seed,
        "value": metered.best.verdict.value,
        "log_loss": metered.best.verdict.log_loss,
        "step": metered.best.step,
        "seconds": round(seconds, 2),
        "work": recorder.work(),
        "checks": recorder.checks,
        "shots": shots,
        "asks_a_model": isinstance(fitted, AdaptedModel),
        "trainable_parameters": trainable_parameters(fitted),
    }
    return fitted, line


def _labels(task: Task) -> Sequence[str]:
    return task.spec.answer.labels if isinstance(task.spec.answer, Choices) else ()


class Filling:
    """One cell on its way."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        task = given(cell)
        self.evaluation = pool(cell.task)[1]
        self.ground = prepare(task, Request(DEFAULT_MODEL, _names(task), Budget.parse("1000000trials"), 0.0, 0))
        self.kept = cells.read(cell)
        self.lines = list(self.kept.trials)
        if not self.kept.facts:
            cells.append(cell, self._facts())

    def go(self, until: float) -> bool:
        """Run what is missing as long as the clock says; whether the cell is full."""
        for trial in itertools.chain(planned(self.ground), self._again()):
            if not self._done(trial):
                if time.monotonic() > until:
                    return False
                self._run(trial)
        return True

    def _done(self, trial: Planned) -> bool:
        return any(
            (line["method"], repr(sorted(line["parameters"].items())), line["seed"]) == trial.key
            for line in self.lines
        )

    def _again(self) -> Iterator[Planned]:
        """The best rate of each tuned method, once more with another seed."""
        for method in self.ground.methods:
            own = [line for line in self.lines if line["method"] == method.name and line["seed"] == SEEDS[0]]
            if own and "learning_rate" in own[0]["parameters"]:
                best = max(own, key=cells.preferred)
                yield from (Planned(method, best["parameters"], seed) for seed in SEEDS[1:])

    def _run(self, trial: Planned) -> None:
        begun = time.perf_counter()
        try:
            line = self._line(trial)
        except TunewiseError as error:  # a loss that is no number, say: on record, and not tried again
            key = {"method": trial.method.name, "parameters": dict(trial.parameters), "seed": trial.seed}
            line = {**key, "value": None, "log_loss": None, "failed": str(error)}
        cells.append(self.cell, line)
        self.lines.append(line)
        value = "failed" if line["value"] is None else f"{line['value']:.3f}"
        rate, took = trial.parameters.get("learning_rate", ""), time.perf_counter() - begun
        print(f"{self.cell.name}: {trial.method.name} {rate} seed {trial.seed}: {value}, {took:.0f} s", flush=True)

    def _line(self, trial: Planned) -> dict[str, Any]:
        fitted, line = run(trial, self.ground, self._start(trial))
        labels = _labels(self.ground.task)
        for name, rows in (("test", self.ground.task.test), ("evaluation", self.evaluation)):
            outputs = [one.output for one in fitted.predict(rows.inputs)]
            line[name] = cells.coded(outputs, labels)
        return line

    def _start(self, trial: Planned) -> Predictor:
        """The base model, or for a hybrid the best prompt, made again: that costs little."""
        source = trial.method.starts_from
        if source is None:
            return self.ground.base
        best = max((line for line in self.lines if line["method"] == source), key=cells.preferred)
        method = next(method for method in self.ground.methods if method.name == source)
        return run(Planned(method, best["parameters"]), self.ground, self.ground.base)[0]

    def _facts(self) -> dict[str, Any]:
        task, forecaster = self.ground.task, self.ground.forecaster
        labels = _labels(task)
        splits = {
            "train": task.train,
            "validation": task.validation,
            "test": task.test,
            "evaluation": self.evaluation,
        }
        return {
            "cell": self.cell.name,
            "labels": list(labels),
            "metric": task.spec.metric,
            "targets": {
                name: cells.coded(rows.targets, labels) for name, rows in splits.items() if name != "train"
            },
            "rows": {name: len(rows) for name, rows in splits.items()},
            "tokens": asdict(forecaster.tokens),
            "shape": asdict(forecaster.shape),
            "text_tokens": forecaster.text_tokens,
            "rates": dict(checked_rates(loaded(self.ground.base.base))[0]),
        }


def _names(task: Task) -> tuple[str, ...]:
    from tunewise.study.ground import choose_methods

    return tuple(method.name for method in choose_methods(None, task.spec)[0])


def show() -> None:
    """How many trials each cell has."""
    for cell in cells.grid():
        kept = cells.read(cell)
        print(f"{cell.name:24} {len(kept.trials):3} trials{'' if kept.facts else '  not begun'}")


def main() -> None:
    """Read the flags and fill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="end before a trial that starts later than this"
    )
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="these alone, for several processes at a time")
    parser.add_argument("--show", action="store_true", help="say how far it is")
    flags = parser.parse_args()
    if flags.show:
        show()
        return
    wanted = [cell for cell in cells.grid() if flags.cells is None or cell.name in flags.cells]
    if unknown := set(flags.cells or ()) - {cell.name for cell in wanted}:
        raise SystemExit(f"no such cell: {', '.join(sorted(unknown))}; `--show` names them.")
    until = time.monotonic() + 60 * flags.minutes
    with contextlib.suppress(KeyboardInterrupt):
        for cell in wanted:
            if not Filling(cell).go(until):
                return
        print("these cells are full" if flags.cells else "the grid is full")


if __name__ == "__main__":
    main()
