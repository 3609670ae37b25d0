"""The warnings that go with a recommendation: whatever should make a reader hesitate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from tunewise import metrics
from tunewise.figures import counted, in_points
from tunewise.reading.noise import Agreement
from tunewise.recommend.evidence import Entry, Evidence
from tunewise.recommend.reasons import Findings, points
from tunewise.rule import told_apart

ROUGH_ROWS = 100
ROUGH_ROWS_PER_LABEL = 10
LARGE_SHARE = 0.8
LARGE_RATIO = 10


def cautions(evidence: Evidence, findings: Findings) -> tuple[str, ...]:
    """Every warning, those about the claim itself first."""
    pick = evidence.entry(findings.verdict.pick)
    found = [
        *(() if evidence.folds else _better_than_pick(findings)),
        *_margin_changed(evidence, findings),
        *_nomination_changed(evidence, findings),
        *_overfitting(evidence, findings, pick),
        *_above_the_ceiling(evidence, pick),
        *_rough(evidence),
        *_imbalance(evidence),
        *_invalid(evidence),
        *_groups(evidence),
        *_profile(evidence),
        *_journal(evidence),
    ]
    return tuple(dict.fromkeys(found))


def _better_than_pick(findings: Findings) -> Iterator[str]:
    apart = told_apart(findings.to_pick)
    for name, difference in findings.to_pick.items():
        if apart[name] and difference.value > 0:
            yield (
                f"{name} scores higher than the pick on test by {points(difference.value)} points (95 % "
                f"interval {points(difference.low)} to {points(difference.high)}). The pick stays: "
                "choosing by the test score would make that score an overestimate. Compare again on new "
                f"rows to choose {name}."
            )


def _margin_changed(evidence: Evidence, findings: Findings) -> Iterator[str]:
    if not math.isclose(evidence.margin, findings.margin):
        yield (
            f"The margin was changed from {evidence.margin:g} to {in_points(findings.margin)} after "
            f"{evidence.opened}: read this as exploration, not as a test."
        )


def _nomination_changed(evidence: Evidence, findings: Findings) -> Iterator[str]:
    fixed = evidence.nominated
    if fixed and findings.stand_in:
        yield (
            f"Before the test, {fixed[0]} and {fixed[1]} were named as reference and nominee, but not both "
            f"were tested: {findings.reference} and {findings.nominee} stand in, so read this as "
            "exploration."
        )


def _overfitting(evidence: Evidence, findings: Findings, pick: Entry) -> Iterator[str]:
    """A validation score above the test score by more than both samples' uncertainty explains."""
    n_validation = evidence.chosen_on
    if not n_validation:
        return
    gap = pick.finalist.validation_score - pick.score
    below = max(findings.interval.high - pick.score, 0.0)
    # The validation interval is taken as wide as the test's, scaled by the rows.
    allowed = below * math.sqrt(1 + len(evidence.targets) / n_validation)
    if gap > allowed:
        yield (
            f"{pick.candidate} scored {pick.finalist.validation_score:.3f} {evidence.where_chosen} and "
            f"{pick.score:.3f} {evidence.where}; the gap of {points(gap)} points is more than the sizes of both "
            "samples explain. It may be fitted to the rows that chose it, or the test rows differ from them."
        )


def _above_the_ceiling(evidence: Evidence, pick: Entry) -> Iterator[str]:
    """A score that the labels do not allow, as far as inputs that stand more than once tell."""
    if evidence.spec.kind != "classification" or not evidence.profile.get("repeated_inputs"):
        return
    labels = len(getattr(evidence.spec.answer, "labels", ()))
    share = float(evidence.profile.get("repeated_agreement", 1.0))
    found = Agreement(int(evidence.profile["repeated_inputs"]), share, labels)
    accuracy = metrics.get("accuracy").score(pick.outputs, evidence.targets)
    if found.tells and accuracy > found.interval.high:
        yield (
            f"{pick.candidate} is right in {accuracy:.3f} of the rows, more than labels as noisy as those of "
            f"inputs that stand more than once allow ({found.interval.low:.3f} to {found.interval.high:.3f}): "
            "part of it may be a habit of who labelled them, or these inputs are harder than the others."
        )


def _rough(evidence: Evidence) -> Iterator[str]:
    if evidence.profile:  # reading has said so, of the same rows
        return
    n = len(evidence.targets)
    if n < ROUGH_ROWS:
        yield f"Intervals are rough: {counted(n, 'test row')}, fewer than {ROUGH_ROWS}."
    if evidence.spec.kind == "classification":
        counts = Counter({label: 0 for label in getattr(evidence.spec.answer, "labels", ())})
        counts.update(evidence.targets)
        few = [f"{label} ({count})" for label, count in counts.items() if count < ROUGH_ROWS_PER_LABEL]
        if few:
            yield (
                f"Intervals are rough for labels with fewer than {ROUGH_ROWS_PER_LABEL} test rows: "
                f"{', '.join(few[:8])}{' and others' if len(few) > 8 else ''}."
            )


def _imbalance(evidence: Evidence) -> Iterator[str]:
    if evidence.spec.kind != "classification" or evidence.profile:
        return
    (label, most), *rest = Counter(evidence.targets).most_common()
    share = most / len(evidence.targets)
    if share >= LARGE_SHARE or (rest and most >= LARGE_RATIO * rest[-1][1]):
        advice = " Look at macro_f1 or mcc as well." if evidence.metric.name == "accuracy" else ""
        yield (
            f"Labels are unbalanced: {label} is {100 * share:.0f} % of the test rows, so always answering "
            f"it gets an accuracy of {share:.3f}.{advice}"
        )


def _invalid(evidence: Evidence) -> Iterator[str]:
    for entry in evidence.entries:
        if entry.valid_rate < 1:
            share = f"{100 * (1 - entry.valid_rate):.1f} %"
            yield f"{entry.candidate}: {share} of its test answers are not valid answers."


def _groups(evidence: Evidence) -> Iterator[str]:
    if evidence.spec.group and evidence.groups is None:
        yield (
            f"The task has groups ({evidence.spec.group}), but the stored predictions do not name them: "
            "rows are taken as independent, and intervals are too narrow if rows of a group are alike."
        )
    if evidence.few_groups:
        yield f"Intervals are rough: the test rows come from {counted(evidence.units, 'group')} only."


def _profile(evidence: Evidence) -> Iterator[str]:
    for text in evidence.profile.get("warnings") or ():
        yield str(text)


def _journal(evidence: Evidence) -> Iterator[str]:
    """Messages of the run, and what failed, did not fit the budget, or was not tested."""
    last = {event.get("trial"): event for event in evidence.events if event.get("trial")}
    for event in evidence.events:
        if event.get("event") == "message":
            yield str(event.get("text", ""))
    for trial, event in last.items():
        if event.get("event") == "failed":
            yield f"Trial {trial} failed: {event.get('reason') or 'no reason recorded'}"
    left_out = [str(trial) for trial, event in last.items() if event.get("event") == "out_of_budget"]
    if left_out:
        yield f"Left out for lack of budget: {', '.join(left_out)}."
    if evidence.untested:
        yield f"Finished but never tested, so not compared: {', '.join(evidence.untested)}."
