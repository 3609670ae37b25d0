"""From a run folder to a recommendation: which candidate to use, what was shown of it, and why.

A pure function of the files: no model is loaded, nothing is written. `nominate` fixes two names from
validation before the test split opens; `recommend` reads the test predictions and applies the rule of
docs/decisions/0002.

>>> recommend(Path("runs/tickets")).pick  # doctest: +SKIP
'lora'
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tunewise.cost import USUAL
from tunewise.errors import SettingError
from tunewise.recommend.cautions import cautions
from tunewise.recommend.demand import break_evens, conditions, front
from tunewise.recommend.evidence import Evidence
from tunewise.recommend.learning import learning
from tunewise.recommend.reader import read_evidence
from tunewise.recommend.reasons import ANSWERS, Findings, Reason, reasons
from tunewise.recommend.recommendation import Compared, Recommendation
from tunewise.recommend.seeds import seeds
from tunewise.recommend.wishes import INSTRUCTED, Wishes
from tunewise.rule import Finalist, Verdict, by_cost, judge, margin_as_share, nominate, told_apart
from tunewise.statistics import ROUNDING, Difference, rows_needed, rows_needed_continuous, smallest_margin

__all__ = ["Compared", "Finalist", "Recommendation", "Wishes", "nominate", "recommend"]


def recommend(folder: Path, *, margin: float | None = None, wishes: Wishes | None = None) -> Recommendation:
    """The recommendation that follows from a run folder's files.

    Args:
        folder: the run folder; read, never written.
        margin: points of score that a lower cost may be worth; the run's own by default. Another one is applied
            with a warning that it was chosen after the test had been opened.
        wishes: how the pick will be used, where that differs from what a run goes by; with the same warning.

    Raises:
        CandidateError: a file is missing, damaged, or contradicts another.
        SettingError: the margin is not between 0 and 100, the task's metric is unknown, or no finalist does what
            is wished for.
        WorkError: there is no finalist.
    """
    folder = Path(folder)
    wishes = wishes or Wishes()
    evidence, left_out = _wished(read_evidence(folder), wishes)
    margin = evidence.margin if margin is None else margin
    other = bool(left_out) or wishes.demand != USUAL or not math.isclose(margin, evidence.margin)
    findings = _findings(evidence, margin)
    named = findings.reference, findings.nominee
    stand_in = not other and evidence.nominated not in (None, named)
    findings = replace(findings, afterwards=other, stand_in=stand_in, left_out=left_out)
    pick = evidence.entry(findings.verdict.pick)
    runner_up = next((entry.candidate for entry in evidence.entries if entry is not pick), None)
    price = _price(evidence, wishes)
    trained = seeds(evidence, pick.candidate)
    why = reasons(evidence, findings)
    if trained is not None:
        why += tuple(Reason(text, ANSWERS) for text in trained.sentences(pick.candidate, runner_up))
    behind = findings.to_pick[runner_up] if runner_up else None
    learnt = learning(folder, evidence, pick.candidate)
    turns = conditions(
        evidence, lambda some, points: _verdict(some, *_named(some, points), points), margin, INSTRUCTED, runner_up
    )
    return Recommendation(
        pick=pick.candidate,
        status=findings.verdict.status,
        score=findings.score,
        ci=(findings.interval.low, findings.interval.high),
        reasons=tuple(reason.text for reason in why),
        sources=tuple(reason.source for reason in why),
        tied_with=findings.tied,
        runner_up=runner_up,
        difference=_compared(behind, evidence).turned if behind else None,
        margin=findings.margin,
        warnings=(*_exploring(evidence, wishes, left_out), *cautions(evidence, findings)),
        reference=findings.reference,
        nominee=findings.nominee,
        metric=evidence.metric.name,
        n_test=len(evidence.targets),
        differences={name: _compared(d, evidence) for name, d in findings.to_pick.items()},
        smallest_margin_shown=findings.smallest_margin,
        rows_needed=findings.rows_needed,
        next_commands=_next_commands(folder, evidence, pick.candidate if other or any(wishes.words()) else None),
        conditions=(*turns, *(learnt.sentences(pick.candidate) if learnt else ())),
        costs={entry.candidate: entry.costs.to_json(price) for entry in evidence.entries},
        break_even_requests=break_evens(evidence, pick.candidate),
        front=front(evidence.entries),
        left_out=left_out,
        demand={"requests": wishes.requests, "updates": wishes.updates},
        seeds=trained.to_json() if trained else {},
        learning=learnt.to_json() if learnt else {},
        folds=evidence.folds,
        folder=folder,
    )


def _compared(found: Difference, evidence: Evidence) -> Compared:
    """A difference as it is told: folds share the rows that they were trained on, so nothing is tested there."""
    if evidence.folds:
        return Compared(found.value, (found.low, found.high), None)
    return Compared(found.value, (found.low, found.high), found.p, found.upper)


def _wished(evidence: Evidence, wishes: Wishes) -> tuple[Evidence, dict[str, str]]:
    """The finalists that do what is wished for, at the costs of that demand; and why the others do not."""
    left_out = {
        entry.candidate: reason for entry in evidence.entries if (reason := wishes.unmet(entry)) is not None
    }
    kept = [entry.candidate for entry in evidence.entries if entry.candidate not in left_out]
    if evidence.entries and not kept:
        names: dict[str, list[str]] = {}
        for name, reason in left_out.items():
            names.setdefault(reason, []).append(name)
        said = "; ".join(f"{', '.join(some)}: {reason}" for reason, some in names.items())
        raise SettingError(f"no finalist does what is asked: {said}. Ask for less, or compare other methods.")
    evidence = evidence.only(kept) if left_out else evidence
    return (evidence if wishes.demand == evidence.demand else evidence.at(wishes.demand)), left_out


def _price(evidence: Evidence, wishes: Wishes) -> float | None:
    """Of a unit of work, by the machine's measured rate; None where no price was given."""
    if wishes.price_per_hour is None:
        return None
    if not evidence.rate:
        raise SettingError(
            "price per hour: this run counted operations and no seconds, so nothing can be priced; compare with a "
            "budget in minutes."
        )
    return wishes.price_per_hour / 3600 / evidence.rate


def _exploring(evidence: Evidence, wishes: Wishes, left_out: Mapping[str, str]) -> Iterator[str]:
    """What must be said of a recommendation that was asked for otherwise than the run was started."""
    asked = list(wishes.words())
    if asked:
        said = ", ".join(asked)
        yield f"Asked for after {evidence.opened}: {said}. Read this as exploration, not as a test."
    for name, reason in left_out.items():
        yield f"{name} is left out: {reason}."


def _findings(evidence: Evidence, margin: float) -> Findings:
    reference, nominee = _named(evidence, margin)
    to_nominee = evidence.differences_to(nominee)
    verdict = _verdict(evidence, reference, nominee, margin)
    to_pick = evidence.differences_to(verdict.pick)
    pick = evidence.entry(verdict.pick)
    score, interval = pick.score, None
    if evidence.folds:  # the rows chose, so the score is corrected, and nothing is claimed of differences
        choice = evidence.choice([one.candidate for one in _by_cost(evidence)], margin / 100)
        score, interval = choice.value, choice.interval
    found = Findings(
        reference=reference,
        nominee=nominee,
        verdict=verdict,
        margin=margin,
        score=score,
        interval=interval or evidence.interval(pick),
        to_pick=to_pick,
        tied=tuple(to_pick),
        smallest_margin=None,
        rows_needed=None,
    )
    if evidence.folds:
        return found
    return replace(
        found,
        tied=tuple(name for name, apart in told_apart(to_pick).items() if not apart),
        smallest_margin=smallest_margin(list(verdict.uppers.values())) if verdict.uppers else None,
        rows_needed=_rows_needed(evidence, nominee, to_nominee, verdict, margin / 100),
    )


def _verdict(evidence: Evidence, reference: str, nominee: str, margin: float) -> Verdict:
    if evidence.folds:  # what chose is what would test: nothing is asked of it a second time
        reference = nominee
    return judge(reference, nominee, evidence.differences_to(nominee), margin, evidence.labelled_rows)


def _named(evidence: Evidence, margin: float) -> tuple[str, str]:
    """Reference and nominee: as the journal fixed them before the test, else from validation now.

    In folds, by the answers to all but the first: the highest score, and the cheapest within the margin of it.
    """
    within = margin_as_share(margin)
    if evidence.folds:
        ranked = [(one.candidate, evidence.entry(one.candidate).score) for one in _by_cost(evidence)]
        best = max(score for _, score in ranked) - ROUNDING
        reference = next(name for name, score in ranked if score >= best)
        return reference, next(name for name, score in ranked if score >= best - within)
    named = tuple(one.candidate for one in nominate([entry.finalist for entry in evidence.entries], margin))
    fixed = evidence.nominated
    tested = {entry.candidate for entry in evidence.entries}
    same = math.isclose(margin, evidence.margin) and evidence.demand == USUAL
    if fixed is None or not same or not tested.issuperset(fixed):
        return named[0], named[1]
    return fixed


def _by_cost(evidence: Evidence) -> list[Finalist]:
    return by_cost([entry.finalist for entry in evidence.entries])


def _rows_needed(
    evidence: Evidence, nominee: str, to_nominee: Mapping[str, Difference], verdict: Verdict, margin: float
) -> int | None:
    """Rows that would show the margin against every finalist it was not shown against.

    None when it was shown, when the margin is 0 or all there is, when groups are too few to tell, and when some
    finalist is better than the nominee by more than the margin: then no number of rows would.
    """
    unshown = [name for name, upper in verdict.uppers.items() if upper >= margin]
    if not unshown or margin in (0, 1) or evidence.few_groups:
        return None
    if any(to_nominee[name].low >= margin for name in unshown):
        return None
    return max(_rows_against(evidence, nominee, name, to_nominee[name], margin) for name in unshown)


def _rows_against(evidence: Evidence, nominee: str, name: str, difference: Difference, margin: float) -> int:
    metric, n = evidence.metric, len(evidence.targets)
    ours, theirs = (metric.rows(evidence.entry(one).outputs, evidence.targets) for one in (nominee, name))
    if metric.is_rate and evidence.groups is None and ours is not None and theirs is not None:
        return rows_needed(float((ours != theirs).mean()), margin)
    return rows_needed_continuous(difference.standard_error * math.sqrt(n), margin)


def _next_commands(folder: Path, evidence: Evidence, pick: str | None) -> tuple[str, ...]:
    """What to do next; `pick` names the candidate where it may be another than that of recommendation.json."""
    run = shlex.quote(str(folder if pick is None else folder / "candidates" / pick))
    inputs = evidence.spec.inputs
    text = "your text" if len(inputs) == 1 else json.dumps(dict.fromkeys(inputs, "..."), ensure_ascii=False)
    return (
        f"tunewise predict {run} --text {shlex.quote(text)}",
        f"tunewise predict {run} new.csv -o out.csv",
        *([f"tunewise report {run}"] if pick is None else []),
    )
