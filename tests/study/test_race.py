"""The race without a model: what it asks for, what it gives up, and that it stays inside its allowance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise.cost import KINDS, ModelShape
from tunewise.errors import BudgetError
from tunewise.methods import registered
from tunewise.methods.base import FAMILIES
from tunewise.settings import Budget
from tunewise.study.budget import SAVING_SECONDS, TEST_MARGIN, Terms, least_trials, settle
from tunewise.study.folding import Folding, folding_of, going_on
from tunewise.study.forecast import Forecaster, TokenStatistics
from tunewise.study.ladders import LEAST_SHARE, Ladder, fit_in
from tunewise.study.policy import Race
from tunewise.study.proposals import Allowance, Outcome, Proposal
from tunewise.task import Choices, TaskSpec

SPEC = TaskSpec("classification", ("text",), Choices(("a", "b"), ("a", "b")), "Say.", "accuracy")
SHAPE = ModelShape(30, 576, 1536, 9, 3, 64, 49152)
TOKENS = TokenStatistics(prefix=50, suffix=20.0, answer=2.0, nodes=2, turn=25.0, longest=90, median=70.0)
FORECASTER = Forecaster(SHAPE, TOKENS, dict.fromkeys(KINDS, 3e11), 256, 200, 500, None)
METHODS = list(registered().values())


@dataclass
class Pretending:
    """Every trial costs `factor` times its forecast; its log-loss comes from a table of rates."""

    factor: float = 1.0
    losses: dict[float, float] = field(default_factory=dict)
    asked: list[Proposal] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    work: dict[str, float] = field(default_factory=dict)

    def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        return [self.run(proposal) for proposal in proposals]

    def run(self, proposal: Proposal) -> Outcome:
        self.asked.append(proposal)
        work = self.work.get(proposal.trial, 0.0) + self.factor * proposal.forecast_work
        if proposal.work_limit is not None:
            work = min(work, max(proposal.work_limit, self.work.get(proposal.trial, 0.0)))
        self.work[proposal.trial] = work
        loss = self.losses.get(proposal.parameters.get("learning_rate", 0.0), 1.0)
        status = "finished" if proposal.until is None else "paused"
        return Outcome(proposal.trial, status, 1 / (1 + loss), loss, work)

    def prune(self, trial: str, reason: str) -> None:
        self.pruned.append(trial)

    def give_up(self, method: str) -> None:
        self.given_up.append(method)

    def say(self, text: str) -> None:
        self.said.append(text)


def settled(text: str, forecaster: Forecaster = FORECASTER, methods: Sequence[Any] = METHODS) -> Terms:
    trials = least_trials(SPEC, None, methods, forecaster)
    return settle(Budget.parse(text), forecaster, methods, trials)


def go(runner: Pretending, allowance: Allowance) -> Race:
    race = Race(SPEC, None, METHODS, FORECASTER, allowance, runner)
    race.go()
    return race


def test_with_room_every_method_runs_and_the_best_rate_goes_on() -> None:
    runner = Pretending(losses={5e-4: 0.2, 1e-3: 0.5, 2e-3: 0.9})
    go(runner, Allowance(None, None))
    assert {p.method.name for p in runner.asked} == set(registered())
    full_runs = [p for p in runner.asked if p.method.name == "lora" and p.until is None and not p.repeats]
    assert [p.parameters["learning_rate"] for p in full_runs] == [5e-4]
    chain = next(p for p in runner.asked if p.method.name == "prompt-then-lora")
    assert chain.parameters["learning_rate"] == 5e-4
    assert chain.start_from is not None
    assert chain.start_from.startswith("few-shot-")
    assert {"lora-1", "lora-3"} <= set(runner.pruned)


def test_the_two_leading_methods_are_trained_again_and_never_count_as_candidates() -> None:
    runner = Pretending(losses={5e-4: 0.2, 1e-3: 0.5, 2e-3: 0.9})
    race = go(runner, Allowance(None, None))
    again = [proposal for proposal in runner.asked if proposal.repeats]
    assert [proposal.more_seed for proposal in again] == [1, 1, 2, 2]
    for proposal in again:
        first = race.made[proposal.repeats or ""]
        assert (proposal.parameters, proposal.start_from) == (first.parameters, first.start_from)
        assert proposal.until is None
        best = race.best_of(proposal.method.name)
        assert best is not None
        assert best.trial != proposal.trial


def test_what_is_left_over_goes_to_seeds_before_the_next_rate_and_keeps_their_test() -> None:
    tests = {method.name: 1e12 for method in METHODS if method.work}
    for seconds in (300, 600, 1200, 2400):
        runner = Pretending()
        race = go(runner, Allowance(seconds * 3e11, None, tests))
        again = sum(proposal.repeats is not None for proposal in runner.asked)
        most = max(proposal.forecast_work for proposal in runner.asked)
        assert race.spent + 1e12 * again <= seconds * 3e11 + sum(tests.values()) + most


@given(seconds=st.floats(20, 3000), factor=st.floats(0.3, 3.0))
def test_the_allowance_is_kept_whatever_trials_cost(seconds: float, factor: float) -> None:
    allowance = seconds * 3e11
    runner = Pretending(factor)
    race = go(runner, Allowance(allowance, None))
    # One trial may overrun: nothing smaller can be stopped.
    most = max(p.forecast_work for p in runner.asked)
    assert race.spent <= allowance + most + 1e-3 * allowance
    assert race.spent == pytest.approx(sum(runner.work.values()))


@given(trials=st.integers(3, 60))
def test_a_budget_in_trials_is_never_exceeded(trials: int) -> None:
    runner = Pretending()
    go(runner, Allowance(None, trials))
    assert len({p.trial for p in runner.asked}) <= trials


def test_a_small_budget_keeps_lora_and_gives_up_the_chain_first() -> None:
    runner = Pretending()
    go(runner, Allowance(150 * 3e11, None))
    trained = [p.method.name for p in runner.asked if p.method.work and p.method.work.startswith("train")]
    assert "lora" in trained
    left_out = [text.partition(":")[0] for text in runner.said if "left out" in text]
    assert left_out[0] == "prompt-then-lora"
    assert all("the budget" in text for text in runner.said if "left out" in text)
    assert {p.parameters["epochs"] for p in runner.asked if p.method.name == "lora"} == {5}


def test_rates_go_before_methods_and_passes_only_where_none_fits_whole() -> None:
    lora, soft = registered()["lora"], registered()["soft-prompt"]
    ladders = [Ladder(lora, (1e-3, 5e-4, 2e-3), 4, {}, promise=2), Ladder(soft, (2e-2, 1e-2), 8, {})]

    def price(ladder: Ladder) -> float:
        return ladder.epochs + (len(ladder.rates) - 1) * ladder.rung

    def within(limit: float) -> Any:
        return lambda some: sum(map(price, some)) <= limit

    said: list[str] = []

    def cut(limit: float) -> list[tuple[str, int, int]]:
        return [
            (a.method.name, len(a.rates), a.epochs) for a in fit_in(ladders, price, within(limit), said.append)
        ]

    assert cut(100) == [("lora", 3, 4), ("soft-prompt", 2, 8)]
    assert cut(15) == [("lora", 2, 4), ("soft-prompt", 2, 8)]
    assert cut(12) == [("lora", 1, 4), ("soft-prompt", 1, 8)]
    assert not said
    assert cut(11) == [("lora", 3, 4)], "who stays has its rates again"
    assert said == ["soft-prompt: left out, the budget does not hold it beside those that go first."]
    assert cut(5) == [("lora", 2, 4)]
    assert cut(3) == [("lora", 1, 3)]
    assert cut(2) == [("lora", 1, 2)]
    assert said[1:] == ["soft-prompt: left out, the budget does not hold it."] * 3
    assert fit_in(ladders, price, within(3), said.append, shorten=False) == []
    assert cut(1) == [], "less than half of its passes is worth no more than a prompt"
    assert said[-2:] == [f"{name}: left out, the budget does not hold it." for name in ("lora", "soft-prompt")]
    cheap = Ladder(soft, (2e-2,), 2, {})
    assert fit_in([ladders[0], cheap], price, within(3), said.append) == [cheap], "who fits whole goes before"


def test_where_finalists_go_through_folds_what_promises_least_goes_before_a_better_ones_rates() -> None:
    lora, soft = registered()["lora"], registered()["soft-prompt"]
    ladders = [Ladder(lora, (1e-3, 5e-4, 2e-3), 4, {}, promise=2), Ladder(soft, (2e-2, 1e-2), 8, {})]

    def price(ladder: Ladder) -> float:
        return ladder.epochs + (len(ladder.rates) - 1) * ladder.rung

    said: list[str] = []

    def cut(limit: float, ladders: Sequence[Ladder] = ladders) -> list[tuple[str, int]]:
        def fits(some: Sequence[Ladder]) -> bool:
            return sum(map(price, some)) <= limit

        kept = fit_in(ladders, price, fits, said.append, families_first=True)
        return [(ladder.method.name, len(ladder.rates)) for ladder in kept]

    assert cut(16) == [("lora", 3), ("soft-prompt", 2)]
    assert cut(15) == [("lora", 3), ("soft-prompt", 1)]
    assert cut(13) == [("lora", 3)]
    assert cut(5) == [("lora", 2)]
    equals = [replace(ladder, promise=1) for ladder in ladders]
    assert cut(12, equals) == [("lora", 1), ("soft-prompt", 1)], "of equals, each gives up its rates"

    def raced(seconds: float, longest: float) -> set[str]:
        runner = Pretending()
        promise = {"fine-tuning": 2.0, "hybrid": 1.0, "prompt tuning": -0.5}
        allowance = Allowance(seconds * 3e11, None, {}, longest, spends_rest=False)
        Race(SPEC, None, METHODS, FORECASTER, allowance, runner, promise, seeds=()).go()
        return {p.trial for p in runner.asked if (p.method.work or "").startswith("train")}

    plain = {"lora-1", "lora-2", "lora-3", "full-1", "full-2"}
    assert raced(250, longest=1e20) == plain, "the folds are paid from the same budget"
    assert raced(250, longest=math.inf) == {"lora-1", "lora-2", "full-1", "prompt-then-lora-1"}
    assert raced(350, longest=1e20) == {*plain, "prompt-then-lora-1"}


def test_what_promises_most_goes_first_and_what_promises_least_is_given_up_first() -> None:
    def raced(promise: dict[str, float], seconds: float) -> tuple[list[str], list[str]]:
        runner = Pretending()
        Race(SPEC, None, METHODS, FORECASTER, Allowance(seconds * 3e11, None), runner, promise).go()
        trained = [p.method.name for p in runner.asked if (p.method.work or "").startswith("train")]
        return list(dict.fromkeys(trained)), runner.given_up

    small = {"fine-tuning": 2.0, "hybrid": 1.0, "prompt tuning": -0.5}
    assert raced(small, 1e5)[0] == ["lora", "full", "prompt-then-lora", "soft-prompt"]
    trained, given_up = raced(small, 150)
    assert trained == ["lora", "full", "prompt-then-lora", "soft-prompt"][: len(trained)]
    assert given_up == ["soft-prompt", "prompt-then-lora", "full"][: len(given_up)]
    assert given_up
    assert raced({"prompt tuning": 1.0}, 1e5)[0][0] == "soft-prompt"


def test_minutes_become_work_once_and_leave_room_for_the_test() -> None:
    terms = settled("10m")
    assert terms.work_limit == pytest.approx(600 * 3e11)
    assert terms.allowance.work is not None
    assert terms.work_limit is not None
    assert set(terms.tests) == {method.name for method in METHODS if method.work}
    assert terms.allowance.work + sum(terms.tests.values()) < terms.work_limit


def test_the_test_of_a_method_that_is_left_out_is_spent_on_others() -> None:
    tests = {method.name: 1e13 for method in METHODS if method.work}
    poor, rich = Pretending(), Pretending()
    allowed = 1.5e13
    alone = go(poor, Allowance(allowed, None))
    freed = go(rich, Allowance(allowed, None, tests))
    assert alone.spent <= allowed
    assert len(rich.given_up) <= len(poor.given_up)
    assert allowed < freed.spent <= allowed + sum(tests[name] for name in rich.given_up)


def test_a_budget_below_every_baseline_says_what_the_least_takes() -> None:
    with pytest.raises(
        BudgetError, match=r"cannot hold majority and its test.* give --budget (\d+)s or more"
    ) as told:
        settled("3s")
    least = str(told.value).rpartition("--budget ")[2].split()[0]
    assert "majority" not in settled(least).dropped


@pytest.mark.parametrize(
    "names", [["zero-shot"], ["few-shot"], ["lora"], ["full", "lora"], ["zero-shot", "lora"], ["few-shot", "lora"]]
)
@pytest.mark.parametrize("folds", [False, True])
def test_without_baselines_the_least_budget_makes_a_candidate(names: list[str], folds: bool) -> None:
    methods = [method for method in METHODS if method.name in names]
    forecaster = replace(FORECASTER, n_test=0) if folds else FORECASTER
    with pytest.raises(BudgetError, match=r"give --budget (\d+)s or more") as told:
        settled("6s", forecaster, methods)
    least = float(str(told.value).rpartition("--budget ")[2].split("s or")[0])
    for seconds in (least, least + 2, 1.3 * least, 2 * least, 5 * least):
        terms = settled(f"{seconds}s", forecaster, methods)
        runner = Pretending()
        kept = [method for method in methods if method.name not in terms.dropped]
        race = Race(SPEC, None, kept, forecaster, terms.allowance, runner)
        race.go()
        made = {proposal.method.name for proposal in runner.asked}
        assert made
        tests = math.fsum(terms.tests.get(name, 0.0) for name in made)
        assert race.spent + tests <= (terms.work_limit or 0.0) * (1 + 1e-9)


@pytest.mark.parametrize("text", ["2trials", "6s"])
def test_of_the_baselines_a_small_budget_has_those_that_it_holds(text: str) -> None:
    terms = settled(text)
    baselines = {method.name for method in METHODS if method.family == "baseline"}
    assert {"tfidf-logistic", "nearest-example"} & set(terms.dropped)
    assert "majority" in baselines - set(terms.dropped)


@pytest.mark.parametrize(("validation", "test"), [(200, 500), (100, 5_000), (1_000, 100)])
def test_zero_shot_runs_as_soon_as_it_and_its_test_fit_beside_the_baselines(validation: int, test: int) -> None:
    forecaster = replace(FORECASTER, n_validation=validation, n_test=test)
    zero_shot = next(method for method in METHODS if method.name == "zero-shot")
    needed = forecaster.seconds(forecaster.prompt_trial(0) + TEST_MARGIN * forecaster.test(zero_shot))

    def ran(seconds: float) -> tuple[list[str], tuple[str, ...]]:
        terms = settled(f"{math.ceil(seconds)}s", forecaster)
        methods = [method for method in METHODS if method.name not in terms.dropped]
        runner = Pretending()
        Race(SPEC, None, methods, forecaster, terms.allowance, runner).go()
        return [proposal.method.name for proposal in runner.asked], terms.dropped

    seconds_for_the_rest = SAVING_SECONDS + 5
    assert "zero-shot" in ran(needed + seconds_for_the_rest)[0]
    assert "zero-shot" in ran(needed)[1]


def test_with_as_many_trials_as_baselines_zero_shot_is_left_out_before_it_starts() -> None:
    count = sum(method.family == "baseline" for method in METHODS)
    assert "zero-shot" in settled(f"{count}trials").dropped
    assert "zero-shot" not in settled(f"{count + 1}trials").dropped


@pytest.mark.parametrize("trials", range(5, 30))
def test_a_budget_in_trials_has_a_tuned_one_among_them(trials: int) -> None:
    runner = Pretending()
    race = go(runner, Allowance(None, trials))
    stages = [proposal.stage for proposal in runner.asked]
    assert "full run" in stages
    prompts = stages.count("prompt")
    assert prompts <= max(2, 0.2 * (trials - 3))
    assert len(race.outcomes) <= trials


@pytest.mark.parametrize("allowance", [Allowance(None, 12), Allowance(1e14, None)])
def test_without_a_tuned_method_prompts_may_take_what_is_left(allowance: Allowance) -> None:
    runner = Pretending()
    methods = [method for method in METHODS if method.family in ("baseline", "prompt engineering")]
    Race(SPEC, None, methods, FORECASTER, allowance, runner).go()
    assert len([one for one in runner.asked if one.method.name == "few-shot"]) > 3


def test_no_trial_is_kept_for_a_chain_that_needs_the_prompt() -> None:
    runner = Pretending()
    methods = [method for method in METHODS if method.name in ("zero-shot", "few-shot", "prompt-then-lora")]
    Race(SPEC, None, methods, FORECASTER, Allowance(None, 3), runner).go()
    assert [one.method.name for one in runner.asked] == ["zero-shot", "few-shot", "prompt-then-lora"]


def test_where_the_best_at_the_rung_breaks_the_next_best_goes_on() -> None:
    class Breaking(Pretending):
        def run_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
            asked = super().run_all(proposals)
            return [
                replace(one, status="failed") if one.trial == "lora-1" and proposal.until is None else one
                for proposal, one in zip(proposals, asked, strict=True)
            ]

    runner = Breaking()
    race = go(runner, Allowance(1e18, None))
    best = race.best_of("lora")
    assert best is not None
    assert best.trial != "lora-1"


def test_forecasts_grow_with_what_is_done() -> None:
    assert FORECASTER.evaluation(400) > FORECASTER.evaluation(200) > 0
    assert FORECASTER.evaluation(200, 8) > FORECASTER.evaluation(200)
    lora, full = (FORECASTER.epoch(kind, 16) for kind in ("train-lora", "train-full"))
    assert full > lora > 0
    text = replace(FORECASTER, text_tokens=64)
    assert text.evaluation(200) > FORECASTER.evaluation(200)
    assert text.request(0, tuned=True) < text.request(0)
    assert FORECASTER.request(0, tuned=True) == FORECASTER.request(0)
    memory = [
        FORECASTER.memory_mb(kind, 16, 134_515_008, 2) for kind in (None, "score", "train-lora", "train-full")
    ]
    assert memory == sorted(memory)


@given(seconds=st.floats(60, 3000), share=st.floats(0.01, 0.3))
def test_no_trial_is_asked_for_more_than_can_be_done_again(seconds: float, share: float) -> None:
    allowance = Allowance(seconds * 3e11, None, longest=share * seconds * 3e11, spends_rest=False)
    runner = Pretending()
    race = Race(SPEC, None, METHODS, FORECASTER, allowance, runner, seeds=())
    race.go()
    whole: dict[str, float] = {}
    for proposal in runner.asked:
        assert not proposal.repeats
        assert proposal.stage != "next rate"
        whole[proposal.trial] = whole.get(proposal.trial, 0.0) + proposal.forecast_work
        if proposal.method.work is not None:
            assert proposal.work_limit is not None
            assert proposal.work_limit <= allowance.longest * (1 + 1e-9)
            assert whole[proposal.trial] <= allowance.longest * (1 + 1e-9)
    asked = {proposal.method.name for proposal in runner.asked}
    assert asked.isdisjoint(runner.given_up)
    assert asked | set(runner.given_up) >= {
        method.name for method in METHODS if (method.work or "").startswith("train")
    }


def test_a_method_too_dear_to_be_done_again_shortens_no_other() -> None:
    def passes(names: set[str], longest: float) -> dict[str, int]:
        runner = Pretending()
        methods = [method for method in METHODS if method.name in names]
        Race(SPEC, None, methods, FORECASTER, Allowance(1e15, None, longest=longest), runner, seeds=()).go()
        return {p.method.name: p.parameters["epochs"] for p in runner.asked if "epochs" in p.parameters}

    every = {"majority", "lora", "soft-prompt", "full"}
    whole = passes(every, 1e15)
    assert passes(every, 2.6e13) == {name: whole[name] for name in ("lora", "full")}
    assert passes(every, 5e13) == whole
    assert 0 < passes({"majority", "soft-prompt"}, 2.6e13)["soft-prompt"] < whole["soft-prompt"]


def test_where_no_method_can_be_done_again_the_most_promising_is_shortened() -> None:
    def trained(longest: float, promise: dict[str, float], names: set[str]) -> dict[str, int]:
        runner = Pretending()
        methods = [method for method in METHODS if method.name in names]
        allowance = Allowance(1e15, None, longest=longest)
        Race(SPEC, None, methods, FORECASTER, allowance, runner, promise, seeds=()).go()
        assert len(set(runner.given_up)) == len(runner.given_up)
        return {p.method.name: p.parameters["epochs"] for p in runner.asked if "epochs" in p.parameters}

    every = {method.name for method in METHODS}
    assert trained(1.2e13, {"fine-tuning": 1.0}, every) == {"lora": 3}
    # All weights take less than LoRA: where they fit whole and it does not, nothing has to be shortened.
    assert trained(1.75e13, {"fine-tuning": 1.0}, every) == {"full": 3}
    assert trained(1.2e13, {"hybrid": 1.0}, {"majority", "few-shot", "lora", "prompt-then-lora"}) == {"lora": 3}


LONG = replace(FORECASTER, n_validation=100, tokens=replace(TOKENS, prefix=300, longest=340, median=320.0))
"""A chain has one pass less than its plain method, and behind so long a prompt it is the cheaper one."""


@pytest.mark.parametrize("longest", [105 * 3e11, math.inf])
def test_a_chain_that_is_cheaper_than_its_plain_method_takes_not_its_place(longest: float) -> None:
    methods = [method for method in METHODS if method.name in {"majority", "few-shot", "lora", "prompt-then-lora"}]
    fewest = 0
    lora = registered()["lora"]
    least = 3 * LONG.epoch(lora.work, 16) + LONG.weigh("overhead", LONG.overhead(lora.work))
    for seconds in range(40, 400, 3):
        runner = Pretending()
        allowance = Allowance(seconds * 3e11, None, longest=longest, spends_rest=False)
        Race(SPEC, None, methods, LONG, allowance, runner, {"fine-tuning": 2, "hybrid": 1}, seeds=()).go()
        trained = [p.method.name for p in runner.asked if "epochs" in p.parameters]
        fewest = fewest or len(trained)
        spent = sum(work for trial, work in runner.work.items() if trial.startswith(("majority", "few-shot")))
        if trained and least <= min(seconds * 3e11 - spent, longest):
            assert trained[0] == "lora"
        start = next((p.trial for p in runner.asked if p.start_from), "")
        if longest < math.inf and start:
            made = next(p for p in runner.asked if p.trial == start)
            assert made.work_limit is not None
            begun = runner.work[made.start_from or ""]
            assert made.work_limit + begun <= longest * (1 + 1e-9)
    assert fewest == 1


def test_where_no_plain_method_fits_by_half_a_chain_may() -> None:
    methods = [one for one in METHODS if one.name in {"majority", "few-shot", "lora", "prompt-then-lora"}]
    trained = []
    for seconds in range(30, 90, 3):
        runner = Pretending()
        allowance = Allowance(seconds * 3e11, None, spends_rest=False)
        Race(SPEC, None, methods, LONG, allowance, runner, {"fine-tuning": 2, "hybrid": 1}, seeds=()).go()
        trained.append([(p.method.name, p.parameters["epochs"]) for p in runner.asked if "epochs" in p.parameters])
    first = next(one for one in trained if one)
    assert first == [("prompt-then-lora", 2)]
    assert all(trained[trained.index(first) :]), "more budget never leaves a study without a tuned trial"


def test_a_chain_may_start_from_a_tuned_method_whose_turn_is_to_come() -> None:
    class Twice(registered()["prompt-then-lora"]):  # type: ignore[misc]
        name = "lora-then-lora"
        starts_from = "lora"
        order = -1

    runner = Pretending(losses={5e-4: 0.2, 1e-3: 0.5, 2e-3: 0.9})
    methods = [Twice, *(method for method in METHODS if method.name in {"majority", "lora"})]
    Race(SPEC, None, methods, FORECASTER, Allowance(None, None), runner, {"hybrid": 2.0}, seeds=()).go()
    assert [p.start_from for p in runner.asked if p.method is Twice] == ["lora-2"]
    assert runner.given_up == []
    poor = Pretending()
    Race(SPEC, None, methods, FORECASTER, Allowance(20 * 3e11, None), poor, {"hybrid": 2.0}, seeds=()).go()
    assert set(poor.given_up) == {"lora", "lora-then-lora"}


def test_a_chain_goes_with_the_method_that_it_would_start_from() -> None:
    class SoftThenLora(registered()["prompt-then-lora"]):  # type: ignore[misc]
        name = "soft-then-lora"
        starts_from = "soft-prompt"

    methods = [SoftThenLora, *(one for one in METHODS if one.name in {"majority", "soft-prompt", "full"})]
    for seconds in range(62, 110, 4):  # the soft prompt fits neither whole nor by half
        runner = Pretending()
        allowance = Allowance(seconds * 3e11, None, spends_rest=False)
        promise = {"hybrid": 1.0, "fine-tuning": 0.5}
        few = replace(FORECASTER, n_train=300)
        Race(SPEC, None, methods, few, allowance, runner, promise, seeds=()).go()
        assert {p.method.name for p in runner.asked if "epochs" in p.parameters} <= {"full", "soft-prompt"}
        if "soft-prompt" in runner.given_up:
            left_out = [text for text in runner.said if text.startswith("soft-then-lora")]
            assert left_out == ["soft-then-lora: left out with soft-prompt, which it would start from."]
            assert "full" not in runner.given_up


def test_half_of_the_passes_are_kept_however_often_a_trial_is_shortened() -> None:
    methods = [method for method in METHODS if method.name in {"majority", "lora"}]
    few = replace(FORECASTER, n_train=100, n_validation=46)
    lora = registered()["lora"]
    whole = lora.search_space(SPEC, None, 100)["epochs"][0]
    epoch, overhead = few.epoch("train-lora", 8), few.weigh("overhead", few.overhead("train-lora"))
    for passes in range(1, whole):
        longest = (passes + 0.5) * epoch + overhead
        for share in (1.0, 0.9, 0.8, 0.7, 0.6):  # the folds shorten it, then the budget does
            runner = Pretending()
            allowance = Allowance(share * longest + 3e11, None, longest=longest, spends_rest=False)
            Race(SPEC, None, methods, few, allowance, runner, seeds=()).go()
            trained = [p.parameters["epochs"] for p in runner.asked if "epochs" in p.parameters]
            assert all(math.ceil(LEAST_SHARE * whole) <= one <= passes for one in trained)
            assert (
                trained
                or share * longest + 3e11 < math.ceil(LEAST_SHARE * whole) * epoch + overhead + 6e11
                or (passes < math.ceil(LEAST_SHARE * whole))
            )


def test_the_first_finalist_may_take_what_is_kept_for_low_forecasts() -> None:
    prices = {"lora": 10.5, "full": 4.0, "few-shot": 1.0}
    assert going_on(prices, 10.0, 4) == (["full", "few-shot"], ["lora"])
    assert going_on(prices, 10.0, 4, reserve=0.7) == (["lora"], ["full", "few-shot"])
    assert going_on(prices, 10.0, 4, reserve=0.4) == (["full", "few-shot"], ["lora"])
    assert going_on(prices, 3.8, 4, reserve=0.7) == (["full"], ["lora", "few-shot"])
    assert going_on(prices, 20.0, 1, reserve=0.7) == (["lora"], [])


def test_what_no_trial_of_a_method_came_of_leaves_its_test_to_others() -> None:
    @dataclass
    class Failing(Pretending):
        def run(self, proposal: Proposal) -> Outcome:
            outcome = super().run(proposal)
            broken = proposal.method.name == "few-shot"
            return replace(outcome, status="failed", value=None, log_loss=None) if broken else outcome

    methods = [method for method in METHODS if method.name in {"majority", "few-shot", "full"}]
    for runner, passes in ((Pretending(), 2), (Failing(), 3)):
        allowance = Allowance(62 * 3e11, None, {"few-shot": 30 * 3e11})
        Race(SPEC, None, methods, FORECASTER, allowance, runner, seeds=()).go()
        assert "few-shot" in {p.method.name for p in runner.asked}
        assert {p.parameters["epochs"] for p in runner.asked if p.method.name == "full"} == {passes}
        assert ("few-shot" in runner.given_up) == isinstance(runner, Failing), "the clock frees its test as well"


def test_prompts_that_do_not_fit_are_left_out_with_their_test() -> None:
    methods = [method for method in METHODS if method.name in {"majority", "few-shot"}]
    runner = Pretending()
    race = Race(SPEC, None, methods, FORECASTER, Allowance(2e12, None, {"few-shot": 1e13}), runner, seeds=())
    race.go()
    assert runner.given_up == ["few-shot"]
    assert runner.said == ["few-shot: left out, the budget does not hold it."]


def test_a_prompt_that_does_not_fit_keeps_no_shorter_one_out() -> None:
    methods = [method for method in METHODS if method.name in {"majority", "few-shot"}]
    few_shot = registered()["few-shot"]
    long, short = few_shot.search_space(SPEC, None, FORECASTER.n_train)["shots"]
    works = [FORECASTER.fit(few_shot, {"shots": shots}, shots) for shots in (short, long)]
    assert works[0] < works[1]
    between = sum(works) / 2
    first = FORECASTER.fit(registered()["majority"], {})
    for allowance in (Allowance(1e15, None, longest=between), Allowance(first + between, None)):
        runner = Pretending()
        Race(SPEC, None, methods, FORECASTER, allowance, runner, seeds=()).go()
        asked = [one.parameters["shots"] for one in runner.asked if one.method.name == "few-shot"]
        assert asked == [short] * (2 if allowance.longest < math.inf else 1)
        assert runner.given_up == []
        assert runner.said == [f"few-shot: {len(asked)} of its 4 prompts, the budget holds no more."]


def test_a_chain_without_a_prompt_to_start_from_takes_no_others_place() -> None:
    runner = Pretending()
    methods = [method for method in METHODS if method.name in {"majority", "lora", "prompt-then-lora"}]
    Race(SPEC, None, methods, FORECASTER, Allowance(4e13, None), runner, {"hybrid": 1.0}, seeds=()).go()
    assert "lora" in {proposal.method.name for proposal in runner.asked}
    assert runner.given_up == ["prompt-then-lora"]
    assert "prompt-then-lora: left out, there is no finished few-shot to start from." in runner.said


def test_a_chain_follows_the_plain_method_at_whose_rate_it_goes() -> None:
    runner = Pretending(losses={5e-4: 0.2, 1e-3: 0.5, 2e-3: 0.9})
    Race(SPEC, None, METHODS, FORECASTER, Allowance(None, None), runner, {"hybrid": 2.0}).go()
    trained = list(dict.fromkeys(p.method.name for p in runner.asked if (p.method.work or "").startswith("train")))
    assert trained.index("lora") < trained.index("prompt-then-lora")
    assert {p.parameters["learning_rate"] for p in runner.asked if p.method.name == "prompt-then-lora"} == {5e-4}


def test_a_chain_promises_no_more_than_its_plain_method() -> None:
    runner = Pretending()
    promise = {"hybrid": 2.0, "fine-tuning": 0.5, "prompt tuning": 1.0}
    Race(SPEC, None, METHODS, FORECASTER, Allowance(None, None), runner, promise).go()
    trained = list(dict.fromkeys(p.method.name for p in runner.asked if (p.method.work or "").startswith("train")))
    assert trained == ["soft-prompt", "lora", "full", "prompt-then-lora"]


def test_a_chain_without_its_start_takes_no_room_in_the_folds() -> None:
    def work(names: set[str]) -> Folding:
        methods = [method for method in METHODS if method.name in names]
        return folding_of(SPEC, None, methods, FORECASTER, 5, 4)

    alone = work({"majority", "lora"})
    assert work({"majority", "lora", "prompt-then-lora"}) == alone
    assert (
        work({"majority", "lora", "few-shot", "prompt-then-lora"}).work
        > work({"majority", "lora", "few-shot"}).work
    )


PROMISES = st.dictionaries(st.sampled_from(FAMILIES), st.floats(-1, 2))


@given(
    seconds=st.floats(20, 2000),
    share=st.floats(0.02, 0.5),
    promise=PROMISES,
    names=st.sets(st.sampled_from([method.name for method in METHODS]), min_size=2),
)
def test_whatever_is_compared_a_tuned_trial_finishes_where_one_fits(
    seconds: float, share: float, promise: dict[str, float], names: set[str]
) -> None:
    methods = [method for method in METHODS if method.name in names]
    allowance = Allowance(seconds * 3e11, None, longest=share * seconds * 3e11, spends_rest=False)
    runner = Pretending()
    race = Race(SPEC, None, methods, FORECASTER, allowance, runner, promise, seeds=())
    race.go()
    trained = [p for p in runner.asked if (p.method.work or "").startswith("train")]
    for proposal in runner.asked:
        assert proposal.work_limit is not None
        if proposal.method.work is not None:
            assert proposal.forecast_work <= proposal.work_limit * (1 + 1e-9)
    if trained:
        first = [p for p in trained if p.method is trained[0].method]
        assert max(runner.work[p.trial] for p in first) <= allowance.longest * (1 + 1e-9)
    plain = [method for method in methods if (method.work or "").startswith("train") and not method.starts_from]
    asked = [p.forecast_work for p in runner.asked if not (p.method.work or "").startswith("train")]
    left = seconds * 3e11 - sum(asked)
    for method in plain:
        space = method.search_space(SPEC, None, 256)
        passes = math.ceil(LEAST_SHARE * space["epochs"][0])
        once = passes * FORECASTER.epoch(method.work, space["batch_size"][0])
        once += FORECASTER.weigh("overhead", FORECASTER.overhead(method.work))
        if once <= min(left, allowance.longest):
            assert trained
