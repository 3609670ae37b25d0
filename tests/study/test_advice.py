"""Advice before a study: priors by regime, past studies of the same kind, and what is kept of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunewise.methods.base import FAMILIES
from tunewise.study.advice import PRIORS, Past, Situation, advise
from tunewise.study.history import past_studies, remember
from tunewise.task import Choices, Dataset, Example, Task, TaskSpec

TREC = Situation(True, 256, 6, 135e6, 78.0, "accuracy", "smollm2-135m")
ROWS = Dataset(tuple(Example(row, {"text": str(row)}, "ab"[row % 2]) for row in range(200)))
TASK = Task(
    TaskSpec("classification", ("text",), Choices(("a", "b"), ("a", "b")), "", "accuracy"), ROWS, ROWS, ROWS
)


@pytest.fixture(autouse=True)
def _own_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tunewise.study.history._path", lambda: tmp_path / "studies.jsonl")


def changed(**values: Any) -> Situation:
    return Situation(**{**vars(TREC), **values})


def past(**values: Any) -> Past:
    found = {"classification": True, "rows": 200, "labels": 6, "model": "smollm2-135m", "metric": "accuracy"}
    return Past(**{**found, "scores": {"fine-tuning": 0.8, "baseline": 0.9}, **values})


@pytest.mark.parametrize(
    ("situation", "first", "says"),
    [
        (TREC, "fine-tuning", "Small models follow instructions"),
        (changed(rows=30, labels=6, parameters=3e9), "baseline", "barely beats chance"),
        (changed(rows=5000, labels=3, parameters=3e9), "fine-tuning", "With 500 rows or more"),
        (changed(rows=200, labels=77, parameters=3e9), "baseline", "nearest example carries much"),
        (changed(rows=100, labels=50, parameters=70e9), "prompt engineering", "from a good prompt"),
        (
            changed(classification=False, labels=0, rows=100, parameters=3e9),
            "prompt tuning",
            "the form of the answer",
        ),
    ],
)
def test_what_to_expect_most_from_depends_on_the_task(situation: Situation, first: str, says: str) -> None:
    found = advise(situation, FAMILIES, [])
    assert found.families[0] == first
    assert sorted(found.families) == sorted(FAMILIES)
    assert any(says in reason for reason in found.reasons)


def test_every_reason_names_its_source() -> None:
    for prior in PRIORS:
        assert prior.source
        assert set(prior.weights) <= set(FAMILIES)
    for reason in advise(TREC, FAMILIES, []).reasons:
        assert reason.endswith(")")


def test_the_guide_tells_every_prior() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    for prior in PRIORS:
        (line,) = [line for line in guide.splitlines() if line.startswith(f"| {prior.regime} |")]
        assert line.endswith(f"| {prior.source} |")


def test_families_that_are_not_compared_are_not_advised() -> None:
    assert advise(TREC, ("baseline", "prompt engineering"), []).families == ("baseline", "prompt engineering")


def test_of_what_the_budget_does_not_hold_nothing_is_expected() -> None:
    found = advise(TREC, FAMILIES, [], unheld=["fine-tuning", "hybrid"], budget="30s")
    assert set(found.families[-2:]) == {"fine-tuning", "hybrid"}
    assert found.reasons[-1].startswith("A budget of 30s holds no trial of fine-tuning and hybrid;")


def test_past_studies_of_the_same_kind_outweigh_priors() -> None:
    found = advise(TREC, FAMILIES, [past()] * 6)
    assert found.families[0] == "baseline"
    assert (
        "In 6 studies of the same kind on this machine, with smollm2-135m and 200 training rows"
        in found.reasons[-1]
    )
    assert found.reasons[-1].endswith("that of baseline in 6.")


@pytest.mark.parametrize(
    "other",
    [
        past(rows=2000),
        past(rows=50),
        past(labels=77),
        past(model="gemma-3-270m"),
        past(metric="macro_f1"),
        past(classification=False),
        past(scores={"baseline": 1.0}),
    ],
)
def test_studies_of_other_kinds_do_not_count(other: Past) -> None:
    assert advise(TREC, FAMILIES, [other] * 9) == advise(TREC, FAMILIES, [])


def board(*rows: tuple[str, Any, str]) -> list[dict[str, Any]]:
    return [{"family": family, "score": score, "status": status} for family, score, status in rows]


def test_a_study_is_kept_once_by_its_best_scores(tmp_path: Path) -> None:
    run = {"created": "2026-01-01", "name": "secret-project", "model": {"name": "smollm2-135m"}}
    rows = board(
        ("fine-tuning", "0.8", "finished"), ("fine-tuning", "0.7", "finished"), ("baseline", "", "failed")
    )
    remember(run, TASK, rows)
    remember(run, TASK, rows)
    assert past_studies() == [past(rows=200, labels=2, scores={"fine-tuning": 0.8})]
    kept = (tmp_path / "studies.jsonl").read_text()
    assert "secret" not in kept
    remember({**run, "created": "2026-01-02", "model": None}, TASK, rows)
    assert [one.model for one in past_studies()] == ["smollm2-135m", ""]


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "studies.jsonl"
    path.write_text("{\n[1]\n" + json.dumps({"rows": 1}) + "\n" + json.dumps(past().to_json()) + "\n")
    assert past_studies() == [past()]
    path.write_bytes(b"\xff\xfe")
    assert past_studies() == []


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tunewise.study.history._path", lambda: tmp_path / "file" / "studies.jsonl")
    remember({"created": "x"}, TASK, board(("baseline", 0.5, "finished")))
    assert past_studies() == []
