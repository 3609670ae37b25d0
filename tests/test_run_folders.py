"""Run folders seen from outside: free names, and what has been compared."""

import json
from pathlib import Path

import pytest

from tunewise.errors import WorkError
from tunewise.run_folders import free, held, name_of, records


@pytest.mark.parametrize(
    ("data", "name"),
    [("data/My tickets.csv", "My-tickets"), ("hf:org/emotion", "emotion"), ("trec", "trec"), ("/", "data")],
)
def test_a_folder_is_named_after_its_data(data: str, name: str) -> None:
    assert name_of(data) == name


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    assert free(tmp_path / "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert free(tmp_path / "run") == tmp_path / "run-3"


def test_a_run_is_worked_on_by_one_process(tmp_path: Path) -> None:
    said = r"another process is working on this run.*tunewise resume"
    with held(tmp_path), pytest.raises(WorkError, match=said), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_runs_are_listed_newest_first_and_others_passed_over(tmp_path: Path) -> None:
    for name, created in (("old", "2026-01-01"), ("new", "2026-02-01"), ("damaged", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"created": created}) if created else "{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "old" / "recommendation.json").write_text('{"pick": "lora", "score": 0.5}')
    found = records(tmp_path)
    assert [(one.name, one.status, one.pick) for one in found] == [
        ("new", "unfinished", None),
        ("old", "finished", "lora"),
    ]
