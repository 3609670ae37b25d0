"""What more labels are worth: the learning curves of a run, from the answers in its `curve.jsonl`.

>>> found = learning(folder, evidence, "lora")
>>> found.candidates["lora"].twice, found.sentences("lora")
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunewise.errors import CandidateError
from tunewise.figures import listed
from tunewise.recommend.demand import rounded
from tunewise.run_files import CURVE, CURVE_AGAIN, Fields, read_lines
from tunewise.statistics.curves import (
    LEAST_DRAWS,
    LEAST_SIZES,
    Crossing,
    Curve,
    Expected,
    crossing,
    data_advantage,
    data_advantage_interval,
    level_by,
)
from tunewise.statistics.resampling import Floats, draws

if TYPE_CHECKING:
    from tunewise.recommend.evidence import Evidence

RESAMPLES = 500
SELDOM = 0.05
"""Of resamples: where the curves are level in no more of them, that is called not within reach."""


@dataclass(frozen=True)
class Saved:
    """Labels fewer that one candidate needs than another for the same score, on average (Le Scao & Rush 2021)."""

    labels: float
    ci: tuple[float, float]

    @property
    def turned(self) -> Saved:
        """The same seen from the other candidate."""
        return Saved(-self.labels, (-self.ci[1], -self.ci[0]))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"labels": self.labels, "ci": list(self.ci)}


@dataclass(frozen=True)
class Learnt:
    """What the curve of one candidate says."""

    candidate: str
    family: str
    scores: Mapping[int, tuple[float, ...]]
    """Of each size, its draws."""
    twice: Expected | None = None
    """The score expected with twice the labels; None where the curve is not whole."""
    four_times: Expected | None = None
    """With four times; None where the curve without its last point does not foretell that."""
    advantage: float | None = None
    """Labels fewer that the pick needs for the same score, on average; None where they share too few scores."""
    advantage_ci: tuple[float, float] | None = None
    saves: Mapping[str, Saved] = field(default_factory=dict)
    """Beside each other candidate with which it shares enough scores, the labels that it saves."""
    overtakes: Crossing | None = None
    """Where it comes level with the pick, from behind."""
    overtaken: Crossing | None = None
    """Where the pick comes level with it, from behind."""
    level: float | None = None
    """The share of resamples by which it and the pick are level with twice the labels, or were before."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "family": self.family,
            "scores": {str(size): [round(score, 6) for score in found] for size, found in self.scores.items()},
            "twice": _expected(self.twice),
            "four_times": _expected(self.four_times),
            "advantage": self.advantage,
            "advantage_ci": list(self.advantage_ci) if self.advantage_ci else None,
            "saves": {name: one.to_json() for name, one in self.saves.items()},
            "overtakes": vars(self.overtakes) if self.overtakes else None,
            "overtaken": vars(self.overtaken) if self.overtaken else None,
            "level": self.level,
        }


@dataclass(frozen=True)
class Learning:
    """The learning curves of a run."""

    labels: int
    """Training rows of the run."""
    validation: int
    """Validation rows that every size was fitted with."""
    candidates: Mapping[str, Learnt]
    """Those that were measured."""
    constant: Mapping[str, float]
    """Scores of finalists that no labels make better."""
    unmeasured: tuple[str, ...]
    """Finalists whose curve is not there, or not whole."""
    failed: Mapping[str, str]
    """Of those, the reason where fits failed."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "labels": self.labels,
            "validation": self.validation,
            "candidates": {name: one.to_json() for name, one in self.candidates.items()},
            "constant": dict(self.constant),
            "unmeasured": list(self.unmeasured),
            "failed": dict(self.failed),
        }

    def sentences(self, pick: str) -> Iterator[str]:
        """Where another finalist scores as high as the pick, in labels.

        Told where the fitted curves and the scores agree, and where the whole interval lies within reach: without
        that, every fourth pair of curves that never meet would be said to.
        """
        own = self.candidates.get(pick)
        if own is None or own.twice is None:  # more labels change nothing for it, or its curve was not measured
            return
        never: list[str] = []
        unknown: list[str] = []
        for name, one in self.candidates.items():
            if name == pick or one.twice is None:
                continue
            overtakes, overtaken = (_told(found) for found in (one.overtakes, one.overtaken))
            ahead = self._mean(name) > self._mean(pick)
            if overtakes is not None and (overtakes.at > self.labels) == ahead:
                overtakes = None  # the scores say otherwise
            if overtaken is not None and (overtaken.at > self.labels or ahead):
                overtaken = None
            if overtakes is None and overtaken is None:
                apart = one.overtakes is None and one.overtaken is None
                seldom = one.level is not None and one.level <= SELDOM
                (never if apart and seldom else unknown).append(name)
                continue
            if overtakes is not None:
                beyond = "" if ahead else ", extrapolated"
                rows = f"{_span(overtakes)} training rows{beyond}"
                yield f"On the learning curves {name} comes level with {pick} at about {rows}."
            if overtaken is not None:
                rows = f"{_span(overtaken)} training rows"
                yield f"On the learning curves {name} scores higher than {pick} below about {rows}."
        reach = f"within {2 * self.labels:,} training rows, twice those of the run"
        if never:
            names = listed(never, "or")
            yield f"Not within reach: {pick} and {names} do not come level {reach}, by their curves."
        if unknown:
            names = listed(unknown, "or")
            yield f"Whether {pick} and {names} come level {reach}, these curves cannot tell."

    def _mean(self, candidate: str) -> float:
        """Mean score with all labels."""
        scores = self.candidates[candidate].scores[self.labels]
        return sum(scores) / len(scores)


def learning(folder: Path, evidence: Evidence, pick: str) -> Learning | None:
    """The curves of the run in `folder` beside that of `pick`; None where none were measured.

    Raises:
        CandidateError: `curve.jsonl` is damaged, or tells of other test rows.
    """
    names = {entry.candidate for entry in evidence.entries}
    lines = [line for line in read_lines(folder / CURVE, torn_end=True) if line.needed("method") in names]
    answers = _answers(lines, len(evidence.targets))
    if not answers:
        return None
    labels = evidence.learnt_from
    measured = _Measured(evidence, answers, labels)
    whole = measured.curves
    saved = _saved(whole)
    found = {
        name: Learnt(
            name,
            evidence.entry(name).family,
            measured.whole.get(name, measured.scores[name]),
            **(_foreseen(whole[name], labels) if name in whole else {}),
            saves=saved.get(name, {}),
            **(
                _beside(whole[pick], whole[name], 2 * labels, saved[pick].get(name))
                if name != pick and {name, pick} <= set(whole)
                else {}
            ),
        )
        for name in answers
    }
    flat = {line.text("method") for line in lines if line.flag("constant")}
    constant = {entry.candidate: entry.score for entry in evidence.entries if entry.candidate in flat}
    return Learning(
        labels=labels,
        validation=evidence.split_rows.get("validation", 0),
        candidates=found,
        constant=constant,
        failed={
            line.text("method"): f"{line.text('failed')} ({line.count('size')} rows)"
            for line in lines
            if line.text("failed") and line.text("method") not in whole
        },
        unmeasured=tuple(
            entry.candidate
            for entry in evidence.entries
            if entry.candidate not in whole and entry.candidate not in constant
        ),
    )


def _foreseen(curve: Curve, labels: int) -> dict[str, Any]:
    """What a curve says of more labels."""
    farther = curve.foretells_its_end(resamples=RESAMPLES)
    return {
        "twice": curve.expected(2 * labels, resamples=RESAMPLES),
        "four_times": curve.expected(4 * labels, resamples=RESAMPLES) if farther else None,
    }


def _saved(curves: Mapping[str, Curve]) -> dict[str, dict[str, Saved]]:
    """What each candidate saves beside each other, in labels, where enough resamples share a score as well."""
    found: dict[str, dict[str, Saved]] = {name: {} for name in curves}
    for one, other in itertools.combinations(curves, 2):
        labels = data_advantage(curves[one], curves[other])
        if labels is None:
            continue
        interval = data_advantage_interval(curves[one], curves[other], resamples=RESAMPLES)
        if interval is not None:
            saved = found[one][other] = Saved(labels, interval)
            found[other][one] = saved.turned
    return found


def _beside(pick: Curve, other: Curve, last: float, saved: Saved | None) -> dict[str, Any]:
    """What `other` is worth beside the pick, in labels."""
    leader, follower = (pick, other) if pick.means[-1] >= other.means[-1] else (other, pick)
    return {
        "advantage": saved.labels if saved else None,
        "advantage_ci": saved.ci if saved else None,
        "overtakes": crossing(pick, other, last, resamples=RESAMPLES),
        "overtaken": crossing(other, pick, last, resamples=RESAMPLES),
        "level": level_by(leader, follower, last, resamples=RESAMPLES),
    }


_Answers = dict[str, dict[int, dict[int, list[str]]]]
"""Outputs by candidate, size and draw."""


def _answers(lines: Sequence[Fields], rows: int) -> _Answers:
    """The fits that finished."""
    found: _Answers = {}
    for line in lines:
        if "outputs" not in line.values:
            continue
        outputs = [str(output) for output in line.items("outputs")]
        if len(outputs) != rows:
            raise CandidateError(
                f"{line.where}: found {len(outputs)} answers, expected one for each of the {rows} test rows. "
                f"{CURVE_AGAIN}"
            )
        sizes = found.setdefault(line.needed("method"), {})
        sizes.setdefault(_count(line, "size"), {})[_count(line, "draw")] = outputs
    return found


def _count(line: Fields, key: str) -> int:
    found = line.count(key)
    if found is None:
        raise line.wrong(key, "a whole number")
    return found


@dataclass(frozen=True)
class _Measured:
    """The points of the curves, and what they would have been on other rows."""

    evidence: Evidence
    answers: _Answers
    labels: int

    @cached_property
    def scores(self) -> dict[str, dict[int, tuple[float, ...]]]:
        """Of each candidate and size, the scores of its draws."""
        score, targets = self.evidence.metric.score, self.evidence.targets
        return {
            name: {
                size: tuple(float(score(outputs, targets)) for _, outputs in sorted(draws.items()))
                for size, draws in sorted(sizes.items())
            }
            for name, sizes in self.answers.items()
        }

    @cached_property
    def whole(self) -> dict[str, dict[int, tuple[float, ...]]]:
        """Scores of whole curves: five sizes at least, the last of them all rows, every draw of each.

        A size of which a fit failed is left out.
        """
        full = {
            name: {size: found for size, found in sizes.items() if len(found) == LEAST_DRAWS}
            for name, sizes in self.scores.items()
        }
        return {name: sizes for name, sizes in full.items() if len(sizes) >= LEAST_SIZES and self.labels in sizes}

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """Those that are whole."""
        rows = self.evidence.units if self.evidence.metric.lowest == 0 else None
        return {
            name: Curve(tuple(points), np.array(list(points.values())), rows, self._redrawn(name, points))
            for name, points in self.whole.items()
        }

    def _redrawn(self, name: str, sizes: Collection[int]) -> Floats:
        """Scores on rows (or groups) drawn again, the same for every candidate, [resamples, sizes, draws]."""
        targets, groups = self.evidence.targets, self.evidence.groups
        rescore = [
            [self.evidence.metric.resampler(outputs, targets) for _, outputs in sorted(draws.items())]
            for size, draws in sorted(self.answers[name].items())
            if size in sizes
        ]
        parts = [
            np.stack([np.stack([one(weights) for one in size], axis=1) for size in rescore], axis=1)
            for weights in draws(len(targets), RESAMPLES, 0, groups)
        ]
        return np.concatenate(parts)


def _expected(found: Expected | None) -> dict[str, float] | None:
    return {name: float(value) for name, value in vars(found).items()} if found else None


def _told(found: Crossing | None) -> Crossing | None:
    return found if found is not None and found.high is not None else None


def _span(found: Crossing) -> str:
    """`420 (310 to 760)`, two figures each."""
    assert found.high is not None
    return f"{rounded(found.at)} ({rounded(found.low)} to {rounded(found.high)})"
