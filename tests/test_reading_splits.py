"""Splits of any data: apart, stratified, whole clusters, repeatable, nested; and near-duplicates, none missed."""

from __future__ import annotations

import random
import time
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tunewise.errors import DataError
from tunewise.reading import read
from tunewise.reading.similar import clusters, key_of, normalise, similar_pairs, words_of
from tunewise.reading.splits import carve, stratified_order
from tunewise.task import Example, Task

WORDS = [f"word{number}" for number in range(12)]
SENTENCE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)
VARIANT = st.sampled_from([str, str.upper, lambda text: text + " !", lambda text: text.replace(" ", "  - ")])
ROW = st.builds(
    lambda text, variant, label, group: {"text": variant(text), "label": label, "group": group},
    SENTENCE,
    VARIANT,
    st.sampled_from("aab"),
    st.sampled_from("uvwxyz"),
)
ROWS = st.lists(ROW, min_size=12, max_size=60)
STRATA = st.lists(st.sampled_from("aaaabbc"), min_size=1, max_size=80)


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def splits_of(task: Task) -> dict[str, list[Example]]:
    return {"train": list(task.train), "validation": list(task.validation), "test": list(task.test)}


def read_or_give_up(rows: list[dict[str, str]], **settings: object) -> Task:
    """The task, or the end of this example when there are too few different rows."""
    try:
        return read(rows, input="text", target="label", kind="classification", **settings)  # type: ignore[arg-type]
    except DataError:
        assume(False)
        raise


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(0, 3))
def test_no_near_duplicate_stands_on_two_sides(rows: list[dict[str, str]], seed: int) -> None:
    task = read_or_give_up(rows, seed=seed)
    assert task.profile is not None
    assume(not any("near-duplicates cannot be told apart" in text for text in task.profile.warnings))
    splits = splits_of(task)
    for one, other in combinations(splits, 2):
        for a in splits[one]:
            for b in splits[other]:
                assert jaccard(words_of(key_of(a)), words_of(key_of(b))) < 0.9


@settings(deadline=None, max_examples=60)
@given(ROWS, ROWS)
def test_no_training_row_is_like_a_row_of_a_given_test(
    rows: list[dict[str, str]], test: list[dict[str, str]]
) -> None:
    task = read_or_give_up(rows, test=test)
    assert task.profile is not None
    assert len(task.test) == len(test)
    equal = {normalise(row["text"]) for row in test}
    near = [words_of(key) for key in equal]
    templated = any("near-duplicates cannot be told apart" in text for text in task.profile.warnings)
    for example in (*task.train, *task.validation):
        assert key_of(example) not in equal
        assert templated or all(jaccard(words_of(key_of(example)), words) < 0.9 for words in near)
    profile = task.profile
    assert profile.rows_used == profile.rows_read - profile.duplicates - profile.leaks


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(0, 3))
def test_splits_are_apart_and_complete_and_repeat_with_the_seed(rows: list[dict[str, str]], seed: int) -> None:
    task = read_or_give_up(rows, seed=seed)
    assert task.profile is not None
    numbers = [example.row for split in splits_of(task).values() for example in split]
    assert len(set(numbers)) == len(numbers) == len(rows) - task.profile.duplicates
    assert set(task.train.targets) == {row["label"] for row in rows}, "training knows every label"
    assert splits_of(read_or_give_up(rows, seed=seed)) == splits_of(task)


@settings(deadline=None, max_examples=60)
@given(ROWS, st.integers(0, 3))
def test_groups_stay_whole(rows: list[dict[str, str]], seed: int) -> None:
    task = read_or_give_up(rows, group="group", seed=seed)
    groups = [{example.group for example in split} for split in splits_of(task).values()]
    assert all(not one & other for one, other in combinations(groups, 2))


@given(STRATA, st.integers(0, 60), st.integers(0, 9))
def test_carving_keeps_the_shares(strata: list[str], total: int, seed: int) -> None:
    taken = carve(strata, range(len(strata)), total, str(seed))
    counts, whole = Counter(strata[position] for position in taken), Counter(strata)
    spare = len(strata) - len(whole)
    assert taken == sorted(set(taken))
    if spare == 0:
        assert taken == []
    elif total:
        assert len(taken) == min(total, spare)
    for label, rows in whole.items():
        assert counts[label] < rows, "one row of each label is left"
        if 0 < total <= spare and total / len(strata) < 0.5:
            assert abs(counts[label] - total * rows / len(strata)) < 1 + len(whole)


@given(STRATA, st.data())
def test_carving_takes_whole_clusters(strata: list[str], data: st.DataObject) -> None:
    size = len(strata)
    tied = data.draw(st.lists(st.integers(0, size // 2), min_size=size, max_size=size))
    taken = set(carve(strata, tied, size // 4, "0"))
    for cluster in set(tied):
        assert len({position in taken for position in range(size) if tied[position] == cluster}) == 1
    assert {strata[position] for position in range(size) if position not in taken} == set(strata)


def test_a_rare_label_is_drawn_as_often_as_any_other() -> None:
    strata = [f"label {number % 50}" for number in range(200)]
    drawn = Counter(strata[row] for seed in range(400) for row in carve(strata, range(200), 25, str(seed)))
    assert len(drawn) == 50
    assert all(130 < times < 270 for times in drawn.values())


@given(STRATA, st.integers(0, 9))
def test_every_beginning_of_the_training_rows_is_stratified(strata: list[str], seed: int) -> None:
    order = stratified_order(strata, random.Random(seed))
    assert sorted(order) == list(range(len(strata)))
    whole = Counter(strata)
    for size in range(1, len(strata) + 1):
        counts = Counter(strata[position] for position in order[:size])
        assert len(counts) == min(size, len(whole))
        for label, rows in whole.items():
            assert abs(counts[label] - size * rows / len(strata)) <= len(whole) + 1


def test_smaller_training_sets_are_nested_and_leave_the_other_splits_alone() -> None:
    rows = [{"text": f"sentence {number}", "label": "aaab"[number % 4]} for number in range(200)]
    tasks = [read(rows, train_rows=size, validation=30) for size in (8, 40, 100)]
    kept = [[example.row for example in task.train] for task in tasks]
    assert [len(one) for one in kept] == [8, 40, 100]
    assert kept[0] == kept[1][:8] == kept[2][:8]
    assert kept[1] == kept[2][:40]
    assert [Counter(task.train.targets)["a"] for task in tasks] == [6, 30, 75]
    assert {len(task.validation) for task in tasks} == {30}
    assert tasks[0].validation == tasks[1].validation == tasks[2].validation
    assert tasks[0].test == tasks[1].test == tasks[2].test
    others = {example.row for example in (*tasks[2].validation, *tasks[2].test)}
    assert not others & set(kept[2])


def test_default_shares_and_another_seed() -> None:
    rows = [{"text": f"sentence {number}", "label": "ab"[number % 2]} for number in range(200)]
    one, other = read(rows), read(rows, seed=1)
    assert [len(split) for split in splits_of(one).values()] == [128, 32, 40]
    assert Counter(one.test.targets) == {"a": 20, "b": 20}
    assert {example.row for example in one.test} != {example.row for example in other.test}
    assert len(read(rows, validation=0).validation) == 0


def test_a_group_that_a_given_test_holds_is_left_out_of_training() -> None:
    rows = [{"text": f"sentence {n}", "label": "ab"[n % 2], "user": f"u{n % 7}"} for n in range(70)]
    task = read(rows, group="user", test=[{"text": "new words", "label": "a", "user": "u3"}])
    assert task.profile is not None
    assert task.profile.leaks == 10
    assert "u3" not in {example.group for example in (*task.train, *task.validation)}
    assert task.profile.groups == 7


def test_rows_on_one_long_template_are_split_all_the_same() -> None:
    frame = " ".join(f"instruction{number}" for number in range(60))
    rows = [{"text": f"{frame} name{number}", "label": "ab"[number % 2]} for number in range(300)]
    task = read(rows)
    assert task.profile is not None
    assert len(task.test) == 60
    assert any("near-duplicates cannot be told apart" in text for text in task.profile.warnings)
    given = read(rows[:250], test=rows[250:])
    assert given.profile is not None
    assert given.profile.leaks == 0
    assert any("near-duplicates cannot be told apart" in text for text in given.profile.warnings)


@settings(deadline=None)
@given(st.sets(st.frozensets(st.sampled_from("abcdefghijklmnopqrstuvw"), min_size=1), max_size=40))
def test_no_similar_pair_is_missed(different: set[frozenset[str]]) -> None:
    sets = sorted(different, key=sorted)
    # Add a near relative of every large set, since random sets are hardly ever alike.
    sets += [words | {"extra"} for words in sets if len(words) >= 8]
    brute = [(a, b) for a, b in combinations(range(len(sets)), 2) if jaccard(sets[a], sets[b]) >= 0.9]
    assert similar_pairs(sets) == brute


def test_ten_thousand_rows_are_compared_in_seconds() -> None:
    draw = random.Random(0)
    words = [f"word{number}" for number in range(3000)]
    weights = [1 / (rank + 1) for rank in range(3000)]
    rows = [
        {"text": " ".join(draw.choices(words, weights, k=draw.randint(5, 25))), "label": draw.choice("ab")}
        for _ in range(10_000)
    ]
    started = time.perf_counter()
    read(rows)
    assert time.perf_counter() - started < 10, "about 1 s on two idle cores"


@given(st.lists(st.lists(st.integers(0, 15), max_size=3), max_size=20))
def test_clusters_are_what_is_connected(links: list[list[int]]) -> None:
    found = clusters(links)
    assert all(found[row] <= row for row in range(len(links)))
    for a, b in combinations(range(len(links)), 2):
        if set(links[a]) & set(links[b]):
            assert found[a] == found[b]
    for cluster in set(found):  # every row of a cluster is reached from the first by shared links
        rows = {row for row in range(len(links)) if found[row] == cluster}
        reached = {min(rows)}
        while more := {r for r in rows - reached if any(set(links[r]) & set(links[s]) for s in reached)}:
            reached |= more
        assert reached == rows


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What 's  UP?", "what's up", True),
        ("Go!", "go", True),
        ("ﬁne ＯＫ", "fine ok", True),
        ("STRASSE", "straße", True),
        (":)", ":(", False),
        ("a_b", "a b", True),
        ("x = 3", "x = 4", False),
    ],
)
def test_normalised_text(one: str, other: str, same: bool) -> None:
    assert (normalise(one) == normalise(other)) is same


def test_words_without_spaces_are_compared_by_pairs_of_letters() -> None:
    assert words_of(normalise("我想取消订单")) == frozenset(["我想", "想取", "取消", "消订", "订单"])
    assert words_of("cancel it") == frozenset(["cancel", "it"])
