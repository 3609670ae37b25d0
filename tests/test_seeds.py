"""Finalists trained with several seeds: what is claimed of them as methods."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import colour_task, in_float32
from tunewise import api
from tunewise.recommend.evidence import Evidence
from tunewise.recommend.reader import read_evidence
from tunewise.recommend.seeds import seeds
from tunewise.study.journal import read_events, repeats_of

pytestmark = pytest.mark.usefixtures("float32")
METHODS = ["majority", "few-shot", "lora", "soft-prompt", "prompt-then-lora"]


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with room for repeats."""
    folder = tmp_path_factory.mktemp("seeds") / "run"
    with in_float32(tmp_path_factory.mktemp("cache")):
        api.compare(colour_task(), model=str(tiny_folder), methods=METHODS, budget="40trials", out=folder)
    return folder


def test_the_two_leading_tuned_methods_are_trained_and_tested_with_three_seeds(run: Path) -> None:
    events = read_events(run / "trials.jsonl")
    repeats = repeats_of(events)
    started = {event["trial"]: event for event in events if event["event"] == "started"}
    repeated = {started[trial]["method"] for trial in repeats}
    assert len(repeats) == 4
    assert len(repeated) == 2
    for trial, first in repeats.items():
        own, other = started[trial], started[first]
        assert own["seed"] in (1, 2)
        assert (own["parameters"], own["start_from"]) == (other["parameters"], other["start_from"])
    tested = [event["trial"] for event in events if event["event"] == "tested"]
    assert set(repeats) <= set(tested)
    assert not (run / "trials").exists()


def test_a_repeat_is_never_handed_over(run: Path) -> None:
    repeats = repeats_of(read_events(run / "trials.jsonl"))
    for path in (run / "candidates").glob("*/candidate.json"):
        described = json.loads(path.read_text())
        assert described["trial"] not in repeats
        assert described["seed"] == 0
    board = (run / "leaderboard.csv").read_text()
    assert not any(f",{trial}," in board for trial in repeats)


def test_the_recommendation_tells_of_seeds_and_counts_them(run: Path) -> None:
    found = api.recommend(run)
    assert all(len(scores) == 3 for scores in found.seeds["scores"].values())
    evidence = read_evidence(run)
    for name, scores in found.seeds["scores"].items():
        assert scores[0] == pytest.approx(evidence.entry(name).score, abs=1e-6)
        assert any(f"Trained with 3 seeds, {name} scores" in reason for reason in found.reasons)
    assert found.to_json()["seeds"] == json.loads((run / "recommendation.json").read_text())["seeds"]
    for one in found.seeds["differences"].values():
        assert one["ci"][0] <= one["value"] <= one["ci"][1]


def test_a_difference_of_methods_is_less_sure_than_one_of_models(run: Path) -> None:
    """Equal methods whose trainings differ by luck: the claim about methods must hold no difference."""
    evidence = read_evidence(run)
    draw = random.Random(0)
    labels = ("w", "c")

    def answers(share: float) -> tuple[str, ...]:
        return tuple(target if draw.random() < share else labels[target == "w"] for target in evidence.targets)

    lucky, others = answers(0.95), (answers(0.6), answers(0.65))
    entries = [
        replace(entry, outputs=lucky) if entry.candidate == "lora" else replace(entry, outputs=answers(0.65))
        for entry in evidence.entries
    ]
    told = seeds(replace(evidence, entries=tuple(entries), repeats={"lora": others}), "lora")
    assert told is not None
    one = told.differences["few-shot"]
    model = replace(evidence, entries=tuple(entries)).difference("lora", "few-shot")
    assert model.low > 0
    assert one.low < 0 < one.high
    changed = replace(evidence, entries=tuple(entries))
    assert np.isclose(one.value, np.mean(told.scores["lora"]) - score_of(changed, "few-shot"))


def test_methods_that_are_always_right_are_not_called_the_same_for_certain(run: Path) -> None:
    evidence = read_evidence(run)
    right = tuple(evidence.targets)
    entries = tuple(replace(entry, outputs=right) for entry in evidence.entries)
    told = seeds(replace(evidence, entries=entries, repeats={"lora": (right, right)}), "lora")
    assert told is not None
    one, model = told.differences["few-shot"], replace(evidence, entries=entries).difference("lora", "few-shot")
    assert one.value == 0
    # As wide as Tango's interval of the models, by Student's distribution.
    assert model.high < one.high == -one.low < 1.2 * model.high


def score_of(evidence: Evidence, name: str) -> float:
    return float(evidence.metric.score(evidence.entry(name).outputs, evidence.targets))


def test_without_repeats_nothing_is_said_of_methods(run: Path) -> None:
    assert seeds(replace(read_evidence(run), repeats={}), "lora") is None


def test_resuming_a_finished_run_with_repeats_changes_nothing(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "run"))
    events = (run / "trials.jsonl").read_bytes()
    found = api.resume(copy).recommendation
    assert replace(found, next_commands=()) == replace(api.recommend(run), next_commands=())
    assert (copy / "trials.jsonl").read_bytes() == events
