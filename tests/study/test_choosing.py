"""Studies of somewhat more rows: folds beside the test choose, and what ships has learnt from all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.study.events import answers_of, events_of, lines_of, of_kind
from tests.study.killing import run_and_kill, script_of
from tests.tiny import in_float32, read_colours
from tunewise import api, metrics
from tunewise.errors import RequestError
from tunewise.methods import get
from tunewise.reading.folds import SCREENING, folded, rows_without
from tunewise.report.reader import read_run
from tunewise.rule import Finalist, nominate
from tunewise.run_folders import read_leaderboard
from tunewise.study.folds import Folds
from tunewise.study.journal import Journal
from tunewise.study.policy import ANOTHER_SEED, MORE_SEEDS, REPEATED
from tunewise.task import Task

pytestmark = pytest.mark.usefixtures("float32")
METHODS = ["majority", "tfidf-logistic", "zero-shot", "few-shot", "lora", "soft-prompt", "prompt-then-lora"]
ROWS = 120


def some() -> Task:
    return read_colours(ROWS)


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished study, made once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("choosing") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        api.compare(some(), model=str(tiny_folder), methods=METHODS, budget="40trials", out=folder)
    return folder


def test_every_finalist_answers_all_folds_and_then_the_test(finished: Path) -> None:
    task = folded(some())
    assert not task.tested_in_folds
    in_folds = [row.row for fold in task.folds for row in fold]
    board = read_leaderboard(finished)
    assert {line["candidate"] for line in board} == set(METHODS)
    for line in board:
        assert line["status"] == "finished"
        answers = lines_of(finished, line["trial"], "folds")
        assert [one["row"] for one in answers] == in_folds
        assert [one["row"] for one in lines_of(finished, line["trial"], "test")] == [row.row for row in task.test]
        score = metrics.get(task.spec.metric).score(
            [one["prediction"] for one in answers], [one["target"] for one in answers]
        )
        assert line["validation_score"] == pytest.approx(score, abs=1e-6)
        assert line["n_train"] == sum(map(len, task.folds))


def test_the_first_fold_was_answered_by_the_screened_trial(finished: Path) -> None:
    first = len(folded(some()).folds[SCREENING])
    for line in read_leaderboard(finished):
        screened = lines_of(finished, line["trial"], "validation")
        assert lines_of(finished, line["trial"], "folds")[:first] == screened


def test_the_two_names_are_fixed_by_all_folds_before_the_test(finished: Path) -> None:
    events = events_of(finished)
    (nominated,) = of_kind(finished, "nominated")
    kinds = [event["event"] for event in events]
    named = kinds.index("nominated")
    assert max(place for place, kind in enumerate(kinds) if kind == "validated") < named
    assert named < min(place for place, kind in enumerate(kinds) if kind == "tested")
    finalists = [
        Finalist(line["candidate"], line["validation_score"], line["cost_work"], line["artifact_mb"])
        for line in read_leaderboard(finished)
    ]
    reference, nominee = nominate(finalists, 2.0)
    assert (nominated["reference"], nominated["nominee"]) == (reference.candidate, nominee.candidate)


def test_what_ships_and_meets_the_test_was_fitted_on_all_folds(finished: Path) -> None:
    task = folded(some())
    for event in of_kind(finished, "refitted"):
        name = event["trial"].rpartition("-")[0]
        told = json.loads((finished / "candidates" / name / "candidate.json").read_text())
        assert (told["n_train"], told["trial"]) == (96, event["trial"])
    (majority,) = (line for line in read_leaderboard(finished) if line["candidate"] == "majority")
    again = api.fit(Task(task.spec, rows_without(task, None), task.test, task.test), method="majority").adapted
    stored = [one["prediction"] for one in lines_of(finished, majority["trial"], "test")]
    assert [answer.output for answer in again.predict(task.test.inputs)] == stored
    assert len(of_kind(finished, "refitted")) == len(METHODS)


def test_the_leading_tuned_methods_are_fitted_again_with_other_seeds(finished: Path) -> None:
    repeats = [event for event in of_kind(finished, "started") if "repeats" in event]
    assert [event["seed"] for event in repeats] == [seed for seed in MORE_SEEDS for _ in range(REPEATED)]
    assert {event["stage"] for event in repeats} == {ANOTHER_SEED}
    board = {line["candidate"]: line for line in read_leaderboard(finished)}
    tuned = [name for name in METHODS if (get(name).work or "").startswith("train")]
    again = {event["method"] for event in repeats}
    assert len(again) == REPEATED
    assert again <= set(tuned)
    lowest = min(board[name]["validation_score"] for name in again)
    assert all(board[name]["validation_score"] <= lowest for name in set(tuned) - again)
    tested = {event["trial"] for event in of_kind(finished, "tested")}
    assert {event["trial"] for event in repeats} <= tested
    assert all(event["n_train"] == 96 for event in repeats)
    told = api.recommend(finished)
    assert set(told.seeds["scores"]) == again
    assert all(len(scores) == 1 + len(MORE_SEEDS) for scores in told.seeds["scores"].values())


def test_the_verdict_is_one_of_a_test(finished: Path) -> None:
    told = api.recommend(finished)
    assert told.status in ("undecided", "non-inferior", "superior")
    assert (told.folds, told.n_test) == (0, 24)
    assert told.difference is not None
    assert told.difference.p is not None
    said = " ".join(told.reasons)
    assert "Before the test" in said
    page = (finished / "report.html").read_text()
    assert "Folds took the place of a test" not in page
    assert "24 test rows" in page
    assert "First fold&#39;s rows" in page
    row = folded(some()).folds[1].examples[0]
    assert read_run(finished).inputs({("data", row.row)}) == {("data", row.row): row.inputs}


def test_killed_on_its_way_and_resumed_it_ends_the_same(finished: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    setting_up = f"from tests.study.test_choosing import some\nMETHODS = {METHODS!r}"
    script = script_of(folder, tiny_folder, 'some(), methods=METHODS, budget="40trials"', setting_up)
    repeating = len(of_kind(finished, "started")) - 1
    moments = (
        *(("screened", 1), ("folded", 5), ("validated", 4), ("refitted", 7)),
        *(("started", repeating), ("nominated", 1), ("tested", 3)),
    )
    for event, count in moments:
        run_and_kill(script, folder, event, count)
    api.resume(folder)
    for kind in ("started", "validated", "refitted", "tested", "nominated"):
        assert [e["trial"] for e in of_kind(folder, kind)] == [e["trial"] for e in of_kind(finished, kind)], kind
    done = [(e["trial"], e["fold"]) for e in of_kind(folder, "folded")]
    assert len(done) == len(set(done))
    for told in of_kind(finished, "tested"):
        assert answers_of(folder, told["trial"]) == answers_of(finished, told["trial"])
    verdicts = [json.loads((run / "recommendation.json").read_text()) for run in (folder, finished)]
    assert verdicts[0]["pick"] == verdicts[1]["pick"]
    assert verdicts[0]["seeds"]["scores"] == verdicts[1]["seeds"]["scores"]


def test_resuming_a_finished_run_does_nothing_again(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (run / "trials.jsonl").read_text()
    study = api.resume(run)
    assert (run / "trials.jsonl").read_text() == before
    assert study.task.folds == folded(some()).folds


def test_a_budget_too_small_for_folds_chooses_on_a_split(tiny_folder: Path, tmp_path: Path) -> None:
    methods = ["majority", "zero-shot", "lora"]
    seen = {}
    for budget in ("1e14flop", "5e9flop"):
        study = api.compare(some(), model=str(tiny_folder), methods=methods, budget=budget, out=tmp_path / budget)
        messages = [event["text"] for event in of_kind(study.folder, "message")]
        seen[budget] = bool(study.task.folds), any("too small to choose in folds" in text for text in messages)
        ended = [e for e in events_of(study.folder) if e["event"] in ("folded", "refitted")]
        assert bool(ended) == bool(study.task.folds)
    assert seen == {"1e14flop": (True, False), "5e9flop": (False, True)}


def test_a_budget_that_holds_one_finalist_prunes_the_others(tiny_folder: Path, tmp_path: Path) -> None:
    methods = ["majority", "zero-shot", "lora", "full"]
    out = tmp_path / "run"
    study = api.compare(some(), model=str(tiny_folder), methods=methods, budget="1.6e10flop", out=out)
    assert study.task.folds
    (screened,) = of_kind(out, "screened")
    board = {line["candidate"]: line["status"] for line in study.leaderboard}
    assert {name for name, status in board.items() if status == "finished"} == set(screened["finalists"])
    assert {name for name, status in board.items() if status == "pruned"} == set(screened["left_out"])
    assert screened["left_out"]
    ended = [e for e in events_of(out) if e["event"] in ("finished", "folded", "refitted")]
    assert sum(event["work"] for event in ended) <= 1.6e10


def test_who_seemed_too_dear_gets_another_turn_and_keeps_it_on_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {"majority": 0.0, "lora": 10.0, "full": 8.0, "soft-prompt": 6.0}
    taken: list[str] = []

    def take(self: Folds, rows: list[Any], gone_on: list[str]) -> None:
        taken.extend(row.method for row in rows)

    monkeypatch.setattr(Folds, "_price", lambda self, row, what: prices[row.method])
    monkeypatch.setattr(Folds, "_take", take)
    monkeypatch.setattr(Folds, "work", property(lambda self: sum(prices[name] / 2 for name in taken)))
    scores = dict(zip(prices, (0.5, 0.9, 0.8, 0.7), strict=True))
    rows = [
        SimpleNamespace(
            method=name, trial=f"{name}-1", validation_score=score, log_loss=None, work=1.0, seconds=1.0
        )
        for name, score in scores.items()
    ]
    journal = Journal(tmp_path / "trials.jsonl")
    journal.write("message", None, text="begun")
    given: Any = {"task": folded(some()), "journal": journal, "refits": SimpleNamespace(run=None)}
    Folds(tmp_path, **given).go(rows, left=12.0)  # type: ignore[arg-type]
    assert taken == ["majority", "lora", "soft-prompt"]
    turns = [(event["finalists"], event["left_out"]) for event in of_kind(tmp_path, "screened")]
    assert turns == [(["majority", "lora"], ["full", "soft-prompt"]), (["soft-prompt"], ["full"])]
    assert [event["trial"] for event in of_kind(tmp_path, "pruned")] == ["full-1"]
    taken.clear()
    since = [row for row in rows if row.method in ("majority", "soft-prompt")]  # lora failed in the test
    Folds(tmp_path, **given).go(since, left=12.0)  # type: ignore[arg-type]
    assert taken == ["majority", "soft-prompt"]
    assert len(of_kind(tmp_path, "screened")) == 2
    assert len(of_kind(tmp_path, "pruned")) == 1


def test_a_budget_in_trials_counts_those_with_other_seeds(tiny_folder: Path, tmp_path: Path) -> None:
    methods = ["majority", "tfidf-logistic", "lora"]
    for trials, again in ((5, 0), (6, 1)):
        out = tmp_path / str(trials)
        api.compare(some(), model=str(tiny_folder), methods=methods, budget=f"{trials}trials", out=out)
        started = of_kind(out, "started")
        assert len(started) == trials
        assert sum("repeats" in event for event in started) == again


def test_an_error_of_whoever_watches_a_fold_fails_no_finalist(tmp_path: Path) -> None:
    def gone(event: dict[str, Any]) -> None:
        if event["event"] == "folded":
            raise RuntimeError("no one looks")

    methods = ["majority", "tfidf-logistic"]
    with pytest.raises(RuntimeError, match="no one looks"):
        api.compare(some(), methods=methods, budget="40trials", out=tmp_path / "run", on_event=gone)
    study = api.resume(tmp_path / "run")
    assert {line["status"] for line in study.leaderboard} == {"finished"}


def test_warnings_come_before_the_model_is_loaded(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(RequestError):
        api.compare(
            some(),
            model=str(tmp_path),
            budget="40trials",
            out=tmp_path / "run",
            on_event=lambda event: told.append(str(event.get("text", ""))),
        )
    assert any("The test has 24 rows" in text for text in told)
    assert not any("to choose on" in text for text in told), "whether folds choose is not known yet"


def test_a_task_in_folds_is_not_folded_again(tmp_path: Path) -> None:
    study = api.compare(some(), methods=["majority", "tfidf-logistic"], budget="40trials", out=tmp_path / "run")
    assert study.task.folds
    assert folded(study.task) is study.task


def test_curves_measure_on_the_test_and_fit_every_point_anew(tmp_path: Path) -> None:
    study = api.compare(
        some(),
        methods=["majority", "tfidf-logistic"],
        budget="40trials",
        out=tmp_path / "run",
        curve=True,
        curve_budget="60trials",
    )
    lines = [json.loads(line) for line in (study.folder / "curve.jsonl").read_text().splitlines()]
    sizes = {line["size"] for line in lines if line["method"] == "tfidf-logistic"}
    assert max(sizes) == 96
    assert all(len(line["outputs"]) == 24 for line in lines if line.get("outputs"))
