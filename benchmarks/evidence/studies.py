"""Whole studies as a user runs them, on cells of the grid: what is picked, scored on rows that no study sees.

Budgets are in minutes, so that the machine should have nothing else to do.

    python benchmarks/evidence/studies.py --budget 5m trec-128-0 banking77-128-0
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import grid
from cells import Cell
from cells import grid as all_cells

import tunewise as tw


def studied(cell: Cell, budget: str) -> str:
    """One study, in a line."""
    _, unseen = grid.pool(cell.task)
    task = grid.given(cell)
    with TemporaryDirectory() as folder:
        found = tw.compare(task, budget=budget, out=Path(folder) / "run").recommendation
        score = tw.evaluate(found.load(), unseen).score
    announced = f"announced {found.score:.3f} ({found.ci[0]:.3f} to {found.ci[1]:.3f})"
    return f"{cell.name}: {found.pick}, {task.spec.metric} {score:.3f} on {len(unseen):,} rows, {announced}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cells", nargs="+", choices=[one.name for one in all_cells() if one.fold is None])
    parser.add_argument("--budget", default="5m")
    given = parser.parse_args()
    for one in all_cells():
        if one.name in given.cells:
            print(studied(one, given.budget), flush=True)
