"""How numbers and foreign texts are spelt in messages and on a terminal.

>>> duration(252), score(0.84567), parameters({"learning_rate": 5e-4, "epochs": 3})
('4:12', '0.846', 'learning_rate 0.0005, epochs 3')
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunewise.errors import SettingError

NOTHING = "–"
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30}


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


def operations(value: Any) -> str:
    """Counted work with two digits and a prefix: `310 T`, `8.1 G`."""
    found = number(value)
    if found is None:
        return NOTHING
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if found >= size:
            share = found / size
            return f"{share:.1f} {prefix}" if share < 10 else f"{float(f'{share:.2g}'):,.0f} {prefix}"
    return f"{found:,.0f}"


def parameters(values: Mapping[str, Any] | None) -> str:
    """Hyper-parameters in one line."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {clean(value)}"
        for name, value in (values or {}).items()
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun in the right form: `1 row`, `2 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def in_points(margin: float) -> str:
    """A margin with its unit: `1 point`, `0.5 points`."""
    return f"{margin:g} point{'' if margin == 1 else 's'}"


def bytes_of(text: str, what: str) -> float:
    """The bytes that a size such as `4GB` or `800 MiB` names; raises SettingError, naming `what`, otherwise."""
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(?:(T|[KMG]I?)B?)?\s*", text.upper())
    size = float(found[1]) * UNITS[found[2] or ""] if found else 0.0
    if not size:
        raise SettingError(f"{what} is {text!r}; expected a size such as 4GB or 800MB.")
    return size


def clean(text: Any) -> str:
    """`text` in one line, without characters that would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def listed(names: Sequence[str], last: str = "and") -> str:
    """Names as a reader lists them: `a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def not_shown(pick: str, nominee: str, margin: float, test: str) -> str:
    """What an undecided test was asked, and did not show.

    Args:
        pick: the candidate that is recommended.
        nominee: the one that the test was asked about.
        margin: in points.
        test: what to call the test.
    """
    what = f"within {in_points(margin)} of every other finalist" if margin else ""
    whom = "it" if pick == nominee else f"the cheaper {nominee}"
    return f"{test} could not show {whom} {what or 'as good as every other finalist'}"
