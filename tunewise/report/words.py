"""Numbers and states in plain words: one spelling for the whole page.

Scores are shares with three decimals, as on the terminal; differences are in points (hundredths) and always
carry their sign; a missing value is a dash, never a zero.

>>> score(0.8561), points(-0.0123), figure(0.0421), figure(1234.6), score(None)
('0.856', '−1.2', '0.042', '1,235', '–')
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewise.run_files import Interval

NOTHING = "–"
MINUS = "−"
NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "mcc": "Matthews correlation",
    "exact_match": "exact match",
    "chrf": "chrF",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L",
}
STATES = {
    "finished": "finished",
    "pruned": "pruned",
    "failed": "failed",
    "out_of_budget": "out of budget",
    "paused": "paused",
    "unfinished": "not ended",
}


def metric_name(metric: str) -> str:
    """The metric as the field spells it."""
    return NAMES.get(metric.replace("-", "_"), metric)


def state(status: str) -> str:
    """A trial's status in words."""
    return STATES.get(status, status or NOTHING)


def score(value: float | None) -> str:
    """A share with three decimals."""
    return NOTHING if value is None else f"{value:.3f}".replace("-", MINUS)


def percent(value: float | None) -> str:
    """A share as a whole percentage, never rounded to 0 or 100 unless it is."""
    if value is None:
        return NOTHING
    if 0 < value < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < value < 1 else f"{100 * value:.0f} %"


def interval(pair: Interval | None) -> str:
    """An interval of scores, in brackets."""
    return "" if pair is None else f"[{score(pair.low)}, {score(pair.high)}]"


def points(value: float | None) -> str:
    """A difference of scores in points, with its sign."""
    if value is None:
        return NOTHING
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def points_interval(pair: Interval | None) -> str:
    """An interval of differences, in brackets."""
    return "" if pair is None else f"[{points(pair.low)}, {points(pair.high)}]"


def plain(value: float | None) -> str:
    """A number without needless decimals, such as a margin: `2`, `1.5`."""
    return NOTHING if value is None else f"{value:,.10g}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return NOTHING if value is None else f"{value:,.0f}"


def figure(value: float | None) -> str:
    """A positive measured number, rounded to what a reader can use: three figures at most below 1,000."""
    if value is None:
        return NOTHING
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    if value >= 0.995:
        return f"{value:.2f}"
    return f"{value:.2g}" if value >= 0.0005 else ("<0.001" if value > 0 else "0")


def p_value(value: float | None) -> str:
    """A p-value, never shown as zero."""
    if value is None:
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def setting(value: Any) -> str:
    """A setting's value on one line: lists spelt out, true and false as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value == []:
        return NOTHING
    return ", ".join(map(str, value)) if isinstance(value, list) else _value(value)


def parameters(values: Mapping[str, Any]) -> str:
    """Hyper-parameters on one line."""
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(_value(item) for item in value)
    return str(value)
