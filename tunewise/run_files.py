"""Reading the files of a run folder without trusting them: JSON, JSON Lines and tables.

A run folder may be old, moved, half written or not ours. What is read comes as `Fields`, which name the file, the
line and the key when a value has the wrong type; so a damaged folder gives one clear `CandidateError` that says
what to do, and never a traceback or a wrong number.

>>> Fields("run.json", {"seed": 3, "margin": "two"}).number("seed")
3.0
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError

NOT_AGAIN = "It cannot be made again: restore it from a copy, or compare again with a new --out."
"""What to do about a record that follows from no other file of the run."""
TEST_AGAIN = "Restore it from a copy, or delete it: `tunewise resume` then has the candidate answer again."
"""What to do about the stored answers of a candidate to the test rows."""
CURVE = "curve.jsonl"
CURVE_AGAIN = "Restore it from a copy, or delete it: `tunewise curve` on the run measures it again."
"""What to do about the answers that learning curves are made of."""
DERIVED = ("leaderboard.csv", "recommendation.json")
"""Files that follow from others."""
PREDICTIONS = "predictions"
"""Folder of what trials answered, row by row."""


def predictions_of(folder: Path, trial: str, split: str = "test") -> Path:
    """Where a run keeps what a trial answered to the rows of a split, or to those of its folds."""
    return folder / PREDICTIONS / f"{trial}-{split}.jsonl"


def mending(where: str) -> str:
    """What to do about damage at `where`, which begins with the name of a file of the run."""
    if where.startswith(DERIVED):
        return "Restore the file, or run `tunewise resume` on the folder to write it again."
    if where.startswith(CURVE):
        return CURVE_AGAIN
    return TEST_AGAIN if where.startswith("predictions/") else NOT_AGAIN


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Fields:
    """A mapping read from a file, and which: a missing key is None or empty, a wrong type raises."""

    where: str
    values: Mapping[str, Any]

    def wrong(self, key: str, expected: str) -> CandidateError:
        """The error for a value of the wrong type."""
        found = repr(self.values.get(key))
        shown = found if len(found) <= 60 else found[:57] + "..."
        return CandidateError(f"{self.where}: {key!r} is {shown}; expected {expected}. {mending(self.where)}")

    def text(self, key: str, default: str = "") -> str:
        """The value as text; numbers are spelt out, None gives `default`."""
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, str | int | float):
            return str(value)
        raise self.wrong(key, "text")

    def needed(self, key: str) -> str:
        """The value as text; raises CandidateError when it is missing or empty."""
        if not self.text(key):
            raise self.wrong(key, "text that is not empty")
        return self.text(key)

    def number(self, key: str) -> float | None:
        """The value as a finite number; missing, empty and non-finite values give None."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.wrong(key, "a number")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self.wrong(key, "a number") from None
        return number if math.isfinite(number) else None

    def count(self, key: str) -> int | None:
        """The value as a whole number."""
        number = self.number(key)
        return None if number is None else round(number)

    def flag(self, key: str, default: bool = False) -> bool:
        """The value as true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def section(self, key: str) -> Fields:
        """The mapping under `key`; empty when missing."""
        value = self.values.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.wrong(key, "a JSON object")
        return Fields(f"{self.where}, {key}", value)

    def items(self, key: str) -> list[Any]:
        """The list under `key`; empty when missing."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts under `key`; empty when missing."""
        found = self.items(key)
        if not all(isinstance(item, str) for item in found):
            raise self.wrong(key, "a list of texts")
        return tuple(found)

    def interval(self, key: str) -> Interval | None:
        """The pair `[low, high]` under `key`, or None when it is missing."""
        ends = self.items(key)
        if not ends:
            return None
        if len(ends) != 2:
            raise self.wrong(key, "[low, high]")
        pair = Fields(f"{self.where}, {key}", {"low": ends[0], "high": ends[1]})
        low, high = pair.number("low"), pair.number("high")
        return None if low is None or high is None else Interval(low, high)


def read_json(path: Path) -> Fields | None:
    """The JSON object in `path`, or None when there is no such file; raises CandidateError when it is damaged."""
    content = _content(path)
    return None if content is None else _parsed(content, _named(path))


def read_lines(path: Path, *, torn_end: bool = False) -> Iterator[Fields]:
    """The objects of a JSONL file, nothing when there is no such file; raises CandidateError for a damaged line.

    With `torn_end`, a broken last line without a line end is dropped: it is what an interrupted write leaves.
    """
    lines = (_content(path) or b"").split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _parsed(line, f"{_named(path)}, line {number}")
        except CandidateError:
            if torn_end and number == len(lines):
                return
            raise


def read_table(path: Path, columns: tuple[str, ...]) -> list[Fields] | None:
    """The rows of a CSV file that must have `columns`, or None when there is no such file."""
    content = _content(path)
    if content is None:
        return None
    text = _decoded(content, path.name)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise CandidateError(f"{path.name}, line {reader.line_num}: {error}. {mending(path.name)}") from None
    header = reader.fieldnames or []
    missing = [column for column in columns if column not in header]
    if missing:
        raise CandidateError(
            f"{path.name}: column {missing[0]!r} is missing; found {list(header)}, "
            f"expected {list(columns)}. {mending(path.name)}"
        )
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise CandidateError(f"{path.name}, row {number}: expected {len(header)} values. {mending(path.name)}")
    return [Fields(f"{path.name}, row {number}", row) for number, row in enumerate(rows, 1)]


def _named(path: Path) -> str:
    """How messages call a file of the run."""
    return f"{PREDICTIONS}/{path.name}" if path.parent.name == PREDICTIONS else path.name


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CandidateError(
            f"{_named(path)}: cannot be read ({error.strerror}). Check the folder's permissions."
        ) from None


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CandidateError(f"{where}: not UTF-8 at byte {error.start}. {mending(where)}") from None


def _parsed(content: bytes, where: str) -> Fields:
    text = _decoded(content, where)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CandidateError(f"{where}: not JSON ({error}). {mending(where)}") from None
    if not isinstance(value, dict):
        found = text.strip()[:60]
        raise CandidateError(f"{where}: found {found!r}, expected a JSON object. {mending(where)}")
    return Fields(where, value)
