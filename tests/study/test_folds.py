"""Studies of few rows: screened on one fold, finalists fitted without each of the others, shipped on all rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.study.events import answers_of, events_of, lines_of, of_kind
from tests.study.killing import run_and_kill, script_of
from tests.tiny import colour_rows, in_float32, read_colours
from tunewise import api, metrics
from tunewise.adapted import AdaptedModel
from tunewise.errors import DataError, SettingError
from tunewise.methods import get
from tunewise.reading import read
from tunewise.reading.folds import folded, rows_without
from tunewise.report.reader import read_run
from tunewise.rule import FEWEST_ROWS
from tunewise.run_folders import read_leaderboard
from tunewise.statistics import paired_difference, score_interval
from tunewise.study.again import Made, made_by, make_again
from tunewise.study.folding import FINALISTS
from tunewise.study.ground import prepare
from tunewise.study.stored import read_stored
from tunewise.study.trials import MeteredTrial
from tunewise.task import Dataset, Task

pytestmark = pytest.mark.usefixtures("float32")
PLAIN = ["majority", "tfidf-logistic", "nearest-example"]
ROWS = 60


def few() -> Task:
    return read_colours(ROWS)


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished study of all methods, made once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("folds") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        api.compare(few(), model=str(tiny_folder), budget="40trials", out=folder)
    return folder


def test_finalists_answer_every_row_of_the_other_folds_once(finished: Path) -> None:
    task = folded(few())
    expected = [row.row for fold in task.folds[1:] for row in fold]
    tested = [event["trial"] for event in of_kind(finished, "tested")]
    methods = {trial.rpartition("-")[0] for trial in tested}
    assert set(PLAIN) < methods
    assert len(methods) == len(PLAIN) + FINALISTS
    for trial in tested:
        lines = lines_of(finished, trial)
        assert [line["row"] for line in lines] == expected
    assert not (finished / "trials").exists()


def test_who_is_not_among_the_four_is_pruned_and_leaves_nothing(finished: Path) -> None:
    (screened,) = of_kind(finished, "screened")
    board = {line["candidate"]: line for line in read_leaderboard(finished)}
    for name, line in board.items():
        went_on = name in screened["finalists"]
        assert line["status"] == ("finished" if went_on else "pruned")
        assert (finished / "candidates" / name / "candidate.json").exists() == went_on
        assert (line["score"] is not None) == went_on
    kept = {e["trial"]: (e["value"], -e["log_loss"]) for e in of_kind(finished, "finished") if e["log_loss"]}
    best: dict[str, tuple[float, float]] = {}
    for trial, value in kept.items():
        name = trial.rpartition("-")[0]
        best[name] = max(value, best.get(name, value))
    others = [name for name in sorted(best, key=lambda name: best[name], reverse=True) if name not in PLAIN]
    assert [name for name in screened["finalists"] if name not in PLAIN] == others[:FINALISTS]


def test_what_ships_was_fitted_on_all_rows(finished: Path) -> None:
    for event in of_kind(finished, "refitted"):
        assert event["n_train"] == ROWS
        name = event["trial"].rpartition("-")[0]
        told = json.loads((finished / "candidates" / name / "candidate.json").read_text())
        assert (told["n_train"], told["trial"]) == (ROWS, event["trial"])
    assert len(of_kind(finished, "refitted")) == len(PLAIN) + FINALISTS
    assert json.loads((finished / "candidates" / "majority" / "majority.json").read_text()) == [
        ["c", 30],
        ["w", 30],
    ]


def test_intervals_hold_for_all_finalists_at_once_as_the_same_rows_choose(finished: Path) -> None:
    told, targets = api.recommend(finished), [row.target for fold in folded(few()).folds[1:] for row in fold]
    board = {line["candidate"]: line for line in read_leaderboard(finished) if line["score"] is not None}
    right = {
        name: [line["prediction"] for line in lines_of(finished, line["trial"])] for name, line in board.items()
    }
    accuracy = metrics.get("accuracy")
    for name, line in board.items():
        alone = score_interval(accuracy, right[name], targets)
        assert line["ci_low"] <= alone.low
        assert line["ci_high"] >= alone.high
        if name != told.pick:
            pairs = len(board) * (len(board) - 1) // 2
            paired = paired_difference(
                accuracy, right[name], right[told.pick], targets, confidence=1 - 0.05 / pairs
            )
            assert told.differences[name].ci == pytest.approx((paired.low, paired.high))


def test_a_fold_is_answered_by_a_model_that_never_saw_it(finished: Path) -> None:
    task = folded(few())
    lines = lines_of(finished, "tfidf-logistic-1")
    made = made_by(events_of(finished))["tfidf-logistic-1"]
    penalty = made.method().inverse_penalties[made.step - 1]
    place = 0
    for number, fold in enumerate(task.folds[1:], 1):
        without = Task(task.spec, rows_without(task, number), task.folds[0], fold)
        one = api.fit(without, method="tfidf-logistic", inverse_penalties=(penalty,)).adapted
        stored = [line["prediction"] for line in lines[place : place + len(fold)]]
        assert [answer.output for answer in one.predict(fold.inputs)] == stored
        place += len(fold)


def test_the_recommendation_is_corrected_and_claims_nothing(finished: Path) -> None:
    told = api.recommend(finished)
    assert told.status == "too_few_rows"
    assert (told.folds, told.n_test) == (5, 48)
    board = {line["candidate"]: line["score"] for line in read_leaderboard(finished) if line["score"] is not None}
    assert board[told.pick] >= max(board.values()) - told.margin / 100 - 1e-6
    assert told.ci[0] <= told.score <= told.ci[1]
    assert told.score <= board[told.pick] + 1e-6
    assert told.difference is not None
    assert told.difference.p is None
    assert all(one.p is None and one.upper is None for one in told.differences.values())
    assert set(told.tied_with) == set(board) - {told.pick}
    assert (told.rows_needed, told.smallest_margin_shown) == (None, None)
    with pytest.raises(SettingError, match="--margin -1: expected points between 0 and 100"):
        api.recommend(finished, margin=-1)
    said = " ".join(told.reasons)
    assert "Too few rows to claim anything: 60 labelled rows" in said
    assert "can be expected to score" in said
    assert ("corrected for having been chosen" in said) == (told.score < board[told.pick] - 1e-9)
    assert "Before the test" not in said
    assert told == type(told).from_json(json.loads((finished / "recommendation.json").read_text()), finished)


def test_the_page_tells_of_folds(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Folds took the place of a test" in page
    assert "The test was opened once" not in page
    assert "on 48 rows in 4 folds" in page
    row = folded(few()).folds[1].examples[0]
    assert read_run(finished).inputs({("data", row.row)}) == {("data", row.row): row.inputs}


def test_without_a_model_it_is_done_in_a_moment_and_a_bound_margin_picks_the_cheaper(tmp_path: Path) -> None:
    study = api.compare(
        colour_rows(ROWS), methods=PLAIN, budget="40trials", out=tmp_path / "run", input="text", target="target"
    )
    assert len(study.task.test) == 0
    assert len(study.task.folds) == 5
    assert study.recommendation.load().predict(["the red sun is big"])[0].output == "w"
    with pytest.raises(DataError, match="nothing to evaluate on"):
        api.evaluate(study.recommendation.load(), study.task.test)
    wide = api.recommend(study.folder, margin=100)
    cheapest = min(study.leaderboard, key=lambda line: line["cost_work"])["candidate"]
    assert wide.pick in PLAIN
    assert wide.pick == cheapest or len({line["cost_work"] for line in study.leaderboard}) == 1


def test_killed_in_its_folds_and_resumed_it_ends_the_same(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    setting_up = "from tests.study.test_folds import few"
    script = script_of(folder, tiny_folder, 'few(), budget="40trials"', setting_up)
    for event, count in (("screened", 1), ("folded", 2), ("folded", 15), ("refitted", 4), ("tested", 6)):
        run_and_kill(script, folder, event, count)
    done = {(e["trial"], e["fold"]) for e in of_kind(folder, "folded")}
    api.resume(folder)
    again = [(e["trial"], e["fold"]) for e in of_kind(folder, "folded")]
    assert len(again) == len(set(again)), "no fold that is on record is done twice"
    assert done <= set(again)
    for told in of_kind(finished, "tested"):
        assert answers_of(folder, told["trial"]) == answers_of(finished, told["trial"])
    verdicts = [json.loads((run / "recommendation.json").read_text()) for run in (folder, finished)]
    assert [(one["pick"], one["score"]) for one in verdicts] == [(verdicts[1]["pick"], verdicts[1]["score"])] * 2


def test_resuming_a_finished_run_does_nothing_again(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = (run / "trials.jsonl").read_text()
    study = api.resume(run)
    assert (run / "trials.jsonl").read_text() == before
    assert study.task.folds == folded(few()).folds


def test_a_finalist_that_fails_in_a_fold_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.methods.tfidf_logistic import LinearPredictor

    predict = LinearPredictor.predict
    calls: list[int] = []

    def failing(self: LinearPredictor, inputs: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:  # three to screen, then the second and third fold
            raise RuntimeError("no more answers")
        return predict(self, inputs)

    monkeypatch.setattr(LinearPredictor, "predict", failing)
    study = api.compare(few(), methods=PLAIN, budget="40trials", out=tmp_path / "run")
    board = {line["candidate"]: line["status"] for line in study.leaderboard}
    assert board == {"majority": "finished", "nearest-example": "finished", "tfidf-logistic": "failed"}
    assert any("failed: in fold 3: " in text for text in study.recommendation.warnings)
    assert "failed" in json.dumps([e for e in events_of(study.folder) if e["trial"] == "tfidf-logistic-1"])


def test_a_small_budget_takes_fewer_finalists_through_the_folds(tiny_folder: Path, tmp_path: Path) -> None:
    methods = ["majority", "zero-shot", "lora", "soft-prompt"]
    rich = api.plan(few(), model=str(tiny_folder), methods=methods, budget="1e14flop")
    assert rich.test_seconds > 0
    went_on = {}
    for budget in (1e14, 3e10, 7e9):
        out = tmp_path / f"{budget:g}"
        study = api.compare(few(), model=str(tiny_folder), methods=methods, budget=f"{budget:g}flop", out=out)
        went_on[budget] = of_kind(out, "screened")[0]["finalists"]
        ended = [event for event in events_of(out) if event["event"] in ("finished", "folded", "refitted")]
        assert sum(event["work"] for event in ended) <= budget
        assert study.recommendation.pick in went_on[budget]
    assert set(went_on[1e14]) == set(methods)
    assert 2 <= len(went_on[7e9]) < len(methods)


def test_a_budget_in_time_cuts_no_baseline_short(tmp_path: Path) -> None:
    for budget in ("10m", "40trials"):
        out = tmp_path / budget
        api.compare(few(), methods=PLAIN, budget=budget, out=out)
        assert not any(event["cut_short"] for event in of_kind(out, "finished"))
    tried = [
        [(e["trial"], e["step"]) for e in of_kind(tmp_path / budget, "reported")] for budget in ("10m", "40trials")
    ]
    assert tried[0] == tried[1]
    assert len(tried[0]) == 7


def test_a_method_too_dear_for_the_folds_takes_nothing_from_the_others(tiny_folder: Path, tmp_path: Path) -> None:
    events = {}
    for name, methods in (("with", ["majority", "lora", "soft-prompt"]), ("without", ["majority", "lora"])):
        out = tmp_path / name
        api.compare(few(), model=str(tiny_folder), methods=methods, budget="1.6e10flop", out=out)
        events[name] = of_kind(out, "finished")
    first = {name: next(e for e in found if e["trial"].startswith("lora")) for name, found in events.items()}
    assert first["with"]["work"] == first["without"]["work"]
    assert not first["with"]["cut_short"]


def test_a_training_is_made_again_to_its_last_step_anything_else_to_its_best() -> None:
    events: list[dict[str, Any]] = []
    for trial, parameters, reported, best in (
        ("zero-shot-1", {}, (1, 2, 3, 4, 5), 3),
        ("lora-1", {"epochs": 6, "batch_size": 8}, (8, 16, 24), 8),
        ("soft-prompt-1", {"epochs": 16, "batch_size": 8}, (), 0),
    ):
        started = {"method": trial.rpartition("-")[0], "parameters": parameters, "n_train": 48, "seed": 0}
        events.append({"event": "started", "trial": trial, **started})
        events += [{"event": "reported", "trial": trial, "step": step} for step in reported]
        events.append({"event": "finished", "trial": trial, "step": best})
    assert {name: made.step for name, made in made_by(events).items()} == {
        "zero-shot-1": 3,
        "lora-1": 24,
        "soft-prompt-1": 0,
    }


def test_a_fit_in_a_fold_ends_after_as_many_passes(tiny_folder: Path, tmp_path: Path) -> None:
    task = folded(few())
    model = api.fit(task, method="zero-shot", model=str(tiny_folder)).adapted
    for step, rows, expected in ((8, 48, 8), (8, 60, 11), (16, 60, 21)):
        made = Made("lora-1", get("lora"), {"epochs": 6, "batch_size": 8, "learning_rate": 1e-3}, step, 48, None)
        steps: list[int] = []
        trial = MeteredTrial(0, tmp_path / f"{step}-{rows}", Dataset(()))
        trial.on_progress = lambda at, total, loss, steps=steps: steps.append(at)  # type: ignore[misc]
        every = rows_without(task, None if rows == 60 else 0)
        make_again(made, model, every, task.folds[0], trial)
        assert steps[-1] == expected


def test_going_on_from_a_kept_state_does_not_count_the_start_again(finished: Path, tmp_path: Path) -> None:
    made = made_by(events_of(finished))
    chain = next(one for one in made.values() if one.start is not None)
    ground = prepare(folded(few()), read_stored(finished).request)
    works = []
    for goes_on in (False, True):
        trial = MeteredTrial(0, tmp_path / str(goes_on), Dataset(()))
        trial.watch(ground.base)
        make_again(chain, ground.base, rows_without(ground.task, 0), ground.task.folds[0], trial, goes_on=goes_on)
        works.append(trial.work)
    assert 0 < works[1] < works[0]


def test_a_chain_that_keeps_its_state_keeps_that_of_its_own_training(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.study import trials

    monkeypatch.setattr(trials, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(trials, "KEEP_RATIO", 0.0)
    chain = next(one for one in made_by(events_of(finished)).values() if one.start is not None)
    ground = prepare(folded(few()), read_stored(finished).request)
    trial = MeteredTrial(0, tmp_path, Dataset(()), keeps=True)
    trial.watch(ground.base)
    made = make_again(chain, ground.base, rows_without(ground.task, 0), ground.task.folds[0], trial)
    assert isinstance(made, AdaptedModel)
    assert made.weights is not None


def test_a_label_that_one_fold_holds_alone_leaves_every_baseline(tmp_path: Path) -> None:
    rows = [{"text": f"word{row} other{row}", "target": "common", "who": f"{row % 13}"} for row in range(39)]
    rows += [{"text": f"something else {row}", "target": "rare", "who": "one"} for row in range(3)]
    task = read(rows, input="text", target="target", group="who", metric="accuracy")
    study = api.compare(task, methods=PLAIN, budget="40trials", out=tmp_path / "run")
    assert len(study.task.folds) == 5
    assert {line["status"] for line in study.leaderboard} == {"finished"}


def test_curves_are_refused_before_anything_is_spent(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=f"found 60 rows, which are compared in folds. Add rows, up to {FEWEST_ROWS}"
    ):
        api.compare(few(), methods=PLAIN, budget="40trials", out=tmp_path / "run", curve=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "then", "now", "expected"), [(24, 48, 60, 32), (24, 48, 47, 24), (6, 48, 48, 6), (1, 48, 8, 1)]
)
def test_as_many_passes_over_other_rows(step: int, then: int, now: int, expected: int) -> None:
    trained = Made("lora-1", None, {"epochs": 6, "batch_size": 8}, step, then, None)
    assert trained.step_on(now) == expected
    assert Made("zero-shot-1", None, {}, step, then, None).step_on(now) == step
