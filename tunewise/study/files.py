"""The files of a run folder that the study writes: settings, task, and the leaderboard derived from the rest.

The formats are described in `docs/run-folder.md`.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise import statistics as evidence
from tunewise.adapted import AdaptedModel, ModelRef, loaded
from tunewise.candidates import read_json
from tunewise.cost import USUAL, Works
from tunewise.errors import CandidateError
from tunewise.methods import get
from tunewise.run_files import TEST_AGAIN, predictions_of, read_lines
from tunewise.study.evaluation import preference
from tunewise.study.journal import ENDED
from tunewise.task import Dataset, Task, TaskSpec
from tunewise.whole import writing

COLUMNS = (
    *("candidate", "method", "family", "model", "trial", "seed", "n_train"),
    *("score", "ci_low", "ci_high", "validation_score", "fit_seconds", "ms_per_example", "prompt_tokens"),
    *("trainable_parameters", "artifact_mb", "peak_rss_mb", "valid_rate", "status"),
    *("cost_work", "setup_work", "request_work", "serving_mb", "metrics"),
)
PACKAGES = ("tunewise", "torch", "transformers", "safetensors", "scikit-learn", "scipy", "numpy", "sacrebleu")
PREDICTED = ("target", "prediction", "valid", "milliseconds", "prompt_tokens", "cached_tokens")
"""What every line of a file of predictions has, beside what only some need."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """What the study runs on."""
    import psutil
    import torch

    from tunewise.engine import operations
    from tunewise.engine.hardware import best_device, best_dtype, processor_name

    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "cpu": processor_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "dtype": str(best_dtype()).removeprefix("torch."),
        "kernels": operations.name(best_device(), best_dtype()),
    }


def model_record(base: ModelRef) -> dict[str, Any]:
    """What is known of the base model."""
    from tunewise import catalog

    network = loaded(base).network
    licence = catalog.model(base.name).licence if base.name in catalog.model_names() else None
    return {
        "name": base.name,
        "source": "catalog" if licence else "given",
        "revision": None,
        "sha256": base.sha256,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "licence": licence,
    }


def task_record(task: Task) -> dict[str, Any]:
    """The content of `task.json`."""
    folds = {"folds": [_numbers(fold) for fold in task.folds]} if task.folds else {}
    return {
        "format": 1,
        "name": task.name,
        "spec": task.spec.to_json(),
        "source": dict(task.source),
        "profile": task.profile.to_json() if task.profile else None,
        "splits": {name: _numbers(rows) for name, rows in task.splits.items()},
        **folds,
    }


def origin(method: Any, parameters: Mapping[str, Any], trial: str, seed: int, rows: int) -> dict[str, Any]:
    """What a saved candidate says of where it comes from, beside what it is."""
    from tunewise import __version__

    return {
        "method": method.name,
        "family": method.family,
        "parameters": dict(parameters),
        "trial": trial,
        "seed": seed,
        "n_train": rows,
        "tunewise": __version__,
    }


def _numbers(rows: Dataset) -> list[list[Any]]:
    return [[example.source, example.row] for example in rows]


@dataclass(frozen=True)
class Row:
    """What the journal says of the best trial of a method."""

    method: str
    model: str
    trial: str
    status: str
    seed: int
    n_train: int
    validation_score: float | None
    log_loss: float | None
    work: float
    seconds: float
    peak_rss_mb: float
    trainable_parameters: int
    request_work: float
    artifact_mb: float
    serving_mb: float
    cut_short: bool
    """Whether its budget ended it."""
    start_work: float = 0.0
    """Of the trial that it starts from, which making it anew takes as well."""
    start_seconds: float = 0.0

    @property
    def setup_work(self) -> float:
        """Work of making it from the base model."""
        return self.work + self.start_work

    @property
    def setup_seconds(self) -> float:
        """Seconds of making it from the base model."""
        return self.seconds + self.start_seconds

    @property
    def cost_work(self) -> float:
        """For the usual demand."""
        return USUAL.cost(Works(self.setup_work, self.request_work))


def best_rows(events: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a method: its best finished trial by validation, or its last trial; and what became of it since."""
    started = {e["trial"]: e for e in events if e["event"] == "started"}
    ended = {e["trial"]: e for e in events if e["event"] in ENDED and "repeats" not in started.get(e["trial"], {})}
    finished = {e["trial"]: e for e in events if e["event"] == "finished"}
    rows: dict[str, Row] = {}
    for trial, last in ended.items():
        end = finished.get(trial, last)
        begin = started.get(trial, end)
        start = finished.get(begin.get("start_from") or "", {})
        row = Row(
            method=begin["method"],
            model=begin["model"],
            trial=trial,
            status=last["event"],
            seed=begin.get("seed", 0),
            n_train=begin.get("n_train", 0),
            validation_score=end.get("value"),
            log_loss=end.get("log_loss"),
            work=end.get("work", 0.0),
            seconds=end.get("seconds", 0.0),
            peak_rss_mb=end.get("peak_rss_mb", 0.0),
            trainable_parameters=end.get("trainable_parameters", 0),
            request_work=end.get("request_work", 0.0),
            artifact_mb=end.get("artifact_mb", 0.0),
            serving_mb=end.get("serving_mb", 0.0),
            cut_short=end.get("cut_short", False),
            start_work=start.get("work") or 0.0,
            start_seconds=start.get("seconds") or 0.0,
        )
        before = rows.get(row.method)
        if before is None or _preference(row, finished) > _preference(before, finished):
            rows[row.method] = row
    return [_as_shipped(row, events) for row in rows.values()]


def _as_shipped(row: Row, events: Sequence[Mapping[str, Any]]) -> Row:
    """With the score in all folds where these chose, and what fitting it on the rows of all folds took."""
    for event in events:
        if event["trial"] == row.trial and event["event"] == "validated":
            row = replace(row, validation_score=event["score"])
        if event["trial"] == row.trial and event["event"] == "refitted":
            took = {name: event[name] for name in ("n_train", "work", "seconds", "artifact_mb") if name in event}
            row = replace(row, start_work=0.0, start_seconds=0.0, **took)  # made with its start
    return row


def _preference(row: Row, finished: Container[str]) -> tuple[bool, float, float, int]:
    """Of equals the first, whichever ended first where several ran at a time.

    A trial that finished and failed in the test is still the one that its method stands and falls with.
    """
    first = -int(row.trial.rpartition("-")[2])
    return (row.trial in finished, *preference(row.validation_score, row.log_loss), first)


def write_leaderboard(folder: Path, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Derive `leaderboard.csv` from the journal and the stored predictions; the rows, best first."""
    task = read_json(folder / "task.json")
    spec = TaskSpec.from_json(task["spec"])
    folded = bool(task.get("folds")) and not task["splits"]["test"]
    rows = best_rows(events)
    # Rows that choose give every score an interval that holds for all of them at once.
    chosen_among = sum(row.status == "finished" for row in rows) if folded else None
    lines = [_line(folder, spec, row, chosen_among) for row in rows]
    lines.sort(key=lambda line: (line["score"] == "", -(line["score"] or 0.0), line["cost_work"] or 0.0))
    with writing(folder / "leaderboard.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return lines


def _line(folder: Path, spec: TaskSpec, row: Row, chosen_among: int | None) -> dict[str, Any]:
    line: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    family = get(row.method).family
    line.update(candidate=row.method, method=row.method, family=family, model=row.model, trial=row.trial)
    line.update(seed=row.seed, n_train=row.n_train, status=row.status)
    path = predictions_of(folder, row.trial)
    if row.status != "finished" or not path.exists():
        return line
    tested = _read_predictions(path)
    outputs, targets = [t["prediction"] for t in tested], [t["target"] for t in tested]
    groups = [t["group"] for t in tested] if "group" in tested[0] else None
    metric = metrics.get(spec.metric)
    if chosen_among is None:
        interval = evidence.score_interval(metric, outputs, targets, groups)
    else:
        confidence = evidence.for_all(chosen_among)
        interval = evidence.out_of_fold_choice(metric, [outputs], targets, groups, confidence=confidence).interval
    uncached = statistics.fmean(t["prompt_tokens"] - t["cached_tokens"] for t in tested)
    every = metrics.all_scores(spec.kind, outputs, targets)
    line.update(
        score=round(float(metric.score(outputs, targets)), 6),
        ci_low=round(interval.low, 6),
        ci_high=round(interval.high, 6),
        validation_score="" if row.validation_score is None else round(row.validation_score, 6),
        fit_seconds=round(row.setup_seconds, 2),
        ms_per_example=round(statistics.fmean(t["milliseconds"] for t in tested), 3),
        prompt_tokens=round(uncached, 1),
        trainable_parameters=row.trainable_parameters,
        artifact_mb=row.artifact_mb,
        peak_rss_mb=round(row.peak_rss_mb, 1),
        valid_rate=round(sum(t["valid"] for t in tested) / len(tested), 4),
        serving_mb=row.serving_mb or "",
        cost_work=f"{row.cost_work:.6g}",
        setup_work=f"{row.setup_work:.6g}",
        request_work=f"{row.request_work:.6g}",
        metrics=json.dumps({name: round(float(value), 6) for name, value in every.items()}),
    )
    line["cost_work"] = float(line["cost_work"])
    return line


def _read_predictions(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of predictions; raises CandidateError where it is damaged."""
    lines = list(read_lines(path))
    for line in lines:
        missing = [name for name in PREDICTED if name not in line.values]
        if missing:
            raise CandidateError(
                f"{line.where}: {missing[0]!r} is missing; found {list(line.values)}, expected a prediction. "
                f"{TEST_AGAIN}"
            )
    if not lines:
        raise CandidateError(f"{path}: found no predictions. {TEST_AGAIN}")
    return [dict(line.values) for line in lines]


def artifact_mb(folder: Path) -> float:
    """Size of a saved candidate in MB."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 3)


def trainable_parameters(predictor: Any) -> int:
    """Learned values of an adapted model; 0 for prompts and baselines."""
    weights = predictor.weights if isinstance(predictor, AdaptedModel) else None
    return weights.parameters if weights is not None else 0
