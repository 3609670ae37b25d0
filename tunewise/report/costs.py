"""What finalists took to make and take to run, ready to be laid out.

>>> rows(run)[0].cells  # doctest: +SKIP
('256', '310 T', '74.2', '1,830', '8.1 T', '41.2', '18,300', '52,000', '790', 'always dearer')
"""

from __future__ import annotations

from dataclasses import dataclass

from tunewise.cost import Works, always
from tunewise.figures import operations
from tunewise.report.records import Cost, Recommendation, Run
from tunewise.report.words import NOTHING, count, figure, plain

SUMMARY = (
    "Work is counted in operations, weighed by how fast this machine does each kind. Seconds were measured. A "
    "thousand requests come together, and what they share is read once. Memory to answer is forecast from "
    "tensors. Of those marked front none is beaten in score, set-up and request at once. Beyond the number in "
    "the last column, the one that takes less for a request is the cheaper."
)


@dataclass(frozen=True)
class CostRow:
    """One finalist, in words."""

    name: str
    picked: bool
    on_front: bool
    """Whether no other is better and cheaper at once."""
    cells: tuple[str, ...]


def rows(run: Run) -> tuple[CostRow, ...]:
    """Every finalist, in the order of the leaderboard; none in runs that did not record costs."""
    told = run.recommendation
    return () if told is None else tuple(_row(told, name, cost) for name, cost in told.costs.items())


def summary(run: Run) -> str:
    """How to read the rows, and what demand their last column is for."""
    updates = run.recommendation.updates if run.recommendation else None
    if updates is None:
        return SUMMARY
    return f"{SUMMARY} It counts {plain(updates)} set-up{'' if updates == 1 else 's'} of each."


def _row(told: Recommendation, name: str, cost: Cost) -> CostRow:
    picked = name == told.pick
    if picked:
        even = NOTHING
    elif cost.even_at is not None:
        even = count(float(f"{cost.even_at:.2g}"))
    else:
        even = (
            always(_works(cost), _works(told.costs[told.pick]), told.updates or 0.0)
            if told.pick in told.costs
            else NOTHING
        )
    cells = (
        count(cost.labels),
        operations(cost.setup_work),
        figure(cost.setup_seconds),
        count(cost.setup_mb),
        operations(cost.work),
        figure(None if cost.milliseconds is None else cost.milliseconds / 1000),
        count(cost.prompt_tokens),
        count(cost.cached_tokens),
        count(cost.serving_mb),
        even,
    )
    return CostRow(name, picked, name in told.front, cells)


def _works(cost: Cost) -> Works:
    return Works(cost.setup_work or 0.0, (cost.work or 0.0) / 1000)
