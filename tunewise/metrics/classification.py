"""Metrics of classification: accuracy, macro-F1 and Matthews' correlation.

Macro-F1 and MCC need only three counts per label (hits, targets, outputs), so they are computed from those
counts here, for the score and for every bootstrap resample alike; the tests hold them equal to scikit-learn.

>>> MacroF1().score(["a", "b", "b"], ["a", "a", "b"])
0.6666666666666666
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewise.metrics.metric import Floats, Metric, OfSums, RowMean, ratio


@dataclass(frozen=True)
class Accuracy(RowMean):
    """Share of rows whose output is exactly the target."""

    name: str = "accuracy"
    kind: str = "classification"
    is_rate: bool = True

    def values(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """1 where the output is the target, 0 elsewhere."""
        pairs = zip(outputs, targets, strict=True)
        return np.fromiter((output == target for output, target in pairs), dtype=np.float64)


@dataclass(frozen=True)
class LabelCounts(OfSums):
    """A metric of the hits, targets and outputs of each label."""

    kind: str = "classification"

    def terms(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """One-hot hits, targets and outputs side by side, shape (rows, 3 x labels)."""
        columns = {label: column for column, label in enumerate(dict.fromkeys([*targets, *outputs]))}
        is_target = np.zeros((len(targets), len(columns)))
        is_output = np.zeros_like(is_target)
        is_target[np.arange(len(targets)), [columns[target] for target in targets]] = 1
        is_output[np.arange(len(targets)), [columns[output] for output in outputs]] = 1
        return np.hstack([is_target * is_output, is_target, is_output])


@dataclass(frozen=True)
class MacroF1(LabelCounts):
    """Unweighted mean of F1 over the labels that occur in the targets.

    A label that is only ever predicted has no recall to speak of: it lowers the precision of nothing and
    counts through the recall of the labels it displaced. A label never predicted has F1 = 0. In a bootstrap
    resample the mean runs over the labels drawn. Equal to scikit-learn's `f1_score(average="macro",
    labels=labels of the targets, zero_division=0)`.
    """

    name: str = "macro_f1"

    def from_sums(self, sums: Floats) -> Floats:
        """Macro-F1 from hits, targets and outputs per label."""
        hits, targets, outputs = np.split(sums, 3, axis=1)
        f1 = ratio(2 * hits, targets + outputs)
        present = targets > 0
        mean: Floats = (f1 * present).sum(axis=1) / present.sum(axis=1)
        return mean


@dataclass(frozen=True)
class Mcc(LabelCounts):
    """Matthews' correlation coefficient for any number of labels (Gorodkin 2004), between -1 and 1.

    0 is what guessing gets whatever the balance of labels, and also the value where it is undefined:
    targets or outputs that are all the same label.
    """

    name: str = "mcc"
    lowest: float = -1.0

    def from_sums(self, sums: Floats) -> Floats:
        """MCC from hits, targets and outputs per label."""
        hits, targets, outputs = np.split(sums, 3, axis=1)
        n = targets.sum(axis=1)
        covariance = hits.sum(axis=1) * n - (targets * outputs).sum(axis=1)
        spread_targets = n**2 - (targets**2).sum(axis=1)
        spread_outputs = n**2 - (outputs**2).sum(axis=1)
        return ratio(covariance, np.sqrt(spread_targets * spread_outputs))


METRICS: tuple[Metric, ...] = (Accuracy(), MacroF1(), Mcc())
