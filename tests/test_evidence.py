"""The scripts behind the claims about claims: they run, and their bars bite."""

from __future__ import annotations

import importlib
import itertools
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tunewise.methods import registered
from tunewise.statistics.comparing import rate_difference
from tunewise.study.proposals import Proposal
from tunewise.task import Choices, TaskSpec

FOLDER = Path(__file__).parents[1] / "benchmarks" / "evidence"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module(request.param)
    for name in ("bars", "cells", "outcomes", "choosers", "replay", "sets", "passes", request.param):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    "script", ["claims", "bounds", "grouped", "intervals", "searching", "curves"], indirect=True
)
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


@pytest.mark.parametrize("script", ["bounds"], indirect=True)
def test_what_is_drawn_for_a_bound_is_behind_by_as_much_as_is_said(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    differences = []

    def difference(metric: Any, a: Any, b: Any, targets: Any, **_: Any) -> Any:
        differences.append(metric.score(a, targets) - metric.score(b, targets))
        return rate_difference(0, 0, 1)

    monkeypatch.setattr(script, "paired_difference", difference)
    rng = script.np.random.default_rng(0)
    for larger in (0.5, 0.85):
        script.of_two_classes(200_000, larger, 0.9, 0.1, script.MARGIN)(rng)
        assert differences[-1] == pytest.approx(script.MARGIN, abs=0.003)


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


def outcomes(rng: random.Random, train: int = 80) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A cell whose truth is known: lora is best at its first rate, the others are worth less."""
    targets = {name: "".join(rng.choice("ab") for _ in range(rows)) for name, rows in SPLITS.items()}
    facts = {
        "labels": ["yes", "no"],
        "metric": "accuracy",
        "targets": targets,
        "rows": {"train": train, **SPLITS},
        "tokens": dict(prefix=50, suffix=20.0, answer=2.0, nodes=1, turn=24.0, longest=90, median=70),
        "shape": dict(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_size=16, vocabulary=1000),
        "text_tokens": None,
        "rates": {},
    }
    spec = TaskSpec("classification", ("text",), Choices(("yes", "no"), ("yes", "no")), "", "accuracy")
    skills = {"majority": 0.5, "lora": 0.9, "prompt-then-lora": 0.86, "full": 0.8, "soft-prompt": 0.7}
    lines = []
    for name, method in registered().items():
        space = method.search_space(spec, None, train)
        for place, values in enumerate(itertools.product(*space.values())):
            skill = skills.get(name, 0.6) - 0.05 * place

            def answers(split: str, rng: random.Random = rng, skill: float = skill) -> str:
                return "".join(t if rng.random() < skill else "ba"[t == "b"] for t in targets[split])

            tuned = (method.work or "").startswith("train")
            steps = [10 * check for check in range(1, 7)] if tuned else [0]
            checks = [
                {
                    "step": step,
                    "value": skill * (0.7 + step / 200),
                    "log_loss": 2 - skill,
                    "work": {"score": 2e8 + 5e7 * step},
                    "outputs": answers("validation", random.Random(f"{targets} {name} {place} {step}")),
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
    kept = script.cells.Outcomes(facts, lines)
    return script.Case.of(script.Cell("trec", 128, 0), kept, script.lost_by_cutting([kept]))


outcomes_of_a_grid = pytest.mark.parametrize("script", ["outcomes"], indirect=True)


@pytest.fixture
def choosers(script: ModuleType) -> ModuleType:
    return importlib.import_module("choosers")


@pytest.fixture
def replay(script: ModuleType) -> ModuleType:
    return importlib.import_module("replay")


@outcomes_of_a_grid
def test_a_race_over_kept_outcomes_finds_the_best_within_its_budget(
    case: Any, choosers: ModuleType, replay: ModuleType
) -> None:
    own = [choosers.on_own_rows(case)]
    whole = replay.judged(own, replay.study(1.5))
    assert own[0].raced(1.5 * case.full_work).line["method"] == own[0].full.line["method"] == "lora"
    assert whole.excess == pytest.approx(0.0, abs=0.02)
    assert abs(whole.below) < 0.03
    for share in (0.2, 1 / 3, 0.5):
        found = replay.judged(own, replay.study(share))
        assert found.work <= share
        assert -0.1 <= found.excess <= 0.5
    assert replay.judged(own, replay.always("full")).excess > 0.05


@outcomes_of_a_grid
def test_a_setting_that_was_never_tried_is_no_failure_of_the_policy(case: Any, choosers: ModuleType) -> None:
    lines = [line for line in case.all_lines if line["method"] != "lora"]
    own = choosers.on_own_rows(case)
    with pytest.raises(SystemExit, match="the grid holds no lora"):
        replace(own, case=replace(case, lines=lines, all_lines=lines)).raced(case.full_work)


@outcomes_of_a_grid
def test_a_trial_cut_short_is_worth_less_by_what_its_method_loses(
    script: ModuleType, case: Any, choosers: ModuleType
) -> None:
    (lora, *_) = (line for line in case.lines if line["method"] == "lora")
    parameters = {**lora["parameters"], "epochs": 2}
    runner = script.Replayed(case)
    told = runner.run(Proposal("lora-1", registered()["lora"], parameters, "full run"))
    cut = runner.ended["lora-1"]
    assert runner.cut == 1
    assert told.value == cut["value"] < lora["value"]
    lost = statistics.fmean(
        line["value"] - line["checks"][1]["value"] for line in case.lines if line["method"] == "lora"
    )
    assert lost > 0
    assert cut["lost"] == pytest.approx(lost)
    unseen = choosers.on_own_rows(case).unseen
    assert unseen.score(lora) - unseen.score(cut) == pytest.approx(lost)
    assert unseen.below_best(cut) - unseen.below_best(lora) == pytest.approx(lost)
    on_the_way = [check["value"] for check in case.with_values([0.8] * len(case.lines)).lines[0]["checks"]]
    assert on_the_way[-1] == 0.8


@outcomes_of_a_grid
def test_a_study_in_drawn_folds_stays_within_its_work_and_finds_the_best(
    case: Any, choosers: ModuleType, replay: ModuleType
) -> None:
    draws = list(choosers.drawn(case, 40))
    full = replay.judged(draws, lambda chooser: chooser.full)
    assert full.excess == 0
    assert -0.02 < full.below < 0.02
    for share in (0.2, 1 / 3, 0.5, 2.0):
        found = replay.judged(draws, replay.study(share))
        assert 0 < found.work <= share
    assert found.excess == pytest.approx(0.0, abs=0.02)
    assert {chooser.raced(chooser.full.work).line["method"] for chooser in draws[:5]} == {"lora"}


@outcomes_of_a_grid
def test_every_fold_and_what_is_handed_over_may_be_another_training(
    script: ModuleType, choosers: ModuleType
) -> None:
    kept = [script.cells.Outcomes(*outcomes(random.Random(draw))) for draw in range(3)]
    cases = [script.Case.of(script.Cell("trec", 128, draw), one) for draw, one in enumerate(kept)]
    for case, right in zip(cases, ("lora", "full", "soft-prompt"), strict=True):
        for line in case.lines:
            if line["method"] == right:
                line["evaluation"] = case.facts["targets"]["evaluation"]
    first, second, third = cases
    (one, *_) = choosers.across(first, second, third, 2)
    by_method = {line["method"]: line for line in reversed(one.case.lines)}
    assert by_method["lora"]["value"] == 1 > by_method["full"]["value"], "the first draw screens"
    assert one.values[by_method["full"]["number"]] > 0.9, "the second answers two folds of three"
    assert one.values[by_method["lora"]["number"]] < 1
    assert one.unseen.score(by_method["soft-prompt"]) == 1 > one.unseen.score(by_method["full"])
    short = script.Case.of(script.Cell("sms-spam", 128, 0), kept[0])
    anew, once = choosers.as_in_a_study([*cases, short], 2)
    assert [some[0].case.cell for some in (*anew, *once)] == [case.cell for case in (*cases, short)]
    assert [len(some) for some in (*anew, *once)] == [4, 4, 4, 2], "two orders of the other draws"


@outcomes_of_a_grid
def test_trials_are_held_against_the_best_prompt_pass_by_pass(script: ModuleType, case: Any) -> None:
    passes = importlib.import_module("passes")
    best = max(line["value"] for line in case.lines if line["method"] in ("zero-shot", "few-shot"))
    (lora, *_) = (line for line in case.lines if line["method"] == "lora")
    steps = -(-case.facts["rows"]["train"] // lora["parameters"]["batch_size"])
    found = passes.ahead(case)
    assert max(step for _, step, _ in found) == 16, "the soft prompt's"
    for (method, count, whole), value in found.items():
        if method == "lora":
            reached = [check["value"] for check in lora["checks"] if check["step"] <= count * steps]
            assert value == pytest.approx(reached[-1] - best)
            assert whole == 6
    assert found["lora", 6, 6] > found["lora", 3, 6] > found["lora", 1, 6]
    assert "  lora                3 of  6 passes" in passes.table([found])


@outcomes_of_a_grid
def test_a_training_made_again_is_scored_where_the_first_ended_and_where_it_was_best(
    script: ModuleType, case: Any
) -> None:
    passes = importlib.import_module("passes")
    right = case.facts["targets"]["validation"]
    first, second = (
        case.with_lines([line for line in case.lines if line["method"] in ("zero-shot", "lora")][-2:])
        for _ in range(2)
    )
    for line in (*first.lines, *second.lines):
        for place, check in enumerate(line["checks"]):
            check["value"] = 1.0 if place == 0 else 0.5
            check["outputs"] = "." * len(right) if place == 0 else right
    group = passes.alike([first, replace(second, cell=script.Cell("trec", 128, 1))], [])
    (pair,) = group
    assert list(passes.made_again(pair)) == [("lora", 1.0)] * 2 * sum(
        line["method"] == "lora" for line in first.lines
    )
    assert "lora              100.0" in passes.again_table([pair])


@outcomes_of_a_grid
def test_fixed_sets_of_trials_are_judged_on_tasks_that_did_not_choose_them(
    script: ModuleType, case: Any, choosers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = importlib.import_module("sets")
    monkeypatch.setattr(sets, "DRAWS", 3)
    monkeypatch.setattr(sets, "MOST", 2)
    found = [replace(case, cell=script.Cell(task, 128, 0)) for task in ("trec", "sms-spam")]
    lost = sets.fitting(found, 0.5)
    assert ("lora", 1e-3) in sets.best(lost)[0]
    assert lost[(("soft-prompt", 1e-2),)][found[0].cell] > 0.1
    assert set(dict(sets.carried_over(lost))) == {one.cell for one in found}
    assert not sets.fitting(found, 0.01)
    one, other = (("a", 1.0),), (("b", 1.0),)
    told = {one: {found[0].cell: 0.0, found[1].cell: 0.9}, other: {found[0].cell: 0.5, found[1].cell: 0.1}}
    assert dict(sets.carried_over(told)) == {found[0].cell: 0.5, found[1].cell: 0.9}


@outcomes_of_a_grid
def test_a_cell_in_folds_is_chosen_on_the_answers_to_all_of_them(
    script: ModuleType, choosers: ModuleType, replay: ModuleType
) -> None:
    kept = [script.cells.Outcomes(*outcomes(random.Random(fold), 26)) for fold in range(script.cells.FOLDS)]
    for line in kept[0].trials:  # a check before the last is the best of the first fold
        if len(line["checks"]) > 1:
            line["checks"][2]["value"] = 0.99
    cases = [script.Case.of(script.Cell("trec", 32, 0, fold), one) for fold, one in enumerate(kept)]
    chooser = choosers.in_fifths(cases)
    assert (chooser.folds, chooser.most) == (5, choosers.FINALISTS)
    for line, value in zip(chooser.case.lines, chooser.values, strict=True):
        # A training ends at its last check; of anything else the first fold chose the check.
        values = [check["value"] for check in line["checks"]]
        place = len(values) - 1 if "learning_rate" in line["parameters"] else values.index(max(values))
        pairs = [
            pair
            for case in cases[1:]
            for pair in zip(
                case.lines[line["number"]]["checks"][place]["outputs"],
                case.facts["targets"]["validation"],
                strict=True,
            )
        ]
        assert value == pytest.approx(sum(a == b for a, b in pairs) / (4 * SPLITS["validation"]))
    alone = [choosers.on_own_rows(case).unseen for case in cases]
    assert chooser.unseen.score(chooser.case.lines[0]) == pytest.approx(
        statistics.fmean(one.score(case.lines[0]) for one, case in zip(alone, cases, strict=True))
    )
    for half in (0, 1):
        assert chooser.unseen.halves[half][0] == pytest.approx(
            statistics.fmean(one.halves[half][0] for one in alone)
        )
    assert chooser.full.line["method"] == "lora"
    for share in (0.2, 1 / 3, 1.0):
        assert 0 < replay.judged([chooser], replay.study(share)).work <= share
    # Five folds take more of a finalist than three, and no more go on than may.
    lora = chooser.full.line
    assert chooser._price(lora, {}) == pytest.approx(
        choosers.fits_of(5) / choosers.fits_of(3) * replace(chooser, folds=3)._price(lora, {})
    )
    one, all_of_them = replace(chooser, most=1), replace(chooser, most=99)
    assert one.full.work < chooser.full.work < all_of_them.full.work
    # A setting that failed in one of the folds is nobody's.
    (lora, *_) = (line for line in cases[1].lines if line["method"] == "lora")
    cases[1] = cases[1].with_lines([line for line in cases[1].lines if line is not lora])
    fewer = choosers.in_fifths(cases)
    assert len(fewer.values) == len(chooser.values) - 1


@outcomes_of_a_grid
def test_rows_that_choose_score_nothing(case: Any, choosers: ModuleType) -> None:
    ((first,), (again,)) = (list(choosers.drawn(case, 1)) for _ in range(2))
    assert first.values == again.values
    rows, chose = SPLITS["evaluation"], 80 + SPLITS["validation"]
    targets = case.facts["targets"]["evaluation"]
    for line, pooled in zip(case.lines, first.values, strict=True):
        right = sum(a == b for a, b in zip(line["evaluation"], targets, strict=True))
        unseen = first.unseen.score(line)
        assert chose * pooled + (rows - chose) * unseen == pytest.approx(right)
        halves = [half[line["number"]] for half in first.unseen.halves]
        assert sum(halves) / 2 == pytest.approx(unseen, abs=1e-3)
    screened = [line["value"] for line in first.case.lines]
    sizes = {
        chose // choosers.CHOOSING: screened,
        SPLITS["validation"]: first.on_split.values,
        chose: first.values,
    }
    for size, scores in sizes.items():
        assert all(size * score == pytest.approx(round(size * score)) for score in scores)


@outcomes_of_a_grid
def test_ways_are_held_against_one_of_them_cell_by_cell(
    case: Any, choosers: ModuleType, replay: ModuleType
) -> None:
    found = replay.Compared.of([list(choosers.drawn(case, 10))], [0.5], 1 / 3)
    assert found.ours == "study at 33%"
    assert found.behind_ours(found.ours) == (0, 0, 0)
    worse = found.behind_ours("always majority")[0]
    assert worse == pytest.approx(found.below("always majority")[0] - found.below(found.ours)[0])
    assert worse > 0.2
    assert found.best_habit == "always lora"
    assert found.ways["advice alone"] == found.ways["always lora"]
    assert len(list(found.lines(each=True))) == 2 * len(found.ways) + 2
