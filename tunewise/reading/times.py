"""Rows by time: the newest for the test, those before them for validation.

>>> moments(from_records([{"at": "2024-05-01"}, {"at": "2024-04-01"}], "the list"), "at", [0, 1])
{0: 1714521600.0, 1: 1711929600.0}
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tunewise.errors import DataError
from tunewise.reading.cells import texts
from tunewise.reading.columns import check_column
from tunewise.reading.tables import Table
from tunewise.task import Example


def moments(table: Table, column: str, rows: Sequence[int]) -> dict[int, float]:
    """When each of these rows of `table` is from: a number as it is, a date in seconds since 1970.

    Raises:
        DataError: there is no such column, or a cell is neither a number nor an ISO 8601 date.
    """
    check_column(table, column)
    cells = texts(table.cells[column])
    for read in (_number, _date):
        found = {row: read(cells[row] or "") for row in rows}
        if None not in found.values():
            return {row: float(moment) for row, moment in found.items() if moment is not None}
    wrong = [row for row in rows if _number(cells[row] or "") is _date(cells[row] or "") is None]
    row = wrong[0] if wrong else next(row for row in rows if _date(cells[row] or "") is None)
    raise DataError(
        f'{table.name}, column "{column}", {table.where([row])}: found {cells[row] or "nothing"!r}; expected in '
        "every row a number, or in every row a date as 2024-05-31 or 2024-05-31T08:30 (ISO 8601). Write them so."
    )


def newest(
    examples: Sequence[Example], when: Mapping[int, float], count: int, moments_left: int
) -> tuple[list[Example], list[Example]]:
    """The older of `examples`, and about `count` of the newest; rows of one moment stay together.

    Args:
        examples: rows of more than `moments_left` moments.
        when: row number → moment.
        count: newest rows wanted; as near to it as whole moments come.
        moments_left: different moments that the older rows have at least.
    """
    rows = Counter(when[example.row] for example in examples)
    newest_first = sorted(rows, reverse=True)[: len(rows) - moments_left]
    taken = list(itertools.accumulate(rows[moment] for moment in newest_first))
    cut = newest_first[min(range(len(taken)), key=lambda place: abs(taken[place] - count))]
    older = [example for example in examples if when[example.row] < cut]
    return older, [example for example in examples if when[example.row] >= cut]


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if abs(found) < float("inf") else None


def _date(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
