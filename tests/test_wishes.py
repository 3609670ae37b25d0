"""A run asked again with other wishes; where two finalists break even; what would change the pick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tunewise
from tests.test_recommend import Planted, balanced, write_run
from tunewise.cost import Demand, Works, always, break_even
from tunewise.errors import CandidateError, SettingError
from tunewise.recommend import Recommendation, Wishes, recommend

# Equal on validation and test; the prompt costs nothing to make and more to run.
PROMPT = Planted(
    "few-shot", 0.90, 0.0, range(40), "prompt engineering", setup=1e12, request=4e10, ms=80.0, serving_mb=790.0
)
TUNED = Planted("lora", 0.90, 0.0, range(40), setup=4e14, request=1e10, ms=20.0, serving_mb=800.0)
TABLE = Planted("tfidf-logistic", 0.60, 0.0, range(200), "baseline", ms=0.1, serving_mb=250.0)
EVEN = (4e14 - 1e12) / (4e10 - 1e10)


def with_cost(one: Planted) -> Planted:
    """The cost that a study writes for the usual demand."""
    return replace(one, cost=Demand().cost(Works(one.setup, one.request)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "r", [with_cost(one) for one in (PROMPT, TUNED, TABLE)], balanced(500))


@given(st.floats(0, 1e16), st.floats(1e8, 1e12), st.floats(0, 1e16), st.floats(1e8, 1e12), st.floats(0.1, 100))
def test_at_the_break_even_point_two_candidates_have_cost_the_same(
    setup: float, request: float, other_setup: float, other_request: float, updates: float
) -> None:
    one, other = Works(setup, request), Works(other_setup, other_request)
    point = break_even(one, other, updates)
    assert point == break_even(other, one, updates)
    if point is None:
        dearer = sorted([one, other], key=lambda works: (works.setup, works.request))
        assert all(a <= b for a, b in zip(*[(w.setup, w.request) for w in dearer], strict=True))
    else:
        at = Demand(point, updates)
        assert at.cost(one) == pytest.approx(at.cost(other), rel=1e-6)


def test_few_requests_favour_what_costs_little_to_make(run: Path) -> None:
    assert recommend(run).pick == "lora"  # 100,000 requests are beyond the break-even point of 13,300
    few = recommend(run, wishes=Wishes(requests=1_000))
    assert few.pick == "few-shot"
    assert "Asked for after the test had been opened: 1,000 requests and 1 set-up a month" in few.warnings[0]
    assert any("Cost of 1,000 requests with one set-up" in reason for reason in few.reasons)


def test_large_numbers_are_spelt_out(run: Path) -> None:
    found = recommend(run, wishes=Wishes(requests=1e6))
    assert "1,000,000 requests and 1 set-up a month" in found.warnings[0]
    assert any("Cost of 1,000,000 requests" in reason for reason in found.reasons)


def test_many_updates_favour_it_too(run: Path) -> None:
    found = recommend(run, wishes=Wishes(updates=30))
    assert found.pick == "few-shot"
    assert "100,000 requests and 30 set-ups a month" in found.warnings[0]
    assert found.break_even_requests["lora"] == pytest.approx(30 * EVEN)


def test_it_says_where_the_pick_turns(run: Path) -> None:
    usual, few = recommend(run), recommend(run, wishes=Wishes(requests=1_000))
    assert usual.break_even_requests["few-shot"] == pytest.approx(EVEN)
    # A little beyond the break-even point: costs within 10 % are a tie, which goes to the first by name here.
    assert "Below about 15,000 requests a month with 1 set-up, few-shot would be the pick." in usual.conditions
    turn = "Above about 15,000 requests a month with 1 set-up, lora would be the pick: it costs less there."
    assert turn in few.conditions


def test_where_the_pick_turns_is_asked_of_the_rule_and_not_of_crossings(tmp_path: Path) -> None:
    # A third finalist, as dear to run as lora and twice as dear to make, crosses few-shot before it can be picked.
    soft = replace(TUNED, candidate="soft-prompt", setup=8e14, artifact_mb=0.1, family="prompt tuning")
    run = write_run(tmp_path / "r", [with_cost(one) for one in (PROMPT, TUNED, soft)], balanced(500))
    (above,) = [text for text in recommend(run).conditions if text.startswith("Above")]
    # Beyond ten times their difference in set-up both cost the same within 10 %: the smaller artifact is picked.
    assert above == "Above about 360,000 requests a month with 1 set-up, soft-prompt would be the pick."


def test_wishes_do_not_rewrite_what_was_named_before_the_test(tmp_path: Path) -> None:
    named = {"event": "nominated", "trial": None, "reference": "lora", "nominee": "lora"}
    run = write_run(
        tmp_path / "r", [with_cost(one) for one in (PROMPT, TUNED, TABLE)], balanced(500), journal=[named]
    )
    assert any(text.startswith("Before the test, lora was named") for text in recommend(run).reasons)
    for wishes in (Wishes(real_time=True), Wishes(requests=1_000)):
        found = recommend(run, wishes=wishes)
        assert found.pick == "few-shot"
        assert not any("Before the test" in text for text in (*found.reasons, *found.warnings))
        assert found.next_commands[0].startswith(f"tunewise predict {run}/candidates/few-shot ")
    alone = recommend(run, wishes=Wishes(real_time=True))
    assert any("the only finalist that does what is asked" in text for text in alone.reasons)
    two = recommend(run, wishes=Wishes(max_ms=50))
    assert set(two.left_out) == {"few-shot"}
    assert any("other finalist that does what is asked" in text for text in two.reasons)


def test_with_no_updates_set_ups_cost_nothing() -> None:
    assert break_even(Works(1e12, 4e10), Works(4e14, 1e10), 0) is None
    assert always(Works(4e14, 1e10), Works(1e12, 4e10), 0) == "always cheaper"
    assert always(Works(4e14, 1e10), Works(1e12, 1e10), 0) == "as dear"
    assert always(Works(4e14, 1e10), Works(1e12, 1e10)) == "always dearer"


@pytest.mark.parametrize("text", ["x", "nan", "inf"])
def test_a_damaged_figure_is_one_clear_error(run: Path, text: str) -> None:
    board = run / "leaderboard.csv"
    board.write_text(board.read_text().replace("20.0", text))
    with pytest.raises(
        CandidateError, match=f"row lora, column ms_per_example: found '{text}', expected a number"
    ):
        recommend(run)


def test_a_pick_that_never_turns_has_no_such_condition(tmp_path: Path) -> None:
    dear = replace(TUNED, request=5e10)
    run = write_run(tmp_path / "r", [with_cost(PROMPT), with_cost(dear)], balanced(500))
    found = recommend(run)
    assert found.pick == "few-shot"
    (said,) = [text for text in found.conditions if "runner-up lora" in text]
    assert said == "No number of requests, and no margin up to 10 points, makes the runner-up lora the pick."
    assert not any("requests a month" in text for text in found.conditions)
    assert found.break_even_requests == {"lora": None}


def test_a_runner_up_behind_another_turn_is_told_too(tmp_path: Path) -> None:
    cheap = replace(PROMPT, setup=0.0, request=1e10)
    near = replace(
        TUNED, candidate="soft-prompt", setup=5e15, request=5e9, family="prompt tuning", artifact_mb=0.1
    )
    far = replace(TUNED, setup=1e17, request=1e9, wrong=range(39))
    run = write_run(tmp_path / "r", [with_cost(one) for one in (cheap, near, far)], balanced(500))
    found = recommend(run)
    assert (found.pick, found.runner_up) == ("few-shot", "lora")
    (said,) = [text for text in found.conditions if "runner-up lora" in text]
    requests = float(said.split()[2].replace(",", ""))
    assert recommend(run, wishes=Wishes(requests=requests)).pick == "lora"


def test_it_says_at_which_margin_the_runner_up_is_the_pick(tmp_path: Path) -> None:
    cheap = replace(PROMPT, validation=0.92)
    dear = replace(TUNED, request=5e10, wrong=range(20), validation=0.96)
    run = write_run(tmp_path / "r", [with_cost(cheap), with_cost(dear)], balanced(500))
    found = recommend(run)
    assert (found.pick, found.runner_up) == ("lora", "few-shot")
    (said,) = [text for text in found.conditions if "runner-up few-shot" in text]
    margin = float(said.removeprefix("With a margin of ").split()[0])
    assert margin > 2
    assert recommend(run, margin=margin).pick == "few-shot"


def test_an_instruction_that_changes_with_each_request_needs_a_prompt(run: Path) -> None:
    assert any("only a prompt will do: few-shot (0.920, 0.0 points" in text for text in recommend(run).conditions)
    found = recommend(run, wishes=Wishes(real_time=True))
    assert found.pick == "few-shot"
    assert set(found.costs) == {"few-shot"}
    assert (
        "lora is left out: it was made for one instruction, which cannot be changed with a request."
        in found.warnings
    )


def test_limits_leave_out_what_is_too_slow_or_too_large(run: Path) -> None:
    found = recommend(run, wishes=Wishes(requests=1_000, max_ms=50))
    assert found.pick == "lora"
    assert "few-shot is left out: it takes 80.0 ms a request, more than 50." in found.warnings
    small = recommend(run, wishes=Wishes(max_memory_mb=500))
    assert small.pick == "tfidf-logistic"
    assert "lora is left out: it needs 800.0 MB, more than 500." in small.warnings


def test_what_a_run_did_not_record_cannot_be_promised(tmp_path: Path) -> None:
    old = [with_cost(replace(one, serving_mb=None)) for one in (PROMPT, TUNED)]
    run = write_run(tmp_path / "r", old, balanced(500))
    with pytest.raises(
        SettingError,
        match=r"no finalist does what is asked: lora, few-shot: this run did not record how many MB it needs",
    ):
        recommend(run, wishes=Wishes(max_memory_mb=500))


def test_what_nothing_can_do_is_refused_with_the_reasons(run: Path) -> None:
    with pytest.raises(SettingError, match=r"; few-shot: it takes 80\.0 ms a request, more than 0\.01; tfidf"):
        recommend(run, wishes=Wishes(max_ms=0.01))
    for requests, updates, most in ((-1.0, 1.0, None), (1.0, float("nan"), None), (1.0, 1.0, float("inf"))):
        with pytest.raises(SettingError, match="expected a number"):
            Wishes(requests, updates, most)


def test_the_front_holds_what_nothing_beats_at_once(tmp_path: Path) -> None:
    worse = replace(TUNED, candidate="full", wrong=range(60), setup=9e14)
    run = write_run(tmp_path / "r", [with_cost(one) for one in (PROMPT, TUNED, TABLE, worse)], balanced(500))
    found = recommend(run)
    assert set(found.front) == {"few-shot", "lora", "tfidf-logistic"}


def test_costs_are_told_for_what_was_made_and_for_a_thousand_requests(run: Path) -> None:
    found = recommend(run)
    assert found.costs["lora"]["setup"]["work"] == 4e14
    assert found.costs["lora"]["per_1000_requests"] == {
        "work": 1e13,
        "milliseconds": 20_000.0,
        "prompt_tokens": None,
        "cached_tokens": None,
    }
    assert found.costs["lora"]["serving_mb"] == 800.0
    assert Recommendation.from_json(found.to_json(), run) == found


def test_every_reason_names_the_file_behind_its_numbers(run: Path) -> None:
    found = recommend(run)
    assert len(found.sources) == len(found.reasons)
    for source in found.sources:
        for name in source.split(", "):
            assert list(run.glob(name)), name
    by_start = dict(zip((reason.split()[0] for reason in found.reasons), found.sources, strict=True))
    assert by_start["lora"] == "predictions/lora-1-test.jsonl"
    assert by_start["Before"] == "trials.jsonl"
    assert by_start["Cost"] == "leaderboard.csv"


def test_an_older_file_without_costs_is_read(run: Path) -> None:
    found = recommend(run)
    kept = found.to_json()
    for name in ("sources", "left_out", "conditions", "costs", "break_even_requests", "front", "demand"):
        del kept[name]
    again = Recommendation.from_json(kept, run)
    assert (again.pick, again.costs, again.conditions) == (found.pick, {}, ())


def test_from_python_the_same_is_asked_in_months_and_sizes(run: Path) -> None:
    assert tunewise.recommend(run, requests_per_month=1_000).pick == "few-shot"
    assert tunewise.recommend(run, max_memory="0.5GB").pick == "tfidf-logistic"
    assert tunewise.recommend(run, max_memory=500e6).pick == "tfidf-logistic"
    assert tunewise.recommend(run, real_time=True).pick == "few-shot"
    with pytest.raises(SettingError, match="max memory is 'much'; expected a size such as 4GB"):
        tunewise.recommend(run, max_memory="much")
