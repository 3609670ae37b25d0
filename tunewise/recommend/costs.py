"""What finalists cost to make and to run, where two of them break even, and what would change the pick.

>>> costs.per_thousand["milliseconds"], front(evidence.entries)
(8320.0, ('tfidf-logistic', 'lora'))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunewise.cost import Demand, Works, break_even
from tunewise.rule import Verdict, figure

if TYPE_CHECKING:
    from tunewise.recommend.evidence import Entry, Evidence

NEAREST, FARTHEST = 1.0, 1e9
"""Requests between which turning points are told."""
STEP = 10**0.25
"""From one demand to the next that the rule is asked about; a turn and a turn back between two are missed."""
HALVINGS = 16
"""By which a turning point is then found."""


@dataclass(frozen=True)
class Costs:
    """Figures of one candidate; None where a run did not record them."""

    works: Works
    labels: float | None = None
    """Rows it was trained on, or chose its examples from."""
    setup_seconds: float | None = None
    setup_mb: float | None = None
    """Largest resident memory while it was made."""
    milliseconds: float | None = None
    """Mean of a request, measured in the test, where requests come together."""
    prompt_tokens: float | None = None
    """Mean of a request that had to be read."""
    cached_tokens: float | None = None
    """Mean of a request that it shared with others."""
    serving_mb: float | None = None
    """Memory that answering takes, forecast from its tensors."""

    @classmethod
    def from_row(cls, row: Mapping[str, str], lines: Sequence[Mapping[str, Any]]) -> Costs:
        """Of a row of the leaderboard, and its answers to the test rows."""
        cached = [line["cached_tokens"] for line in lines if line.get("cached_tokens") is not None]
        return cls(
            works=Works(figure(row, "setup_work", default=0.0), figure(row, "request_work", default=0.0)),
            labels=_known(row, "n_train"),
            setup_seconds=_known(row, "fit_seconds"),
            setup_mb=_known(row, "peak_rss_mb"),
            milliseconds=_known(row, "ms_per_example"),
            prompt_tokens=_known(row, "prompt_tokens"),
            cached_tokens=sum(cached) / len(cached) if cached else None,
            serving_mb=_known(row, "serving_mb"),
        )

    def to_json(self, price: float | None = None) -> dict[str, Any]:
        """What it took to make, and what a thousand requests take.

        Args:
            price: of a unit of work; then both are told in money as well.
        """
        each = {"milliseconds": self.milliseconds, "prompt_tokens": self.prompt_tokens}
        each["cached_tokens"] = self.cached_tokens
        thousand = {name: None if value is None else round(1000 * value, 1) for name, value in each.items()}
        return {
            "setup": {
                "labels": self.labels,
                "work": self.works.setup,
                **({} if price is None else {"money": price * self.works.setup}),
                "seconds": self.setup_seconds,
                "peak_mb": self.setup_mb,
            },
            "per_1000_requests": {
                "work": 1000 * self.works.request,
                **({} if price is None else {"money": 1000 * price * self.works.request}),
                **thousand,
            },
            "serving_mb": self.serving_mb,
        }


def _known(row: Mapping[str, str], column: str) -> float | None:
    """A figure; None where the column is missing or empty. Raises CandidateError for what is no number."""
    return figure(row, column) if (row.get(column) or "").strip() else None


def front(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The finalists that no other beats in score, serving and set-up work at once (Pareto), best score first."""
    found = [entry for entry in entries if not any(_beats(other, entry) for other in entries)]
    return tuple(entry.candidate for entry in sorted(found, key=lambda entry: -entry.score))


def _beats(one: Entry, other: Entry) -> bool:
    ours, theirs = ((-entry.score, entry.costs.works.request, entry.costs.works.setup) for entry in (one, other))
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def break_evens(evidence: Evidence, pick: str) -> dict[str, float | None]:
    """For every other finalist, the requests at which it and the pick have cost the same; None at no number."""
    ours = evidence.entry(pick).costs.works
    return {
        entry.candidate: break_even(ours, entry.costs.works, evidence.demand.updates)
        for entry in evidence.entries
        if entry.candidate != pick
    }


Ask = Callable[["Evidence"], Verdict]
"""What the picking rule says of some evidence."""


def turning_points(evidence: Evidence, ask: Ask) -> Iterator[tuple[float, Verdict]]:
    """The nearest numbers of requests, below and above those asked for, at which another finalist is picked.

    Yields:
        The number of requests up to which, or from which on, and what the rule says beyond it.
    """
    asked, updates = evidence.demand.requests, evidence.demand.updates
    pick = ask(evidence).pick

    def at(requests: float) -> Verdict:
        return ask(evidence.at(Demand(requests, updates)))

    for factor, end in ((1 / STEP, NEAREST), (STEP, FARTHEST)):
        inside = min(max(asked, NEAREST), FARTHEST)
        while (inside - end) * (factor - 1) < 0:
            outside = max(min(inside * factor, FARTHEST), NEAREST)
            if at(outside).pick != pick:
                for _ in range(HALVINGS):
                    middle = math.sqrt(inside * outside)
                    inside, outside = (inside, middle) if at(middle).pick != pick else (middle, outside)
                yield outside, at(outside)
                break
            inside = outside


def rounded(requests: float) -> str:
    """Two figures: 41,237 as `41,000`."""
    return f"{float(f'{requests:.2g}'):,.0f}"


def conditions(evidence: Evidence, ask: Ask, instructed: str) -> Iterator[str]:
    """What would make another finalist the pick, as sentences.

    Args:
        evidence: of the run.
        ask: the picking rule.
        instructed: the family whose instruction may change with a request.
    """
    pick, updates = evidence.entry(ask(evidence).pick), evidence.demand.updates
    setups = f"{updates:g} set-up{'' if updates == 1 else 's'}"
    for point, verdict in turning_points(evidence, ask):
        side = "Above" if point > evidence.demand.requests else "Below"
        there, other = Demand(point, updates), evidence.entry(verdict.pick)
        less = there.cost(other.costs.works) < there.cost(pick.costs.works)
        why = ": it costs less there" if less else ", undecided" if verdict.status == "undecided" else ""
        requests = f"{side} about {rounded(point)} requests a month with {setups}"
        yield f"{requests}, {verdict.pick} would be the pick{why}."
    prompts = [entry.candidate for entry in evidence.entries if entry.family == instructed]
    if pick.family != instructed and prompts:
        best = evidence.entry(ask(evidence.only(prompts)).pick)
        behind = 100 * (pick.score - best.score)
        than = f"{abs(behind):.1f} points {'below' if behind > 0 else 'above'} {pick.candidate} {evidence.where}"
        yield (
            f"If the instruction must change with each request, only a prompt will do: {best.candidate} "
            f"({best.score:.3f}, {than})."
        )
