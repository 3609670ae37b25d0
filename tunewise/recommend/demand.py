"""Which finalists are worth their costs, where two of them break even, and what demand would change the pick.

>>> front(evidence.entries)
('tfidf-logistic', 'lora')
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tunewise.cost import Demand, break_even
from tunewise.recommend.evidence import Entry, Evidence
from tunewise.rule import Verdict

NEAREST, FARTHEST = 1.0, 1e9
"""Requests between which turning points are told."""
STEP = 10**0.25
"""From one demand to the next that the rule is asked about; a turn and a turn back between two are missed."""
HALVINGS = 16
"""By which a turning point is then found."""


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


Ask = Callable[[Evidence], Verdict]
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
