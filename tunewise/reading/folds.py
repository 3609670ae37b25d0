"""Folds of a task with few rows: where a split would leave a dozen rows to choose on, or for the test.

The first fold is what every candidate is screened on, as on any validation split. The finalists are then fitted
again without each of the other folds, and answer the rows of that one. Below a hundred labelled rows there are
five folds, and these answers serve as the test. With more rows, or with a test file, there are three beside the
test, and the answers choose.

>>> from tunewise.reading import read
>>> rows = [{"text": f"{word} {number}", "label": word} for word in ("good", "bad") for number in range(20)]
>>> task = folded(read(rows))
>>> [len(fold) for fold in task.folds], len(task.train), len(task.validation), len(task.test)
([8, 8, 8, 8, 8], 32, 8, 0)
>>> rows = [{"text": f"{word} {number}", "label": word} for word in ("good", "bad") for number in range(60)]
>>> task = folded(read(rows))
>>> [len(fold) for fold in task.folds], len(task.train), len(task.validation), len(task.test)
([32, 32, 32], 64, 32, 24)
"""

from __future__ import annotations

import random
from dataclasses import replace

from tunewise.reading.profile import of_folds
from tunewise.reading.similar import in_clusters, likeness, near_clusters
from tunewise.reading.splits import in_folds, strata_of, stratified_order
from tunewise.rule import FEWEST_ROWS
from tunewise.task import Dataset, Task

FOLDS = 5
"""That take the place of a test."""
CHOOSING = 3
"""That choose, beside a test."""
FEWEST_VALIDATION = 80
"""Validation rows below which folds choose instead: on 20 rows the choice alone loses over four points."""
SCREENING = 0
"""Place of the fold that candidates are screened on."""
ASKED = ("time", "train_rows")
"""Arguments of reading that say which rows are for training."""


def folded(task: Task) -> Task:
    """`task` in folds, where it has too few rows for a test split of its own, or to choose on; else as it is.

    It stays as it is where its rows for training or validation were asked for (a time, a number of training
    rows, validation in another way than by default), and where its rows make fewer clusters of near-duplicates and
    groups than folds. Folds follow from the seed that the task was read with.
    """
    if task.folds or not _is_split_by_default(task):
        return task
    rows = sorted((*task.train, *task.validation, *task.test), key=lambda example: example.row)
    test, count = Dataset(()), FOLDS
    if len(rows) >= FEWEST_ROWS or task.source["test"] is not None:
        if len(task.validation) >= FEWEST_VALIDATION:
            return task
        rows = sorted((*task.train, *task.validation), key=lambda example: example.row)
        test, count = task.test, CHOOSING
    near, _ = near_clusters(rows, likeness(rows))
    together = in_clusters(rows, near)
    if len(set(together)) < count:
        return task
    held = in_folds(strata_of(rows, task.spec), together, count, f"{task.source['seed']}/folds")
    folds = tuple(Dataset(tuple(rows[place] for place in fold)) for fold in held)
    task = replace(task, test=test, folds=folds)
    task = replace(task, train=rows_without(task, SCREENING), validation=task.folds[SCREENING])
    return replace(task, profile=of_folds(task.profile, task) if task.profile else None)


def rows_without(task: Task, fold: int | None) -> Dataset:
    """The rows of all folds but one, or of all of them, in an order whose every beginning is stratified."""
    left = (row for number, held in enumerate(task.folds) if number != fold for row in held)
    rows = sorted(left, key=lambda example: example.row)
    order = stratified_order(strata_of(rows, task.spec), random.Random(f"{task.source['seed']}/train"))
    return Dataset(tuple(rows[place] for place in order))


def _is_split_by_default(task: Task) -> bool:
    asked = task.source
    return (
        "test" in asked
        and all(name in asked and asked[name] is None for name in ASKED)
        and asked.get("validation_by_default") is True
        and bool(len(task.test))
    )
