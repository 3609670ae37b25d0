"""What a run folder holds that bears on the recommendation, read and checked once.

Scores are taken from the stored predictions, not from the leaderboard, so that score, interval and paired
differences come from the same rows by the same code.

>>> # evidence = read_evidence(Path("runs/tickets")); [entry.candidate for entry in evidence.entries]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise.candidates import read_json
from tunewise.cost import USUAL, Demand
from tunewise.errors import CandidateError
from tunewise.recommend.costs import Costs
from tunewise.rule import Finalist, figure
from tunewise.run_files import NOT_AGAIN, TEST_AGAIN, Fields, predictions_of, read_lines, read_table
from tunewise.statistics import (
    Choice,
    Difference,
    Interval,
    out_of_fold_choice,
    paired_difference,
    score_interval,
)
from tunewise.task import TaskSpec

COLUMNS = ("candidate", "family", "trial", "score", "validation_score", "cost_work", "status")
"""What is taken from the leaderboard."""


@dataclass(frozen=True)
class Entry:
    """A finalist: its leaderboard row and its answers to the test rows."""

    finalist: Finalist
    trial: str
    family: str
    valid_rate: float
    outputs: tuple[str, ...]
    score: float
    costs: Costs

    @property
    def candidate(self) -> str:
        """The candidate's name."""
        return self.finalist.candidate

    @property
    def answers(self) -> str:
        """The file with its answers to the test rows, in the run folder."""
        return f"predictions/{self.trial}-test.jsonl"


@dataclass(frozen=True)
class Evidence:
    """Everything the recommendation is derived from."""

    spec: TaskSpec
    entries: tuple[Entry, ...]
    """Finalists, the highest test score first; of equals, the cheaper."""
    targets: tuple[str, ...]
    groups: tuple[str, ...] | None
    margin: float
    """The margin the run was started with, in points."""
    split_rows: Mapping[str, int]
    learnt_from: int
    """Rows that finalists were fitted on, as they met the test."""
    chosen_in_folds: bool
    """Whether validation scores are of the answers in folds beside the test."""
    profile: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]
    untested: tuple[str, ...]
    """Candidates that finished but never met the test split."""
    repeats: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Of candidates that were trained again with other seeds, what these answered to the test rows."""
    rate: float | None = None
    """Work that the run's machine does in a second; None where the run counted operations alone."""
    demand: Demand = USUAL
    """What costs are counted for."""
    folds: int = 0
    """Folds of which all but the first take the place of a test; 0 where there is a test."""
    _compared: dict[tuple[str, str], Difference] = field(default_factory=dict)
    """Differences by candidates: they depend on no wish."""

    @cached_property
    def metric(self) -> metrics.Metric:
        """The metric that ranks."""
        return metrics.get(self.spec.metric)

    @property
    def labelled_rows(self) -> int:
        """Rows of all splits together."""
        return sum(self.split_rows.values())

    @property
    def chosen_on(self) -> int:
        """Rows that validation scores are of."""
        return self.learnt_from if self.chosen_in_folds else self.split_rows.get("validation", 0)

    @property
    def chooser(self) -> str:
        """What validation scores are of, in a sentence."""
        return "the folds" if self.chosen_in_folds else "validation"

    @property
    def where_chosen(self) -> str:
        """Where validation scores were measured, in a sentence."""
        return "in the folds" if self.chosen_in_folds else "on validation"

    @property
    def where(self) -> str:
        """Where scores were measured, in a sentence."""
        return "in the folds" if self.folds else "on test"

    @property
    def opened(self) -> str:
        """What had happened when the run was over, in a sentence."""
        return "the folds had been answered" if self.folds else "the test had been opened"

    @property
    def nominated(self) -> tuple[str, str] | None:
        """Reference and nominee as the journal fixed them before the test split was opened, where it did."""
        for event in self.events:
            if event.get("event") == "nominated":
                return str(event.get("reference")), str(event.get("nominee"))
        return None

    def at(self, demand: Demand) -> Evidence:
        """The same with costs counted for another demand."""
        entries = [
            replace(entry, finalist=replace(entry.finalist, cost_work=demand.cost(entry.costs.works)))
            for entry in self.entries
        ]
        return replace(self, entries=_sorted(entries), demand=demand)

    def only(self, candidates: Collection[str]) -> Evidence:
        """The same without the other finalists."""
        entries = tuple(entry for entry in self.entries if entry.candidate in candidates)
        repeats = {name: found for name, found in self.repeats.items() if name in candidates}
        return replace(self, entries=entries, repeats=repeats)

    def entry(self, candidate: str) -> Entry:
        """The finalist of that name."""
        return next(entry for entry in self.entries if entry.candidate == candidate)

    def interval(self, entry: Entry) -> Interval:
        """The 95 % interval of a finalist's test score."""
        if self.folds:
            return out_of_fold_choice(self.metric, [entry.outputs], self.targets, self.groups).interval
        return score_interval(self.metric, entry.outputs, self.targets, self.groups)

    def choice(self, preferred: Sequence[str], margin: float) -> Choice:
        """What choosing among finalists by their answers to these rows is worth, the `preferred` ones first."""
        outputs = [self.entry(candidate).outputs for candidate in preferred]
        return out_of_fold_choice(self.metric, outputs, self.targets, self.groups, margin)

    def difference(self, a: str, b: str) -> Difference:
        """Test score of candidate `a` minus that of `b`, paired."""
        if (a, b) not in self._compared:
            outputs = self.entry(a).outputs, self.entry(b).outputs
            self._compared[a, b] = paired_difference(self.metric, *outputs, self.targets, self.groups)
        return self._compared[a, b]

    def differences_to(self, candidate: str) -> dict[str, Difference]:
        """For every other finalist, its test score minus that of `candidate`."""
        others = (entry.candidate for entry in self.entries if entry.candidate != candidate)
        return {other: self.difference(other, candidate) for other in others}


def read_evidence(folder: Path) -> Evidence:
    """The evidence in a run folder; raises CandidateError for files missing, damaged or contradictory."""
    run, task = _object(folder / "run.json"), _object(folder / "task.json").values
    margin = run.number("margin")
    if margin is None:
        raise run.wrong("margin", "a number of points")
    try:
        spec = TaskSpec.from_json(task["spec"])
        split_rows = {name: len(rows) for name, rows in task["splits"].items()}
        folds = task.get("folds", ())
        beside = bool(folds and split_rows.get("test"))
        learnt_from = sum(map(len, folds)) if folds else split_rows.get("train", 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise CandidateError(
            f"{folder / 'task.json'}: cannot be read ({error!r}); expected a spec and splits as in "
            f"docs/run-folder.md. {NOT_AGAIN}"
        ) from None
    board = read_table(_needed(folder / "leaderboard.csv"), COLUMNS) or []
    finished = [row.values for row in board if row.values["status"] == "finished"]
    rows = [row for row in finished if row["score"].strip()]
    predictions = {row["candidate"]: _read_test(folder, row) for row in rows}
    events = tuple(line.values for line in read_lines(_needed(folder / "trials.jsonl"), torn_end=True))
    again = _repeats(folder, events, {row["trial"] for row in rows})
    repeated = {
        f"{name}, repeated {n}": lines for name, found in again.items() for n, lines in enumerate(found, 1)
    }
    _require_same_rows(folder, predictions | repeated)
    first = next(iter(predictions.values()), [])
    targets = tuple(str(line["target"]) for line in first)
    groups = tuple(str(line["group"]) for line in first if line.get("group") is not None)
    metric = metrics.get(spec.metric)
    entries = [_entry(row, predictions[row["candidate"]], targets, metric) for row in rows]
    return Evidence(
        spec=spec,
        entries=_sorted(entries),
        targets=targets,
        groups=groups if groups and len(groups) == len(targets) else None,
        margin=margin,
        split_rows=split_rows,
        learnt_from=learnt_from,
        chosen_in_folds=beside,
        profile=task.get("profile") or {},
        events=events,
        untested=tuple(row["candidate"] for row in finished if row not in rows),
        rate=run.section("budget").section("rates").number("score"),
        folds=0 if beside else len(folds),
        repeats={name: tuple(map(_outputs, found)) for name, found in again.items() if name in predictions},
    )


def _repeats(
    folder: Path, events: Sequence[Mapping[str, Any]], finalists: Collection[str]
) -> dict[str, list[list[Mapping[str, Any]]]]:
    """By candidate, the answers of those that repeat one of the finalists' trials with another seed."""
    started = {str(event.get("trial")): event for event in events if event.get("event") == "started"}
    cut = {event.get("trial") for event in events if event.get("event") == "finished" and event.get("cut_short")}
    again = {event.get("trial") for event in events if event.get("event") == "refitted"}
    found: dict[str, list[list[Mapping[str, Any]]]] = {}
    for event in events:
        trial = str(event.get("trial"))
        repeated = started.get(trial, {}).get("repeats")
        # A finalist found after the repeats has other settings, and a trial cut short is no other draw of luck;
        # but what was fitted again, as in folds, ended where its repeats did.
        if event.get("event") != "tested" or repeated not in finalists or {trial, repeated} & (cut - again):
            continue
        if predictions_of(folder, trial).exists():
            method = str(started[trial].get("method"))
            found.setdefault(method, []).append(_read_test(folder, {"trial": trial}))
    return found


def _sorted(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda e: (-e.score, e.finalist.cost_work, e.candidate)))


def _entry(
    row: Mapping[str, str], lines: list[Mapping[str, Any]], targets: tuple[str, ...], metric: metrics.Metric
) -> Entry:
    outputs = _outputs(lines)
    return Entry(
        finalist=Finalist.from_row(row),
        trial=row["trial"],
        family=row.get("family") or "",
        valid_rate=figure(row, "valid_rate", default=1.0),
        outputs=outputs,
        score=metric.score(outputs, targets),
        costs=Costs.from_row(row, lines),
    )


def _outputs(lines: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple("" if line.get("prediction") is None else str(line["prediction"]) for line in lines)


def _read_test(folder: Path, row: Mapping[str, str]) -> list[Mapping[str, Any]]:
    path = _needed(predictions_of(folder, row["trial"]))
    lines = [line.values for line in read_lines(path)]
    if not lines or any("row" not in line or "target" not in line for line in lines):
        raise CandidateError(
            f"{path}: found {len(lines)} lines; expected one for every test row, each with row, target and "
            f"prediction. {TEST_AGAIN}"
        )
    return lines


def _require_same_rows(folder: Path, predictions: Mapping[str, list[Mapping[str, Any]]]) -> None:
    """Paired comparisons need every finalist to have answered the same rows in the same order."""
    seen = {
        candidate: [(line.get("source"), line["row"], line["target"]) for line in lines]
        for candidate, lines in predictions.items()
    }
    names = list(seen)
    for name in names[1:]:
        if seen[name] != seen[names[0]]:
            raise CandidateError(
                f"{folder / 'predictions'}: the test rows of {name} are not those of {names[0]}; expected "
                f"the same rows and targets in the same order for every finalist. {TEST_AGAIN}"
            )


def _needed(path: Path) -> Path:
    if not path.exists():
        raise CandidateError(
            f"{path}: no such file; expected a run folder that `tunewise compare` finished. "
            "If the run was interrupted, finish it with `tunewise resume`."
        )
    return path


def _object(path: Path) -> Fields:
    found = read_json(_needed(path))
    if not isinstance(found, dict):
        raise CandidateError(f"{path}: found a {type(found).__name__}, expected a JSON object. {NOT_AGAIN}")
    return Fields(path.name, found)
