"""Run folders seen from outside: a free name for a new one, and what stands in those that are there.

>>> name_of("data/My tickets.csv"), name_of("hf:org/emotion"), name_of("trec")
('My-tickets', 'emotion', 'trec')
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError, WorkError
from tunewise.run_files import read_json

RUNS = Path("runs")
LOCK = ".lock"
_TEXTS = frozenset({"candidate", "method", "family", "model", "trial", "status"})
_COUNTS = frozenset({"seed", "n_train", "trainable_parameters"})


@dataclass(frozen=True)
class RunRecord:
    """A run folder at a glance."""

    name: str
    path: Path
    created: str
    status: str
    """`finished` or `unfinished`."""
    pick: str | None
    score: float | None


def free(folder: Path) -> Path:
    """`folder`, or the first of `folder-2`, `folder-3`, … that does not exist."""
    if not folder.exists():
        return folder
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(candidate for candidate in numbered if not candidate.exists())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes from working on a run while this one does; a process that dies lets go.

    Raises:
        WorkError: another process works on it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise WorkError(
            f"{folder}: another process is working on this run; expected none, as two would write one journal. "
            "Wait until it has ended, or end it, and then `tunewise resume` the run."
        ) from None
    try:
        yield
    finally:
        lock.release()


def name_of(data: str) -> str:
    """A folder's name for the data: the file's without its suffix, or the last part of the data set's."""
    last = re.split(r"[/\\:]", data.rstrip("/\\"))[-1]
    stem = Path(last).stem if Path(data).suffix else last
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "data"


def records(root: Path) -> list[RunRecord]:
    """The run folders under `root`, newest first; folders that are no runs are passed over."""
    found = filter(None, (_record(path.parent) for path in sorted(root.glob("*/run.json"))))
    return sorted(found, key=lambda record: record.created, reverse=True)


def read_leaderboard(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's `leaderboard.csv`, best first; figures as numbers, None where there is none."""
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _record(folder: Path) -> RunRecord | None:
    try:
        run, verdict = read_json(folder / "run.json"), read_json(folder / "recommendation.json")
        return RunRecord(
            name=folder.name,
            path=folder,
            created=run.text("created") if run else "",
            status="finished" if verdict else "unfinished",
            pick=verdict.text("pick") or None if verdict else None,
            score=verdict.number("score") if verdict else None,
        )
    except CandidateError:
        return None


def _cell(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if name == "metrics":
        return json.loads(text) if text else {}
    number = float(text) if text else None
    return int(number) if number is not None and name in _COUNTS else number
