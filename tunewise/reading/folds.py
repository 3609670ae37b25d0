"""Five folds of a task with few labelled rows, where a test split of a dozen rows could tell nothing.

The first fold is what every candidate is screened on, as on any validation split. The finalists are then fitted
four times more, each time without another fold, and answer the rows of that one: these answers serve as the test.

>>> from tunewise.reading import read
>>> rows = [{"text": f"{word} {number}", "label": word} for word in ("good", "bad") for number in range(20)]
>>> task = folded(read(rows))
>>> [len(fold) for fold in task.folds], len(task.train), len(task.validation), len(task.test)
([8, 8, 8, 8, 8], 32, 8, 0)
"""

from __future__ import annotations

import random
from dataclasses import replace

from tunewise.reading.profile import of_folds
from tunewise.reading.similar import in_clusters, likeness, near_clusters
from tunewise.reading.splits import DEFAULT_VALIDATION, in_folds, strata_of, stratified_order
from tunewise.rule import FEWEST_ROWS
from tunewise.task import Dataset, Task

FOLDS = 5
SCREENING = 0
"""Place of the fold that candidates are screened on."""
ASKED = ("test", "time", "train_rows")
"""Arguments of reading that say which rows are for what."""


def folded(task: Task) -> Task:
    """`task` in folds, where it has too few rows for a test split of its own; else as it is.

    It stays as it is where any of its splits was asked for (rows for the test, a time, a number of training rows,
    validation in another way than by default), and where its rows make fewer than five clusters of near-duplicates
    and groups. Folds follow from the seed that the task was read with.
    """
    rows = sorted((*task.train, *task.validation, *task.test), key=lambda example: example.row)
    if len(rows) >= FEWEST_ROWS or not _is_split_by_default(task):
        return task
    near, _ = near_clusters(rows, likeness(rows))
    together = in_clusters(rows, near)
    if len(set(together)) < FOLDS:
        return task
    held = in_folds(strata_of(rows, task.spec), together, FOLDS, f"{task.source['seed']}/folds")
    folds = tuple(Dataset(tuple(rows[place] for place in fold)) for fold in held)
    task = replace(task, test=Dataset(()), folds=folds)
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
        all(name in asked and asked[name] is None for name in ASKED)
        and asked.get("validation") == DEFAULT_VALIDATION
        and bool(len(task.test))
    )
