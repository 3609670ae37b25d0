"""Anything with rows → a `Table`: named columns of cells, with the place of each row in its file.

Files are CSV, TSV, JSON Lines, a JSON list, or Parquet; in memory, a data frame, a list of dicts, or a
`datasets.Dataset`.

>>> from_records([{"text": "hi", "label": 1}, {"text": "bye"}], "the list").cells["label"]
[1, None]
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.errors import DataError
from tunewise.reading.delimited import Record, check_widths, delimiter_of, parse, parse_unquoted
from tunewise.reading.encoding import decode

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_MOST_ROWS_NAMED = 10


@dataclass(frozen=True)
class Table:
    """Rows of one source, by column."""

    name: str
    """How messages call it: the path as given, or for example `the data frame`."""
    cells: Mapping[str, list[Any]]
    """Column → one cell a row. Columns without a name are left out: nothing can refer to them."""
    lines: tuple[int, ...] | None = None
    """Line of its file on which each row starts, from 1; None where there are no lines."""
    path: Path | None = None
    sha256: str | None = None
    format: str = "memory"
    quoting: bool = True
    """False for a TSV file in which quotes are ordinary characters."""
    value_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Names of coded values that came with the data (the `ClassLabel` of `datasets`), by column."""

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()), ()))

    @property
    def columns(self) -> list[str]:
        """Column names, in the source's order."""
        return list(self.cells)

    def where(self, rows: Sequence[int]) -> str:
        """The rows in words: `rows 2, 5 (counted from 0; lines 4, 7)`."""
        shown = list(rows[:_MOST_ROWS_NAMED])
        more = f" and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
        place = "counted from 0"
        if self.lines is not None:
            lines = ", ".join(str(self.lines[row]) for row in shown)
            place += f"; line{'s' if len(shown) > 1 else ''} {lines}"
        return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, shown))}{more} ({place})"

    def origin(self) -> dict[str, Any]:
        """Where the rows came from, as plain values."""
        path = str(self.path.resolve()) if self.path else None
        return {"path": path, "sha256": self.sha256, "format": self.format, "rows": len(self)}


def from_file(path: Path, name: str) -> Table:
    """The rows of a file.

    Raises:
        DataError: it cannot be read as a table; the message names the line where there is one.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{name}: found the suffix {path.suffix!r}; expected one of {', '.join(SUFFIXES)}. "
            "Convert the file, or name it after what it holds."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}). Check its permissions.") from None
    facts = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "format": suffix[1:]}
    if suffix == ".parquet":
        return _from_parquet(path, content, name, facts)
    text = decode(content, name)
    if suffix in (".csv", ".tsv"):
        return _from_delimited(text, suffix, name, facts)
    records, lines = _json_list(text, name) if suffix == ".json" else _json_lines(text, name)
    return from_records(records, name, lines=lines, facts=facts)


def from_memory(data: Any) -> Table | None:
    """The rows of a data frame, a list of dicts or a `datasets.Dataset`; None when `data` is none of these."""
    pandas, datasets = sys.modules.get("pandas"), sys.modules.get("datasets")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _from_frame(data)
    if datasets is not None and isinstance(data, datasets.Dataset):
        return _from_dataset(data)
    if isinstance(data, list | tuple):
        return from_records(data, "the list")
    return None


def from_records(
    records: Sequence[Any],
    name: str,
    *,
    lines: Sequence[int] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Table:
    """One mapping a row; a column that a row lacks is a missing cell there."""
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            at = f", line {lines[row]}" if lines else f", row {row} (counted from 0)"
            raise DataError(
                f"{name}{at}: found {_kind_of(record)}; expected an object with column names, "
                'such as {"text": "...", "label": "..."}.'
            )
    columns = dict.fromkeys(str(key) for record in records for key in record)
    named = [{str(key): cell for key, cell in record.items()} for record in records]
    cells = {column: [record.get(column) for record in named] for column in columns if column.strip()}
    return _checked(Table(name, cells, tuple(lines) if lines else None, **(facts or {})))


def _from_delimited(text: str, suffix: str, name: str, facts: Mapping[str, Any]) -> Table:
    records, quoting = _records(text, suffix, name)
    header = [column.strip() for column in records[0].fields]
    _check_header(header, f"{name}, line {records[0].line}")
    rows = records[1:]
    check_widths(rows, header, name)
    cells = {column: [row.fields[place] for row in rows] for place, column in enumerate(header) if column}
    return _checked(Table(name, cells, tuple(row.line for row in rows), **facts, quoting=quoting))


def _records(text: str, suffix: str, name: str) -> tuple[list[Record], bool]:
    """The rows of delimited text, and whether quotes enclose fields.

    TSV comes in two kinds, with quoting and without. Where quoting makes no sense, and without it every row has
    the same number of fields, the quotes are ordinary characters.
    """
    try:
        return parse(text, delimiter_of(text, suffix), name), True
    except DataError:
        records = parse_unquoted(text, "\t") if suffix == ".tsv" else []
        if len({len(record.fields) for record in records}) != 1 or len(records[0].fields) < 2:
            raise
        return records, False


def _json_lines(text: str, name: str) -> tuple[list[Any], list[int]]:
    records, lines = [], []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): JSON strings may hold U+2028
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise DataError(
                f"{name}, line {number}: not valid JSON ({reason}): found {line.strip()[:60]!r}; "
                "expected one JSON object on each line."
            ) from None
        lines.append(number)
    return records, lines


def _json_list(text: str, name: str) -> tuple[list[Any], None]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " One object on each line is JSON Lines: name the file .jsonl." if error.msg == "Extra data" else ""
        raise DataError(
            f"{name}, line {error.lineno}: not valid JSON ({error.msg}); expected a list of objects.{hint}"
        ) from None
    except RecursionError:
        raise DataError(f"{name}: the JSON is nested too deeply; expected a list of objects.") from None
    if not isinstance(records, list):
        raise DataError(f'{name}: found {_kind_of(records)}; expected a list of objects: [{{"text": ...}}, ...].')
    return records, None


def _from_parquet(path: Path, content: bytes, name: str, facts: Mapping[str, Any]) -> Table:
    import pyarrow
    import pyarrow.parquet

    if not content:
        raise DataError(f"{name}: the file is empty (0 bytes); expected a Parquet file.")
    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    names = [str(column).strip() for column in table.column_names]
    _check_header(names, name)
    cells = {column: table.column(place).to_pylist() for place, column in enumerate(names) if column}
    return _checked(Table(name, cells, **facts))


def _from_frame(frame: Any) -> Table:
    names = [str(column).strip() for column in frame.columns]
    _check_header(names, "the data frame")
    cells: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        column = frame.iloc[:, place]
        if name:
            cells[name] = [
                None if missing else cell
                for cell, missing in zip(column.tolist(), column.isna().tolist(), strict=True)
            ]
    return _checked(Table("the data frame", cells))


def _from_dataset(dataset: Any) -> Table:
    names = {
        column: {str(number): str(name) for number, name in enumerate(feature.names)}
        for column, feature in dataset.features.items()
        if type(feature).__name__ == "ClassLabel"
    }
    cells = {column: list(dataset[column]) for column in dataset.column_names}
    return _checked(Table("the dataset", cells, value_names=names))


def _check_header(names: Sequence[str], where: str) -> None:
    repeated = [name for name, times in Counter(names).items() if times > 1 and name]
    if repeated:
        raise DataError(
            f"{where}: found the column name{'s' if len(repeated) > 1 else ''} {', '.join(repeated)} more than "
            f"once in {', '.join(names)}; expected different names. Rename one."
        )


def _checked(table: Table) -> Table:
    if not len(table):
        found = f"column names ({', '.join(table.columns)}) but no rows" if table.columns else "no rows"
        raise DataError(f"{table.name}: found {found}; expected at least a few rows.")
    return table


def _kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
