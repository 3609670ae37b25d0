"""Whole studies on a tiny model: repeatable, resumable, honest about failure, the test split untouched."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.study.events import events_of, of_kind
from tests.study.killing import peek, run_and_kill, script_of
from tests.tiny import colour_task, copy_task, in_float32, read_colours
from tunewise import api
from tunewise.adapted import AdaptedModel
from tunewise.candidates import save_adapted
from tunewise.errors import BudgetError, CandidateError, DataError, SettingError, WorkError
from tunewise.methods import get, registered
from tunewise.study.advice import Situation, promise
from tunewise.study.contest import Contest
from tunewise.study.stored import read_stored
from tunewise.study.trials import MeteredTrial
from tunewise.task import Choices, Dataset

pytestmark = pytest.mark.usefixtures("float32")


def decisions(folder: Path) -> list[tuple[Any, ...]]:
    """What was decided, without clocks."""
    kept = ("event", "trial", "value", "step", "work", "reason", "reference", "nominee", "score")
    return [tuple(e.get(k) for k in kept) for e in events_of(folder) if e["event"] != "reported"]


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished study, made once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("study") / "run"
    cache = tmp_path_factory.mktemp("cache")
    with in_float32(cache):
        api.compare(colour_task(), model=str(tiny_folder), budget="40trials", out=folder)
    return folder


def test_every_family_finishes_and_the_files_are_there(finished: Path) -> None:
    rows = csv_rows(finished)
    done = {row["family"] for row in rows if row["status"] == "finished"}
    assert done == {"baseline", "prompt engineering", "prompt tuning", "fine-tuning", "hybrid"}
    for name in ("run.json", "task.json", "rows.jsonl", "recommendation.json", "report.html"):
        assert (finished / name).stat().st_size > 0
    for row in rows:
        assert 0 <= float(row["ci_low"]) <= float(row["score"]) <= float(row["ci_high"]) <= 1
        assert (finished / "candidates" / row["candidate"] / "candidate.json").exists()
        lines = (finished / "predictions" / f"{row['trial']}-test.jsonl").read_text().splitlines()
        assert [json.loads(line)["row"] for line in lines] == [e.row for e in colour_task().test]
        right = sum(json.loads(line)["prediction"] == json.loads(line)["target"] for line in lines)
        assert float(row["score"]) == pytest.approx(right / len(lines), abs=1e-6)
    assert not list((finished / "trials").glob("*")), "states of trials that ended are cleared away"


def test_the_test_split_is_opened_once_and_last(finished: Path) -> None:
    names = [event["event"] for event in events_of(finished)]
    first_test = names.index("tested")
    assert names[first_test - 1] == "nominated"
    assert set(names[first_test:]) == {"tested"}
    tested = [event["trial"] for event in events_of(finished) if event["event"] == "tested"]
    assert len(tested) == len(set(tested))


def test_rates_are_chosen_on_validation_log_loss(finished: Path) -> None:
    events = events_of(finished)
    for method in ("lora", "soft-prompt"):
        paused = {e["trial"]: e for e in events if e["event"] == "paused" and e["trial"].startswith(f"{method}-")}
        assert len(paused) >= 2
        best = min(paused, key=lambda trial: paused[trial]["log_loss"])
        assert {e["trial"] for e in events if e["event"] == "continued"} >= {best}
        pruned = {e["trial"] for e in events if e["event"] == "pruned"}
        assert set(paused) - {best} <= pruned


def test_what_priors_promise_most_of_such_a_task_is_tuned_first(finished: Path) -> None:
    started = [event for event in events_of(finished) if event["event"] == "started"]
    tuned = [e["method"] for e in started if e["family"] in ("fine-tuning", "prompt tuning", "hybrid")]
    weights = promise(Situation(True, 24, 2, 1e5, 20.0, "accuracy", "tiny"))
    assert weights["fine-tuning"] > weights["hybrid"] > weights["prompt tuning"]
    assert list(dict.fromkeys(tuned)) == ["lora", "full", "prompt-then-lora", "soft-prompt"]


def test_a_loaded_candidate_repeats_its_stored_predictions(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "moved")
    task = colour_task()
    for row in csv_rows(finished):
        stored = [
            json.loads(line)
            for line in (finished / "predictions" / f"{row['trial']}-test.jsonl").read_text().splitlines()
        ]
        again = api.load(tmp_path / "moved" / "candidates" / row["candidate"]).predict(task.test.inputs)
        assert [p.output for p in again] == [line["prediction"] for line in stored]
        for prediction, line in zip(again, stored, strict=True):
            assert prediction.scores == pytest.approx(line["scores"], abs=2e-6)
    pick = json.loads((finished / "recommendation.json").read_text())["pick"]
    assert type(api.load(tmp_path / "moved")) is type(api.load(finished / "candidates" / pick))


def csv_rows(folder: Path) -> list[Mapping[str, str]]:
    return list(csv.DictReader((folder / "leaderboard.csv").read_text().splitlines()))


def test_the_same_study_twice_decides_the_same(finished: Path, tiny_folder: Path, tmp_path: Path) -> None:
    api.compare(colour_task(), model=str(tiny_folder), budget="40trials", out=tmp_path / "again")
    assert decisions(tmp_path / "again") == decisions(finished)
    first, second = (json.loads((f / "task.json").read_text()) for f in (finished, tmp_path / "again"))
    assert first["splits"] == second["splits"]


def test_a_budget_in_operations_decides_without_a_clock(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        api.compare(colour_task(24, 12, 20), model=str(tiny_folder), budget="2e9flop", out=tmp_path / name)
    assert decisions(tmp_path / "a") == decisions(tmp_path / "b")
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    spent = {e["trial"]: e.get("work", 0.0) for e in events_of(tmp_path / "a") if e["trial"]}
    assert 0 < sum(spent.values()) <= run["budget"]["work_limit"]


def test_a_generation_study_ends_well(tiny_folder: Path, tmp_path: Path) -> None:
    study = api.compare(copy_task(), model=str(tiny_folder), budget="60s", out=tmp_path / "run")
    assert study.recommendation.metric == "chrf"
    assert "tfidf-logistic" not in {row["candidate"] for row in study.leaderboard}
    notes = [e["text"] for e in events_of(tmp_path / "run") if e["event"] == "message"]
    assert any(note.startswith("tfidf-logistic: left out") for note in notes)


def test_a_failed_trial_is_recorded_and_the_study_goes_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.errors import TrialError

    def explode(self: Any, *_: Any) -> None:
        raise TrialError("the loss became nan at step 3")

    monkeypatch.setattr(get("lora"), "fit", explode)
    study = api.compare(
        colour_task(16, 8, 8),
        model=str(tiny_folder),
        methods="majority,lora",
        budget="9trials",
        out=tmp_path / "r",
    )
    failed = [e for e in events_of(tmp_path / "r") if e["event"] == "failed"]
    assert failed
    assert all(e["reason"] == "the loss became nan at step 3" for e in failed)
    rows = {row["candidate"]: row for row in study.leaderboard}
    assert rows["lora"]["status"] == "failed"
    assert rows["lora"]["score"] is None
    assert study.recommendation.pick == "majority"


def test_a_loss_that_is_not_a_number_ends_its_trial_only(tiny_folder: Path, tmp_path: Path) -> None:
    class Wild(get("full")):  # type: ignore[misc]
        @classmethod
        def search_space(cls, *_: Any) -> dict[str, Any]:
            return {"learning_rate": [1e30, 1e-3], "epochs": [2], "batch_size": [8]}

    from tunewise.methods import registry

    with pytest.MonkeyPatch.context() as patch:
        known = {**registry.registered(), "full": Wild}
        patch.setattr(registry, "registered", lambda: known)
        patch.setattr("tunewise.study.ground.registered", lambda: known)
        patch.setattr("tunewise.study.ground.get", lambda name: known[name])
        task = replace(colour_task(32, 8, 8))
        api.compare(task, model=str(tiny_folder), methods="majority,full", budget="9trials", out=tmp_path / "r")
    ends = {e["trial"]: e for e in events_of(tmp_path / "r") if e["event"] in ("failed", "finished")}
    assert ends["full-1"]["event"] == "failed"
    assert "the loss became" in ends["full-1"]["reason"]
    assert ends["full-2"]["event"] == "finished"


def test_making_a_chain_costs_what_its_start_costs_as_well(finished: Path) -> None:
    own = {e["trial"]: e for e in of_kind(finished, "finished")}
    start = {e["trial"]: e.get("start_from") for e in of_kind(finished, "started")}
    rows = {row["trial"]: row for row in csv_rows(finished) if row["status"] == "finished"}
    chains = [trial for trial in rows if start[trial]]
    assert chains
    for trial, row in rows.items():
        both = own[trial]["work"] + (own[start[trial]]["work"] if start[trial] else 0.0)
        assert float(row["setup_work"]) == pytest.approx(both, rel=1e-5)


def test_a_study_killed_while_it_is_set_up_leaves_no_folder(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.study import contest

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(contest, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        api.compare(colour_task(), methods="majority", budget="9trials", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", [".", "link", "gone/../made"])
def test_the_folder_may_be_named_in_any_way(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, real = tmp_path / "here", tmp_path / "real"
    here.mkdir()
    real.mkdir()
    monkeypatch.chdir(here)
    if out == "link":
        (here / "link").symlink_to(real)
    study = api.compare(colour_task(), methods="majority", budget="9trials", out=out)
    assert (study.folder / "recommendation.json").exists()
    assert real.exists()


def test_what_a_study_said_of_its_preparation_survives_a_kill(tmp_path: Path) -> None:
    said = "The budget is too small to choose in folds"
    rows = read_colours(128)
    folder = tmp_path / "run"
    api.compare(rows, methods=["majority", "tfidf-logistic"], budget="9trials", out=folder)
    run = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**run, "notes": [said]}))
    (folder / "trials.jsonl").unlink()
    for name in ("predictions", "candidates"):
        shutil.rmtree(folder / name)
    api.resume(folder)
    assert sum(event.get("text") == said for event in events_of(folder)) == 1


def test_killed_at_any_moment_and_resumed_it_ends_the_same(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    script = script_of(folder, tiny_folder, 'colour_task(), budget="40trials"')
    waits = [("started", 3), ("reported", 9), ("paused", 2), ("finished", 9), ("tested", 3)]
    for event, count in waits:
        run_and_kill(script, folder, event, count)
    before = [e for e in peek(folder) if e["event"] == "finished"]
    api.resume(folder)
    after = events_of(folder)
    ended = [e["trial"] for e in after if e["event"] in ("finished", "pruned", "failed", "out_of_budget")]
    assert len(ended) == len(set(ended)), "no finished trial is done twice"
    assert [e for e in after if e["event"] == "finished"][: len(before)] == before, "and none is lost"
    verdicts = [json.loads((f / "recommendation.json").read_text()) for f in (folder, finished)]
    assert verdicts[0]["pick"] == verdicts[1]["pick"]
    assert verdicts[0]["score"] == verdicts[1]["score"]
    outcomes = [
        sorted(
            (e["trial"], e["event"], e.get("value")) for e in events_of(f) if e["event"] in ("finished", "pruned")
        )
        for f in (folder, finished)
    ]
    assert outcomes[0] == outcomes[1]


TRAINED = ["majority", "zero-shot", "lora", "soft-prompt"]


def outcomes(folder: Path) -> dict[str, tuple[Any, ...]]:
    """How each trial ended, without clocks."""
    ends = [e for e in events_of(folder) if e["event"] in ("finished", "pruned", "tested")]
    return {
        f"{e['trial']} {e['event']}": tuple(e.get(k) for k in ("value", "step", "work", "score")) for e in ends
    }


def assert_ended_alike(folder: Path, other: Path) -> None:
    """Each trial as in the other run, work to the last digits that sums in another order have."""
    found, expected = outcomes(folder), outcomes(other)
    assert found.keys() == expected.keys()
    for trial, values in expected.items():
        assert found[trial] == tuple(pytest.approx(value, rel=1e-9) if value else value for value in values)


@pytest.fixture(scope="module")
def uninterrupted(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        _go(folder, tiny_folder)
    return folder


@pytest.mark.parametrize("places", [(4,), (9,), (14,), (3, 2, 2), (6, 5, 1, 1), (20, 3)])
def test_an_interrupted_trial_goes_on_from_its_last_check(
    places: tuple[int, ...],
    uninterrupted: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in so many-th checks, one process after the other: no check of training is done twice."""
    from tunewise.study import evaluation, trials

    monkeypatch.setattr(trials, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(trials, "KEEP_RATIO", 0.0)
    folder = tmp_path / "run"
    for place in places:
        left = place

        def stopping(*given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return evaluation.evaluate(*given)

        monkeypatch.setattr(trials, "evaluate", stopping)
        with pytest.raises(KeyboardInterrupt):
            _go(folder, tiny_folder)
    monkeypatch.setattr(trials, "evaluate", evaluation.evaluate)
    api.resume(folder)
    assert_ended_alike(folder, uninterrupted)
    checks = [e for e in events_of(folder) if e["event"] == "reported" and e["epoch"] is not None]
    assert len(checks) == len({(e["trial"], e["step"]) for e in checks})
    for name in ("lora", "soft-prompt"):
        files = [run / "candidates" / name / "adapter_model.safetensors" for run in (folder, uninterrupted)]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("places", [(7,), (13, 6), (26, 11, 3)])
def test_stopped_in_the_midst_of_a_pass_it_goes_on_from_there(
    places: tuple[int, ...],
    uninterrupted: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped after so many-th training steps, one process after the other: none is lost, of a first pass too."""
    from tunewise.study import trials

    monkeypatch.setattr(trials, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(trials, "KEEP_RATIO", 0.0)
    folder, progress = tmp_path / "run", MeteredTrial.progress
    steps: list[tuple[Path, int]] = []
    for place in (*places, 0):
        left = place

        def stepping(trial: MeteredTrial, step: int, *given: Any) -> bool:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            steps.append((trial.folder, step))
            return progress(trial, step, *given)

        monkeypatch.setattr(MeteredTrial, "progress", stepping)
        if place:
            with pytest.raises(KeyboardInterrupt):
                _go(folder, tiny_folder)
    api.resume(folder)
    assert_ended_alike(folder, uninterrupted)
    assert len(steps) == len(set(steps)), "no step is trained twice"


@pytest.mark.parametrize("kind", ["reported", "progress"])
def test_an_error_of_whoever_watches_stops_the_study_and_is_no_trials(
    kind: str, uninterrupted: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    def gone(event: dict[str, Any]) -> None:
        if event["event"] == kind and event["trial"] == "lora-2":
            raise BrokenPipeError("the reader is gone")

    folder = tmp_path / "run"
    with pytest.raises(BrokenPipeError, match="the reader is gone"):
        api.compare(
            colour_task(), model=str(tiny_folder), methods=TRAINED, budget="20trials", out=folder, on_event=gone
        )
    assert events_of(folder)[-1]["trial"] == "lora-2"
    assert not of_kind(folder, "failed")
    api.resume(folder)
    assert_ended_alike(folder, uninterrupted)


def test_a_full_disk_is_no_trials_fault_and_tears_no_line(
    uninterrupted: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: dict[str, Any]) -> None:
        if event["event"] == "started" and event["trial"] == "lora-2":
            room = (folder / "trials.jsonl").stat().st_size + 30
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))

    try:
        with pytest.raises(WorkError, match=r"trials\.jsonl cannot be written: .*tunewise resume"):
            api.compare(
                colour_task(),
                model=str(tiny_folder),
                methods=TRAINED,
                budget="20trials",
                out=folder,
                on_event=fill,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal = (folder / "trials.jsonl").read_text()
    assert journal.endswith("}\n")
    assert json.loads(journal.splitlines()[-1])["event"] == "started"
    api.resume(folder)
    assert_ended_alike(folder, uninterrupted)


def _go(folder: Path, model: Path) -> None:
    if folder.exists():
        api.resume(folder)
    else:
        api.compare(colour_task(), model=str(model), methods=TRAINED, budget="20trials", out=folder)


def test_time_spent_after_the_last_event_is_spent_where_a_state_was_kept(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.study import trials

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["step"] == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(trials, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(trials, "KEEP_RATIO", 0.0)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        api.compare(
            colour_task(), model=str(tiny_folder), methods=["lora"], budget="9trials", out=folder, on_event=stop
        )
    earlier = [{**event, "time": event["time"] - 100} for event in events_of(folder)]
    (folder / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in earlier))
    spent = Contest.again(read_stored(folder), None, 1).journal.elapsed_before
    kept = trials.standing_of(folder / "trials" / "lora-1")["time"]
    assert spent == pytest.approx(earlier[-1]["elapsed"] + kept - earlier[-1]["time"])
    assert spent > 100


def test_a_trial_stopped_between_its_rung_and_the_journal_is_paused_there(
    uninterrupted: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunewise.study.attempts import Attempts

    folder, pause = tmp_path / "run", Attempts._paused

    def stopped(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Attempts, "_paused", stopped)
    with pytest.raises(KeyboardInterrupt):
        _go(folder, tiny_folder)
    monkeypatch.setattr(Attempts, "_paused", pause)
    api.resume(folder)
    assert outcomes(folder) == outcomes(uninterrupted)


def test_trials_of_another_version_are_not_mixed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "paused":
            raise KeyboardInterrupt

    folder, methods = tmp_path / "run", ["majority", "lora"]
    with pytest.raises(KeyboardInterrupt):
        api.compare(
            colour_task(), model=str(tiny_folder), methods=methods, budget="9trials", out=folder, on_event=stop
        )
    run = json.loads((folder / "run.json").read_text())
    run["versions"]["tunewise"] = "0.0.7"
    (folder / "run.json").write_text(json.dumps(run))
    before, space = (folder / "trials.jsonl").read_bytes(), get("lora").search_space
    said = r"lora-1 is on record with parameters .*; expected parameters .*'epochs': 4.*Tunewise 0\.0\.7, this is"
    with monkeypatch.context() as patch:
        other = classmethod(lambda _, *given: {**space(*given), "epochs": [4]})
        patch.setattr(get("lora"), "search_space", other)
        with pytest.raises(CandidateError, match=said):
            api.resume(folder)
    assert (folder / "trials.jsonl").read_bytes() == before
    assert {row["status"] for row in api.resume(folder).leaderboard} == {"finished"}


def test_resuming_a_finished_run_changes_nothing(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    before = (tmp_path / "run" / "trials.jsonl").read_bytes()
    api.resume(tmp_path / "run")
    assert (tmp_path / "run" / "trials.jsonl").read_bytes() == before


class Fading(get("lora")):  # type: ignore[misc]
    """A method whose candidates get worse after the rung."""

    def fit(self, start: Any, train: Any, validation: Any, trial: Any) -> Any:
        check, good = trial.check, trial.state() is None

        def scored(step: int, candidate: Any, **more: Any) -> Any:
            # Before the rung the truth, afterwards a candidate that is always wrong.
            if not good:
                flipped = {label: word for label, word in zip("wc", ("cold", "warm"), strict=True)}
                words = tuple(flipped[label] for label in candidate.spec.answer.labels)
                answer = Choices(candidate.spec.answer.labels, words)
                candidate = replace(candidate, spec=replace(candidate.spec, answer=answer))
            return check(step, candidate, **more)

        trial.check = scored
        try:
            return super().fit(start, train, validation, trial)
        finally:
            trial.check = check


def test_a_trial_that_fades_after_its_rung_is_worth_its_rung(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"learning_rate": [1e-2, 1e-3], "epochs": [8], "batch_size": [4]}
    monkeypatch.setattr(Fading, "search_space", classmethod(lambda *_: space))
    known = {**registered(), "lora": Fading}
    monkeypatch.setattr("tunewise.study.ground.registered", lambda: known)
    monkeypatch.setattr("tunewise.study.ground.get", lambda name: known[name])
    task = colour_task(32, 80, 24)
    api.compare(task, model=str(tiny_folder), methods="majority,lora", budget="9trials", out=tmp_path / "r")
    paused = {e["trial"]: e for e in events_of(tmp_path / "r") if e["event"] == "paused"}
    finished = next(e for e in events_of(tmp_path / "r") if e["event"] == "finished" and "lora" in e["trial"])
    assert finished["value"] == paused[finished["trial"]]["value"]
    assert finished["step"] == paused[finished["trial"]]["step"]
    lines = (tmp_path / "r" / "predictions" / f"{finished['trial']}-validation.jsonl").read_text().splitlines()
    right = [json.loads(line)["prediction"] == json.loads(line)["target"] for line in lines]
    assert sum(right) / len(right) == pytest.approx(finished["value"])
    again = api.evaluate(api.load(tmp_path / "r" / "candidates" / "lora"), task.validation)
    assert again.score == pytest.approx(finished["value"])


def test_a_candidate_that_waits_for_its_place_gets_it_on_resuming(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    row = next(row for row in csv_rows(finished) if row["candidate"] == "lora")
    pending = tmp_path / "run" / "trials" / row["trial"] / "candidate"
    pending.parent.mkdir(parents=True)
    shutil.move(tmp_path / "run" / "candidates" / "lora", pending)
    api.resume(tmp_path / "run")
    assert (tmp_path / "run" / "candidates" / "lora" / "adapter_model.safetensors").exists()


def test_a_candidate_that_cannot_be_saved_fails_its_trial_only(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []

    def save(adapted: AdaptedModel, folder: Path) -> None:
        saved.append(folder)
        if len(saved) == 1:
            (folder / "half").touch()
            raise OSError("no space")
        save_adapted(adapted, folder)

    monkeypatch.setattr(AdaptedModel, "save", save)
    # The same twice: what failed must not stand in the way of its equal.
    monkeypatch.setattr(get("few-shot"), "search_space", classmethod(lambda *_: {"draw": [0, 0]}))
    study = api.compare(
        colour_task(16, 8, 8),
        model=str(tiny_folder),
        methods="majority,few-shot",
        budget="9trials",
        out=tmp_path / "r",
    )
    failed = [(e["trial"], e["reason"]) for e in events_of(tmp_path / "r") if e["event"] == "failed"]
    assert failed == [("few-shot-1", "OSError: no space")]
    assert {row["candidate"]: row["status"] for row in study.leaderboard}["few-shot"] == "finished"
    assert not list(tmp_path.rglob("half"))


def test_a_finalist_that_fails_in_the_test_leaves_the_others(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any) -> None:
        raise MemoryError("out of memory")

    task = colour_task(16, 8, 8)
    odd = [replace(e, inputs={"text": f"{e.inputs['text']} \u2028 \u0085"}) for e in task.test]
    task = replace(task, test=Dataset(tuple(odd)))
    monkeypatch.setattr("tunewise.methods.majority.MajorityPredictor.load", explode)
    study = api.compare(
        task, model=str(tiny_folder), methods="majority,nearest-example", budget="9trials", out=tmp_path / "r"
    )
    rows = {row["candidate"]: row for row in study.leaderboard}
    assert rows["majority"]["status"] == "failed"
    assert study.recommendation.pick == "nearest-example"


def test_line_separators_in_targets_do_no_harm(tiny_folder: Path, tmp_path: Path) -> None:
    task = copy_task()
    train = Dataset(tuple(replace(e, target=f"a\u2028{e.target}\u0085") for e in task.train))
    study = api.compare(
        replace(task, train=train),
        model=str(tiny_folder),
        methods="nearest-example",
        budget="9trials",
        out=tmp_path / "r",
    )
    assert study.leaderboard[0]["status"] == "finished"


def test_wrong_requests_write_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    out, model, task = tmp_path / "run", str(tiny_folder), colour_task(16, 8, 8)
    with pytest.raises(BudgetError, match=r"cannot hold majority and its test.*; give --budget \d+s or more\."):
        api.compare(task, model=model, budget="1s", out=out)
    with pytest.raises(SettingError, match=r'unknown method "lorra"\. Did you mean "lora"'):
        api.compare(task, model=model, methods="lorra", out=out)
    with pytest.raises(SettingError, match=r"starts from the best of 'few-shot'.* Add few-shot\."):
        api.compare(task, model=model, methods=["lora", "prompt-then-lora"], out=out)
    with pytest.raises(SettingError, match="does not apply here"):
        api.compare(copy_task(), model=model, methods="tfidf-logistic", out=out)
    with pytest.raises(SettingError, match="no-such-model"):
        api.compare(task, model="no-such-model", out=out)
    long = Dataset((replace(task.test.examples[0], inputs={"text": "red " * 2000}), *task.test.examples[1:]))
    with pytest.raises(DataError, match=r"1 of 8 test inputs is longer .* --truncate"):
        api.compare(replace(task, test=long), model=model, out=out)
    with pytest.raises(DataError, match="validation split has no rows"):
        api.compare(replace(task, validation=Dataset(())), model=model, out=out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(SettingError, match="exists and is not empty"):
        api.compare(task, model=model, out=out)
    assert [p.name for p in out.iterdir()] == ["mine.txt"]


def test_long_inputs_are_cut_when_asked(tiny_folder: Path, tmp_path: Path) -> None:
    task = colour_task(16, 8, 8)
    long = Dataset((replace(task.test.examples[0], inputs={"text": "red " * 2000}), *task.test.examples[1:]))
    api.compare(
        replace(task, test=long),
        model=str(tiny_folder),
        methods="majority,zero-shot",
        budget="9trials",
        truncate=True,
        out=tmp_path / "run",
    )
    notes = [e["text"] for e in events_of(tmp_path / "run") if e["event"] == "message"]
    assert "1 test input is longer than the model's context and is cut." in notes
    longer = [{"text": "blue " * 3000}]
    assert api.load(tmp_path / "run" / "candidates" / "zero-shot").predict(longer)[0].output in ("w", "c")


def test_a_plan_is_what_then_runs(tiny_folder: Path, finished: Path) -> None:
    plan = api.plan(colour_task(), model=str(tiny_folder), budget="40trials")
    ran = [e for e in events_of(finished) if e["event"] == "started"]
    # Which methods lead, and are trained again, cannot be known before.
    planned = {t.trial for t in plan.trials if t.stage != "another seed"}
    assert planned == {e["trial"] for e in ran if e["stage"] != "another seed"}
    assert len(plan.trials) == len(ran)
    assert plan.total_seconds > 0
    assert all(t.forecast_memory_mb > 0 for t in plan.trials)


def test_a_damaged_run_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CandidateError, match="is not a run"):
        api.resume(tmp_path / "empty")
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "recommendation.json").unlink()
    with pytest.raises(CandidateError, match="tunewise resume"):
        api.load(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(CandidateError, match="is damaged"):
        api.resume(tmp_path / "run")


def test_fit_uses_exactly_what_it_is_given(tiny_folder: Path) -> None:
    task = replace(colour_task(20, 8, 8), validation=Dataset(()))
    fitted = api.fit(
        task, method="lora", model=str(tiny_folder), rank=2, epochs=3, batch_size=8, learning_rate=1e-3
    )
    assert len(fitted.losses) == 3 * 3
    assert fitted.validation_score is None
    assert fitted.seconds > 0
    assert fitted.peak_rss_mb > 0
    with pytest.raises(SettingError, match=r'unknown hyper-parameter of lora "epoch"\. Did you mean "epochs"'):
        api.fit(task, method="lora", model=str(tiny_folder), epoch=3)
