"""Trials side by side in processes of their own: the same decisions, one writer, and what one that dies does."""

from __future__ import annotations

import errno
import json
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.study.events import events_of, of_kind
from tests.study.killing import run_and_kill, script_of
from tests.tiny import colour_task, in_float32, read_colours
from tunewise import api
from tunewise.errors import SettingError, WorkError
from tunewise.methods import get
from tunewise.study import executors
from tunewise.study.again import Made
from tunewise.study.executors import Here, Needs, Processes, packed, unpacked
from tunewise.study.proposals import Outcome, Proposal
from tunewise.study.refits import Refit
from tunewise.study.runner import Worker
from tunewise.task import Task

pytestmark = pytest.mark.usefixtures("float32")
METHODS = ["majority", "zero-shot", "few-shot", "soft-prompt", "lora", "prompt-then-lora"]


def outcomes(folder: Path) -> dict[tuple[str, str], tuple[Any, ...]]:
    """How each trial ended, without clocks."""
    kinds = ("paused", "finished", "pruned", "failed", "tested")
    names = ("value", "log_loss", "step", "work", "score", "artifact_mb")
    return {
        (event["trial"], event["event"]): tuple(event.get(name) for name in names)
        for event in events_of(folder)
        if event["event"] in kinds
    }


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has."""
    monkeypatch.setattr(executors, "_cores", lambda: 2)


@pytest.fixture(scope="module")
def alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one trial at a time."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        api.compare(colour_task(), model=str(tiny_folder), methods=METHODS, budget="30trials", out=folder)
    return folder


def test_two_at_a_time_decide_as_one_at_a_time(alone: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    api.compare(colour_task(), model=str(tiny_folder), methods=METHODS, budget="30trials", out=folder, jobs=2)
    assert outcomes(folder) == outcomes(alone)
    assert json.loads((folder / "run.json").read_text())["jobs"] == 2
    verdicts = [json.loads((run / "recommendation.json").read_text()) for run in (folder, alone)]
    ours, theirs = ([one[name] for name in ("pick", "score", "status")] for one in verdicts)
    assert ours == theirs
    running: set[str] = set()
    most = 0
    for event in events_of(folder):
        if event["event"] in ("started", "continued"):
            running.add(event["trial"])
        elif event["event"] in ("paused", "finished", "failed"):
            running.discard(event["trial"])
        most = max(most, len(running))
    assert most == 2
    for row in (alone / "candidates").iterdir():
        one, other = (
            json.loads((run / "candidates" / row.name / "candidate.json").read_text()) for run in (alone, folder)
        )
        assert one["trial"] == other["trial"]


def in_folds() -> Task:
    """So few rows that folds choose."""
    return read_colours(120)


FOLDED = ["majority", "zero-shot", "few-shot", "lora", "prompt-then-lora"]


@pytest.fixture(scope="module")
def folded_alone(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in folds with one fit at a time."""
    folder = tmp_path_factory.mktemp("folded") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        api.compare(in_folds(), model=str(tiny_folder), methods=FOLDED, budget="30trials", out=folder)
    return folder


def fits(folder: Path) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What came of each fit in the other folds, and of each finalist on the way, without clocks."""
    kinds = ("folded", "refitted", "validated", "finished", "tested", "failed")
    return {
        (event["event"], event["trial"], event.get("fold")): (event.get("score"), event.get("work"))
        for event in events_of(folder)
        if event["event"] in kinds
    }


def test_fits_in_the_other_folds_run_side_by_side_and_decide_as_one_at_a_time(
    folded_alone: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    folder = tmp_path / "run"
    api.compare(
        in_folds(),
        model=str(tiny_folder),
        methods=FOLDED,
        budget="30trials",
        out=folder,
        jobs=2,
        on_event=told.append,
    )
    assert fits(folder) == fits(folded_alone)
    assert outcomes(folder) == outcomes(folded_alone)
    verdicts = [json.loads((run / "recommendation.json").read_text()) for run in (folder, folded_alone)]
    assert verdicts[0]["pick"] == verdicts[1]["pick"]
    assert verdicts[0]["seeds"]["scores"] == verdicts[1]["seeds"]["scores"]
    running = most = 0
    for event in told:
        if event["event"] == "phase" and (": fold " in event["text"] or ": all rows" in event["text"]):
            running += 1
        elif event["event"] in ("folded", "refitted") or (event["event"] == "finished" and running):
            running -= 1
        most = max(most, running)
    assert (running, most) == (0, 2)
    for method in FOLDED:
        one, other = (
            json.loads((run / "candidates" / method / "candidate.json").read_text())
            for run in (folded_alone, folder)
        )
        assert one["trial"] == other["trial"]
        assert one["n_train"] == other["n_train"] == 96


def test_killed_while_two_fits_run_and_resumed_it_ends_the_same(
    folded_alone: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    setting_up = (
        "from tunewise.study import executors; executors._cores = lambda: 2\n"
        "from tests.study.test_executors import in_folds"
    )
    script = script_of(folder, tiny_folder, f'in_folds(), methods={FOLDED}, budget="30trials", jobs=2', setting_up)
    repeats = len(of_kind(folded_alone, "started")) - 1
    for event, count in (("folded", 3), ("folded", 7), ("refitted", 4), ("started", repeats)):
        run_and_kill(script, folder, event, count)
    api.resume(folder)
    done = [(e["trial"], e["fold"]) for e in of_kind(folder, "folded")]
    assert len(done) == len(set(done))
    assert fits(folder).keys() == fits(folded_alone).keys()
    for key, (score, work) in fits(folder).items():
        assert (score, pytest.approx(work)) == fits(folded_alone)[key], key


def test_a_process_that_dies_in_a_fold_fails_its_finalist_only(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[str] = []
    submit = Processes.submit

    def submitting(self: Processes, asked: Any, *given: Any) -> None:
        submit(self, asked, *given)
        if isinstance(asked, Refit) and asked.method.name == "lora" and asked.fold == 1:
            killed.append(asked.key)
            self._busy[asked.key].child._process.kill()

    monkeypatch.setattr(Processes, "submit", submitting)
    methods = ["majority", "zero-shot", "lora"]
    out = tmp_path / "run"
    study = api.compare(in_folds(), model=str(tiny_folder), methods=methods, budget="9trials", out=out, jobs=2)
    assert len(killed) == 1
    board = {line["candidate"]: line["status"] for line in study.leaderboard}
    assert board == {"majority": "finished", "zero-shot": "finished", "lora": "failed"}
    (failed,) = of_kind(out, "failed")
    assert failed["reason"].startswith("in fold 2: its process ended by signal 9")
    after = [event["event"] for event in events_of(out) if event["trial"] == failed["trial"]]
    assert after[-1] == "failed", "nothing more is recorded of it"


def test_a_budget_in_operations_is_spent_alike(tiny_folder: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        api.compare(colour_task(), model=str(tiny_folder), methods=METHODS, budget="9e9flop", out=out, jobs=jobs)
    assert outcomes(tmp_path / "1") == outcomes(tmp_path / "2")


def test_killed_while_two_run_and_resumed_it_ends_the_same(alone: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    two_cores = "from tunewise.study import executors; executors._cores = lambda: 2"
    compared = f'colour_task(), methods={METHODS}, budget="30trials", jobs=2'
    script = script_of(folder, tiny_folder, compared, two_cores)
    for event, count in (("started", 5), ("paused", 1), ("reported", 30)):
        run_and_kill(script, folder, event, count)
    api.resume(folder)
    ended = [e["trial"] for e in events_of(folder) if e["event"] in ("finished", "pruned", "failed")]
    assert len(ended) == len(set(ended))
    assert outcomes(folder).keys() == outcomes(alone).keys()
    for key, found in outcomes(folder).items():
        assert found == outcomes(alone)[key], key


def test_a_process_that_dies_fails_its_trial_only(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    write = Worker.write

    def writing(self: Worker, event: str, trial: str, **fields: Any) -> None:
        write(self, event, trial, **fields)
        if event == "started" and trial == "few-shot-2":
            assert isinstance(self.executor, Processes)
            process = self.executor._busy[trial].child._process
            killed.append(process.pid)
            process.kill()

    monkeypatch.setattr(Worker, "write", writing)
    study = api.compare(
        colour_task(),
        model=str(tiny_folder),
        methods=["majority", "few-shot"],
        budget="30trials",
        out=tmp_path / "run",
        jobs=2,
    )
    assert len(killed) == 1
    ended = {event["trial"]: event["event"] for event in events_of(study.folder) if event["event"] != "tested"}
    names = [f"few-shot-{number}" for number in (1, 3, 4)]
    assert [ended[name] for name in (*names, "few-shot-2")] == ["finished"] * 3 + ["failed"]
    assert any("few-shot-2 failed: its process ended by signal 9" in w for w in study.recommendation.warnings)


def test_a_run_whose_processes_cannot_start_is_finished_one_at_a_time(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, new = tmp_path / "run", executors._Child.__init__

    def elsewhere(self: Any, folder: Path, *given: Any, **named: Any) -> None:
        new(self, folder / "nowhere", *given, **named)

    def full(*given: Any, **named: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    said = r"trials cannot run side by side here: {}.* go on one at a time with: tunewise resume .*/run --jobs 1"
    monkeypatch.setattr(executors._Child, "__init__", elsewhere)
    with pytest.raises(WorkError, match=said.format("its process ended with exit code 1")):
        api.compare(
            colour_task(),
            model=str(tiny_folder),
            methods=["majority", "few-shot"],
            budget="9trials",
            out=folder,
            jobs=2,
        )
    monkeypatch.setattr(executors._Child, "__init__", new)
    monkeypatch.setattr("tunewise.study.executors.subprocess.Popen", full)
    with pytest.raises(WorkError, match=said.format(r"no process can be started \(Resource temp")):
        api.resume(folder)
    with pytest.raises(SettingError, match="jobs: found 0"):
        api.resume(folder, jobs=0)
    study = api.resume(folder, jobs=1)
    assert {row["status"] for row in study.leaderboard} == {"finished"}
    assert any("number of jobs 2, now 1" in text for text in study.recommendation.warnings)


def test_an_idle_process_that_dies_is_replaced(tmp_path: Path) -> None:
    pool = Processes(tmp_path, jobs=2)
    pool._idle = [pool._new(on_gpu=False)]
    gone = pool._idle[0]
    gone._process.kill()
    gone._process.wait()
    proposal = Proposal("lora-2", get("lora"), {}, "rung", None)
    try:
        pool.submit(proposal, Needs())
        assert pool._busy["lora-2"].child is not gone
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("allowed", "given"), [(None, ["0", "1"]), ("2, 3", ["2", "3"]), ("GPU-a,MIG-b", ["GPU-a", "MIG-b"])]
)
def test_processes_share_the_gpus_that_this_one_may_use(
    allowed: str | None, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def starting(*command: Any, env: dict[str, str], **named: Any) -> None:
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        raise OSError("not in a test")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    monkeypatch.setattr("tunewise.study.executors.subprocess.Popen", starting)
    for number in (0, 1):
        with pytest.raises(OSError, match="not in a test"):
            executors._Child(tmp_path, number, queue.Queue(), on_gpu=True)
    assert seen == given


def test_memory_limits_what_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def running(*needs: float) -> dict[str, Any]:
        return {f"lora-{n}": executors._Running(None, None, Needs(mb)) for n, mb in enumerate(needs)}  # type: ignore[arg-type]

    monkeypatch.setenv("TUNEWISE_MEMORY", "20GB")
    pool = Processes(tmp_path, jobs=3)
    assert pool.has_room(Needs(50_000)), "the first runs whatever it takes"
    pool._busy = running(10_000)
    assert pool.has_room(Needs(1_000))
    assert not pool.has_room(Needs(9_999)), "this process takes some too"
    pool._busy = running(0, 0, 0)
    assert not pool.has_room(Needs())
    pool._busy = running(0)
    assert not pool.has_room(Needs(cores=3)), "three cores are all there are for three jobs"
    assert pool.has_room(Needs(cores=2))


def test_a_fit_survives_the_way_to_another_process() -> None:
    start = Made("few-shot-2", get("few-shot"), {"shots": 4}, 3, 64, None)
    made = Made(
        "prompt-then-lora-1", get("prompt-then-lora"), {"learning_rate": 1e-3}, 24, 64, start, cut_short=True
    )
    for refit in (Refit(made, 2), Refit(made), Refit(made, None, "prompt-then-lora-2", 1)):
        assert unpacked(json.loads(json.dumps(packed(refit)))) == refit


def test_a_proposal_survives_the_way_to_another_process() -> None:
    proposal = Proposal("lora-2", get("lora"), {"learning_rate": 1e-3}, "rung", None, 2, 1.5e12, 3e12, None, 0)
    assert unpacked(json.loads(json.dumps(packed(proposal)))) == proposal
    assert Outcome(**json.loads(json.dumps(vars(Outcome("a-1", "paused", 0.5, None, 2.0))))).work == 2.0


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True])
def test_impossible_numbers_of_jobs_are_refused(jobs: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="expected a whole number, 1 or greater"):
        api.compare(colour_task(), methods=["majority"], out=tmp_path / "run", jobs=jobs)


def test_more_jobs_than_cores_are_told(tiny_folder: Path, tmp_path: Path) -> None:
    study = api.compare(
        colour_task(),
        model=str(tiny_folder),
        methods=["majority", "zero-shot"],
        budget="9trials",
        out=tmp_path / "r",
        jobs=5,
    )
    assert any(
        "--jobs 5: 2 trials at a time, as this machine has 2 cores." in text
        for text in study.recommendation.warnings
    )


def test_a_busy_half_minute_ends_no_search_that_keeps_half_of_its_time_for_folds(tmp_path: Path) -> None:
    def is_late(elapsed: float, done: float, kept: float) -> bool:
        told: list[str] = []
        journal: Any = SimpleNamespace(elapsed=elapsed, write=lambda *event, **fields: told.append(event[0]))
        forecaster: Any = SimpleNamespace(seconds=lambda work: work)
        attempts: Any = SimpleNamespace(run=None)
        executor: Any = Here(attempts.run)
        worker = Worker(tmp_path, journal, forecaster, attempts, executor, [], {}, 300.0, {"": kept})
        worker._live["lora-1"] = done
        late = worker.is_late()
        assert told == (["message"] if late else [])
        return late

    assert not is_late(elapsed=39, done=12, kept=155), "most of the search is still to come"
    assert is_late(elapsed=39, done=12, kept=265), "the test needs nearly all of it"
    assert not is_late(elapsed=200, done=190, kept=80)
    assert is_late(elapsed=200, done=80, kept=80), "the test would be as slow"
    assert is_late(elapsed=250, done=250, kept=60)
