"""What happened to every trial, folded from the journal `trials.jsonl`.

The journal is a list of events in the order they happened, possibly from several processes (a run that was
killed and resumed). A page wants one line per trial, so the events of a trial are folded into one frozen
record; unknown events are skipped, so that a page can be built from a journal with more kinds of event.

>>> trials, messages = fold([Fields("", {"event": "started", "trial": "lora-1", "time": 0, "method": "lora"})])
>>> trials[0].method, trials[0].status
('lora', 'unfinished')
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunewise.run_files import Fields

BEGINNINGS = ("started", "continued")
ENDS = ("finished", "pruned", "failed", "out_of_budget", "paused")


@dataclass(frozen=True)
class CurvePoint:
    """One validation score on the way."""

    step: float
    value: float
    best: bool


@dataclass(frozen=True)
class Trial:
    """One trial from start to end."""

    id: str
    method: str
    family: str
    stage: str
    parameters: Mapping[str, Any]
    start_from: str
    repeats: str
    """Trial that it repeats with another seed; empty for a candidate."""
    status: str
    """How it ended (see `ENDS`), or `unfinished` when the journal stops in between."""
    value: float | None
    """Validation score: at the end, or the best so far."""
    best_step: float | None
    last_step: float | None
    seconds: float | None
    """Seconds of fitting as recorded, or by the journal's clock for a trial without an end."""
    reason: str
    curve: tuple[CurvePoint, ...]
    test_score: float | None
    spans: tuple[tuple[float, float], ...]
    """When it ran, as (start, end) in seconds of the study; several after a pause or a resume."""


def fold(events: Iterable[Fields]) -> tuple[tuple[Trial, ...], tuple[str, ...]]:
    """The trials in order of their first event, and the texts of all messages."""
    by_trial: dict[str, list[Fields]] = {}
    messages: list[str] = []
    for event in events:
        if event.text("event") == "message":
            messages.append(event.text("text"))
        elif event.text("trial"):
            by_trial.setdefault(event.text("trial"), []).append(event)
    return tuple(_trial(name, own) for name, own in by_trial.items()), tuple(messages)


def _trial(name: str, events: list[Fields]) -> Trial:
    # A trial that never fitted the budget was not started; its end names the method.
    named = (event for event in reversed(events) if event.text("method"))
    started = next(named, Fields(name, {"method": name.rpartition("-")[0] or name}))
    ends = [event for event in events if event.text("event") in ENDS]
    end = ends[-1] if ends else Fields(name, {})
    reports = [event for event in events if event.text("event") == "reported"]
    curve = _curve(reports)
    value = end.number("value")
    if value is None and curve:
        value = max(point.value for point in curve)
    spans = _spans(events)
    measured = [seconds for event in ends if (seconds := event.number("seconds")) is not None]
    tested = [event for event in events if event.text("event") == "tested"]
    return Trial(
        id=name,
        method=started.text("method"),
        family=started.text("family"),
        stage=started.text("stage"),
        parameters=started.section("parameters").values,
        start_from=started.text("start_from"),
        repeats=started.text("repeats"),
        status=_status(events),
        value=value,
        best_step=end.number("step") if end.text("event") == "finished" else None,
        last_step=max((point.step for point in curve), default=None),
        seconds=measured[-1] if measured else sum(end - start for start, end in spans) or None,
        reason=": ".join(part for part in (end.text("error"), end.text("reason")) if part),
        # Steps of a method that does not train are alternatives in a row: a line through them would say nothing.
        curve=_curve([report for report in reports if report.number("epoch") is not None]),
        test_score=tested[-1].number("score") if tested else None,
        spans=spans,
    )


def _curve(reports: list[Fields]) -> tuple[CurvePoint, ...]:
    """Points by step; of a step reported twice (before and after a kill) the later one counts."""
    points: dict[float, CurvePoint] = {}
    for order, report in enumerate(reports, 1):
        step, value = report.number("step"), report.number("value")
        if value is not None:
            at = float(order) if step is None else step
            points[at] = CurvePoint(at, value, report.flag("best"))
    return tuple(points[step] for step in sorted(points))


def _status(events: list[Fields]) -> str:
    status = "unfinished"
    for event in events:
        kind = event.text("event")
        if kind in ENDS:
            status = kind
        elif kind in BEGINNINGS or (kind == "reported" and status == "paused"):
            status = "unfinished"
    return status


def _spans(events: list[Fields]) -> tuple[tuple[float, float], ...]:
    """`elapsed` leaves out the time between a kill and a resume; a journal without it is read by the clock."""
    spans: list[tuple[float, float]] = []
    opened: float | None = None
    last: float | None = None
    for event in events:
        time, kind = event.number("elapsed"), event.text("event")
        if time is None:
            time = event.number("time")
        if time is None or kind not in (*BEGINNINGS, "reported", *ENDS):
            continue
        if kind in BEGINNINGS and opened is not None and last is not None:
            spans.append((opened, last))
            opened = None
        if opened is None:
            opened = time
        last = time
        if kind in ENDS:
            spans.append((opened, time))
            opened = None
    if opened is not None and last is not None:
        spans.append((opened, last))
    return tuple(spans)
