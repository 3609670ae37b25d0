"""From opened tables to a task: clean, tell the kind of task, split, describe.

>>> from tunewise.reading import read
>>> rows = [{"text": f"{word} {number}", "label": word} for word in ("good", "bad") for number in range(10)]
>>> task = read(rows)
>>> len(task.train), len(task.validation), len(task.test), task.spec.answer.labels
(13, 3, 4, ('bad', 'good'))
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewise.errors import DataError, SettingError
from tunewise.reading import answers, splits
from tunewise.reading.clean import conflicts, to_examples, without_leaks, without_repeats
from tunewise.reading.columns import Columns, check_column, choose
from tunewise.reading.noise import agreement
from tunewise.reading.profile import Findings, profile_of
from tunewise.reading.similar import Likeness, in_clusters, likeness, near_clusters
from tunewise.reading.sources import Opened
from tunewise.reading.tables import Table
from tunewise.reading.times import moments, newest
from tunewise.reading.words import read_words, spell
from tunewise.task import Answer, Dataset, Example, Task, TaskSpec

MOMENTS = 3
"""Different times that rows must have to be split by them."""


@dataclass(frozen=True)
class Asked:
    """The arguments of `read`, brought into one form: tables are open, numbers are numbers."""

    inputs: tuple[str, ...]
    target: str | None
    group: str | None
    time: str | None
    instruction: str | None
    labels: Any
    kind: str | None
    metric: str | None
    test: Table | None
    validation: float | int | Table
    validation_by_default: bool
    train_rows: int | None
    drop_incomplete: bool
    seed: int


@dataclass(frozen=True)
class _Cleaned:
    """Rows without what must not be there."""

    data: list[Example]
    test: list[Example] | None
    validation: list[Example] | None
    likeness: Likeness
    found: Findings


@dataclass(frozen=True)
class _Split:
    train: list[Example]
    validation: list[Example]
    test: list[Example]


def read_task(opened: Opened, asked: Asked, name: str) -> Task:
    """Make a task of `opened`; raises DataError or SettingError as `tunewise.reading.read` says."""
    table = opened.table
    columns = choose(table, asked.inputs, asked.target, asked.group, asked.time)
    if not table.quoting:
        columns.guessed["quotes"] = "ordinary characters"
    cleaned = _clean(table, columns, asked)
    kind, metric, answer = _answer(table, columns, asked, cleaned)
    tied, found = _clusters(cleaned)
    split = _split(cleaned, tied, kind, asked, table.name)
    if answer is None:
        answer = answers.text_answer([example.target for example in (*split.train, *split.validation)])
    instruction = asked.instruction or answers.instruction_for(kind, columns)
    if kind == "generation" and asked.kind is None:
        notice = answers.number_notice([example.target for example in cleaned.data], columns.target)
        found = replace(found, notices=(notice,) if notice else ())
    task = Task(
        TaskSpec(kind, columns.inputs, answer, instruction, metric, columns.group),
        Dataset(tuple(split.train)),
        Dataset(tuple(split.validation)),
        Dataset(tuple(split.test)),
        name,
        _source(opened, columns, asked),
    )
    return replace(task, profile=profile_of(task, found))


def _clean(table: Table, columns: Columns, asked: Asked) -> _Cleaned:
    """Incomplete rows, repeats, and rows that also stand in a given test or validation file are left out."""
    data, incomplete = to_examples(table, columns, "data", asked.drop_incomplete)
    agreeing = agreement(data)
    data, duplicates = without_repeats(data)
    validation_table = asked.validation if isinstance(asked.validation, Table) else None
    test, incomplete_test = _given(asked.test, columns, "test", asked.drop_incomplete)
    validation, incomplete_validation = _given(validation_table, columns, "validation", asked.drop_incomplete)
    repeated, found_conflicts = without_repeats(test)[1] if test else (), conflicts(data)
    if asked.time is not None:
        data, validation, test = _by_time(table, data, asked, validation)
    like = likeness([*data, *(test or ()), *(validation or ())])
    validation_leaks: tuple[int, ...] = ()
    templated = False
    if validation is not None and test is not None:
        checked = without_leaks(validation, test, like)
        validation, validation_leaks, templated = checked.kept, checked.rows, checked.templated
    leaks = without_leaks(data, [*(test or ()), *(validation or ())], like)
    if not leaks.kept or validation == []:
        what = "the validation file" if leaks.kept and asked.time is None else table.name
        raise DataError(
            f"{what}: every row also stands, or nearly so, among those for the test or validation; expected rows "
            "that do not. Give a test file with other rows, or none."
        )
    found = Findings(
        rows_read=len(table),
        incomplete=incomplete,
        incomplete_given=incomplete_test + incomplete_validation,
        duplicates=duplicates,
        test_duplicates=len(repeated),
        conflicts=found_conflicts,
        leaks=leaks.rows,
        validation_leaks=len(validation_leaks),
        templated=templated or leaks.templated or like.templated,
        may_shift=test is not None,
        by_time=asked.time is not None,
        agreement=agreeing,
    )
    return _Cleaned(leaks.kept, test, validation, like, found)


def _by_time(
    table: Table, data: list[Example], asked: Asked, validation: list[Example] | None
) -> tuple[list[Example], list[Example] | None, list[Example]]:
    """Training, validation and test rows, the newest for the test, those before them for validation."""
    if asked.test is not None or asked.group is not None:
        other = "a file for the test" if asked.test is not None else "groups"
        raise SettingError(
            f"--time {asked.time}: {other} and times were given; expected one of them, as both say which rows are "
            "for the test. Leave one out."
        )
    assert asked.time is not None
    when = moments(table, asked.time, [example.row for example in data])
    if len({when[example.row] for example in data}) < MOMENTS:
        raise DataError(
            f'{table.name}, column "{asked.time}": found fewer than {MOMENTS} different times; expected one at '
            "least for training, for validation and for the test. Name another column, or leave --time out."
        )
    wanted = asked.validation
    apart = not isinstance(wanted, Table) and wanted > 0
    data, test = newest(data, when, splits.share_of(splits.DEFAULT_TEST, len(data)), 2 if apart else 1)
    if isinstance(wanted, Table) or not apart:
        return data, validation, test
    count = _validation_rows(wanted, ["a training row"] * len(data), table.name)  # labels are not spread by time
    data, validation = newest(data, when, count, 1)
    return data, validation, test


def _given(
    table: Table | None, columns: Columns, source: str, drop_incomplete: bool
) -> tuple[list[Example] | None, int]:
    """The complete rows of a file given for a split, and how many were incomplete."""
    if table is None:
        return None, 0
    for name in (*columns.inputs, columns.target, *([columns.group] if columns.group else [])):
        check_column(table, name)
    examples, incomplete = to_examples(table, columns, source, drop_incomplete)
    return examples, len(incomplete)


def _answer(table: Table, columns: Columns, asked: Asked, cleaned: _Cleaned) -> tuple[str, str, Answer | None]:
    """Kind and metric, and the labels with their words; None for a text, which is measured on training rows."""
    words = read_words(asked.labels) or table.value_names.get(columns.target)
    targets = [example.target for example in cleaned.data]
    if asked.time is not None:  # a label may be new
        targets += [example.target for rows in (cleaned.validation, cleaned.test) for example in rows or ()]
    kind = answers.kind_of(asked.kind, targets, columns.target, words is not None)
    if asked.kind is None:
        columns.guessed["kind"] = kind
    if kind == "generation":
        if asked.labels is not None:
            raise DataError(
                f"{table.name}: words for labels were given, but the task is generation; expected them with "
                "classification only. Leave out --labels, or give --kind classification."
            )
        return kind, answers.metric_of(asked.metric, kind, targets), None
    left_out = len(cleaned.found.duplicates) + len(cleaned.found.leaks)
    answers.check_labels(cleaned.data, table.name, left_out)
    choices = spell(sorted(set(targets)), words, table.name)
    for examples, given in ((cleaned.test, asked.test), (cleaned.validation, asked.validation)):
        if examples is not None and isinstance(given, Table):
            answers.check_known(examples, choices.labels, given.name, table.name)
    return kind, answers.metric_of(asked.metric, kind, targets), choices


def _clusters(cleaned: _Cleaned) -> tuple[list[int], Findings]:
    """For each row of the data the cluster that must stay together; and the findings, sizes noted."""
    near, templated = near_clusters(cleaned.data, cleaned.likeness)
    sizes = [size for size in Counter(near).values() if size > 1]
    found = replace(cleaned.found, cluster_sizes=sizes, templated=templated or cleaned.found.templated)
    return in_clusters(cleaned.data, near), found


def _split(cleaned: _Cleaned, tied: Sequence[int], kind: str, asked: Asked, name: str) -> _Split:
    """Test first, then validation, then as many training rows as are wanted."""
    data = cleaned.data
    strata = [example.target if kind == "classification" else "" for example in data]
    rest = list(range(len(data)))
    test, validation = cleaned.test, cleaned.validation
    if test is None:
        chosen = splits.carve(strata, tied, splits.share_of(splits.DEFAULT_TEST, len(data)), f"{asked.seed}/test")
        test = [data[row] for row in chosen]
        rest = sorted(set(rest) - set(chosen))
    if validation is None:
        assert not isinstance(asked.validation, Table)
        total = _validation_rows(asked.validation, [strata[row] for row in rest], name)
        drawn = splits.carve(
            [strata[row] for row in rest], [tied[row] for row in rest], total, f"{asked.seed}/validation"
        )
        chosen = [rest[position] for position in drawn] if total else []
        validation = [data[row] for row in chosen]
        rest = sorted(set(rest) - set(chosen))
    order = splits.stratified_order([strata[row] for row in rest], random.Random(f"{asked.seed}/train"))
    if asked.train_rows is not None and asked.train_rows > len(order):
        raise DataError(
            f"{name}: train_rows={asked.train_rows}: found {len(order)} rows for training, after cleaning and "
            "without the rows for validation and the test; expected at most that. "
            f"Give --train-rows {len(order)} or less."
        )
    train = [data[rest[position]] for position in order[: asked.train_rows]]
    split = _Split(train, validation or [], test)
    _check_sizes(split, len(data), len(set(tied)), asked, name)
    return split


def _validation_rows(wanted: float | int, strata: Sequence[str], name: str) -> int:
    """Rows of a share or a count; raises DataError when training would be left without a row of some label."""
    if isinstance(wanted, float):
        return splits.share_of(wanted, len(strata))
    most = len(strata) - len(set(strata))
    if wanted > most:
        raise DataError(
            f"{name}: validation={wanted}: found {len(strata)} rows for training and validation, after cleaning "
            f"and without the test; expected at most {most} for validation. Give --validation {most} or less."
        )
    return wanted


def _check_sizes(split: _Split, rows: int, independent: int, asked: Asked, name: str) -> None:
    wants_validation = isinstance(asked.validation, Table) or asked.validation > 0
    few_asked = asked.train_rows is not None and asked.train_rows < 2
    if split.test and (split.validation or not wants_validation) and (len(split.train) > 1 or few_asked):
        return
    ties = f" in {independent} sets of rows that belong together" if independent < rows else ""
    raise DataError(
        f"{name}: too few rows to split: found {rows} row{'s' if rows > 1 else ''} after cleaning{ties}, "
        f"which would give {len(split.train)} for training, {len(split.validation)} for validation and "
        f"{len(split.test)} for the test; expected at least 2, 1 and 1. Add rows, give a test file with --test, "
        "or do without validation (--validation 0)."
    )


def _source(opened: Opened, columns: Columns, asked: Asked) -> dict[str, Any]:
    """Where the rows came from and how they were read, as plain values."""
    validation = asked.validation
    return {
        **opened.table.origin(),
        **opened.credits,
        "columns": opened.table.columns,
        "input": list(columns.inputs),
        "target": columns.target,
        "group": columns.group,
        "time": asked.time,
        "guessed": dict(columns.guessed),
        "test": asked.test.origin() if asked.test else None,
        "validation": validation.origin() if isinstance(validation, Table) else validation,
        "validation_by_default": asked.validation_by_default,
        "train_rows": asked.train_rows,
        "drop_incomplete": asked.drop_incomplete,
        "seed": asked.seed,
    }
