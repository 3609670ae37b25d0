"""Tasks with too few rows for a test: which they are, and what their folds are like."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import colour_task
from tunewise.reading import read
from tunewise.reading.folds import CHOOSING, FEWEST_VALIDATION, FOLDS, folded, rows_without
from tunewise.reading.splits import in_folds
from tunewise.task import Task


def rows_of(count: int, labels: int = 3) -> list[dict[str, Any]]:
    return [
        {"text": f"word{row} another{row} {row % 7}", "label": f"label {row % labels}"} for row in range(count)
    ]


def numbers(rows: Any) -> list[int]:
    return [example.row for example in rows]


def test_below_a_hundred_rows_the_folds_hold_every_row_once() -> None:
    task = folded(read(rows_of(61)))
    assert len(task.folds) == FOLDS
    assert sorted(row for fold in task.folds for row in numbers(fold)) == list(range(61))
    assert sorted(len(fold) for fold in task.folds) == [12, 12, 12, 12, 13]
    assert task.validation == task.folds[0]
    assert sorted(numbers(task.train)) == sorted(row for fold in task.folds[1:] for row in numbers(fold))
    assert len(task.test) == 0
    for label, total in Counter(f"label {row % 3}" for row in range(61)).items():
        counts = [Counter(fold.targets)[label] for fold in task.folds]
        assert max(counts) - min(counts) <= 1, f"{total} rows of {label}"


@pytest.mark.parametrize(
    "asked",
    [{"validation": 0.2}, {"validation": 0.3}, {"validation": 10}, {"validation": 0}, {"train_rows": 20}],
)
@pytest.mark.parametrize("rows", [60, 160])
def test_splits_that_were_asked_for_stay(asked: dict[str, Any], rows: int) -> None:
    task = read(rows_of(rows), **asked)
    assert folded(task) is task


def test_tasks_made_by_hand_keep_their_splits() -> None:
    task = colour_task(20, 10, 10)
    assert folded(task) is task


def test_from_a_hundred_rows_on_the_folds_stand_beside_the_test() -> None:
    assert folded(read(rows_of(99))).tested_in_folds
    plain = read(rows_of(100))
    task = folded(plain)
    assert not task.tested_in_folds
    assert task.test == plain.test
    assert sorted(len(fold) for fold in task.folds) == [26, 27, 27]
    assert len(task.folds) == CHOOSING
    assert task.validation == task.folds[0]
    beside = sorted(numbers(plain.train) + numbers(plain.validation))
    assert sorted(row for fold in task.folds for row in numbers(fold)) == beside
    assert sorted(numbers(rows_without(task, None))) == beside


def test_a_test_file_stays_however_few_the_rows() -> None:
    given = rows_of(80)[60:]
    task = folded(read(rows_of(60), test=given))
    assert len(task.test) == 20
    assert [len(fold) for fold in task.folds] == [20, 20, 20]


def test_enough_validation_rows_choose_without_folds() -> None:
    enough = read(rows_of(500))
    assert len(enough.validation) == FEWEST_VALIDATION
    assert folded(enough) is enough
    assert folded(read(rows_of(490))).folds


def test_the_profile_tells_that_folds_choose() -> None:
    task = folded(read(rows_of(120)))
    assert task.profile is not None
    said = " ".join(task.profile.warnings)
    assert "Too few rows for a validation split to choose on: in 3 folds of 32 rows" in said
    assert "Their answers to all 96 rows choose" in said
    assert "The test has 24 rows" in said
    assert task.profile.rows == {"train": 64, "validation": 32, "test": 24}


def test_groups_and_near_duplicates_stay_in_one_fold() -> None:
    rows = [{**row, "who": f"person {number % 11}"} for number, row in enumerate(rows_of(66))]
    task = folded(read(rows, input="text", target="label", group="who"))
    where: dict[str | None, set[int]] = {}
    for number, fold in enumerate(task.folds):
        for example in fold:
            where.setdefault(example.group, set()).add(number)
    assert len(where) == 11
    assert all(len(folds) == 1 for folds in where.values())
    long = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen x"
    alike = [{"text": f"{long} eighteen x{number}", "label": f"label {number % 2}"} for number in range(6)]
    held = folded(read(rows_of(50, 2) + alike)).folds
    assert sum(any(row >= 50 for row in numbers(fold)) for fold in held) == 1


def test_fewer_clusters_than_folds_keep_the_split() -> None:
    rows = [{**row, "who": f"person {number % 4}"} for number, row in enumerate(rows_of(60))]
    task = read(rows, input="text", target="label", group="who")
    assert folded(task) is task


def test_folds_follow_from_the_seed() -> None:
    first, again, other = (folded(read(rows_of(60), seed=seed)) for seed in (3, 3, 4))
    assert first.folds == again.folds
    assert first.train == again.train
    assert first.folds != other.folds


def test_training_rows_of_a_fold_begin_with_every_label() -> None:
    task = folded(read(rows_of(60, 6)))
    for fold in range(FOLDS):
        rows = rows_without(task, fold)
        assert len(rows) == 48
        assert len(set(rows.targets[:6])) == 6
    assert sorted(numbers(rows_without(task, None))) == list(range(60))


def test_the_profile_speaks_of_folds_and_not_of_a_test() -> None:
    plain = read(rows_of(60))
    task = folded(plain)
    assert plain.profile is not None
    assert task.profile is not None
    assert any("The test has" in text for text in plain.profile.warnings)
    said = " ".join(task.profile.warnings)
    assert "60 rows, too few for a test split: in 5 folds of 12 rows" in said
    assert "Their answers to those 48 rows are the test" in said
    assert "The test has" not in said
    assert "In the test" not in said
    assert task.profile.rows == {"train": 48, "validation": 12, "test": 0}


def test_texts_are_folded_too() -> None:
    rows = [
        {"text": f"say {row} things", "answer": f"these are {row} words of a long answer {row * 7}"}
        for row in range(40)
    ]
    task = folded(read(rows, input="text", target="answer", kind="generation"))
    assert [len(fold) for fold in task.folds] == [8] * 5


@settings(deadline=None)
@given(
    strata=st.lists(st.sampled_from("abcdef"), min_size=5, max_size=99),
    seed=st.integers(0, 99),
)
def test_drawn_folds_are_alike_in_size_and_in_each_label(strata: list[str], seed: int) -> None:
    folds = in_folds(strata, list(range(len(strata))), FOLDS, str(seed))
    assert sorted(row for fold in folds for row in fold) == list(range(len(strata)))
    for label in set(strata):
        counts = [sum(strata[row] == label for row in fold) for fold in folds]
        assert max(counts) - min(counts) <= 1
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 2


def test_many_labels_of_three_rows_each_are_never_whole_in_one_fold() -> None:
    task: Task = folded(read(rows_of(90, 30)))
    assert sorted(len(fold) for fold in task.folds) == [18] * 5
    assert all(max(Counter(fold.targets).values()) == 1 for fold in task.folds)
