"""Files, data frames, lists and hub data sets → a `Task`; every refusal of bad data.

What is read is never changed silently: rows that are left out are counted, with their numbers, in the task's
`Profile`, and what was guessed stands in `task.source["guessed"]`. The way: `sources` (what `data` names) →
`tables` (rows by column) → `columns` (input and target) → `clean` and `similar` (incomplete rows, repeats,
conflicts, leaks) → `answers` and `words` (kind, metric, labels) → `splits` → `profile`; `folds` takes the place of
a test where rows are few; `stored` writes the rows into a run folder and reads them back.

>>> rows = [{"text": f"{word} {number}", "label": word} for word in ("good", "bad") for number in range(10)]
>>> read(rows).source["guessed"]
{'input': ['text'], 'target': 'label', 'kind': 'classification'}
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tunewise.errors import SettingError
from tunewise.reading.profile import Profile
from tunewise.reading.reader import Asked, read_task
from tunewise.reading.sources import Hints, open_data, open_table
from tunewise.reading.splits import wanted_rows, wanted_validation
from tunewise.reading.stored import read_rows, write_rows
from tunewise.reading.tables import Table
from tunewise.task import Task

__all__ = ["Profile", "Table", "open_table", "read", "read_rows", "write_rows"]


def read(
    data: Any,
    *,
    input: str | Sequence[str] | None = None,
    target: str | None = None,
    group: str | None = None,
    time: str | None = None,
    instruction: str | None = None,
    labels: Mapping[Any, str] | str | os.PathLike[str] | None = None,
    kind: str | None = None,
    metric: str | None = None,
    test: Any = None,
    validation: Any = None,
    train_rows: int | None = None,
    drop_incomplete: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Task:
    """Read `data` as a task: clean, split, described.

    Args:
        data: a path (CSV, TSV, JSON Lines, a JSON list, Parquet), a name of the catalog, `hf:org/name`, a pandas
            data frame, a list of dicts, or a `datasets.Dataset`. A path that exists wins over a name.
        input: column, or columns, with the input. Guessed when there is one sensible choice.
        target: column with the target. Guessed likewise.
        group: column whose equal values stay in one split.
        time: column with numbers or ISO 8601 dates; the newest rows are the test, those before them validation.
        instruction: what the model is told to do; made of the column names by default.
        labels: data value → the word that the model sees, or a file (JSON, CSV, TSV, TOML) with such pairs.
        kind: `classification` or `generation`; see `answers.guess_kind` for how it is guessed.
        metric: name of a metric; see `answers.metric_of` for the defaults.
        test: rows for the test, in any form that `data` may have except a catalog name; kept as they are. By
            default 20 % of the rows, stratified.
        validation: a share of the rows that are not for the test (0.2, the default), a count, rows, or 0 for none.
        train_rows: train on this many rows, stratified; a smaller number is a subset of a larger one.
        drop_incomplete: leave out rows without an input, target or group instead of refusing them.
        seed: of the splits.
        name: of the task; by default the file's name without suffix.

    Returns:
        The task. Training rows are in an order whose every beginning is stratified; the others in the order of
        their source.

    Raises:
        DataError: the data cannot be read as a task. The message says where, what was found and expected.
        SettingError: a setting is unknown or impossible.
        FetchError: the data must be fetched and cannot be.
    """
    wanted = wanted_validation(validation)
    count = wanted_rows(train_rows)
    opened = open_data(data)
    inputs = (input,) if isinstance(input, str) else tuple(input or ())
    hints = _still_valid(opened.hints, inputs, target, kind)
    if validation is None and opened.validation is not None:
        wanted = opened.validation
    asked = Asked(
        inputs=inputs or hints.input,
        target=target or hints.target,
        group=group or None,
        time=time or None,
        instruction=(instruction or "").strip() or hints.instruction,
        labels=labels if labels is not None else hints.labels,
        kind=kind or hints.kind,
        metric=metric or hints.metric,
        test=opened.test if test is None else _given_table(test, "test"),
        validation=wanted if isinstance(wanted, float | int | Table) else _given_table(wanted, "validation"),
        validation_by_default=validation is None and opened.validation is None,
        train_rows=count,
        drop_incomplete=drop_incomplete,
        seed=seed,
    )
    return read_task(opened, asked, name or opened.name)


def _still_valid(hints: Hints, inputs: tuple[str, ...], target: str | None, kind: str | None) -> Hints:
    """What the catalog says, as far as it holds for the columns and the kind that were asked for."""
    if target not in (None, hints.target) or kind not in (None, hints.kind):
        return Hints(hints.input, hints.target)
    if inputs and inputs != hints.input:
        return Hints(hints.input, hints.target, None, hints.labels, hints.kind, hints.metric)
    return hints


def _given_table(rows: Any, split: str) -> Table:
    if isinstance(rows, int | float):
        raise SettingError(f"{split}={rows}: expected a file or rows; the share of the {split} split is fixed.")
    table = open_table(rows)
    return table if table.path else Table(**{**vars(table), "name": f"{table.name} given for {split}"})
