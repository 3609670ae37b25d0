"""How far two who label the same input agree, and the accuracy that labels as noisy as these allow.

>>> found = Agreement(inputs=1000, share=0.68, labels=2)
>>> round(found.ceiling, 2)
0.8
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewise.reading.similar import key_of
from tunewise.task import Example

if TYPE_CHECKING:
    from tunewise.statistics import Interval

FEW_INPUTS = 30
"""Inputs that stand more than once below which nothing is said of the noise in labels."""


@dataclass(frozen=True)
class Agreement:
    """What inputs that stand more than once say of the labels."""

    inputs: int
    """That stand more than once."""
    share: float
    """Of pairs of rows of one input, those that carry the same label; the mean over inputs."""
    labels: int
    """Different labels in the data."""

    @property
    def tells(self) -> bool:
        """Whether there are enough inputs, and labels that disagree."""
        return self.inputs >= FEW_INPUTS and self.share < 1

    @property
    def ceiling(self) -> float:
        """The largest share of rows that one answer an input can have right.

        Two rows whose label is k with chance p_k agree with chance Σ p_k², and the best answer is right with
        chance max p_k. That is at most √(Σ p_k²); of two labels it is (1 + √(2 Σ p_k² - 1)) / 2. Both are concave,
        so the mean over inputs that differ in their noise lies below.
        """
        return self._at(self.share)

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the ceiling: Wilson's of the share, as no share varies more than one of 0 or 1."""
        from tunewise.statistics import Interval, wilson

        found = wilson(self.inputs * self.share, self.inputs)
        return Interval(self._at(found.low), self._at(found.high), found.method)

    def _at(self, share: float) -> float:
        return (1 + math.sqrt(max(0.0, 2 * share - 1))) / 2 if self.labels == 2 else math.sqrt(share)


NOTHING_REPEATED = Agreement(0, 1.0, 0)


def agreement(examples: Sequence[Example]) -> Agreement:
    """How far the labels of inputs that stand more than once agree.

    Only inputs that are the same but for case and punctuation: near-duplicates may differ in the word that counts.
    """
    targets: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        targets[key_of(example)][example.target] += 1
    several = [counts for counts in targets.values() if counts.total() > 1]
    shares = [
        sum(count * (count - 1) for count in counts.values()) / (counts.total() * (counts.total() - 1))
        for counts in several
    ]
    labels = len({example.target for example in examples})
    return Agreement(len(several), math.fsum(shares) / len(shares) if shares else 1.0, labels)
