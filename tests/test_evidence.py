"""The scripts behind the claims about claims: they run, and their bars bite."""

from __future__ import annotations

import importlib
import itertools
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tunewise.methods import registered
from tunewise.task import Choices, TaskSpec

FOLDER = Path(__file__).parents[1] / "benchmarks" / "evidence"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module(request.param)
    for name in ("bars", "cells", request.param):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("script", ["claims", "intervals", "searching", "curves"], indirect=True)
def test_a_script_measures_what_it_names(script: ModuleType) -> None:
    found = script.measure(quick=True)
    assert len({bar.what for bar in found}) == len(found)
    assert any(bar.wanted for bar in found)
    assert script.bars.table(found).count("\n") == len(found)


@pytest.mark.parametrize("script", ["claims"], indirect=True)
def test_a_rule_without_a_test_would_miss_its_bar(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "announced", lambda *_: ("superior", 0))
    assert not script.equal_finalists(2, 5).holds
    assert script.bars.table([script.equal_finalists(2, 5)]).endswith("MISSED")


@pytest.mark.parametrize("script", ["claims"], indirect=True)
def test_a_planted_gap_has_the_size_and_the_discordance_asked_for(script: ModuleType) -> None:
    rng = script.np.random.default_rng(0)
    first, *others = script.one_better(rng, 3, 200_000)
    for other in others:
        assert first.mean() - other.mean() == pytest.approx(script.GAP, abs=0.004)
        assert (first != other).mean() == pytest.approx(script.DISCORDANCE, abs=0.004)
    one, other = script.equal(rng, 2, 200_000)
    assert one.mean() - other.mean() == pytest.approx(0.0, abs=0.004)
    assert (one != other).mean() == pytest.approx(script.DISCORDANCE, abs=0.004)


@pytest.mark.parametrize("script", ["intervals"], indirect=True)
def test_an_interval_that_is_too_narrow_misses_its_bar(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = script.wilson
    monkeypatch.setattr(script, "wilson", lambda right, rows: whole(right, rows, 0.8))
    assert not any(script.coverage(0.8, rows, 2_000).holds for rows in (30, 100, 300))


@pytest.mark.parametrize("script", ["cells"], indirect=True)
def test_outcomes_are_read_back_and_a_torn_end_is_cut_off(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    cell = script.Cell("trec", 32, 0, 4)
    assert cell.name == "trec-32-0-4"
    assert script.read(cell).facts == {}
    for number in range(3):
        script.append(cell, {"number": number})
    whole = cell.path.read_bytes()
    cell.path.write_bytes(whole[:-5])
    assert [line["number"] for line in script.read(cell).trials] == [1]
    script.append(cell, {"number": 2})
    assert cell.path.read_bytes() == whole


@pytest.mark.parametrize("script", ["cells"], indirect=True)
def test_outputs_are_letters_where_there_are_labels(script: ModuleType) -> None:
    labels = ["yes", "no"]
    assert script.coded(["no", "yes", "perhaps"], labels) == "ba."
    assert script.decoded("ba.", labels) == ["no", "yes", ""]
    assert script.decoded(script.coded(["a b", ""], []), []) == ["a b", ""]


@pytest.mark.parametrize("script", ["cells"], indirect=True)
def test_every_cell_of_the_grid_has_a_name_of_its_own(script: ModuleType) -> None:
    names = [cell.name for cell in script.grid()]
    assert len(names) == len(set(names)) == 18 + 25
    assert names[0] == "trec-128-0"


def outcomes(rng: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell whose truth is known: lora is best at its first rate, the others are worth less."""
    targets = {name: "".join(rng.choice("ab") for _ in range(rows)) for name, rows in SPLITS.items()}
    facts = {
        "labels": ["yes", "no"],
        "metric": "accuracy",
        "targets": targets,
        "rows": {"train": 80, **SPLITS},
        "tokens": dict(prefix=50, suffix=20.0, answer=2.0, nodes=1, turn=24.0, longest=90, median=70),
        "shape": dict(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_size=16, vocabulary=1000),
        "text_tokens": None,
        "rates": {},
    }
    spec = TaskSpec("classification", ("text",), Choices(("yes", "no"), ("yes", "no")), "", "accuracy")
    skills = {"majority": 0.5, "lora": 0.9, "prompt-then-lora": 0.86, "full": 0.8, "soft-prompt": 0.7}
    lines = []
    for name, method in registered().items():
        space = method.search_space(spec, None, 80)
        for place, values in enumerate(itertools.product(*space.values())):
            skill = skills.get(name, 0.6) - 0.05 * place

            def answers(split: str, skill: float = skill) -> str:
                return "".join(t if rng.random() < skill else "ba"[t == "b"] for t in targets[split])

            tuned = (method.work or "").startswith("train")
            steps = [10 * check for check in range(1, 7)] if tuned else [0]
            checks = [
                {
                    "step": step,
                    "value": skill * (0.7 + step / 200),
                    "log_loss": 2 - skill,
                    "work": {"score": 2e8 + 5e7 * step},
                }
                for step in steps
            ]
            line = {"method": name, "parameters": dict(zip(space, values, strict=True)), "seed": 0, "shots": 0}
            line |= {
                "step": steps[-1],
                "value": checks[-1]["value"],
                "log_loss": 2 - skill,
                "work": checks[-1]["work"],
                "checks": checks,
            }
            line |= {"asks_a_model": method.work is not None, "trainable_parameters": 100 if tuned else 0}
            lines.append(line | {"test": answers("test"), "evaluation": answers("evaluation")})
    return facts, lines


SPLITS = {"validation": 20, "test": 300, "evaluation": 1000}


@pytest.fixture
def case(script: ModuleType) -> Any:
    facts, lines = outcomes(random.Random(0))
    return script.Case.of(script.Cell("trec", 128, 0), script.Outcomes(facts, lines))


@pytest.mark.parametrize("script", ["replay"], indirect=True)
def test_a_race_over_kept_outcomes_finds_the_best_within_its_budget(script: ModuleType, case: Any) -> None:
    whole = script.raced(case, 1.5)
    assert whole.pick["method"] == script.full_run(case)["method"] == "lora"
    assert whole.excess == pytest.approx(0.0, abs=0.02)
    for share in (0.2, 1 / 3, 0.5):
        found = script.raced(case, share)
        assert found.work <= share
        assert -0.1 <= found.excess <= 0.5
    assert script.habit(case, "always full") > 0.05
    assert abs(script.oracle_regret(case, script.full_run(case))) < 0.03


@pytest.mark.parametrize("script", ["replay"], indirect=True)
def test_a_setting_that_was_never_tried_is_no_failure_of_the_policy(script: ModuleType, case: Any) -> None:
    lines = [line for line in case.all_lines if line["method"] != "lora"]
    with pytest.raises(SystemExit, match="the grid holds no lora"):
        script.raced(replace(case, lines=lines, all_lines=lines), 1.0)


@pytest.mark.parametrize("script", ["replay"], indirect=True)
def test_a_race_in_drawn_folds_stays_within_its_work_and_finds_the_best(script: ModuleType, case: Any) -> None:
    full = script.in_folds(case, lambda drawn, whole: (*drawn.full(), 0))
    assert 0 <= full.below < 0.02
    for share in (0.2, 1 / 3, 0.5, 2.0):
        found = script.in_folds(case, lambda drawn, whole, share=share: drawn.raced(share * whole))
        assert 0 < found.work <= share
    assert found.excess == pytest.approx(0.0, abs=0.02)
    picks = {drawn.raced(drawn.full()[1])[0]["method"] for drawn in script.Drawn.of(case, 5)}
    assert picks == {"lora"}


@pytest.mark.parametrize("script", ["replay"], indirect=True)
def test_folds_are_drawn_from_rows_that_then_score_nothing(script: ModuleType, case: Any) -> None:
    (drawn,) = script.Drawn.of(case, 1)
    (again,) = script.Drawn.of(case, 1)
    assert drawn.pooled == again.pooled
    rows = SPLITS["evaluation"]
    chose = 80 + SPLITS["validation"]
    for line, pooled, unseen in zip(drawn.case.lines, drawn.pooled, drawn.unseen, strict=True):
        right = sum(a == b for a, b in zip(line["evaluation"], case.facts["targets"]["evaluation"], strict=True))
        assert chose * pooled + (rows - chose) * unseen == pytest.approx(right)
    sizes = {chose // script.CHOOSING: drawn.screened, SPLITS["validation"]: drawn.split, chose: drawn.pooled}
    for size, scores in sizes.items():
        assert all(size * score == pytest.approx(round(size * score)) for score in scores)
