"""Which new folder a run is written to when none is named.

>>> name_of("data/My tickets.csv"), name_of("hf:org/emotion"), name_of("trec")
('My-tickets', 'emotion', 'trec')
"""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

RUNS = Path("runs")


def free(folder: Path) -> Path:
    """`folder`, or the first of `folder-2`, `folder-3`, … that does not exist."""
    if not folder.exists():
        return folder
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(candidate for candidate in numbered if not candidate.exists())


def name_of(data: str) -> str:
    """A folder's name for the data: the file's without its suffix, or the last part of the data set's."""
    last = re.split(r"[/\\:]", data.rstrip("/\\"))[-1]
    stem = Path(last).stem if Path(data).suffix else last
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "data"
