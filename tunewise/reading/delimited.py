r"""CSV and TSV text → rows of fields with the line each starts on, in strict mode.

A quote that is never closed swallows lines until the next quote, far away, ends it; so every complaint about
quoting names the line where the quoted field was opened.

>>> parse('a,b\n"x\ny",1\n', ",", "a.csv")
[Record(line=1, fields=['a', 'b']), Record(line=2, fields=['x\ny', '1'])]
"""

from __future__ import annotations

import csv
import io
from typing import NamedTuple

from tunewise.errors import DataError

_LONGEST_FIELD = 2**31 - 1
_MOST_LINES_NAMED = 5


class Record(NamedTuple):
    """One row of fields."""

    line: int
    """Line of the file on which the row starts, from 1."""
    fields: list[str]


def delimiter_of(text: str, suffix: str) -> str:
    """Tab for `.tsv`; for `.csv` a comma, or the semicolon or tab of a header that has no comma."""
    if suffix == ".tsv":
        return "\t"
    header = text.split("\n", 1)[0]
    if "," in header:
        return ","
    return next((mark for mark in (";", "\t") if mark in header), ",")


def parse(text: str, delimiter: str, name: str) -> list[Record]:
    """All rows that are not blank lines; raises DataError with the line number for broken quoting."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(_LONGEST_FIELD)  # else a quote never closed is reported as a field too large
    records, line = [], 1
    try:
        for fields in reader:
            if fields:
                records.append(Record(line, fields))
            line = reader.line_num + 1
    except csv.Error as error:
        raise _broken(text, delimiter, name, line, str(error)) from None
    finally:
        csv.field_size_limit(limit)
    return records


def parse_unquoted(text: str, delimiter: str) -> list[Record]:
    """All rows that are not blank lines, with quotes as ordinary characters, as IANA defines TSV."""
    lines = enumerate(text.split("\n"), 1)
    return [Record(line, row.removesuffix("\r").split(delimiter)) for line, row in lines if row.strip("\r")]


def check_widths(records: list[Record], columns: list[str], name: str) -> None:
    """Raise DataError when a row has more or fewer fields than there are `columns`."""
    ragged = [record for record in records if len(record.fields) != len(columns)]
    if not ragged:
        return
    first = ragged[0]
    others = ", ".join(str(record.line) for record in ragged[1:_MOST_LINES_NAMED])
    plural = "s" if len(ragged) > 2 else ""
    more = f" and {len(ragged) - _MOST_LINES_NAMED} more" if len(ragged) > _MOST_LINES_NAMED else ""
    raise DataError(
        f"{name}, line {first.line}: found {_fields(first)}, expected {len(columns)} "
        f"({', '.join(columns)})."
        f"{f' The same on line{plural} {others}{more}.' if others else ''} "
        'Put a field that holds the delimiter or a line break between double quotes: "like, this".'
    )


def _fields(record: Record) -> str:
    return f"{len(record.fields)} field{'' if len(record.fields) == 1 else 's'}"


def _broken(text: str, delimiter: str, name: str, start: int, reason: str) -> DataError:
    """The error for a row, starting on line `start`, that the csv module refused."""
    opened, closed = _open_quote(text, delimiter, start)
    if opened is None:
        return DataError(f"{name}, line {start}: broken quoting ({reason}). Correct the quotes.")
    if closed is None:
        found = "a quoted field opens here and is never closed"
    elif closed == opened:
        found = "text follows a closing quote"
    else:
        found = f"a quoted field opens here and ends on line {closed}, where text follows the closing quote"
    return DataError(
        f"{name}, line {opened}: broken quoting: {found}; expected a delimiter or a line end after the closing "
        'quote. Close the field, or write a quote inside a quoted field twice ("").'
    )


def _open_quote(text: str, delimiter: str, start: int) -> tuple[int | None, int | None]:
    """Line where the first faulty quoted field from line `start` on opens, and where it closes (None: nowhere)."""
    lines = io.StringIO(text, newline="").readlines()
    at_field_start, opened = True, None
    for number, content in enumerate(lines[start - 1 :], start):
        column = 0
        while column < len(content):
            character = content[column]
            if opened is not None:
                if character == '"' and content[column + 1 : column + 2] == '"':
                    column += 1
                elif character == '"':
                    behind = content[column + 1 : column + 2]
                    if behind not in ("", delimiter, "\r", "\n"):
                        return opened, number
                    opened = None
            elif at_field_start and character == '"':
                opened = number
            at_field_start = opened is None and character in (delimiter, "\r", "\n")
            column += 1
    return opened, None
