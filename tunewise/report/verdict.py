"""The verdict in one sentence, in words that claim no more than the status does.

>>> Verdict("Use", "lora", ": accuracy 0.856.", None, (), (), ()).headline
'Use lora: accuracy 0.856.'
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewise.figures import NOTHING, in_points, listed, not_shown
from tunewise.report.records import Recommendation, Run
from tunewise.report.words import (
    count,
    figure,
    interval,
    metric_name,
    p_value,
    points,
    points_interval,
    score,
)

NAMED = 3
"""Ties are named in the sentence up to this number; the reasons name them all."""


@dataclass(frozen=True)
class Fact:
    """One figure under the verdict."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """The sentence in three parts, so that the page can set the pick apart, and what stands under it."""

    opening: str
    pick: str
    rest: str
    status: str | None
    facts: tuple[Fact, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """Of each reason, the file that it comes from; empty in older runs."""
    conditions: tuple[str, ...] = ()
    """What would make another finalist the pick."""

    @property
    def headline(self) -> str:
        """The whole sentence."""
        return f"{self.opening} {self.pick}{self.rest}".strip()


def verdict(run: Run) -> Verdict:
    """The verdict of a run; a sentence that says so when there is none yet."""
    told = run.recommendation
    if told is None or not told.pick:
        why = "the run has not reached the test split" if told is None else "no trial finished"
        warnings = told.warnings if told else ()
        return Verdict(f"No recommendation yet: {why}.", "", "", None, (), told.reasons if told else (), warnings)
    kind = f"rows in {told.folds - 1} folds" if told.folds else "test rows"
    rows = f" on {count(told.n_test)} {kind}" if told.n_test is not None else ""
    scored = f"{metric_name(run.metric)} {score(told.score)} {interval(told.interval)}".strip()
    return Verdict(
        opening="Use",
        pick=told.pick,
        rest=f": {scored}{rows}, {_claim(told)}{_against(told)}.",
        status=told.status,
        facts=_facts(run, told),
        reasons=told.reasons,
        warnings=told.warnings,
        sources=told.sources if len(told.sources) == len(told.reasons) else (),
        conditions=told.conditions,
    )


def _claim(told: Recommendation) -> str:
    """The status in plain words."""
    margin = NOTHING if told.margin is None else in_points(told.margin)
    if told.status == "superior":
        return "better than every other finalist"
    if told.status == "non-inferior":
        return f"with no finalist more than {margin} better"
    if told.status == "too_few_rows":
        return "too few rows to claim that it is best"
    if told.status == "undecided":
        tied = told.tied_with
        if tied:
            named = listed(tied) if len(tied) <= NAMED else f"{len(tied)} other finalists"
            return f"though the test cannot tell it from {named}"
        nominee = told.nominee or told.pick
        unshown = not_shown(told.pick, nominee, told.margin or 0.0, "the test")
        return f"{'though' if nominee == told.pick else 'as'} {unshown}"
    return f"status {told.status or 'unknown'}"


def _against(told: Recommendation) -> str:
    if told.difference is None or not told.runner_up:
        return ""
    return f"; {points(told.difference.value)} points against the runner-up {told.runner_up}"


def _facts(run: Run, told: Recommendation) -> tuple[Fact, ...]:
    facts = [Fact(metric_name(run.metric), score(told.score), interval(told.interval) or "no interval")]
    if told.difference is not None:
        against, p = told.difference.interval, p_value(told.difference.p)
        note = " ".join(part for part in (points_interval(against), p) if part)
        facts.append(
            Fact(f"points against {told.runner_up or 'the runner-up'}", points(told.difference.value), note)
        )
    row = run.pick
    if row is not None:
        facts.append(Fact("seconds to set up", figure(row.fit_seconds), "once, on this machine"))
        tokens = "" if row.prompt_tokens is None else f"{figure(row.prompt_tokens)} uncached prompt tokens"
        facts.append(
            Fact("milliseconds a request", figure(row.ms_per_example), tokens or "as measured in the test")
        )
    return tuple(facts)
