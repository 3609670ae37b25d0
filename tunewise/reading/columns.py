"""Which columns are the input, the target and the group: as given, or guessed when there is one sensible choice.

>>> from tunewise.reading.tables import from_records
>>> choose(from_records([{"id": 1, "text": "hi", "label": "a"}], "the list"), (), None, None).target
'label'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.errors import DataError, nearest
from tunewise.reading.cells import texts
from tunewise.reading.tables import Table

INPUT_NAME = re.compile(
    "texts?|sentence|questions?|inputs?|utterance|query|message|prompt|content|body|review|tweet|document|article|"
    "passage|source|mr|title|comment|post|email",
    re.IGNORECASE,
)
LABEL_NAME = re.compile(
    "labels?|intent|category|class|sentiment|emotion|topic|tag|spam|y",
    re.IGNORECASE,
)
"""Names of targets that speak of a closed list of values."""
TARGET_NAME = re.compile(
    LABEL_NAME.pattern + "|targets?|answers?|outputs?|response|completion|ref|reference|translation|summary",
    re.IGNORECASE,
)
_INDEX_NAME = re.compile(
    r"unnamed: ?\d+|index|idx|id|uid|uuid|row|row_?id|.+_id|__index_level_\d+__", re.IGNORECASE
)


@dataclass(frozen=True)
class Columns:
    """The columns that make the task."""

    inputs: tuple[str, ...]
    target: str
    group: str | None
    guessed: dict[str, Any]
    """What was not given: `input` (list of names), `target` (name); reading adds `kind`, and `quotes` of a TSV."""


def choose(
    table: Table, inputs: Sequence[str], target: str | None, group: str | None, time: str | None = None
) -> Columns:
    """Check the given columns of `table`, guess the others; that with the `time` is neither input nor target.

    Raises:
        DataError: a column does not exist, is named twice, or there is more than one sensible choice.
    """
    for name in (*inputs, *filter(None, (target, group, time))):
        check_column(table, name)
    if len(set(inputs)) < len(inputs) or target in inputs:
        again = target if target in inputs else next(name for name in inputs if list(inputs).count(name) > 1)
        raise DataError(
            f"{table.name}: the column {again!r} is named twice, as input and as input or target; expected "
            "different columns for --input and --target."
        )
    if inputs and target:
        return Columns(tuple(inputs), target, group, {})
    free = [
        name
        for name in table.columns
        if name not in (*inputs, target, group, time) and not _INDEX_NAME.fullmatch(name)
    ]
    pair = _guess(table, free, inputs, target)
    if pair is None:
        raise _undecided(table, inputs, target)
    guessed: dict[str, Any] = {}
    if not inputs:
        guessed["input"] = list(pair[0])
    if not target:
        guessed["target"] = pair[1]
    return Columns(pair[0], pair[1], group, guessed)


def check_column(table: Table, name: str) -> None:
    """Raise DataError, with the nearest name, unless `table` has the column `name`."""
    if name in table.cells:
        return
    guess = nearest(name, table.columns)
    hint = f' Did you mean "{guess}"?' if guess else ""
    raise DataError(f'{table.name}: no column "{name}".{hint} Found: {", ".join(table.columns)}.')


def _guess(
    table: Table, free: list[str], inputs: Sequence[str], target: str | None
) -> tuple[tuple[str, ...], str] | None:
    known_inputs = [name for name in free if INPUT_NAME.fullmatch(name)]
    known_targets = [name for name in free if TARGET_NAME.fullmatch(name)]
    if inputs:
        found = _only(free) or _only(known_targets)
        return (tuple(inputs), found) if found else None
    if target:
        found = _only(free) or _only(known_inputs)
        return ((found,), target) if found else None
    if len(free) == 2:
        return _of_two(table, free, known_inputs, known_targets)
    source, answer = _only(known_inputs), _only(known_targets)
    return ((source,), answer) if source and answer else None


def _of_two(
    table: Table, free: list[str], known_inputs: list[str], known_targets: list[str]
) -> tuple[tuple[str, ...], str]:
    """Two columns: the known names decide; else the one whose values repeat is the target; else the second."""
    first, second = free
    if _only(known_targets):
        answer = known_targets[0]
    elif _only(known_inputs):
        answer = second if known_inputs[0] == first else first
    else:
        answer = first if _repeats(table, first) and not _repeats(table, second) else second
    return (second if answer == first else first,), answer


def _repeats(table: Table, column: str) -> bool:
    values = [text for text in texts(table.cells[column]) if text is not None]
    return 2 * len(set(values)) <= len(values)


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def _undecided(table: Table, inputs: Sequence[str], target: str | None) -> DataError:
    found = ", ".join(table.columns)
    if len(table.columns) < 2:
        return DataError(
            f"{table.name}: found only one column ({found}); expected at least two, one with the input and one "
            "with the target. Is the delimiter another one than the file's suffix says?"
        )
    flags = [
        *([] if inputs else ["--input COL (in Python: input=)"]),
        *([] if target else ["--target COL (in Python: target=)"]),
    ]
    return DataError(
        f"{table.name}: cannot tell which columns to use. Found: {found}. Give {' and '.join(flags)}."
    )
