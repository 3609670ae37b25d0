"""The rows that `tunewise predict` is asked about, and the table it answers with.

Every column that came in goes out, in the same order. Behind them stand `prediction`; `prediction_word` where the
labels are codes that have words; and `probability`, or `valid` for free text. A name that is taken is written with
`tunewise_` before it. Plain texts become a column `text`.

>>> rows = asked(None, "my card was charged twice", None)
>>> rows.inputs
['my card was charged twice']
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tunewise import figures
from tunewise.errors import DataError, SettingError, unknown
from tunewise.figures import counted
from tunewise.task import Choices, TaskSpec
from tunewise.whole import writing

if TYPE_CHECKING:
    from tunewise.adapted import Prediction

DELIMITERS = {"csv": ",", "tsv": "\t"}
FORMATS = (*DELIMITERS, "jsonl")
STANDARD_INPUT = "standard input"
STANDARD_INPUT_SIGN = "-"
MOST_NAMED = 5
"""Empty rows that are named."""
Columns = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Rows:
    """Rows to predict for."""

    source: str
    """A path, `standard input`, or `--text`."""
    columns: Columns
    """Name → one cell a row, as they came."""
    format: str
    """What is written to standard output: csv, tsv, jsonl; or text, for one text."""
    plain: bool = False
    """Whether they are texts, without columns of their own."""

    @cached_property
    def inputs(self) -> list[str | dict[str, str]]:
        """What is predicted for, in order: plain texts, or every column of a row as text."""
        from tunewise.reading.cells import texts

        if self.plain:
            return [str(text) for text in self.columns["text"]]
        cells = {name: [text or "" for text in texts(column)] for name, column in self.columns.items()}
        return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]

    def check(self, spec: TaskSpec) -> None:
        """Raise DataError when a column that the task asks for is missing."""
        try:
            spec.rows(self.inputs[:1])
        except DataError as error:
            raise DataError(f"{self.source}: {error}") from None

    def empty(self, spec: TaskSpec) -> str | None:
        """Which rows have nothing to predict from, in a sentence; None when all have something."""
        rows = [
            row for row, fields in enumerate(spec.rows(self.inputs)) if not any(map(str.strip, fields.values()))
        ]
        if not rows:
            return None
        shown = ", ".join(map(str, rows[:MOST_NAMED]))
        more = f" and {counted(len(rows) - MOST_NAMED, 'other')}" if len(rows) > MOST_NAMED else ""
        found = counted(len(rows), f"row of {len(self.inputs):,} has", f"rows of {len(self.inputs):,} have")
        return (
            f"{self.source}: {found} no input (row{'' if len(rows) == 1 else 's'} {shown}{more}, counted from 0); "
            "an answer is written all the same, and means nothing."
        )

    def write(self, predictions: Sequence[Prediction], spec: TaskSpec, out: Path | None) -> None:
        """Write the answers to `out` in the format of its suffix, or to standard output."""
        answered = self._answered(predictions, spec)
        if out is not None:
            with writing(out) as file:
                _write(file, _format_of(out), answered)
        elif self.format == "text":
            for answer in predictions:
                share = "" if answer.probability is None else f"\t{answer.probability:.3f}"
                print(f"{figures.clean(_named(answer.output, spec))}{share}")
        else:
            _write(sys.stdout, self.format, answered)

    def _answered(self, predictions: Sequence[Prediction], spec: TaskSpec) -> Columns:
        added: dict[str, Sequence[Any]] = {"prediction": [answer.output for answer in predictions]}
        if isinstance(spec.answer, Choices) and spec.answer.are_codes:
            added["prediction_word"] = [spec.answer.word(answer.output) for answer in predictions]
        if all(answer.scores is None and answer.probability is None for answer in predictions):
            added["valid"] = [answer.valid for answer in predictions]
        else:
            shares = [answer.probability for answer in predictions]
            added["probability"] = [None if share is None else round(share, 6) for share in shares]
        return {**self.columns, **{_free(name, self.columns): column for name, column in added.items()}}


def asked(new: str | None, text: str | None, format: str | None) -> Rows:
    """The rows of a file, of standard input (`-`, or nothing where something is piped in), or the one text given.

    Raises:
        SettingError: nothing, or too much, was asked; or the format is unknown.
        DataError: the rows cannot be read.
    """
    if new is None and text is None and not sys.stdin.isatty():
        new = STANDARD_INPUT_SIGN
    if (new is None) == (text is None):
        raise SettingError(
            "expected either a file with new rows (- for standard input) or --text TEXT, "
            f"found {'neither' if new is None else 'both'}."
        )
    if format is not None and new != STANDARD_INPUT_SIGN:
        raise SettingError("--format is for standard input (-); a file's format is told by its suffix.")
    if text is not None:
        return _one_text(text)
    if new == STANDARD_INPUT_SIGN:
        return _from_standard_input(format or "text")
    given = str(new)
    return _one_text(given) if not given.strip() or _is_text(given) else _from_file(given, given)


def check_writable(out: Path | None, rows: Rows) -> None:
    """Refuse, before any work, an `out` that cannot be written or would overwrite what is read."""
    if out is None:
        return
    _format_of(out)
    if out.is_dir() or not out.parent.is_dir():
        found = "a folder" if out.is_dir() else "no such folder to write it to"
        raise SettingError(f"-o {out}: found {found}; expected the name of a file in an existing folder.")
    if not os.access(out if out.exists() else out.parent, os.W_OK):
        raise SettingError(f"-o {out}: no permission to write there. Name another file.")
    if out.exists() and Path(rows.source).exists() and out.samefile(rows.source):
        raise SettingError(f"-o {out}: this is the file that is read. Name another one.")


def _is_text(given: str) -> bool:
    """Whether a second argument is a text and not a file's name."""
    return not Path(given).exists() and (" " in given.strip() or not Path(given).suffix)


def _one_text(text: str) -> Rows:
    if not text.strip():
        raise SettingError("the text to predict for is empty; give a text with something in it, or a file's name.")
    with contextlib.suppress(json.JSONDecodeError):
        found = json.loads(text) if text.lstrip().startswith("{") else None
        if isinstance(found, dict) and found:
            return Rows("--text", {name: [value] for name, value in found.items()}, "text")
    return Rows("--text", {"text": [text]}, "text", plain=True)


def _from_file(path: str, name: str) -> Rows:
    from tunewise.reading.sources import open_table
    from tunewise.reading.tables import from_file

    table = from_file(Path(path), name) if Path(path).is_file() else open_table(path)
    format = {"tsv": "tsv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl"}.get(table.format, "csv")
    return Rows(name, table.cells, format)


def _from_standard_input(format: str) -> Rows:
    from tunewise.reading.encoding import decode

    if format not in ("text", *FORMATS):
        raise unknown("format", format, ("text", *FORMATS))
    content = sys.stdin.buffer.read()
    if not content:
        raise DataError(
            f"{STANDARD_INPUT}: found nothing; expected at least one row. Name a file, give --text TEXT, or "
            "pipe rows in."
        )
    if format == "text":
        lines = decode(content, STANDARD_INPUT).removesuffix("\n").split("\n")
        texts = [line.removesuffix("\r") for line in lines]
        return Rows(STANDARD_INPUT, {"text": texts}, "csv", plain=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"rows.{format}")
        path.write_bytes(content)
        return _from_file(str(path), STANDARD_INPUT)


def _format_of(out: Path) -> str:
    format = out.suffix.lower().removeprefix(".")
    if format not in FORMATS:
        raise SettingError(f"-o {out}: found the suffix {out.suffix!r}; expected .csv, .tsv or .jsonl.")
    return format


def _write(file: TextIO, format: str, columns: Columns) -> None:
    rows = zip(*columns.values(), strict=True)
    if format == "jsonl":
        for row in rows:
            line = dict(zip(columns, row, strict=True))
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        return
    writer = csv.writer(file, delimiter=DELIMITERS[format], lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _free(name: str, taken: Columns) -> str:
    """`name`, with as many `tunewise_` before it as make it one that no column has."""
    while name in taken:
        name = f"tunewise_{name}"
    return name


def _named(output: str, spec: TaskSpec) -> str:
    return spec.answer.name(output) if isinstance(spec.answer, Choices) else output
