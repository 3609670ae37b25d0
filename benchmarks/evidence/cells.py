"""The grid that policies are judged on: which tasks with how many rows, and how their outcomes are kept.

A cell is a task, a number of labelled rows, a draw of them, and below 100 rows one of five folds. Its file holds
one line about the cell, then one line a trial; each line is a gzip member of its own, so that a file grows by
appending and a torn end costs one trial.

>>> for cell in grid():
...     print(cell.name, len(read(cell).trials))
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.study.evaluation import preference

FOLDER = Path(__file__).with_name("grid")
FOLDS = 5
SIZES: dict[str, dict[int, int]] = {
    "trec": {32: 1, 128: 3, 512: 1},
    "sms-spam": {32: 1, 128: 3},
    "disaster-tweets": {32: 1, 128: 3},
    "banking77": {32: 1, 128: 3, 512: 1},
    "clinc150": {32: 1, 128: 3},
    "english-spanish": {128: 1},
}
"""Draws by labelled rows, by task."""
SMALL = 100
"""Labelled rows below which a cell is cross-validated."""


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    task: str
    rows: int
    draw: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """As in `trec-128-0`, with the fold behind it."""
        return "-".join(str(part) for part in (self.task, self.rows, self.draw, self.fold) if part is not None)

    @property
    def path(self) -> Path:
        """Where its outcomes are kept."""
        return FOLDER / f"{self.name}.jsonl.gz"


@dataclass(frozen=True)
class Outcomes:
    """What is kept of a cell."""

    facts: Mapping[str, Any]
    """Sizes, targets of each split, what a forecast needs; empty where the cell was not begun."""
    trials: Sequence[Mapping[str, Any]]


def grid() -> Iterator[Cell]:
    """All cells: the middle size of every task first, then the others."""
    for wanted in (128, 512, 32):
        for draw in range(3):
            for task, sizes in SIZES.items():
                if draw < sizes.get(wanted, 0):
                    folds = range(FOLDS) if wanted < SMALL else (None,)
                    yield from (Cell(task, wanted, draw, fold) for fold in folds)


def read(cell: Cell) -> Outcomes:
    """What is kept so far; a torn end is cut off the file."""
    lines = list(_lines(cell.path))
    return Outcomes(lines[0] if lines else {}, lines[1:])


def append(cell: Cell, line: Mapping[str, Any]) -> None:
    """Add a line to the file of a cell."""
    FOLDER.mkdir(exist_ok=True)
    # The same content gives the same bytes: no time in it.
    member = gzip.compress(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)
    with cell.path.open("ab") as file:
        file.write(member)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    left = path.read_bytes()
    whole = len(left)
    while left:
        member = zlib.decompressobj(wbits=31)
        try:
            text = member.decompress(left)
        except zlib.error:
            text = b""
        if not member.eof:
            with path.open("rb+") as file:
                file.truncate(whole - len(left))
            return
        left = member.unused_data
        yield json.loads(text)


def coded(outputs: Sequence[str], labels: Sequence[str]) -> str | list[str]:
    """Outputs as one letter a row, `.` for what is no label; texts as they are, where there are no labels."""
    if not labels:
        return list(outputs)
    letters = {label: chr(ord("a") + number) for number, label in enumerate(labels)}
    return "".join(letters.get(output, ".") for output in outputs)


def decoded(letters: str | Sequence[str], labels: Sequence[str]) -> list[str]:
    """The way back; what is no label becomes an empty text."""
    if not labels:
        return list(letters)
    return ["" if letter == "." else labels[ord(letter) - ord("a")] for letter in letters]


def preferred(line: Mapping[str, Any]) -> tuple[float, float]:
    """Sorts trials, and the checks of one, as a study does, best last."""
    return preference(line["value"], line["log_loss"])
