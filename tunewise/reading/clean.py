"""Rows of a table → examples; then what must not be there: incomplete rows, repeats, leaks.

Nothing is dropped silently: each step gives back what it left out, for the profile.

>>> examples = [Example(0, {"text": "Hi!"}, "a"), Example(1, {"text": "hi"}, "a"), Example(2, {"text": "HI"}, "b")]
>>> without_repeats(examples)[1], conflicts(examples)[0].targets
((1,), ('a', 'b'))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunewise.errors import DataError
from tunewise.reading.cells import is_text, texts
from tunewise.reading.columns import Columns
from tunewise.reading.similar import Likeness, key_of
from tunewise.reading.tables import Table
from tunewise.task import Example

_LONGEST_SAMPLE = 120


@dataclass(frozen=True)
class Conflict:
    """One input with several targets."""

    text: str
    targets: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Leaks:
    """Rows of the data that also stand in a file given for the test or for validation."""

    kept: list[Example]
    rows: tuple[int, ...]
    """Rows left out."""
    templated: bool
    """Near-duplicates were more than half of all rows, so only equal inputs were left out."""


def to_examples(
    table: Table, columns: Columns, source: str, drop_incomplete: bool
) -> tuple[list[Example], tuple[int, ...]]:
    """The complete rows of `table`, and the numbers of the incomplete ones.

    A row is incomplete when its target, its group, or all of its input fields are empty; one empty field of
    several is fine.

    Raises:
        DataError: a row is incomplete and `drop_incomplete` is not set, or a cell is not valid text.
    """
    fields = [_column(table, name) for name in columns.inputs]
    targets = _column(table, columns.target)
    groups = _column(table, columns.group) if columns.group else [None] * len(table)
    lacking: defaultdict[str, list[int]] = defaultdict(list)
    examples = []
    for row, (target, group) in enumerate(zip(targets, groups, strict=True)):
        inputs = [column[row] for column in fields]
        if target is None:
            lacking[f'target (column "{columns.target}")'].append(row)
        elif not any(inputs):
            lacking[f"input (column{'s' if len(fields) > 1 else ''} {_quoted(columns.inputs)})"].append(row)
        elif columns.group and group is None:
            lacking[f'group (column "{columns.group}")'].append(row)
        else:
            named = {name: text or "" for name, text in zip(columns.inputs, inputs, strict=True)}
            examples.append(Example(row, named, target.strip(), group.strip() if group else None, source))
    if lacking and not drop_incomplete:
        raise _incomplete(table, lacking)
    incomplete = tuple(sorted(row for rows in lacking.values() for row in rows))
    if not examples:
        raise DataError(f"{table.name}: found no complete row among {len(table)}; expected input and target.")
    return examples, incomplete


def without_repeats(examples: Sequence[Example]) -> tuple[list[Example], tuple[int, ...]]:
    """`examples` without those whose input and target stood before, and the row numbers of the latter."""
    kept: dict[tuple[str, str], Example] = {}
    repeated = []
    for example in examples:
        if kept.setdefault((key_of(example), example.target), example) is not example:
            repeated.append(example.row)
    return list(kept.values()), tuple(repeated)


def conflicts(examples: Sequence[Example]) -> list[Conflict]:
    """Inputs that stand with more than one target, in the order of their first row."""
    together: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        together[key_of(example)].append(example)
    return [
        Conflict(
            " | ".join(same[0].inputs.values())[:_LONGEST_SAMPLE],
            tuple(dict.fromkeys(example.target for example in same)),
            tuple(example.row for example in same),
        )
        for same in together.values()
        if len({example.target for example in same}) > 1
    ]


def without_leaks(examples: Sequence[Example], given: Sequence[Example], likeness: Likeness) -> Leaks:
    """`examples` without (near-)duplicates of the rows in `given`, and without rows of their groups.

    When more than half of the rows have a near-duplicate there, the rows are built on one long template and
    likeness says nothing: then only equal inputs are left out.
    """
    groups = {example.group for example in given} - {None}
    keys = {key_of(example) for example in given}
    near = likeness.near(given)
    equal = {example.row for example in examples if key_of(example) in keys or example.group in groups}
    alike = equal | {example.row for example in examples if likeness.of(example) in near}
    templated = 2 * (len(alike) - len(equal)) > len(examples)
    left_out = equal if templated else alike
    return Leaks(
        [example for example in examples if example.row not in left_out], tuple(sorted(left_out)), templated
    )


def _column(table: Table, name: str) -> list[str | None]:
    column = texts(table.cells[name])
    broken = [row for row, text in enumerate(column) if text and not text.isascii() and not is_text(text)]
    if broken:
        raise DataError(
            f'{table.name}, column "{name}": found half a surrogate pair in {table.where(broken)}; expected '
            "Unicode text. Was an emoji cut in two?"
        )
    return column


def _incomplete(table: Table, lacking: dict[str, list[int]]) -> DataError:
    found = "; ".join(
        f"{len(rows)} row{'s have' if len(rows) > 1 else ' has'} no {what}: {table.where(rows)}"
        for what, rows in lacking.items()
    )
    return DataError(
        f"{table.name}: {found}. Fill in what is empty, or leave these rows out with --drop-incomplete "
        "(in Python: drop_incomplete=True)."
    )


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
