"""Metrics by name: how the outputs of a predictor are scored against the targets.

Scores are shares (0 to 1; MCC from -1 to 1), higher is better. Adding a metric is one class and its place
in the `METRICS` of its family's file; names, the command line and the report follow from that.

>>> get("Macro-F1").name, names("classification")
('macro_f1', ['accuracy', 'macro_f1', 'mcc'])
"""

from __future__ import annotations

from collections.abc import Sequence

from tunewise.errors import unknown
from tunewise.metrics import classification, generation
from tunewise.metrics.metric import Metric, Resampler

__all__ = ["Metric", "Resampler", "all_scores", "get", "names"]

_BY_NAME: dict[str, Metric] = {metric.name: metric for metric in (*classification.METRICS, *generation.METRICS)}


def names(kind: str | None = None) -> list[str]:
    """The names of all metrics, or of those for one kind of task, the usual ones first."""
    return [name for name, metric in _BY_NAME.items() if kind in (None, metric.kind)]


def get(name: str) -> Metric:
    """The metric called `name`, ignoring case, `-` read as `_`; raises SettingError when there is none."""
    found = _BY_NAME.get(name.strip().casefold().replace("-", "_"))
    if found is None:
        raise unknown("metric", name, _BY_NAME)
    return found


def all_scores(kind: str, outputs: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """The score of every metric of this kind, by name; raises DataError for no rows or unequal lengths."""
    return {name: _BY_NAME[name].score(outputs, targets) for name in names(kind)}
