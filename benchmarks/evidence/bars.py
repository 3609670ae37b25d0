"""What a claim of Tunewise must reach, beside what was found: one table a script, and a file that keeps it.

Every script of this folder works on truths that it made itself, or on stored outcomes, and needs no model. It ends
with exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Bar:
    """One figure and the range it must lie in; without a range it is only reported."""

    what: str
    found: float
    least: float | None = None
    most: float | None = None
    count: int | None = None
    """Draws behind the figure; None where it was computed exactly."""

    @property
    def holds(self) -> bool:
        """Whether the figure lies in its range."""
        return bool(
            (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)
        )

    @property
    def wanted(self) -> str:
        """The range, in words."""
        if self.least is not None and self.most is not None:
            return f"{self.least:.1%} to {self.most:.1%}"
        return (
            f"at least {self.least:.1%}"
            if self.least is not None
            else f"at most {self.most:.1%}"
            if self.most
            else ""
        )

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, or nothing where nothing was asked."""
        return "" if not self.wanted else "ok" if self.holds else "MISSED"


def table(bars: Sequence[Bar]) -> str:
    """One line a bar."""
    rows = [("what", "found", "wanted", "draws", "")]
    rows += [
        (bar.what, f"{bar.found:.2%}", bar.wanted, f"{bar.count:,}" if bar.count else "exact", bar.verdict)
        for bar in bars
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def run(name: str, docstring: str | None, measure: Callable[[bool], Sequence[Bar]]) -> None:
    """Measure, print, write `results/NAME.json`; `--quick` takes fewer draws and writes nothing."""
    parser = argparse.ArgumentParser(description=(docstring or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few draws, to see that it works; nothing is written")
    quick = parser.parse_args().quick
    begun = time.perf_counter()
    bars = measure(quick)
    print(table(bars))
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    record = {
        "name": name,
        "measured_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "seconds": round(time.perf_counter() - begun, 1),
        "bars": [{**asdict(bar), "holds": bar.holds} for bar in bars],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    if not all(bar.holds for bar in bars):
        sys.exit(1)
