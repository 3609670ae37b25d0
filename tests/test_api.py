"""What users ask for, on runs of methods that need no language model: nothing is fetched, nothing is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import colour_task
from tunewise import api
from tunewise.errors import BudgetError, CandidateError, DataError
from tunewise.run_files import NOT_AGAIN, TEST_AGAIN
from tunewise.study.journal import read_events
from tunewise.study.stored import changed_since, read_stored

METHODS = "majority,tfidf-logistic"


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a model fails."""

    def refuse(name: str, **_: Any) -> Path:
        raise AssertionError(f"the model {name} was asked for")

    monkeypatch.setenv("TUNEWISE_DTYPE", "float32")
    monkeypatch.setattr("tunewise.catalog.resolve_model", refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWISE_DTYPE", "float32")
        folder = tmp_path_factory.mktemp("api") / "run"
        api.compare(colour_task(), methods=METHODS, budget="1m", out=folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.mark.parametrize("budget", ["1m", "9trials", "1e9flop"])
def test_methods_without_a_model_need_none(tmp_path: Path, budget: str) -> None:
    study = api.compare(colour_task(), methods=METHODS, model="not-there", budget=budget, out=tmp_path / "r")
    assert {row["candidate"] for row in study.leaderboard} == {"majority", "tfidf-logistic"}
    assert {row["model"] for row in study.leaderboard} == {""}
    assert json.loads((tmp_path / "r" / "run.json").read_text())["model"] is None
    assert (tmp_path / "r" / "report.html").exists()
    planned = api.plan(colour_task(), methods=METHODS, budget=budget)
    assert [trial.trial for trial in planned.trials] == ["majority-1", "tfidf-logistic-1"]
    assert api.fit(colour_task(), method="majority").validation_score is not None


def test_a_budget_that_is_too_small_names_one_that_is_enough(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"give --budget (\d+s) or more") as refused:
        api.compare(colour_task(), methods=METHODS, budget="1s", out=tmp_path / "r")
    enough = str(refused.value).split("--budget ")[1].split()[0]
    assert api.compare(colour_task(), methods=METHODS, budget=enough, out=tmp_path / "r").recommendation.pick


def test_what_reading_found_is_said_before_the_work(tmp_path: Path) -> None:
    rows = [{"text": f"thing {number} is {number * 7}", "price": f"{number}.5"} for number in range(60)]
    events: list[dict[str, Any]] = []
    api.compare(rows, methods="majority", budget="9trials", out=tmp_path / "r", on_event=events.append)
    texts = [str(event.get("text")) for event in events]
    notice = next(place for place, text in enumerate(texts) if "different numbers" in text)
    assert notice < texts.index("searching")


def test_progress_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.compare(colour_task(), methods="majority", budget="9trials", out=tmp_path / "a")
    assert capsys.readouterr().err == ""
    api.compare(colour_task(), methods="majority", budget="9trials", out=tmp_path / "b", progress=True)
    assert "majority-1: finished" in capsys.readouterr().err


def test_the_spec_of_a_run_and_of_a_candidate_is_that_of_its_task(made: Path) -> None:
    spec = colour_task().spec
    assert api.spec_of(made) == spec
    assert api.spec_of(made / "candidates" / "majority") == spec
    with pytest.raises(CandidateError, match="neither a run"):
        api.spec_of(made / "predictions")


def test_columns_are_checked_before_anything_is_loaded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("tunewise.methods.load_predictor", refuse)
    with pytest.raises(DataError, match='input column "text" is missing'):
        api.predict(made, [{"txt": "red"}])


def test_a_finished_run_is_shown_again_without_any_work(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr("tunewise.study.contest.prepare", refuse)
    before = (run / "trials.jsonl").read_bytes()
    for name in ("leaderboard.csv", "report.html"):
        (run / name).unlink()
    (run / "recommendation.json").write_text("{")
    events: list[dict[str, Any]] = []
    study = api.resume(run, on_event=events.append)
    assert study.recommendation.pick == "tfidf-logistic"
    assert f"{run} is finished already: nothing is left to do. Its result:" in [e["text"] for e in events]
    assert (run / "trials.jsonl").read_bytes() == before
    assert (run / "report.html").exists()


def test_lost_answers_to_the_test_are_given_again(run: Path) -> None:
    path = run / "predictions" / "majority-1-test.jsonl"
    before = [json.loads(line)["prediction"] for line in path.read_text().splitlines()]
    path.unlink()
    api.resume(run)
    assert [json.loads(line)["prediction"] for line in path.read_text().splitlines()] == before


@pytest.mark.parametrize("line", ['{"event": "fin', "[]", '{"trial": null}', '{"event": "\udce9"}'])
def test_a_damaged_journal_is_told_alike_by_report_and_resume(run: Path, line: str) -> None:
    path = run / "trials.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = line.encode("utf-8", "surrogateescape")
    path.write_bytes(b"\n".join(lines))
    for command in (api.report, api.resume):
        with pytest.raises(CandidateError, match=r"trials\.jsonl") as refused:
            command(run)
        assert str(refused.value).endswith(NOT_AGAIN)


def test_a_lost_journal_is_told_alike_by_report_and_resume(run: Path) -> None:
    (run / "trials.jsonl").unlink()
    for command in (api.report, api.resume):
        with pytest.raises(CandidateError, match=r"trials\.jsonl is missing") as refused:
            command(run)
        assert str(refused.value).endswith(NOT_AGAIN)


def test_a_torn_last_line_is_dropped_on_resuming(run: Path) -> None:
    path = run / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.removesuffix(whole.split(b"\n")[-2] + b"\n") + b'{"event": "tes')
    api.resume(run)
    assert [event["event"] for event in read_events(path)].count("tested") == 2


def test_damaged_answers_are_told_alike_by_report_and_resume(run: Path) -> None:
    (run / "predictions" / "majority-1-test.jsonl").write_text('{"row": 1}\n{')
    for command in (api.report, api.resume):
        with pytest.raises(CandidateError, match=r"majority-1-test\.jsonl, line [12]") as refused:
            command(run)
        assert str(refused.value).endswith(TEST_AGAIN)


def test_another_dtype_or_thread_count_is_said_and_kept(run: Path) -> None:
    written = json.loads((run / "run.json").read_text())
    assert changed_since(read_stored(run), jobs=1) is None
    assert "number of jobs 1, now 2" in str(changed_since(read_stored(run), jobs=2))
    before = written["hardware"] | {"dtype": "bfloat16", "threads": 99}
    written["hardware"] = before
    (run / "run.json").write_text(json.dumps(written))
    (run / "predictions" / "majority-1-test.jsonl").unlink()  # so that something is left to do
    study = api.resume(run)
    said = next(text for text in study.recommendation.warnings if "The run was begun with" in text)
    assert "number format bfloat16, now float32 and the number of threads 99, now 1" in said
    (run / "predictions" / "majority-1-test.jsonl").unlink()
    api.resume(run)
    messages = [event["text"] for event in read_events(run / "trials.jsonl") if event["event"] == "message"]
    assert messages == [said], "once is enough"
