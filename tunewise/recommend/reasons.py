"""The reasons for a pick, as sentences that each carry their numbers.

Scores are printed as shares with three decimals, differences in points (hundredths). No sentence claims
more than the status does: a difference that is not shown is told with its interval, never as `better`.

>>> points(0.0184), ratio_text(10.0, 2.0, "full")
('1.8', 'full costs 5.0 times as much')
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewise.figures import counted, in_points, listed
from tunewise.reading.answers import IMBALANCED, majority_share
from tunewise.recommend.evidence import Entry, Evidence
from tunewise.rule import FEWEST_ROWS, SAME_COST, Verdict, adjusted
from tunewise.statistics import ROUNDING, Difference, Interval
from tunewise.task import Choices

LEADERBOARD, JOURNAL, TASK, ANSWERS = "leaderboard.csv", "trials.jsonl", "task.json", "predictions/*-test.jsonl"
WITHOUT_MODEL = ("baseline",)
PROMPT_ONLY = ("prompt engineering",)


@dataclass(frozen=True)
class Findings:
    """What the rule and the tests said, from which the sentences are made."""

    reference: str
    nominee: str
    verdict: Verdict
    margin: float
    """In points."""
    score: float
    """That is announced for the pick: its test score, or in folds the score corrected for the choice."""
    interval: Interval
    """Of that score."""
    to_pick: Mapping[str, Difference]
    """For every other finalist, its score minus the pick's."""
    tied: tuple[str, ...]
    smallest_margin: float | None
    rows_needed: int | None
    afterwards: bool = False
    """Whether reference and nominee were named only now, because something else was asked for."""
    stand_in: bool = False
    """Whether they were named only now, because those named before the test were not all tested."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Finalists that do not do what was asked, with the reason."""

    @property
    def other(self) -> str:
        """What the pick is compared with."""
        return "other finalist that does what is asked" if self.left_out else "other finalist"


@dataclass(frozen=True)
class Reason:
    """A sentence with its numbers, and the file of the run folder that they come from."""

    text: str
    source: str


def reasons(evidence: Evidence, findings: Findings) -> tuple[Reason, ...]:
    """Every reason for the pick, the most important first."""
    pick = evidence.entry(findings.verdict.pick)
    found = [Reason(_score(evidence, findings, pick), pick.answers)]
    once = _trained_once(evidence, pick)
    if once:
        found.append(Reason(once, JOURNAL))
    worst = _worst_label(evidence, pick)
    if worst:
        found.append(Reason(worst, pick.answers))
    if pick.family in WITHOUT_MODEL:
        text = f"No language model was needed: {pick.candidate} is a baseline that works without one."
        found.append(Reason(text, LEADERBOARD))
    found += _standing(evidence, findings)
    if len(evidence.entries) > 1:
        found.append(_runner_up(evidence, findings))
        found.append(Reason(_cost(evidence, findings, pick), LEADERBOARD))
    found.append(Reason(_best_of_families(evidence), LEADERBOARD))
    return tuple(reason for reason in found if reason.text)


def points(share: float) -> str:
    """A share in points, one decimal."""
    text = f"{100 * share:.1f}"
    return "0.0" if text == "-0.0" else text


def p_text(p: float) -> str:
    """A p value in words."""
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"


def ratio_text(theirs: float, ours: float, name: str) -> str:
    """What `name`, which costs `theirs`, costs against `ours`."""
    low, high = sorted((theirs, ours))
    if high <= low * SAME_COST:
        return f"{name} costs about the same (within 10 %)"
    if ours == 0:
        return f"{name} costs model work where the pick costs none"
    if theirs == 0:
        return f"{name} costs no model work"
    if theirs > ours:
        return f"{name} costs {_times(theirs / ours)} times as much"
    return f"{name} is {_times(ours / theirs)} times cheaper"


def _times(ratio: float) -> str:
    """Two digits that can be believed: 1.4, 75, 7,600."""
    return f"{ratio:.1f}" if ratio < 10 else f"{float(f'{ratio:.2g}'):,.0f}"


def _score(evidence: Evidence, findings: Findings, pick: Entry) -> str:
    interval = findings.interval
    if evidence.folds:
        rows = counted(len(evidence.targets), "row")
        corrected = "; that is corrected for having been chosen by them" if findings.score < pick.score else ""
        return (
            f"{pick.candidate} can be expected to score {findings.score:.3f} {evidence.metric.name} on new rows "
            f"(95 % interval {interval.low:.3f} to {interval.high:.3f}). Its answers to {rows} in folds that it "
            f"was not fitted on score {pick.score:.3f}{corrected}."
        )
    rows = counted(len(evidence.targets), "test row")
    return (
        f"{pick.candidate} scores {pick.score:.3f} {evidence.metric.name} on {rows} "
        f"(95 % interval {interval.low:.3f} to {interval.high:.3f})."
    )


def _trained_once(evidence: Evidence, pick: Entry) -> str:
    """What the interval of a trained model does not hold, where no other seed tells it."""
    if evidence.folds or pick.family in (*WITHOUT_MODEL, *PROMPT_ONLY) or pick.candidate in evidence.repeats:
        return ""
    return (
        f"That is said of this trained model, made with one seed: {pick.candidate} trained again gives another "
        "one, and how far it may lie from this was not measured."
    )


def _worst_label(evidence: Evidence, pick: Entry) -> str:
    """What the most frequent label hides: how many rows of the worst one the pick finds."""
    if evidence.spec.kind != "classification":
        return ""
    share = majority_share(evidence.targets)
    # By their balance in all rows macro-F1 was chosen; those of the test may be less uneven.
    if max(share, float(evidence.profile.get("majority_share") or 0.0)) <= IMBALANCED:
        return ""
    counts = Counter(evidence.targets)
    right = Counter(t for t, output in zip(evidence.targets, pick.outputs, strict=True) if t == output)
    worst = min(counts, key=lambda label: (right[label] / counts[label], -counts[label]))
    answer = evidence.spec.answer
    name = answer.name(worst) if isinstance(answer, Choices) else worst
    return (
        f"{100 * share:.0f} % of the test rows have one label. That which "
        f"{pick.candidate} finds least is {name}: {right[worst]} of its {counts[worst]} test rows."
    )


def _standing(evidence: Evidence, findings: Findings) -> list[Reason]:
    """Why this status."""
    status = findings.verdict.status
    few = _too_few(evidence) if status == "too_few_rows" else []
    if len(evidence.entries) == 1:
        only = "the only finalist that does what is asked" if findings.left_out else "the only finalist"
        text = f"It is {only}: there is nothing to compare it with, so nothing is claimed."
        return [*few, Reason(text, LEADERBOARD)]
    if evidence.folds:
        return [*few, Reason(_best_in_folds(evidence, findings), ANSWERS)]
    now = findings.afterwards or findings.stand_in
    named = Reason(_named(evidence, findings), LEADERBOARD if now else JOURNAL)
    if few:
        return [*few, named]
    return [named, *(Reason(text, ANSWERS) for text in _tested(evidence, findings))]


def _tested(evidence: Evidence, findings: Findings) -> list[str]:
    """What the test says of this status."""
    if findings.verdict.status == "undecided":
        return [_not_shown(evidence, findings), _needed(evidence, findings), _tied(findings)]
    if findings.verdict.status == "non-inferior":
        return [_shown(findings), _tied(findings)]
    closest, p = max(adjusted(findings.to_pick).items(), key=lambda item: item[1])
    beats = (
        f"It scores higher than every {findings.other}, each difference tested and adjusted for the others "
        f"(Holm): {p_text(p)} at most ({closest})."
    )
    return [beats]


def _too_few(evidence: Evidence) -> list[Reason]:
    text = (
        f"Too few rows to claim anything: {evidence.labelled_rows} labelled rows in all, and below "
        f"{FEWEST_ROWS} the rule's choice is given without a claim."
    )
    return [Reason(text, TASK)]


def _named(evidence: Evidence, findings: Findings) -> str:
    reference, nominee = evidence.entry(findings.reference), evidence.entry(findings.nominee)
    best = f"{reference.finalist.validation_score:.3f}"
    if reference is nominee:
        return (
            f"{_when(evidence, findings, nominee.candidate)}: it scored highest there "
            f"({best}{_level(evidence, nominee)}), and no cheaper finalist came within "
            f"{in_points(findings.margin)}."
        )
    return (
        f"{_when(evidence, findings, nominee.candidate)}: the cheapest finalist "
        f"({nominee.finalist.validation_score:.3f}) within {in_points(findings.margin)} of the highest score "
        f"there ({best}, {reference.candidate})."
    )


def _best_in_folds(evidence: Evidence, findings: Findings) -> str:
    reference, nominee = evidence.entry(findings.reference), evidence.entry(findings.nominee)
    if reference is nominee:
        best = f"{nominee.score:.3f}{_level(evidence, nominee)}"
        return (
            f"{nominee.candidate} has the highest score in the folds ({best}), and no cheaper "
            f"{findings.other} came within {in_points(findings.margin)}."
        )
    return (
        f"{nominee.candidate} is the cheapest ({nominee.score:.3f}) within {in_points(findings.margin)} of the "
        f"highest score in the folds ({reference.score:.3f}, {reference.candidate})."
    )


def _level(evidence: Evidence, entry: Entry) -> str:
    """Who scored as high where it was chosen."""

    def chosen_by(one: Entry) -> float:
        return one.score if evidence.folds else one.finalist.validation_score

    others = [
        one.candidate
        for one in evidence.entries
        if one is not entry and math.isclose(chosen_by(one), chosen_by(entry), abs_tol=ROUNDING)
    ]
    equals = "of equals the cheapest is taken, of equal costs the smallest"
    return f", as did {listed(others)}: {equals}" if others else ""


def _when(evidence: Evidence, findings: Findings, nominee: str) -> str:
    if findings.afterwards:
        return f"By what is asked now, {nominee} is named from {evidence.chooser}"
    if findings.stand_in:
        return f"Of the finalists that were tested, {nominee} is named from {evidence.chooser}"
    return f"Before the test, {nominee} was named from {evidence.chooser}"


def _shown(findings: Findings) -> str:
    worst, upper = max(findings.verdict.uppers.items(), key=lambda item: item[1])
    return (
        f"The test shows it no more than {in_points(findings.margin)} below any {findings.other}: the largest "
        f"one-sided 95 % bound of (other − {findings.nominee}) is {points(upper)} points ({worst})."
    )


def _not_shown(evidence: Evidence, findings: Findings) -> str:
    uppers = findings.verdict.uppers
    over = [f"{name} {points(upper)}" for name, upper in uppers.items() if upper >= findings.margin / 100]
    text = (
        f"The test could not show {findings.nominee} within {in_points(findings.margin)} of every "
        f"{findings.other}. One-sided 95 % bounds of (other − {findings.nominee}) in points: {', '.join(over)}."
    )
    if findings.reference == findings.nominee:
        return text + f" It stays the pick because it scored highest {evidence.where_chosen}."
    level = _level(evidence, evidence.entry(findings.reference))
    return text + f" So the pick is {findings.reference}, which scored highest {evidence.where_chosen}{level}."


def _needed(evidence: Evidence, findings: Findings) -> str:
    assert findings.smallest_margin is not None  # what was not shown has bounds
    text = f"The smallest margin that this test could have shown is {in_points(findings.smallest_margin)}."
    if findings.rows_needed is None:
        if findings.margin in (0, 100):
            return text
        if evidence.few_groups:
            return text + (
                f" How many groups would show {in_points(findings.margin)} cannot be told from "
                f"{counted(evidence.units, 'group')}; more rows of the same add little."
            )
        best, nominee = max(evidence.entries, key=lambda entry: entry.score), evidence.entry(findings.nominee)
        return text + (
            f" More rows would not help: by its 95 % interval some finalist is better by more than "
            f"{in_points(findings.margin)}; on these {best.candidate} lies "
            f"{points(best.score - nominee.score)} points above {findings.nominee}."
        )
    if findings.rows_needed <= len(evidence.targets):
        return text + (
            f" Of candidates equally good, {_test_rows(evidence, findings.rows_needed)} would show "
            f"{in_points(findings.margin)} four times in five; these were {len(evidence.targets):,}."
        )
    return text + (
        f" About {_test_rows(evidence, findings.rows_needed)} would show {in_points(findings.margin)}, if the "
        "candidates are in truth equally good (80 % power)."
    )


def _test_rows(evidence: Evidence, rows: int) -> str:
    """So many test rows; where they come in groups, with as many groups as they would be in."""
    text = counted(rows, "test row")
    if evidence.groups is None:
        return text
    return f"{text} in {counted(math.ceil(rows * evidence.units / len(evidence.targets)), 'group')}"


def _tied(findings: Findings) -> str:
    if not findings.tied:
        worst = max(adjusted(findings.to_pick).values())
        return (
            f"On this test {findings.verdict.pick} differs from every {findings.other} ({p_text(worst)} at "
            "most, Holm-adjusted)."
        )
    return f"On this test {findings.verdict.pick} cannot be told from: {', '.join(findings.tied)}."


def _runner_up(evidence: Evidence, findings: Findings) -> Reason:
    pick = findings.verdict.pick
    other = next(entry for entry in evidence.entries if entry.candidate != pick)
    d = findings.to_pick[other.candidate]
    tested = p_text(d.p)
    if evidence.folds:
        tested = (
            "for all pairs at once, as the same rows chose; not tested, as folds share the rows they are fitted on"
        )
    text = (
        f"The best of the others {evidence.where} is {other.candidate} with {other.score:.3f}: {pick} minus "
        f"{other.candidate} is {points(-d.value)} points (95 % interval {points(-d.high)} to "
        f"{points(-d.low)}, {tested})."
    )
    return Reason(text, f"{evidence.entry(pick).answers}, {other.answers}")


def _cost(evidence: Evidence, findings: Findings, pick: Entry) -> str:
    runner_up = next(entry for entry in evidence.entries if entry is not pick)
    reference = evidence.entry(findings.reference)
    others = dict.fromkeys(entry.candidate for entry in (reference, runner_up) if entry is not pick)
    demand = evidence.demand
    setups = "one set-up" if demand.updates == 1 else f"{demand.updates:g} set-ups"
    said = [ratio_text(evidence.entry(name).finalist.cost_work, pick.finalist.cost_work, name) for name in others]
    return (
        f"Cost of {demand.requests:,.12g} requests with {setups}, in counted work: against {pick.candidate}, "
        f"{'; '.join(said)}."
    )


def _best_of_families(evidence: Evidence) -> str:
    tuned = {entry.family for entry in evidence.entries} - {*WITHOUT_MODEL, *PROMPT_ONLY}
    parts = []
    for label, families in (
        ("without a language model", WITHOUT_MODEL),
        ("by prompting alone", PROMPT_ONLY),
        ("with training", tuple(tuned)),
    ):
        best = next((entry for entry in evidence.entries if entry.family in families), None)
        if best is not None:
            parts.append(f"{label}, {best.candidate} with {best.score:.3f}")
    return f"Highest {evidence.where} {'; '.join(parts)}." if parts else ""
