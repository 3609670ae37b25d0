"""The rows that `tunewise predict` is asked about, and the file it answers with.

Every column that came in goes out, in the same order, with `prediction`, `probability` (where there is one)
and, for free text, `valid` behind it. Plain texts become a column `text`.

>>> rows = asked(None, "my card was charged twice", None)
>>> rows.inputs
['my card was charged twice']
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tunewise.cli import figures
from tunewise.errors import DataError, SettingError, unknown

if TYPE_CHECKING:
    from tunewise.adapted import Prediction

FORMATS = ("csv", "tsv", "jsonl")
DELIMITERS = {"csv": ",", "tsv": "\t"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows to predict for."""

    source: str
    """A path, `standard input` or `--text`."""
    columns: tuple[str, ...]
    values: tuple[Row, ...]
    format: str
    """In which they came, and go to standard output; `text` for one text."""
    plain: bool
    """Whether they are texts without columns of their own."""

    @property
    def inputs(self) -> list[str | dict[str, str]]:
        """What is predicted for, in order: plain texts, or every column of a row as text."""
        if self.plain:
            return [str(row["text"]) for row in self.values]
        return [{name: _text(value) for name, value in row.items()} for row in self.values]

    def write(self, predictions: Sequence[Prediction], out: Path | None) -> None:
        """Write the answers to `out` in the format of its suffix, or to standard output."""
        columns, rows = self._answered(predictions)
        if out is not None:
            with _replacing(out) as file:
                _write(file, _format_of(out), columns, rows)
        elif self.format == "text":
            for answer in predictions:
                share = "" if answer.probability is None else f"\t{answer.probability:.3f}"
                print(f"{figures.clean(answer.output)}{share}")
        else:
            _write(sys.stdout, self.format, columns, rows)

    def _answered(self, predictions: Sequence[Prediction]) -> tuple[list[str], Iterator[Row]]:
        free_text = all(answer.scores is None and answer.probability is None for answer in predictions)
        added = ["prediction", "valid"] if free_text else ["prediction", "probability"]
        names = [name if name not in self.columns else f"tunewise_{name}" for name in added]

        def rows() -> Iterator[Row]:
            for row, answer in zip(self.values, predictions, strict=True):
                share = None if answer.probability is None else round(answer.probability, 6)
                yield row | {names[0]: answer.output, names[1]: answer.valid if free_text else share}

        return [*self.columns, *names], rows()


def asked(new: str | None, text: str | None, format: str | None) -> Rows:
    """The rows of a file, of standard input (`-`), or the one text that was given.

    Raises:
        SettingError: nothing, or too much, was asked; or the format is unknown.
        DataError: the rows cannot be read.
    """
    if (new is None) == (text is None):
        raise SettingError(
            "expected either a file with new rows (- for standard input) or --text TEXT, "
            f"found {'neither' if new is None else 'both'}."
        )
    if format is not None and new != "-":
        raise SettingError("--format is for standard input (-); a file's format is told by its suffix.")
    if text is not None or (new is not None and _is_text(new)):
        return _one_text(text if text is not None else str(new))
    if new == "-":
        return _from_standard_input(format or "text")
    return _from_file(Path(str(new)))


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


def _is_text(new: str) -> bool:
    """Whether a second argument is a text and not a file's name."""
    return new != "-" and not Path(new).exists() and (" " in new.strip() or not Path(new).suffix)


def _one_text(text: str) -> Rows:
    with contextlib.suppress(json.JSONDecodeError):
        found = json.loads(text) if text.lstrip().startswith("{") else None
        if isinstance(found, dict):
            return Rows("--text", tuple(found), (found,), "text", plain=False)
    return Rows("--text", ("text",), ({"text": text},), "text", plain=True)


def _from_standard_input(format: str) -> Rows:
    if format not in ("text", *FORMATS):
        raise unknown("format", format, ("text", *FORMATS))
    content = _decoded(sys.stdin.buffer.read(), "standard input")
    if format == "text":
        lines = content.removesuffix("\n").split("\n") if content else []
        values = tuple({"text": line.removesuffix("\r")} for line in lines)
        return _checked(Rows("standard input", ("text",), values, "csv", plain=True))
    return _parsed("standard input", content, format)


def _from_file(path: Path) -> Rows:
    if not path.is_file():
        raise DataError(f"{path}: no such file. A text is given with --text, standard input with -.")
    suffix = path.suffix.lower().removeprefix(".")
    if suffix == "parquet":
        return _from_parquet(path)
    if suffix not in (*FORMATS, "ndjson"):
        raise DataError(f"{path}: found the suffix {path.suffix!r}; expected .csv, .tsv, .jsonl or .parquet.")
    format = "jsonl" if suffix == "ndjson" else suffix
    try:
        return _parsed(str(path), _decoded(path.read_bytes(), str(path)), format)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None


def _parsed(source: str, content: str, format: str) -> Rows:
    if format == "jsonl":
        values = tuple(_json_rows(source, content))
        columns = tuple(dict.fromkeys(name for row in values for name in row))
    else:
        columns, values = _delimited(source, content, DELIMITERS[format])
    return _checked(Rows(source, columns, values, format, plain=False))


def _checked(rows: Rows) -> Rows:
    if not rows.values:
        raise DataError(f"{rows.source}: found no rows; expected at least one.")
    return rows


def _delimited(source: str, content: str, delimiter: str) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    values = []
    try:
        columns = tuple(next(reader, ()))
        if len(set(columns)) < len(columns):
            raise DataError(f"{source}: found a column name twice in {list(columns)}. Rename one.")
        for cells in reader:
            if cells and len(cells) != len(columns):
                raise DataError(
                    f"{source}, line {reader.line_num}: found {len(cells)} cells, expected {len(columns)}. "
                    "Is a quote or a delimiter missing?"
                )
            if cells:
                values.append(dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}. Correct the quoting.") from None
    return columns, tuple(values)


def _json_rows(source: str, content: str) -> Iterator[Row]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{source}, line {number}: {error}; expected one JSON object.") from None
        if not isinstance(row, dict):
            raise DataError(f"{source}, line {number}: found {line[:40]!r}; expected one JSON object.")
        yield row


def _from_parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return _checked(Rows(str(path), tuple(table.column_names), tuple(table.to_pylist()), "csv", plain=False))


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{source}, line {line}: found the byte 0x{content[error.start]:02x}, which is not UTF-8. "
            "Save the file as UTF-8."
        ) from None


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _format_of(out: Path) -> str:
    format = out.suffix.lower().removeprefix(".")
    if format not in FORMATS:
        raise SettingError(f"-o {out}: found the suffix {out.suffix!r}; expected .csv, .tsv or .jsonl.")
    return format


def _write(file: TextIO, format: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    if format == "jsonl":
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        return
    writer = csv.writer(file, delimiter=DELIMITERS[format], lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_text(row.get(name)) for name in columns])


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[TextIO]:
    """A file that takes the place of `out` once it is complete."""
    target = out.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
