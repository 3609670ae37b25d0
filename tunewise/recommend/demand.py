"""Which finalists are worth their costs, where two of them break even, and what demand would change the pick.

>>> front(evidence.entries)
('tfidf-logistic', 'lora')
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

from tunewise.cost import Demand, break_even
from tunewise.figures import in_points
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


Ask = Callable[[Evidence, float], Verdict]
"""What the picking rule says of some evidence, at a margin in points."""
MARGINS = tuple(half / 2 for half in range(21))
"""In points, that are tried for what would make the runner-up the pick."""


def turning_points(evidence: Evidence, ask: Ask, margin: float) -> Iterator[tuple[float, Verdict]]:
    """The nearest numbers of requests, below and above those asked for, at which another finalist is picked.

    Yields:
        The number of requests up to which, or from which on, and what the rule says beyond it.
    """
    asked, updates = evidence.demand.requests, evidence.demand.updates
    pick = ask(evidence, margin).pick

    def at(requests: float) -> Verdict:
        return ask(evidence.at(Demand(requests, updates)), margin)

    for way in (_demands(asked, 1 / STEP), _demands(asked, STEP)):
        for inside, outside in itertools.pairwise(way):
            if at(outside).pick != pick:
                for _ in range(HALVINGS):
                    middle = math.sqrt(inside * outside)
                    inside, outside = (inside, middle) if at(middle).pick != pick else (middle, outside)
                yield outside, at(outside)
                break


def _demands(asked: float, factor: float) -> Iterator[float]:
    """Numbers of requests from those asked for on, each so many times the one before, as far as is told."""
    end = FARTHEST if factor > 1 else NEAREST
    requests = min(max(asked, NEAREST), FARTHEST)
    yield requests
    while (requests - end) * (factor - 1) < 0:
        requests = max(min(requests * factor, FARTHEST), NEAREST)
        yield requests


def rounded(requests: float) -> str:
    """Two figures: 41,237 as `41,000`."""
    return f"{float(f'{requests:.2g}'):,.0f}"


def conditions(
    evidence: Evidence, ask: Ask, margin: float, instructed: str, runner_up: str | None
) -> Iterator[str]:
    """What would make another finalist the pick, as sentences.

    Args:
        evidence: of the run.
        ask: the picking rule.
        margin: in points.
        instructed: the family whose instruction may change with a request.
        runner_up: the best of the others, of which something is said in any case.
    """
    pick, updates = evidence.entry(ask(evidence, margin).pick), evidence.demand.updates
    said = {pick.candidate}
    setups = f"{updates:g} set-up{'' if updates == 1 else 's'}"
    for point, verdict in turning_points(evidence, ask, margin):
        said.add(verdict.pick)
        side = "Above" if point > evidence.demand.requests else "Below"
        there, other = Demand(point, updates), evidence.entry(verdict.pick)
        less = there.cost(other.costs.works) < there.cost(pick.costs.works)
        why = ": it costs less there" if less else ", undecided" if verdict.status == "undecided" else ""
        requests = f"{side} about {rounded(point)} requests a month with {setups}"
        yield f"{requests}, {verdict.pick} would be the pick{why}."
    if runner_up is not None and runner_up not in said:
        yield _of_runner_up(evidence, ask, runner_up, margin)
    prompts = [entry.candidate for entry in evidence.entries if entry.family == instructed]
    if pick.family != instructed and prompts:
        best = evidence.entry(ask(evidence.only(prompts), margin).pick)
        behind = 100 * (pick.score - best.score)
        than = f"{abs(behind):.1f} points {'below' if behind > 0 else 'above'} {pick.candidate} {evidence.where}"
        yield (
            f"If the instruction must change with each request, only a prompt will do: {best.candidate} "
            f"({best.score:.3f}, {than})."
        )


def _of_runner_up(evidence: Evidence, ask: Ask, runner_up: str, margin: float) -> str:
    """At which number of requests, else with which margin, the runner-up would be the pick."""
    asked, updates = evidence.demand.requests, evidence.demand.updates
    ways = itertools.zip_longest(_demands(asked, 1 / STEP), _demands(asked, STEP))
    for requests in (one for both in ways for one in both if one is not None):  # the nearest first
        if ask(evidence.at(Demand(requests, updates)), margin).pick == runner_up:
            return f"At about {rounded(requests)} requests a month the runner-up {runner_up} would be the pick."
    nearest_first = sorted(MARGINS, key=lambda other: abs(other - margin))
    for other in nearest_first:
        if ask(evidence, other).pick == runner_up:
            return (
                f"With a margin of {in_points(other)} instead of {margin:g}, the runner-up {runner_up} would be "
                "the pick; no number of requests makes it so."
            )
    neither = f"No number of requests, and no margin up to {in_points(MARGINS[-1])}"
    return f"{neither}, makes the runner-up {runner_up} the pick."
