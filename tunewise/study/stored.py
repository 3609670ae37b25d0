"""What a run folder says of its study: the request, the task with its rows, and whether anything is left to do.

>>> stored = read_stored(Path("runs/tickets"))
>>> stored.request.methods, len(stored.task.test)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.candidates import CANDIDATE, read_json
from tunewise.errors import CandidateError
from tunewise.run_files import predictions_of
from tunewise.settings import Budget
from tunewise.study.files import best_rows, hardware
from tunewise.study.journal import Event, read_events
from tunewise.task import Task, TaskSpec

RUN, TASK, JOURNAL, ROWS = "run.json", "task.json", "trials.jsonl", "rows.jsonl"


@dataclass(frozen=True)
class Request:
    """What is asked of a study, resolved and checked."""

    model: str
    """Name of the base model; empty where no method that is compared needs one."""
    methods: tuple[str, ...]
    budget: Budget
    margin: float
    seed: int
    truncate: bool = False
    notes: tuple[str, ...] = ()
    """What the reader should know of how the request was understood."""
    curve: Budget | None = None
    """Of the learning curves that follow; None for none."""
    jobs: int = 1
    """Trials at a time."""


@dataclass(frozen=True)
class Stored:
    """A study as its folder records it."""

    folder: Path
    request: Request
    task: Task
    rates: Mapping[str, float]
    """Those that the budget was converted with."""
    checksum: str | None
    """Of the base model; None where there is none."""
    hardware: Mapping[str, Any]
    """What the study was started on."""


def read_stored(folder: Path) -> Stored:
    """What `folder` records of a study.

    Raises:
        CandidateError: the folder is no run, or a damaged one.
    """
    from tunewise.reading import Profile, read_rows

    if not (folder / RUN).exists():
        raise CandidateError(f"{folder} is not a run: it has no {RUN}. Name a folder that compare has made.")
    run, task = read_json(folder / RUN), read_json(folder / TASK)
    try:
        model = run["model"] or {"name": "", "sha256": None}
        budget = Budget(run["budget"]["text"], run["budget"]["unit"], run["budget"]["limit"])
        request = Request(
            model["name"],
            tuple(run["methods"]),
            budget,
            float(run["margin"]),
            int(run["seed"]),
            bool(run["truncate"]),
            curve=Budget.parse(run["curve"]) if run.get("curve") else None,
            jobs=int(run.get("jobs", 1)),
            notes=tuple(run.get("notes", ())),
        )
        profile = Profile.from_json(task["profile"]) if task["profile"] else None
        read = read_rows(
            folder / ROWS,
            TaskSpec.from_json(task["spec"]),
            name=task["name"],
            source=task["source"],
            profile=profile,
            splits=task["splits"],
            folds=task.get("folds", ()),
        )
        return Stored(folder, request, read, run["budget"]["rates"], model["sha256"], run["hardware"])
    except (KeyError, TypeError) as error:
        raise CandidateError(f"{folder} is not a complete run: {error} is missing in {RUN}.") from error


def begun_with(folder: Path) -> str:
    """The version of Tunewise that began the run in `folder`."""
    return str(read_json(folder / RUN).get("versions", {}).get("tunewise", "of another version"))


def finished_events(folder: Path) -> list[Event] | None:
    """The events of a study that has nothing left to do; None when there is something.

    It is finished when each of the finalists has met the test, or failed in it, and when what they left is in its
    place.

    Raises:
        CandidateError: the journal is damaged.
    """
    events = read_events(folder / JOURNAL)
    if (folder / "trials").exists() or not any(event["event"] == "tested" for event in events):
        return None
    tested = {event["trial"] for event in events if event["event"] == "tested"}
    for row in best_rows(events):
        if row.status != "finished":
            continue
        predictions = predictions_of(folder, row.trial)
        candidate = folder / "candidates" / row.method / CANDIDATE
        if row.trial not in tested or not predictions.exists() or not candidate.exists():
            return None
    return events


def changed_since(stored: Stored, jobs: int) -> str | None:
    """A warning where a study goes on otherwise than it was begun: with so many jobs, or on such a machine."""
    before, now = {**stored.hardware, "jobs": stored.request.jobs}, {**hardware(), "jobs": jobs}
    names = {
        "dtype": "number format",
        "threads": "number of threads",
        "kernels": "kernels",
        "jobs": "number of jobs",
    }
    changes = [
        f"{word} {before[name]}, now {now[name]}"
        for name, word in names.items()
        if name in before and before[name] != now[name]
    ]
    if not changes:
        return None
    return (
        f"The run was begun with the {' and the '.join(changes)}: scores, and so decisions, may differ from those "
        "of a run in one go."
    )
