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
from tunewise.figures import number

if TYPE_CHECKING:
    from tunewise.recommend.evidence import Entry, Evidence

FARTHEST = 1e9
"""Requests beyond which no turning point is told."""
MOST_STEPS = 6
"""Turning points that are looked through in each direction."""


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
            works=Works(number(row.get("setup_work")) or 0.0, number(row.get("request_work")) or 0.0),
            labels=number(row.get("n_train")),
            setup_seconds=number(row.get("fit_seconds")),
            setup_mb=number(row.get("peak_rss_mb")),
            milliseconds=number(row.get("ms_per_example")),
            prompt_tokens=number(row.get("prompt_tokens")),
            cached_tokens=sum(cached) / len(cached) if cached else None,
            serving_mb=number(row.get("serving_mb")),
        )

    def to_json(self) -> dict[str, Any]:
        """What it took to make, and what a thousand requests take."""
        each = {"milliseconds": self.milliseconds, "prompt_tokens": self.prompt_tokens}
        each["cached_tokens"] = self.cached_tokens
        thousand = {name: None if value is None else round(1000 * value, 1) for name, value in each.items()}
        return {
            "setup": {
                "labels": self.labels,
                "work": self.works.setup,
                "seconds": self.setup_seconds,
                "peak_mb": self.setup_mb,
            },
            "per_1000_requests": {"work": 1000 * self.works.request, **thousand},
            "serving_mb": self.serving_mb,
        }


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


def turning_points(evidence: Evidence, pick: str, pick_at: Callable[[Demand], str]) -> Iterator[tuple[float, str]]:
    """The nearest numbers of requests, below and above those asked for, at which another finalist is picked.

    Args:
        evidence: with the demand that is asked for.
        pick: at that demand.
        pick_at: what the rule picks at another demand.

    Yields:
        The number of requests from which on, or up to which, and the finalist.
    """
    asked, updates = evidence.demand.requests, evidence.demand.updates
    works = [entry.costs.works for entry in evidence.entries]
    crossings = {break_even(one, other, updates) for one in works for other in works}
    # Within 10 % costs are a tie, so a pick turns a little before or behind the point itself: look between points.
    known = sorted(point for point in crossings if point is not None and 1.0 <= point <= FARTHEST)
    above = [point for point in known if point > asked]
    below = [point for point in reversed(known) if point < asked]
    for points, end in ((below, 1.0), (above, FARTHEST)):
        for place, point in enumerate(points[:MOST_STEPS]):
            beyond = points[place + 1] if place + 1 < len(points) else end
            other = pick_at(Demand(math.sqrt(point * beyond), updates))
            if other != pick:
                yield point, other
                break


def rounded(requests: float) -> str:
    """Two figures: 41,237 as `41,000`."""
    return f"{float(f'{requests:.2g}'):,.0f}"


def conditions(evidence: Evidence, pick: str, pick_at: Callable[[Demand], str], instructed: str) -> Iterator[str]:
    """What would make another finalist the pick, as sentences.

    Args:
        evidence: of the run.
        pick: the pick.
        pick_at: what the rule picks at another demand.
        instructed: the family whose instruction may change with a request.
    """
    updates = evidence.demand.updates
    setups = f"{updates:g} set-up{'' if updates == 1 else 's'}"
    for point, other in turning_points(evidence, pick, pick_at):
        side = "Above" if point > evidence.demand.requests else "Below"
        requests = f"{side} about {rounded(point)} requests a month with {setups}"
        yield f"{requests}, {other} would be the pick: it costs less."
    if evidence.entry(pick).family != instructed:
        best = next((entry for entry in evidence.entries if entry.family == instructed), None)
        if best is not None:
            behind = 100 * (evidence.entry(pick).score - best.score)
            than = f"{abs(behind):.1f} points {'below' if behind > 0 else 'above'} {pick} on test"
            yield (
                f"If the instruction must change with each request, only a prompt will do: {best.candidate} "
                f"({best.score:.3f}, {than})."
            )
