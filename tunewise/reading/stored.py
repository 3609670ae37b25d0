"""The rows of a task as one file, so that a run folder can be resumed anywhere, without the original data.

`rows.jsonl` holds one line for each example, split by split, in the split's order:
`{"split", "source", "row", "inputs", "target", "group"}`.

>>> write_rows(task, folder / "rows.jsonl")  # doctest: +SKIP
>>> read_rows(folder / "rows.jsonl", task.spec).train == task.train  # doctest: +SKIP
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError
from tunewise.reading.profile import Profile
from tunewise.task import Choices, Dataset, Example, Task, TaskSpec
from tunewise.whole import writing

SPLITS = ("train", "validation", "test")


def write_rows(task: Task, path: Path) -> None:
    """Write every example of `task` to `path`, all or nothing; raises OSError when that cannot be done."""
    with writing(path) as file:
        for split in SPLITS:
            for example in getattr(task, split):
                file.write(json.dumps(_line(split, example), ensure_ascii=False) + "\n")


def read_rows(
    path: Path,
    spec: TaskSpec,
    *,
    name: str = "task",
    source: Mapping[str, Any] | None = None,
    profile: Profile | None = None,
    splits: Mapping[str, Sequence[Sequence[Any]]] | None = None,
    folds: Sequence[Sequence[Sequence[Any]]] = (),
) -> Task:
    """The task that `write_rows` wrote: the same examples in the same splits and order.

    Args:
        path: a file of `write_rows`.
        spec: the task's spec.
        name: of the task.
        source: where the rows first came from, kept as it is.
        profile: what reading found then.
        splits: the splits of `task.json`; where given, the rows must be the same.
        folds: the folds of `task.json`; of these rows.

    Raises:
        CandidateError: the file is missing or damaged, or holds other rows than `splits` or `spec` say.
    """
    rows: dict[str, list[Example]] = {split: [] for split in SPLITS}
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                split, example = _parsed(line, f"{path}, line {number}")
                _check(example, spec, f"{path}, line {number}")
                rows[split].append(example)
    except OSError as error:
        raise CandidateError(
            f"{path}: cannot be read ({error.strerror}); expected the rows of the run, which cannot go on without."
        ) from None
    except UnicodeDecodeError:
        raise CandidateError(f"{path}: not UTF-8; the file is damaged. Restore it, or start a new run.") from None
    for split, expected in (splits or {}).items():
        found = [(example.source, example.row) for example in rows.get(split, [])]
        if found != [(str(where), int(row)) for where, row in expected]:
            raise CandidateError(
                f"{path}: the {split} split has other rows ({len(found)}) than task.json says ({len(expected)}). "
                "Restore the file, or start a new run."
            )
    train, validation, test = (Dataset(tuple(rows[split])) for split in SPLITS)
    by_number = {(example.source, example.row): example for split in rows.values() for example in split}
    try:
        held = tuple(Dataset(tuple(by_number[str(where), int(row)] for where, row in fold)) for fold in folds)
    except KeyError as error:
        raise CandidateError(
            f"{path}: row {error} is missing, which task.json has in a fold. Restore the file, or start a new run."
        ) from None
    return Task(spec, train, validation, test, name, dict(source or {}), profile, held)


def _line(split: str, example: Example) -> dict[str, Any]:
    return {
        "split": split,
        "source": example.source,
        "row": example.row,
        "inputs": dict(example.inputs),
        "target": example.target,
        "group": example.group,
    }


def _parsed(line: str, where: str) -> tuple[str, Example]:
    try:
        data = json.loads(line)
        split = data["split"]
        if split not in SPLITS:
            raise ValueError(split)
        inputs = {str(name): str(text) for name, text in data["inputs"].items()}
        group = None if data["group"] is None else str(data["group"])
        return split, Example(int(data["row"]), inputs, str(data["target"]), group, str(data["source"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CandidateError(
            f"{where}: found {line.strip()[:60]!r}; expected an object with split, source, row, inputs, target "
            "and group. The file is damaged: restore it, or start a new run."
        ) from None


def _check(example: Example, spec: TaskSpec, where: str) -> None:
    if set(example.inputs) != set(spec.inputs):
        raise CandidateError(f"{where}: found the input {sorted(example.inputs)}; expected {list(spec.inputs)}.")
    if isinstance(spec.answer, Choices) and example.target not in spec.answer.labels:
        raise CandidateError(f"{where}: found the label {example.target!r}; the task does not have it.")
