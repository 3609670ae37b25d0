"""Rows split by time, shifts between training and test, and what noisy labels allow."""

from __future__ import annotations

import random
from statistics import fmean
from typing import Any

import pytest

from tunewise import Task
from tunewise.errors import DataError, SettingError
from tunewise.reading.noise import Agreement, agreement
from tunewise.reading.shift import shifts
from tunewise.task import Example

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fern", "grove", "heath", "iris", "jade", "kelp", "lake")


def rows(count: int = 100, **more: Any) -> list[dict[str, Any]]:
    """Rows of different texts, one a day, with two labels in turn."""
    return [
        {
            "day": f"2024-{1 + number // 28:02}-{1 + number % 28:02}",
            "text": f"{WORDS[number % 12]} {WORDS[number * 7 % 11]} number {number}",
            "label": "ab"[number % 2],
            **more,
        }
        for number in range(count)
    ]


def days(task: Task, split: str) -> list[int]:
    return [example.row for example in getattr(task, split)]


def test_the_newest_rows_are_the_test_and_those_before_them_validation() -> None:
    shuffled = sorted(rows(), key=lambda row: hash(row["text"]) % 97)
    when = {number: row["day"] for number, row in enumerate(shuffled)}
    task = Task.read(shuffled, input="text", target="label", time="day")
    train, validation, test = ([when[row] for row in days(task, name)] for name in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (64, 16, 20)
    assert max(train) < min(validation) <= max(validation) < min(test)
    assert task.source["time"] == "day"


def test_numbers_are_times_too_and_rows_of_one_moment_stay_together() -> None:
    given = [{**row, "day": str(number // 10)} for number, row in enumerate(rows())]
    task = Task.read(given, input="text", target="label", time="day", validation=15)
    assert [len(task.train), len(task.validation), len(task.test)] == [70, 10, 20]
    assert {row // 10 for row in days(task, "test")} == {8, 9}


def test_the_time_is_no_input_and_validation_may_be_left_out() -> None:
    task = Task.read([{"when": number, **row} for number, row in enumerate(rows())], time="when", validation=0)
    assert task.spec.inputs == ("text",)
    assert not len(task.validation)


def test_an_older_row_that_is_alike_is_left_out_of_training() -> None:
    given = rows()
    given[3] |= {"text": given[99]["text"].upper(), "label": "a"}
    task = Task.read(given, input="text", target="label", time="day")
    assert 3 not in days(task, "train")
    assert task.profile is not None
    assert task.profile.leaks == 1
    assert any("among those for the test or validation, too" in text for text in task.profile.warnings)


@pytest.mark.parametrize(
    ("column", "found"),
    [("31.05.2024", "found '31.05.2024'; expected in every row a number, or"), ("", "found 'nothing'; expected")],
)
def test_a_time_that_cannot_be_read_is_refused(column: str, found: str) -> None:
    given = rows()
    given[7]["day"] = column
    with pytest.raises(DataError, match=found):
        Task.read(given, input="text", target="label", time="day")


def test_times_beside_numbers_are_refused() -> None:
    given = rows()
    given[0]["day"] = "17"
    with pytest.raises(DataError, match="expected in every row a number, or in every row a date"):
        Task.read(given, input="text", target="label", time="day")


def test_time_with_a_test_file_or_with_groups_is_refused() -> None:
    with pytest.raises(SettingError, match="a file for the test and times were given"):
        Task.read(rows(), input="text", target="label", time="day", test=rows(10))
    with pytest.raises(SettingError, match="groups and times were given"):
        Task.read(rows(who="x"), input="text", target="label", time="day", group="who")


def test_one_moment_is_no_time() -> None:
    with pytest.raises(DataError, match="found fewer than 3 different times"):
        Task.read([{**row, "day": 1} for row in rows()], input="text", target="label", time="day")


def test_a_label_that_only_the_newest_rows_have_is_known() -> None:
    given = rows()
    given[98]["label"] = given[99]["label"] = "c"
    task = Task.read(given, input="text", target="label", time="day")
    assert task.spec.answer.labels == ("a", "b", "c")  # type: ignore[union-attr]


def test_a_test_with_another_mix_of_labels_is_told() -> None:
    shifted = [{**row, "label": "b" if number >= 80 else row["label"]} for number, row in enumerate(rows())]
    task = Task.read(shifted, input="text", target="label", time="day")
    (said,) = [text for text in shifts(task) if "another mix of labels" in text]
    assert "b is 100 % of its rows, and 50 % of those for training" in said
    assert task.profile is not None
    assert said in task.profile.warnings
    even = Task.read(rows(), input="text", target="label", time="day")
    assert not [text for text in shifts(even) if "mix" in text]


def test_a_test_with_other_words_is_told_and_a_random_one_is_not_asked() -> None:
    other = [
        {**row, "text": f"zeta{number} theta{number} {row['text']}" if number >= 80 else row["text"]}
        for number, row in enumerate(rows(200))
    ]
    given = Task.read(other[:80], input="text", target="label", test=other[80:])
    assert any("The test has other words" in text for text in shifts(given))
    same = Task.read(rows(200), input="text", target="label")
    assert same.profile is not None
    assert not any("The test has" in text and "words" in text for text in same.profile.warnings)


@pytest.mark.parametrize(("since", "validation"), [(256, None), (320, None), (320, 0), (400, None)])
def test_words_that_are_new_since_validation_or_the_test_are_told(since: int, validation: int | None) -> None:
    draw = random.Random(0)
    given = []
    for day in range(400):
        words = " ".join(f"{'old' if day < since else 'new'}{draw.randrange(60)}" for _ in range(6))
        given.append({"text": words, "label": draw.choice("xy"), "day": day})
    told = shifts(Task.read(given, input="text", target="label", time="day", validation=validation))
    said = "100 % of those in its rows do not occur in training; of training rows left out in turn it is 0 %"
    assert [said in text for text in told] == ([] if since == 400 else [True])


def test_words_that_each_group_has_for_itself_are_no_shift() -> None:
    """Each group has words of its own, in training and in the test: nothing has shifted."""
    given = [
        {"text": f"{WORDS[row % 12]} of{row // 10} by{row // 10} {row}", "label": "ab"[row % 2], "who": row // 10}
        for row in range(400)
    ]
    task = Task.read(given[:300], input="text", target="label", group="who", test=given[300:])
    assert not shifts(task)


def test_noisy_labels_set_a_ceiling() -> None:
    doubled = [{**row, "text": row["text"] + mark} for row in rows(60) for mark in ("", "!")]
    for number in (0, 20, 40):
        doubled[number]["label"] = "b" if doubled[number]["label"] == "a" else "a"
    task = Task.read(doubled, input="text", target="label")
    profile = task.profile
    assert profile is not None
    assert (profile.repeated_inputs, profile.repeated_agreement) == (60, 57 / 60)
    (said,) = [text for text in profile.warnings if "stand more than once" in text]
    assert "5.0 % carry different labels" in said
    assert "about 0.974 of them" in said
    clean = Task.read([{**row, "text": row["text"] + mark} for row in rows(60) for mark in ("", "!")])
    assert clean.profile is not None
    assert not any("stand more than once" in text for text in clean.profile.warnings)


@pytest.mark.parametrize(("labels", "noise"), [(2, 0.2), (2, 0.25), (3, 0.2)])
def test_the_ceiling_is_not_above_what_labels_drawn_at_random_allow(labels: int, noise: float) -> None:
    rng, held, errors = random.Random(labels), 0, []
    for _ in range(30):
        pairs = [(number, rng.random() < noise) for number in range(300) for _ in range(2)]
        drawn = [
            Example(0, {"text": f"question {number}"}, str(rng.randrange(1, labels) if wrong else 0))
            for number, wrong in pairs
        ]
        found = agreement(drawn)
        held += found.interval.low <= 1 - noise <= found.interval.high
        errors.append(found.ceiling - (1 - noise))
    assert -0.01 < fmean(errors) < (0.01 if labels == 2 else 0.03)  # of three labels only a bound is known
    if labels == 2:
        assert held >= 26


def test_inputs_half_of_which_are_pure_chance_have_a_bound_for_a_ceiling() -> None:
    clean = Agreement(inputs=1000, share=0.75, labels=2)  # half agree always, half with a chance of a half
    assert clean.ceiling >= 0.75
    assert clean.interval.low < clean.ceiling < clean.interval.high


def test_inputs_that_differ_in_one_word_say_nothing_of_noise() -> None:
    long = "the number of people who live in the valley beside the old river will"
    given = [
        {"text": f"{long} {change} in the year {year}", "label": change}
        for year in range(1900, 1960)
        for change in ("increase", "decrease")
    ]
    task = Task.read(given, input="text", target="label")
    assert task.profile is not None
    assert task.profile.repeated_inputs == 0


@pytest.mark.parametrize(("shares", "expected"), [((25, 60, 15), (25, 60, 15)), ((10, 20, 70), (10, 20, 70))])
def test_few_moments_leave_one_at_least_for_each_split(shares: tuple[int, ...], expected: tuple[int, ...]) -> None:
    years = [year for year, count in zip((2021, 2022, 2023), shares, strict=True) for _ in range(count)]
    given = [{**row, "day": year} for row, year in zip(rows(), years, strict=True)]
    task = Task.read(given, input="text", target="label", time="day")
    assert (len(task.train), len(task.validation), len(task.test)) == expected
    assert task.profile is not None
    said = any("are the test: so many" in text for text in task.profile.warnings)
    assert said == (shares[2] > 40)


def test_more_validation_rows_than_there_are_is_refused_by_time_too() -> None:
    with pytest.raises(DataError, match="expected at most 79 for validation"):
        Task.read(rows(), input="text", target="label", time="day", validation=300)


def test_a_number_of_validation_rows_is_taken_by_time_from_texts_as_well() -> None:
    given = [{**row, "label": f"an answer, {number} words long"} for number, row in enumerate(rows())]
    task = Task.read(given, input="text", target="label", kind="generation", time="day", validation=20)
    assert days(task, "validation") == list(range(60, 80))


def test_a_row_that_is_left_out_needs_no_time() -> None:
    given = rows()
    given[3].update(day=None, label=None)
    task = Task.read(given, input="text", target="label", time="day", drop_incomplete=True)
    assert len(task.train) + len(task.validation) + len(task.test) == 99
