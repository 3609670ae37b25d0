"""Trials side by side in processes of their own: the same decisions, one writer, and what one that dies does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import colour_task
from tunewise import api
from tunewise.errors import SettingError
from tunewise.methods import get
from tunewise.study import executors
from tunewise.study.executors import Needs, Processes, packed, unpacked
from tunewise.study.journal import read_events
from tunewise.study.policy import Outcome, Proposal

pytestmark = pytest.mark.usefixtures("float32")
METHODS = ["majority", "zero-shot", "few-shot", "soft-prompt", "lora", "prompt-then-lora"]


def events_of(folder: Path) -> list[dict[str, Any]]:
    return read_events(folder / "trials.jsonl")


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWISE_DTYPE", "float32")
        patch.setenv("TUNEWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
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


def test_a_budget_in_operations_is_spent_alike(tiny_folder: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        api.compare(colour_task(), model=str(tiny_folder), methods=METHODS, budget="9e9flop", out=out, jobs=jobs)
    assert outcomes(tmp_path / "1") == outcomes(tmp_path / "2")


SIDE_BY_SIDE = """
import sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.study import test_executors
from tests.tiny import colour_task
from tunewise import api
from tunewise.study import executors
executors._cores = lambda: 2
folder = Path({folder!r})
if folder.exists():
    api.resume(folder)
else:
    settings = dict(methods=test_executors.METHODS, budget="30trials", jobs=2)
    api.compare(colour_task(), model={model!r}, out=folder, **settings)
"""


def test_killed_while_two_run_and_resumed_it_ends_the_same(alone: Path, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    script = textwrap.dedent(
        SIDE_BY_SIDE.format(root=str(Path(__file__).parents[2]), folder=str(folder), model=str(tiny_folder))
    )
    for event, count in (("started", 5), ("paused", 1), ("reported", 30)):
        process = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until and process.poll() is None:
                path = folder / "trials.jsonl"
                if path.exists() and sum(e["event"] == event for e in events_of(folder)) >= count:
                    break
                time.sleep(0.002)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
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
    submit = Processes.submit

    def submitting(self: Processes, proposal: Proposal, recorded: Any, needs: Needs) -> None:
        submit(self, proposal, recorded, needs)
        if proposal.method.name == "zero-shot":
            process = self._busy[proposal.trial][0]._process
            killed.append(process.pid)
            process.kill()

    monkeypatch.setattr(Processes, "submit", submitting)
    study = api.compare(
        colour_task(),
        model=str(tiny_folder),
        methods=["majority", "zero-shot", "few-shot"],
        budget="30trials",
        out=tmp_path / "run",
        jobs=2,
    )
    assert len(killed) == 1
    board = {line["candidate"]: line["status"] for line in study.leaderboard}
    assert board == {"majority": "finished", "few-shot": "finished", "zero-shot": "failed"}
    assert any("its process ended by signal 9" in text for text in study.recommendation.warnings)


def test_memory_and_gpus_limit_what_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MEMORY", "2GB")
    pool = Processes(tmp_path, jobs=3)
    assert pool.has_room(Needs(5_000)), "the first runs whatever it takes"
    pool._busy = {"lora-1": (None, Needs(1_500))}  # type: ignore[dict-item]
    assert pool.has_room(Needs(400))
    assert not pool.has_room(Needs(600))
    pool._busy = {"lora-1": (None, Needs(100, gpu=True))}  # type: ignore[dict-item]
    assert not pool.has_room(Needs(100, gpu=True))
    assert pool.has_room(Needs(100))
    pool._busy = {f"lora-{n}": (None, Needs()) for n in range(3)}  # type: ignore[misc]
    assert not pool.has_room(Needs())


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
    assert any("--jobs 5: 2 trials at a time" in text for text in study.recommendation.warnings)
