"""Cells of a column → text, the same for every source.

A label 1 is "1" whether it came from a CSV file, from an integer column, or from a column that a data frame
made float because a value was missing.

>>> texts([1.0, None, 0.0]), texts([True, "maybe", 2.5])
(['1', None, '0'], ['true', 'maybe', '2.5'])
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

_MISSING_TYPES = ("NAType", "NaTType")
"""What pandas puts for a missing value, told by name so that pandas is not needed here."""


def texts(cells: Sequence[Any]) -> list[str | None]:
    """Each cell as text; None where it is missing (None, NaN, or nothing but white space).

    Numbers are written without a fraction where every number of the column is whole; booleans are `true` and
    `false`; lists and mappings are JSON. The words "nan" and "null" in a text column are ordinary text.
    """
    values = [_plain(cell) for cell in cells]
    whole = all(value.is_integer() for value in values if isinstance(value, float) and math.isfinite(value))
    return [_text(value, whole) for value in values]


def is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8: JSON and Python let half a surrogate pair through."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(cell: Any) -> Any:
    """`cell` without NumPy's wrapping, and None for every kind of missing value."""
    if isinstance(cell, str):
        return str(cell)
    if type(cell).__name__ in _MISSING_TYPES:
        return None
    if type(cell).__module__ == "numpy" and hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return cell


def _text(value: Any, whole: bool) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and whole and math.isfinite(value):
        return str(int(value))
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
