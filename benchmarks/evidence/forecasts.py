"""How far forecasts of a trial's time lie from what it took, over the journals of finished runs.

Only runs of an otherwise idle machine say something. A trial that was ended early, by patience or its budget, is
held against the forecast of the passes that it made; baselines, which take no model, are left out.

    python benchmarks/evidence/forecasts.py runs/demo runs/tickets
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bars import Bar, table

from tunewise.study.journal import read_events

MEDIAN, NINETIETH = 0.15, 0.30
Event = Mapping[str, Any]


def errors(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Of every stretch of a trial: its name, the seconds forecast, and the seconds taken."""
    begun: dict[str, Event] = {}
    passes: dict[str, float] = {}
    before: dict[str, tuple[float, float]] = {}  # seconds and passes up to the rung
    for event in read_events(folder / "trials.jsonl"):
        trial = event["trial"]
        if event["event"] in ("started", "continued"):
            begun[trial] = event
        if event["event"] == "reported" and event.get("epoch") is not None:
            passes[trial] = event["epoch"]
        if event["event"] not in ("paused", "finished") or trial not in begun:
            continue
        start, (seconds, rung) = begun[trial], before.get(trial, (0.0, 0.0))
        before[trial] = event["seconds"], passes.get(trial, 0.0)
        if start["family"] == "baseline" or not start.get("forecast_seconds"):
            continue
        wanted = start["parameters"].get("epochs")
        share = 1.0
        if wanted and wanted > rung and event["event"] == "finished":
            # A trial that goes on from its rung was forecast for the passes behind it.
            share = (passes.get(trial, 0.0) - rung) / (wanted - rung)
        yield trial, share * start["forecast_seconds"], event["seconds"] - seconds


def measured(found: Sequence[tuple[str, float, float]]) -> list[Bar]:
    """Median and ninetieth percentile of the error, as a share of what was taken."""
    apart = sorted(abs(forecast - taken) / taken for _, forecast, taken in found)
    ninetieth = apart[min(len(apart) - 1, round(0.9 * (len(apart) - 1)))]
    return [
        Bar("median error of a trial's forecast", statistics.median(apart), most=MEDIAN, count=len(apart)),
        Bar("90th percentile", ninetieth, most=NINETIETH, count=len(apart)),
    ]


def main() -> None:
    """Read the flags and the journals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--trials", action="store_true", help="one line a trial")
    flags = parser.parse_args()
    found = [one for folder in flags.runs for one in errors(folder)]
    if not found:
        raise SystemExit("these runs hold no trial with a forecast in seconds")
    if flags.trials:
        for trial, forecast, taken in found:
            print(f"{trial:20} forecast {forecast:7.1f} s, took {taken:7.1f} s, {taken / forecast - 1:+.0%}")
    print(table(measured(found)))


if __name__ == "__main__":
    main()
