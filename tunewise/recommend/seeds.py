"""What training by chance does to scores: finalists that were trained with several seeds, compared as methods.

An interval over rows covers the one model that was tested. Another training of the same method would have given
another model; how much that matters is seen where a method was trained again.

>>> found = seeds(evidence, "lora")
>>> found.scores["lora"], found.differences["few-shot"]
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunewise import figures
from tunewise.recommend.reasons import PROMPT_ONLY, WITHOUT_MODEL, p_text, points
from tunewise.statistics import MethodDifference, method_difference, paired_difference

if TYPE_CHECKING:
    from tunewise.recommend.evidence import Evidence

UNTRAINED = (*WITHOUT_MODEL, *PROMPT_ONLY)
"""Families that nothing is trained in: a baseline is the same again, and so is a prompt once it is chosen."""


@dataclass(frozen=True)
class Seeds:
    """Scores by seed, and the pick beside the others as methods."""

    scores: Mapping[str, tuple[float, ...]]
    """Test scores of each candidate that was trained again; that of the candidate itself first."""
    differences: Mapping[str, MethodDifference]
    """Pick minus every other finalist, where each of the two that is trained was trained again; rows and seeds
    counted."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "scores": {name: [round(score, 6) for score in found] for name, found in self.scores.items()},
            "differences": {
                name: {"value": one.value, "ci": [one.low, one.high], "p": one.p}
                for name, one in self.differences.items()
            },
        }

    def sentences(self, pick: str, runner_up: str | None) -> Iterator[str]:
        """What the seeds say, those of the pick first."""
        for name in sorted(self.scores, key=lambda name: name != pick):
            found = self.scores[name]
            spread, scores = points(statistics.stdev(found)), figures.listed(list(map(figures.score, found)))
            yield (
                f"Trained with {len(found)} seeds, {name} scores {scores} on test: "
                f"{statistics.fmean(found):.3f} on average, with a standard deviation of {spread} points."
            )
        one = self.differences.get(runner_up or "")
        if one is not None:
            yield (
                f"The luck of training counted as well as rows, {pick} minus {runner_up} is {points(one.value)} "
                f"points (95 % interval {points(one.low)} to {points(one.high)}, {p_text(one.p)})."
            )


def seeds(evidence: Evidence, pick: str) -> Seeds | None:
    """What is known of the luck of training; None where nothing was trained again."""
    if not evidence.repeats:
        return None
    answers = {
        entry.candidate: (entry.outputs, *evidence.repeats.get(entry.candidate, ())) for entry in evidence.entries
    }
    score, targets = evidence.metric.score, evidence.targets
    scores = {name: [float(score(one, targets)) for one in found] for name, found in answers.items()}
    differences = {}
    for name in answers:
        trained = [one for one in (pick, name) if evidence.entry(one).family not in UNTRAINED]
        # Of a side that was trained once nothing is known of its luck.
        if name == pick or evidence.units < 2 or any(len(scores[one]) < 2 for one in trained):
            continue
        variance = _row_variance(evidence, answers[pick], answers[name])
        found = method_difference(
            scores[pick], scores[name], row_variance=variance, rows=len(targets), units=evidence.units
        )
        if found is not None:
            differences[name] = found
    again = {name: tuple(found) for name, found in scores.items() if len(found) > 1}
    return Seeds(again, differences)


def _row_variance(evidence: Evidence, ours: Sequence[tuple[str, ...]], theirs: Sequence[tuple[str, ...]]) -> float:
    """Variance of one row's difference, the mean over pairs of trained models that hold each at least once.

    It is what the interval of the difference amounts to: that of answers that are all the same would be 0 on these
    rows, which says little of others.
    """
    metric, targets, groups = evidence.metric, evidence.targets, evidence.groups
    differences = [
        paired_difference(metric, ours[pair % len(ours)], theirs[pair % len(theirs)], targets, groups)
        for pair in range(max(len(ours), len(theirs)))
    ]
    return len(targets) * statistics.fmean(one.standard_error**2 for one in differences)
