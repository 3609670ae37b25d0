"""The picking rule: two names fixed from validation, one question asked of the test split.

Kept apart from files and sentences so that it can be read, and tested, in one sitting. The study calls
`nominate` before the test split opens; `judge` answers afterwards. Why the rule is what it is:
docs/decisions/0002.

>>> lora = Finalist("lora", validation_score=0.90, cost_work=4.0, artifact_mb=5.0)
>>> full = Finalist("full", validation_score=0.91, cost_work=9.0, artifact_mb=270.0)
>>> reference, nominee = nominate([lora, full], margin_points=2)
>>> reference.candidate, nominee.candidate
('full', 'lora')
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewise.errors import CandidateError, SettingError, WorkError
from tunewise.statistics import ROUNDING, Difference, holm

Status = Literal["superior", "non-inferior", "undecided", "too_few_rows"]

SAME_COST = 1.10
"""Costs within 10 % of the cheapest are a tie: counted work is not known more exactly than that."""
SIGNIFICANT = 0.05
FEWEST_ROWS = 100
"""Labelled rows in all (train, validation and test) below which nothing is claimed."""


@dataclass(frozen=True)
class Finalist:
    """What the nomination may see of a finalist: nothing of the test split."""

    candidate: str
    validation_score: float
    cost_work: float
    """Work for all requests and the set-up, in the unit of the run's budget."""
    artifact_mb: float = 0.0

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Finalist:
        """The finalist of a `leaderboard.csv` row; raises CandidateError for a figure that is no number."""
        return cls(
            candidate=row["candidate"],
            validation_score=figure(row, "validation_score"),
            cost_work=figure(row, "cost_work"),
            artifact_mb=figure(row, "artifact_mb", default=0.0),
        )


@dataclass(frozen=True)
class Verdict:
    """What the rule says of the test split."""

    pick: str
    status: Status
    uppers: Mapping[str, float]
    """For every other finalist, the one-sided 95 % upper bound of (other - nominee)."""


def nominate(finalists: Sequence[Finalist], margin_points: float) -> tuple[Finalist, Finalist]:
    """The reference and the nominee, from validation alone.

    Args:
        finalists: the best of each method.
        margin_points: how many points (hundredths) of validation score a lower cost may be worth.

    Returns:
        The reference, which has the highest validation score (of equals, the cheapest), and the nominee,
        the cheapest finalist whose validation score is within the margin of the reference's. They may be
        the same.

    Raises:
        SettingError: the margin is not between 0 and 100.
        WorkError: there is no finalist.
    """
    margin = margin_as_share(margin_points)
    if not finalists:
        raise WorkError(
            "no candidate can be recommended: no trial finished. Expected at least one; "
            "the reasons stand in trials.jsonl. Mend those, or give a larger --budget."
        )
    best = max(finalist.validation_score for finalist in finalists)
    reference = cheapest([f for f in finalists if f.validation_score >= best - ROUNDING])
    nominee = cheapest([f for f in finalists if f.validation_score >= best - margin - ROUNDING])
    return reference, nominee


def cheapest(finalists: Sequence[Finalist]) -> Finalist:
    """The finalist of lowest cost; within 10 % of it, the one of smallest artifact, then first by name."""
    limit = min(finalist.cost_work for finalist in finalists) * SAME_COST
    tied = [finalist for finalist in finalists if finalist.cost_work <= limit]
    return min(tied, key=lambda finalist: (finalist.artifact_mb, finalist.candidate))


def by_cost(finalists: Sequence[Finalist]) -> list[Finalist]:
    """All of them, each the cheapest of those that follow, ties broken likewise."""
    left, ranked = list(finalists), []
    while left:
        ranked.append(cheapest(left))
        left.remove(ranked[-1])
    return ranked


def judge(
    reference: str,
    nominee: str,
    to_nominee: Mapping[str, Difference],
    margin_points: float,
    labelled_rows: int,
) -> Verdict:
    """Answer the one question asked of the test split.

    Args:
        reference: candidate name.
        nominee: candidate name.
        to_nominee: for every other finalist, its score minus the nominee's.
        margin_points: in points (hundredths).
        labelled_rows: in all splits together.
    """
    uppers = {name: difference.upper for name, difference in to_nominee.items()}
    margin = margin_as_share(margin_points)
    shown = bool(uppers) and all(upper < margin for upper in uppers.values())
    # A lone finalist has nothing to be compared with, so nothing is claimed for it.
    pick = nominee if shown else reference
    if labelled_rows < FEWEST_ROWS:
        return Verdict(pick, "too_few_rows", uppers)
    if not shown:
        return Verdict(pick, "undecided", uppers)
    beaten = all(told_apart(to_nominee)[name] and to_nominee[name].value < 0 for name in to_nominee)
    return Verdict(pick, "superior" if beaten else "non-inferior", uppers)


def told_apart(differences: Mapping[str, Difference]) -> dict[str, bool]:
    """Whether each difference is significant at 5 % after Holm's adjustment for looking at all of them."""
    return {name: p < SIGNIFICANT for name, p in adjusted(differences).items()}


def adjusted(differences: Mapping[str, Difference]) -> dict[str, float]:
    """Holm-adjusted p value of each difference."""
    ps = holm([difference.p for difference in differences.values()])
    return dict(zip(differences, ps, strict=True))


def margin_as_share(margin_points: float) -> float:
    """Points to a share; raises SettingError unless between 0 and 100."""
    if not 0 <= margin_points <= 100:
        raise SettingError(
            f"--margin {margin_points:g}: expected points between 0 and 100; "
            "2 means that 0.02 of the score may be given up for a lower cost."
        )
    return margin_points / 100


def figure(row: Mapping[str, str], column: str, default: float | None = None) -> float:
    """A number of a `leaderboard.csv` row; raises CandidateError when it is none and there is no default."""
    text = (row.get(column) or "").strip()
    if not text and default is not None:
        return default
    try:
        found = float(text)
        if not math.isfinite(found):
            raise ValueError
        return found
    except ValueError:
        raise CandidateError(
            f"leaderboard.csv, row {row.get('candidate', '?')}, column {column}: found {text!r}, expected "
            "a number. Restore the file from the run, or run `tunewise resume` on the run folder."
        ) from None
