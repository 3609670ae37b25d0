"""A run folder's files → the evidence, read and checked once.

>>> # evidence = read_evidence(Path("runs/tickets")); [entry.candidate for entry in evidence.entries]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise.candidates import read_json
from tunewise.errors import CandidateError
from tunewise.recommend.costs import Costs
from tunewise.recommend.evidence import Entry, Evidence, ranked
from tunewise.rule import Finalist, figure
from tunewise.run_files import NOT_AGAIN, TEST_AGAIN, Fields, predictions_of, read_lines, read_table
from tunewise.task import TaskSpec

COLUMNS = ("candidate", "family", "trial", "score", "validation_score", "cost_work", "status")
"""What is taken from the leaderboard."""


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
        entries=ranked(entries),
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
