"""How numbers and foreign texts are spelt in messages and on a terminal.

>>> duration(252), score(0.84567), parameters({"learning_rate": 5e-4, "epochs": 3})
('4:12', '0.846', 'learning_rate 0.0005, epochs 3')
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOTHING = "–"


def number(value: Any) -> float | None:
    """`value` (a number, or its text from a CSV file) as a float; None when it is empty."""
    return None if value is None or value == "" else float(value)


def score(value: Any) -> str:
    """A share between 0 and 1 with three decimals."""
    found = number(value)
    return NOTHING if found is None else f"{found:.3f}"


def interval(low: Any, high: Any) -> str:
    """The two ends of a 95 % interval."""
    return NOTHING if number(low) is None or number(high) is None else f"{score(low)}–{score(high)}"


def short(value: Any) -> str:
    """Three significant digits, whole from 100 on."""
    found = number(value)
    if found is None:
        return NOTHING
    return f"{found:,.0f}" if abs(found) >= 100 else f"{found:.3g}"


def duration(seconds: Any) -> str:
    """Seconds as `m:ss`, or `h:mm:ss` from one hour on."""
    found = number(seconds)
    if found is None:
        return NOTHING
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def parameters(values: Mapping[str, Any] | None) -> str:
    """Hyper-parameters in one line."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {clean(value)}"
        for name, value in (values or {}).items()
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun in the right form: `1 row`, `2 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def clean(text: Any) -> str:
    """`text` in one line, without characters that would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in str(text))
