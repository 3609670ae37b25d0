"""The picking rule on planted cases: small run folders written by hand, one for every status and warning."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tunewise
from tunewise.errors import CandidateError, SettingError, WorkError
from tunewise.recommend import Finalist, Recommendation, nominate, recommend
from tunewise.rule import judge
from tunewise.statistics import Difference
from tunewise.statistics.comparing import rate_difference

LABELS = ("a", "b")
DOCS = Path(__file__).parents[1] / "docs" / "run-folder.md"


@dataclasses.dataclass(frozen=True)
class Planted:
    """A finalist with known figures and known mistakes."""

    candidate: str
    validation: float
    cost: float
    wrong: Iterable[int] = ()
    family: str = "fine-tuning"
    artifact_mb: float = 1.0
    valid_rate: float = 1.0
    outputs: Sequence[str] | None = None
    setup: float = 0.0
    request: float = 0.0
    ms: float | None = None
    serving_mb: float | None = None

    def answers(self, targets: Sequence[str]) -> list[str]:
        if self.outputs is not None:
            return list(self.outputs)
        wrong, other = set(self.wrong), dict(zip(LABELS, reversed(LABELS), strict=True))
        return [other[target] if row in wrong else target for row, target in enumerate(targets)]


def write_run(
    folder: Path,
    finalists: Sequence[Planted],
    targets: Sequence[str],
    *,
    rows: tuple[int, int] = (256, 200),
    spec: dict[str, Any] | None = None,
    groups: Sequence[str] | None = None,
    journal: Sequence[dict[str, Any]] = (),
    profile: dict[str, Any] | None = None,
) -> Path:
    """A run folder as docs/run-folder.md describes it."""
    (folder / "predictions").mkdir(parents=True)
    default = {
        "kind": "classification",
        "inputs": ["text"],
        "answer": {"labels": list(LABELS), "words": list(LABELS)},
        "instruction": "Classify.",
        "metric": "accuracy",
        "group": "user" if groups else None,
    }
    splits = {
        "train": [["data", i] for i in range(rows[0])],
        "validation": [["data", i] for i in range(rows[1])],
        "test": [["test", i] for i in range(len(targets))],
    }
    run = {"format": 1, "settings": {"margin": {"value": 2.0, "from": "default"}}, "margin": 2.0}
    task = {"format": 1, "name": "t", "spec": default | (spec or {}), "profile": profile, "splits": splits}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in journal))
    columns = "candidate method family model trial score validation_score artifact_mb valid_rate status cost_work"
    columns += " setup_work request_work ms_per_example serving_mb"
    with (folder / "leaderboard.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns.split())
        writer.writeheader()
        for one in finalists:
            row = {"candidate": one.candidate, "method": one.candidate, "family": one.family, "model": "m"}
            figures = {"score": 0.5, "validation_score": one.validation, "artifact_mb": one.artifact_mb}
            cost = {"valid_rate": one.valid_rate, "cost_work": one.cost}
            cost |= {"setup_work": one.setup, "request_work": one.request}
            measured = {"ms_per_example": one.ms, "serving_mb": one.serving_mb}
            writer.writerow(
                row | figures | cost | measured | {"trial": f"{one.candidate}-1", "status": "finished"}
            )
        writer.writerow({"candidate": "soft-prompt", "method": "soft-prompt", "status": "failed"})
    for one in finalists:
        lines = [
            {"row": i, "source": "test", "target": target, "prediction": output, "valid": True}
            | ({"group": groups[i]} if groups else {})
            for i, (target, output) in enumerate(zip(targets, one.answers(targets), strict=True))
        ]
        path = folder / "predictions" / f"{one.candidate}-1-test.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def balanced(n: int) -> list[str]:
    return [LABELS[i % 2] for i in range(n)]


FULL = Planted("full", 0.92, 9e15, range(40), artifact_mb=270.0)
LORA = Planted("lora", 0.91, 4e15, range(2, 42), artifact_mb=5.0)
MAJORITY = Planted("majority", 0.50, 0.0, range(0, 500, 2), family="baseline")


# The four statuses


def test_a_cheaper_candidate_shown_within_the_margin_is_non_inferior(tmp_path: Path) -> None:
    found = recommend(write_run(tmp_path / "r", [FULL, LORA, MAJORITY], balanced(500)))
    assert (found.pick, found.status, found.reference, found.nominee) == (
        "lora",
        "non-inferior",
        "full",
        "lora",
    )
    assert (found.score, found.n_test, found.metric) == (0.92, 500, "accuracy")
    assert found.ci[0] < 0.92 < found.ci[1]
    assert found.tied_with == ("full",)
    assert found.runner_up == "full"
    assert found.difference is not None
    assert (found.difference.value, found.difference.p) == (0, 1)
    assert set(found.differences) == {"full", "majority"}
    assert found.differences["full"].upper is not None
    assert found.differences["full"].upper < 0.02
    assert found.smallest_margin_shown is not None
    assert found.smallest_margin_shown < 2
    assert found.rows_needed is None
    text = " ".join(found.reasons)
    assert "lora scores 0.920 accuracy on 500 test rows" in text
    assert "cheapest finalist (0.910) within 2 points of the highest score there (0.920, full)" in text
    assert "against lora, full costs 2.2 times as much" in text
    assert "without a language model, majority with 0.500" in text


def test_beating_every_other_finalist_is_superior(tmp_path: Path) -> None:
    best = Planted("lora", 0.95, 4e15, range(20))
    worse = Planted("zero-shot", 0.80, 1e15, range(100), family="prompt engineering")
    found = recommend(write_run(tmp_path / "r", [worse, best, MAJORITY], balanced(500)))
    assert (found.pick, found.status, found.tied_with) == ("lora", "superior", ())
    assert found.difference is not None
    assert found.difference.value == pytest.approx(0.16)
    assert found.difference.ci[0] > 0
    assert found.difference.p is not None
    assert found.difference.p < 1e-6
    assert any("higher than every other finalist" in reason and "p < 0.001" in reason for reason in found.reasons)
    assert "by prompting alone, zero-shot with 0.800" in found.reasons[-1]


def test_an_unshown_nominee_gives_way_to_the_reference(tmp_path: Path) -> None:
    n = 200
    full = Planted("full", 0.92, 9e15, range(20))
    lora = Planted("lora", 0.91, 4e15, range(15, 37))
    folder = write_run(tmp_path / "r", [full, lora], balanced(n))
    found = recommend(folder)
    assert (found.pick, found.status) == ("full", "undecided")
    assert (found.reference, found.nominee, found.tied_with) == ("full", "lora", ("lora",))
    assert found.rows_needed is not None
    assert found.rows_needed > n
    margin = found.smallest_margin_shown
    assert margin is not None
    text = " ".join(found.reasons)
    assert f"smallest margin that this test could have shown is {margin:g} points" in text
    assert f"About {found.rows_needed:,} test rows would show 2 points" in text
    assert "cannot be told from: lora" in text
    # The named margin is the smallest: a tenth of a point less would not have done.
    assert recommend(folder, margin=margin).status == "non-inferior"
    assert recommend(folder, margin=margin - 0.1).status == "undecided"


def test_who_scored_as_high_on_validation_is_named_beside_the_pick(tmp_path: Path) -> None:
    cheap = Planted("nearest-example", 1.0, 1e15, range(28), family="baseline", artifact_mb=0.1)
    level = [Planted("tfidf-logistic", 1.0, 1e15, (), family="baseline"), Planted("lora", 1.0, 4e15, range(2))]
    found = recommend(write_run(tmp_path / "r", [*level, cheap, MAJORITY], balanced(100)))
    assert (found.pick, found.status) == ("nearest-example", "undecided")
    (named,) = [text for text in found.reasons if text.startswith("Before the test")]
    assert "(1.000, as did tfidf-logistic and lora: of equals the cheapest is taken" in named
    (needed,) = [text for text in found.reasons if "smallest margin" in text]
    assert needed.endswith("; on these tfidf-logistic lies 28.0 points above nearest-example.")
    alone = recommend(write_run(tmp_path / "a", [FULL, LORA], balanced(500)))
    assert not any("as did" in text for text in alone.reasons)


def test_under_a_hundred_labelled_rows_nothing_is_claimed(tmp_path: Path) -> None:
    best, worst = Planted("lora", 0.95, 4e15, ()), Planted("zero-shot", 0.5, 1e15, range(20))
    few = recommend(write_run(tmp_path / "few", [best, worst], balanced(40), rows=(39, 20)))
    enough = recommend(write_run(tmp_path / "enough", [best, worst], balanced(40), rows=(40, 20)))
    assert (few.pick, few.status) == ("lora", "too_few_rows")
    assert (enough.pick, enough.status) == ("lora", "superior")
    assert any("99 labelled rows in all" in reason for reason in few.reasons)


# The letter of the rule


def test_a_better_finalist_is_a_warning_and_never_the_pick(tmp_path: Path) -> None:
    late = Planted("few-shot", 0.70, 5e15, range(5), family="prompt engineering")
    found = recommend(write_run(tmp_path / "r", [FULL, LORA, late], balanced(500)))
    assert (found.pick, found.status, found.runner_up) == ("full", "undecided", "few-shot")
    assert found.warnings[0].startswith("few-shot scores higher than the pick on test by 7.0 points")
    assert found.rows_needed is None
    assert any("better by more than 2 points" in reason for reason in found.reasons)


def test_no_cheaper_candidate_than_the_nominee_is_tried(tmp_path: Path) -> None:
    # nearest-example would have been shown, but it was outside the margin on validation.
    cheap = Planted("nearest-example", 0.85, 1e9, range(40), family="baseline")
    found = recommend(write_run(tmp_path / "r", [FULL, LORA, cheap], balanced(500)))
    assert (found.pick, found.nominee) == ("lora", "lora")


def test_a_baseline_that_wins_is_said_to_need_no_model(tmp_path: Path) -> None:
    tfidf = Planted("tfidf-logistic", 0.915, 0.0, range(40), family="baseline")
    found = recommend(write_run(tmp_path / "r", [FULL, tfidf], balanced(500)))
    assert found.pick == "tfidf-logistic"
    assert any(reason.startswith("No language model was needed") for reason in found.reasons)
    assert any("full costs model work where the pick costs none" in reason for reason in found.reasons)
    assert not any(
        "No language model" in reason
        for reason in recommend(write_run(tmp_path / "s", [FULL, LORA], balanced(500))).reasons
    )


def test_a_lone_finalist_is_picked_without_a_claim(tmp_path: Path) -> None:
    found = recommend(write_run(tmp_path / "r", [LORA], balanced(500)))
    assert (found.pick, found.status) == ("lora", "undecided")
    assert (found.runner_up, found.difference, found.smallest_margin_shown) == (None, None, None)
    assert any("only finalist" in reason for reason in found.reasons)
    assert Recommendation.from_json(found.to_json()) == found


def test_costs_within_a_tenth_are_a_tie_broken_by_size_then_name() -> None:
    big, small = Finalist("big", 0.9, 1.00, 270.0), Finalist("small", 0.9, 1.09, 5.0)
    assert nominate([big, small], 2)[1] == small
    assert nominate([big, Finalist("dear", 0.9, 1.11, 5.0)], 2)[1] == big
    assert nominate([Finalist("z", 0.9, 1.0), Finalist("y", 0.9, 1.0)], 2)[1].candidate == "y"


def test_the_margin_itself_is_within_the_margin_on_validation() -> None:
    reference, nominee = nominate([Finalist("full", 0.88, 9.0), Finalist("lora", 0.86, 4.0)], 2)
    assert (reference.candidate, nominee.candidate) == ("full", "lora")
    assert nominate([Finalist("full", 0.88, 9.0), Finalist("lora", 0.859, 4.0)], 2)[1].candidate == "full"


def test_equal_validation_scores_make_the_cheaper_the_reference() -> None:
    reference, _ = nominate([Finalist("full", 0.9, 9.0), Finalist("lora", 0.9, 4.0)], 0)
    assert reference.candidate == "lora"


FINALISTS = st.lists(
    st.builds(
        Finalist,
        st.text("abcdef", min_size=1, max_size=4),
        st.integers(0, 100).map(lambda points: points / 100),
        st.floats(0, 1e6),
        st.floats(0, 500),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda finalist: finalist.candidate,
)


@given(FINALISTS, st.floats(0, 20), st.randoms())
@settings(max_examples=80, deadline=None)
def test_the_nomination_keeps_its_promises(finalists: list[Finalist], margin: float, random: Any) -> None:
    reference, nominee = nominate(finalists, margin)
    within = [f for f in finalists if f.validation_score >= reference.validation_score - margin / 100 - 2e-6]
    assert all(f.validation_score <= reference.validation_score + 2e-6 for f in finalists)
    assert nominee in within
    assert nominee.cost_work <= 1.1 * min(f.cost_work for f in within)
    shuffled = finalists[:]
    random.shuffle(shuffled)
    assert nominate(shuffled, margin) == (reference, nominee)


@given(
    st.dictionaries(st.sampled_from("xyz"), st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1),
    st.floats(0, 10),
    st.integers(50, 150),
)
@settings(max_examples=80, deadline=None)
def test_nothing_is_claimed_beyond_the_bounds(
    others: dict[str, tuple[float, float]], margin: float, rows: int
) -> None:
    differences = {
        name: Difference(value, value - 0.02, value + 0.02, p, value + 0.015, "planted")
        for name, (value, p) in others.items()
    }
    verdict = judge("reference", "nominee", differences, margin, rows)
    shown = all(difference.upper < margin / 100 for difference in differences.values())
    assert verdict.pick == ("nominee" if shown else "reference")
    assert (verdict.status == "too_few_rows") == (rows < 100)
    if verdict.status == "superior":
        assert shown
        assert all(d.value < 0 and d.p < 0.05 for d in differences.values())
    if rows >= 100:
        assert (verdict.status == "undecided") == (not shown)


def test_a_nominee_worse_by_the_margin_is_rarely_shown() -> None:
    """The claim's error rate: the other is better by exactly the margin; 5 % is what the bound allows."""
    rng = np.random.default_rng(0)
    shown = 0
    for b, c, _ in rng.multinomial(400, [0.07, 0.03, 0.90], size=1000):
        verdict = judge("full", "lora", {"full": rate_difference(int(b), int(c), 400)}, 4.0, 1000)
        shown += verdict.status != "undecided"
    assert 0.02 < shown / 1000 < 0.075


# Other metrics, groups, margins


def test_corpus_metrics_are_compared_by_bootstrap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete"]
    targets = [" ".join(rng.choice(words, 6)) for _ in range(120)]
    good = [text if rng.random() < 0.9 else "nada de eso" for text in targets]
    bad = [text if rng.random() < 0.4 else "nada de eso" for text in targets]
    answer = {"max_tokens": 16, "stop": []}
    spec = {"kind": "generation", "answer": answer, "metric": "chrf"}
    finalists = [Planted("lora", 0.9, 4e15, outputs=good), Planted("zero-shot", 0.5, 1e15, outputs=bad)]
    found = recommend(write_run(tmp_path / "r", finalists, targets, spec=spec))
    assert (found.pick, found.status, found.metric) == ("lora", "superior", "chrf")
    assert found.ci[0] < found.score < found.ci[1]
    swapped = [dataclasses.replace(one, validation=0.9) for one in finalists]
    undecided = recommend(write_run(tmp_path / "s", swapped, targets, spec=spec))
    assert (undecided.status, undecided.nominee, undecided.rows_needed) == ("undecided", "zero-shot", None)


def test_rows_needed_of_a_corpus_metric_shrinks_with_the_margin_asked(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    targets = balanced(150)
    one, two = (Planted(name, 0.9, cost, rng.choice(150, 30)) for name, cost in (("full", 9.0), ("lora", 4.0)))
    folder = write_run(tmp_path / "r", [one, two], targets, spec={"metric": "macro_f1"})
    tight, loose = recommend(folder, margin=2), recommend(folder, margin=4)
    assert tight.rows_needed is not None
    assert loose.rows_needed is not None
    assert tight.rows_needed == pytest.approx(4 * loose.rows_needed, rel=0.02)


def test_groups_widen_the_interval_and_their_absence_is_told(tmp_path: Path) -> None:
    groups = [str(i // 25) for i in range(500)]
    grouped = recommend(write_run(tmp_path / "g", [FULL, LORA], balanced(500), groups=groups))
    plain = recommend(write_run(tmp_path / "p", [FULL, LORA], balanced(500)))
    assert grouped.ci[1] - grouped.ci[0] > 1.5 * (plain.ci[1] - plain.ci[0])
    unnamed = recommend(write_run(tmp_path / "u", [FULL, LORA], balanced(500), spec={"group": "user"}))
    assert unnamed.ci == plain.ci
    assert any("taken as independent" in warning for warning in unnamed.warnings)
    assert not any("taken as independent" in warning for warning in grouped.warnings)


def test_rows_that_come_in_groups_are_needed_in_groups(tmp_path: Path) -> None:
    full, lora = Planted("full", 0.92, 9e15, range(20)), Planted("lora", 0.91, 4e15, range(15, 37))
    texts = {}
    for count in (1, 5, 20):
        groups = [str(row % count) for row in range(200)]
        found = recommend(write_run(tmp_path / f"{count}", [full, lora], balanced(200), groups=groups))
        assert found.status == "undecided"
        assert (found.rows_needed is None) == (count < 10)
        (texts[count],) = [text for text in found.reasons if "smallest margin" in text]
    assert "How many groups would show 2 points cannot be told from 1 group; more rows of the same" in texts[1]
    assert "cannot be told from 5 groups" in texts[5]
    assert found.rows_needed is not None
    told = re.search(r"([\d,]+) test rows in (\d+) groups would show 2 points", texts[20])
    assert told is not None
    rows, groups_needed = (int(number.replace(",", "")) for number in told.groups())
    assert rows == found.rows_needed
    assert 10 * (groups_needed - 1) < rows <= 10 * groups_needed


def test_another_margin_after_the_test_is_exploration(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500))
    assert not any("exploration" in warning for warning in recommend(folder, margin=2).warnings)
    strict = recommend(folder, margin=0)
    assert (strict.margin, strict.nominee, strict.rows_needed) == (0, "full", None)
    assert any("changed from 2 to 0 points" in warning for warning in strict.warnings)
    one = recommend(folder, margin=1)
    assert any("changed from 2 to 1 point after" in warning for warning in one.warnings)
    assert any("within 1 point of" in reason for reason in one.reasons)


def test_the_names_fixed_in_the_journal_before_the_test_stand(tmp_path: Path) -> None:
    fixed = {"event": "nominated", "trial": None, "reference": "full", "nominee": "full"}
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500), journal=[fixed])
    found = recommend(folder)
    assert (found.reference, found.nominee, found.pick) == ("full", "full", "full")
    assert found.warnings == ()
    assert recommend(folder, margin=3).nominee == "lora"


def test_a_named_candidate_that_was_not_tested_is_replaced_with_a_warning(tmp_path: Path) -> None:
    fixed = {"event": "nominated", "trial": None, "reference": "full", "nominee": "soft-prompt"}
    found = recommend(write_run(tmp_path / "r", [FULL, LORA], balanced(500), journal=[fixed]))
    assert (found.reference, found.nominee) == ("full", "lora")
    assert any("full and soft-prompt were named" in warning for warning in found.warnings)
    (said,) = [place for place, text in enumerate(found.reasons) if "lora is named from validation" in text]
    assert found.reasons[said].startswith("Of the finalists that were tested, ")
    assert found.sources[said] == "leaderboard.csv"
    assert not any(text.startswith("Before the test") for text in found.reasons)


def test_of_a_model_trained_once_it_says_so(tmp_path: Path) -> None:
    trained = recommend(write_run(tmp_path / "r", [FULL, LORA], balanced(500)))
    assert any("this trained model, made with one seed" in text for text in trained.reasons)
    baseline = recommend(
        write_run(
            tmp_path / "b", [Planted("tfidf-logistic", 0.9, 1.0, family="baseline"), MAJORITY], balanced(500)
        )
    )
    assert not any("this trained model" in text for text in baseline.reasons)


def test_rows_mostly_of_one_label_tell_the_worst_label_whatever_the_test_holds(tmp_path: Path) -> None:
    targets = ["a"] * 60 + ["b"] * 40
    plain = recommend(write_run(tmp_path / "p", [LORA, MAJORITY], targets))
    assert not any("finds least" in text for text in plain.reasons)
    uneven = recommend(write_run(tmp_path / "u", [LORA, MAJORITY], targets, profile={"majority_share": 0.9}))
    assert any("finds least" in text for text in uneven.reasons)


# Warnings


def test_small_and_unbalanced_tests_are_called_rough(tmp_path: Path) -> None:
    targets = ["a"] * 85 + ["b"] * 5
    found = recommend(write_run(tmp_path / "r", [Planted("lora", 0.95, 4.0), MAJORITY], targets))
    text = " ".join(found.warnings)
    assert "Intervals are rough: 90 test rows" in text
    assert "fewer than 10 test rows: b (5)" in text
    assert "a is 94 % of the test rows" in text
    assert "Look at macro_f1 or mcc" in text


def test_a_clean_run_has_no_warnings(tmp_path: Path) -> None:
    assert recommend(write_run(tmp_path / "r", [FULL, LORA], balanced(500))).warnings == ()


def test_a_validation_score_far_above_the_test_score_is_told(tmp_path: Path) -> None:
    lucky = dataclasses.replace(LORA, validation=0.99)
    found = recommend(write_run(tmp_path / "r", [lucky, MAJORITY], balanced(500)))
    assert any("0.990 on validation and 0.920 on test" in warning for warning in found.warnings)


def test_gains_above_the_ceiling_that_label_noise_sets_are_warned_of(tmp_path: Path) -> None:
    noisy = {"repeated_inputs": 100, "repeated_agreement": 0.8}
    said = {}
    for wrong in (0, 60):
        lora = Planted("lora", 1.0, 4e15, range(wrong))
        found = recommend(write_run(tmp_path / f"{wrong}", [lora, MAJORITY], balanced(500), profile=noisy))
        said[wrong] = [text for text in found.warnings if "labels as noisy" in text]
    (warned,) = said[0]
    assert warned.startswith("lora is right in 1.000 of the rows, more than labels as noisy as those of inputs")
    assert said[60] == [], "0.880 lies within what such labels allow"
    right, few = Planted("lora", 1.0, 4e15), noisy | {"repeated_inputs": 5}
    untold = recommend(write_run(tmp_path / "few", [right, MAJORITY], balanced(500), profile=few))
    assert not any("labels as noisy" in text for text in untold.warnings), "five inputs tell of no ceiling"


def test_journal_and_profile_speak_through_the_warnings(tmp_path: Path) -> None:
    journal: list[dict[str, Any]] = [
        {"event": "message", "trial": None, "text": "The hard stop fired after 10 minutes."},
        {"event": "started", "trial": "full-2"},
        {"event": "failed", "trial": "full-2", "reason": "out of memory", "error": "TrialError"},
        {"event": "failed", "trial": "lora-1", "reason": "killed"},
        {"event": "started", "trial": "lora-1"},
        {"event": "finished", "trial": "lora-1"},
        {"event": "out_of_budget", "trial": "lora-3", "reason": "needs 90 s, 40 s left"},
    ]
    profile = {"warnings": ["11 test rows also stand in the training rows."]}
    invalid = dataclasses.replace(LORA, valid_rate=0.98)
    folder = write_run(tmp_path / "r", [FULL, invalid], balanced(500), journal=journal, profile=profile)
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"event": "mess')  # torn by a kill
    with (folder / "leaderboard.csv").open("a") as file:
        file.write("few-shot,few-shot,prompt engineering,m,few-shot-1,,,,,finished,,,,,\n")
    found = recommend(folder)
    assert found.pick == "lora"
    assert found.warnings == (
        "lora: 2.0 % of its test answers are not valid answers.",
        "11 test rows also stand in the training rows.",
        "The hard stop fired after 10 minutes.",
        "Trial full-2 failed: out of memory",
        "Left out for lack of budget: lora-3.",
        "Finished but never tested, so not compared: few-shot.",
    )


# The record


def test_the_fields_are_those_of_the_documented_file(tmp_path: Path) -> None:
    section = DOCS.read_text().split("## recommendation.json")[1].split("\n\n")[0]
    outer = re.sub(r"(?<=.)\{[^{}]*(\{[^{}]*\})?[^{}]*\}", "", section.split("`")[1][1:-1])
    keys = re.findall(r'"(\w+)"(?=:|,|\s*\(|\s*\||$)', re.sub(r': ("[\w-]+"( \| )?)+', ":", outer))
    found = recommend(write_run(tmp_path / "r", [FULL, LORA], balanced(500)))
    assert sorted(keys) == sorted(found.to_json())


def test_the_record_survives_json(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [FULL, LORA, MAJORITY], balanced(500))
    found = recommend(folder)
    again = Recommendation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)), folder)
    assert again == found
    assert again.folder == found.folder == folder
    assert "folder" not in found.to_json()


def test_a_foreign_record_is_refused(tmp_path: Path) -> None:
    data = recommend(write_run(tmp_path / "r", [FULL, LORA], balanced(500))).to_json()
    with pytest.raises(CandidateError, match="format 2, expected 1"):
        Recommendation.from_json(data | {"format": 2})
    del data["ci"]
    with pytest.raises(CandidateError, match="KeyError\\('ci'\\)"):
        Recommendation.from_json(data)


def test_the_result_repeats_and_nothing_is_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500), spec={"metric": "macro_f1"})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert recommend(folder) == recommend(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_load_opens_the_picks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setitem(vars(tunewise), "load", opened.append)
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500))
    recommend(folder).load()
    assert opened == [folder / "candidates" / "lora"]


def test_the_next_commands_name_the_folder_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "my runs" / "r", [FULL, LORA], balanced(500), spec={"inputs": ["title", "body"]})
    one, many, page = (shlex.split(line) for line in recommend(Path("my runs/r")).next_commands)
    assert one[:4] == ["tunewise", "predict", "my runs/r", "--text"]
    assert list(json.loads(one[4])) == ["title", "body"]
    assert many == ["tunewise", "predict", "my runs/r", "new.csv", "-o", "out.csv"]
    assert page == ["tunewise", "report", "my runs/r"]


# Damage


@pytest.mark.parametrize(
    "name", ["run.json", "task.json", "leaderboard.csv", "trials.jsonl", "predictions/lora-1-test.jsonl"]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500))
    (folder / name).unlink()
    with pytest.raises(CandidateError, match=f"{re.escape(name)}: no such file"):
        recommend(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("run.json", '"settings"', "settings", "run.json, line 1: not JSON"),
        ("task.json", '"splits"', '"split"', "task.json: cannot be read"),
        ("leaderboard.csv", "4000000000000000.0", "cheap", "row lora, column cost_work: found 'cheap'"),
        ("leaderboard.csv", "cost_work", "cost", "column 'cost_work' is missing"),
        ("predictions/lora-1-test.jsonl", '{"row": 3,', "{", "lora-1-test.jsonl: found 500 lines"),
        (
            "predictions/lora-1-test.jsonl",
            '{"row": 3,',
            '{"row": 7,',
            "the test rows of lora are not those of full",
        ),
        ("predictions/lora-1-test.jsonl", '{"row": 3,', '"row": 3,', "line 4: not JSON"),
        ("trials.jsonl", '"started"', "started", "trials.jsonl, line 1: not JSON"),
    ],
)
def test_a_damaged_file_is_told_with_its_place(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    journal: list[dict[str, Any]] = [
        {"event": "started", "trial": "lora-1"},
        {"event": "finished", "trial": "lora-1"},
    ]
    path = write_run(tmp_path / "r", [FULL, LORA], balanced(500), journal=journal) / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CandidateError, match=re.escape(message)):
        recommend(tmp_path / "r")


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [FULL, LORA], balanced(500))
    with pytest.raises(SettingError, match="--margin -1: expected points between 0 and 100"):
        recommend(folder, margin=-1)
    with pytest.raises(WorkError, match="no trial finished"):
        recommend(write_run(tmp_path / "none", [], balanced(10)))
    with pytest.raises(SettingError, match='unknown metric "acuracy"'):
        recommend(write_run(tmp_path / "m", [FULL, LORA], balanced(500), spec={"metric": "acuracy"}))
