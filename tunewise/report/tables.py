"""The leaderboard, score against cost, and what happened to every trial, ready to be laid out.

>>> board(run).rows[0].name, board(run).rows[0].score  # doctest: +SKIP
('lora', '0.856')
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from markupsafe import Markup

from tunewise.figures import counted, listed
from tunewise.report import charts
from tunewise.report.journal import Trial
from tunewise.report.records import Finalist, Recommendation, Run
from tunewise.report.svg import FAMILIES, Scale
from tunewise.report.words import (
    NOTHING,
    count,
    figure,
    interval,
    parameters,
    percent,
    plain,
    points,
    points_interval,
    score,
    state,
)


@dataclass(frozen=True)
class BoardRow:
    """One row of the leaderboard, in words."""

    name: str
    family: str
    mark: Markup
    picked: bool
    runner_up: bool
    state: str
    """Empty for a finalist; otherwise why the method has no figures."""
    score: str
    interval: str
    whisker: Markup
    difference: str
    difference_interval: str
    fit_seconds: str
    ms_per_example: str
    prompt_tokens: str
    trainable_parameters: str
    artifact_mb: str
    valid_rate: str


@dataclass(frozen=True)
class Board:
    """The leaderboard."""

    rows: tuple[BoardRow, ...]
    axis: Markup
    families: tuple[tuple[str, Markup], ...]
    summary: str


@dataclass(frozen=True)
class TrialRow:
    """One trial, in words."""

    id: str
    method: str
    family: str
    mark: Markup
    stage: str
    parameters: str
    status: str
    state: str
    value: str
    steps: str
    seconds: str
    reason: str
    when: Markup


@dataclass(frozen=True)
class Panel:
    """The learning curves of one method."""

    method: str
    chart: Markup
    caption: str


def board(run: Run) -> Board:
    """The rows of the leaderboard on one shared score axis."""
    finalists = run.finalists or ()
    ends = [end for row in finalists if row.score is not None for end in _ends(row)]
    scale = charts.row_scale(ends)
    finished = sum(row.score is not None for row in finalists)
    told = run.recommendation
    rows = "" if told is None else _on_rows(told)
    lines = "lines are 95 % intervals"
    if told is not None and told.folds:
        lines += ", of all at once, as the same rows chose"
    return Board(
        rows=tuple(_board_row(run, row, scale, number) for number, row in enumerate(finalists, 1)),
        axis=charts.row_axis(scale),
        families=_families([row.family for row in finalists]),
        summary=f"{counted(finished, 'candidate')} scored{rows} by the same code; {lines}.",
    )


def _on_rows(told: Recommendation) -> str:
    rows = ("row in folds", "rows in folds") if told.folds else ("test row", "test rows")
    return "" if told.n_test is None else f" on the same {counted(told.n_test, *rows)}"


def _ends(row: Finalist) -> tuple[float, float]:
    middle = row.score or 0.0
    return (middle, middle) if row.interval is None else (row.interval.low, row.interval.high)


def _families(found: list[str]) -> tuple[tuple[str, Markup], ...]:
    known = [family for family in FAMILIES if family in found]
    others = sorted({family for family in found if family and family not in FAMILIES})
    return tuple((family, charts.family_mark(family)) for family in (*known, *others))


def _board_row(run: Run, row: Finalist, scale: Scale, number: int) -> BoardRow:
    told = run.recommendation
    picked = told is not None and row.candidate == told.pick
    difference = told.differences.get(row.candidate) if told else None
    drawn = Markup("")
    if row.score is not None:
        low, high = _ends(row)
        shown = charts.Row(row.candidate, row.family, row.score, low, high, picked)
        drawn = charts.whisker(shown, scale, f"whisker-{number}")
    return BoardRow(
        name=row.candidate,
        family=row.family,
        mark=charts.family_mark(row.family),
        picked=picked,
        runner_up=told is not None and row.candidate == told.runner_up,
        state=state(row.status) if row.score is None else "",
        score=score(row.score),
        interval=interval(row.interval),
        whisker=drawn,
        difference="pick" if picked else points(difference.value if difference else None),
        difference_interval=points_interval(difference.interval) if difference else "",
        fit_seconds=figure(row.fit_seconds),
        ms_per_example=figure(row.ms_per_example),
        prompt_tokens=NOTHING if row.prompt_tokens is None else figure(row.prompt_tokens),
        trainable_parameters=count(row.trainable_parameters),
        artifact_mb=figure(row.artifact_mb),
        valid_rate=percent(row.valid_rate),
    )


def cost_charts(run: Run) -> tuple[tuple[str, Markup, str], ...]:
    """Score against set-up seconds and against milliseconds a request: the cost, the chart, a sentence."""
    drawn = []
    for cost, text, name in (
        ("fit_seconds", "set-up seconds", "scatter-setup"),
        ("ms_per_example", "milliseconds a request", "scatter-request"),
    ):
        points_ = [
            charts.Point(row.candidate, row.family, getattr(row, cost), row.score, row.candidate == _picked(run))
            for row in run.finalists or ()
            if row.score is not None and getattr(row, cost) is not None
        ]
        if points_:
            front = tuple(point.name for point in charts.pareto(points_))
            drawn.append((text, charts.against_cost(points_, text, name), f"On the line: {listed(front)}."))
    return tuple(drawn)


def _picked(run: Run) -> str:
    return run.recommendation.pick if run.recommendation else ""


def trial_rows(run: Run) -> tuple[TrialRow, ...]:
    """Every trial of the journal, in the order they began."""
    trials = run.trials or ()
    starts = [start for trial in trials for start, _ in trial.spans]
    first = min(starts, default=0.0)
    total = max((end for trial in trials for _, end in trial.spans), default=0.0) - first
    families = {row.method: row.family for row in run.finalists or ()}
    whole = [replace(trial, family=trial.family or families.get(trial.method, "")) for trial in trials]
    return tuple(_trial_row(trial, first, total, number) for number, trial in enumerate(whole, 1))


def trial_summary(run: Run) -> str:
    """How many trials ended how."""
    trials = run.trials or ()
    counts = Counter(trial.status for trial in trials)
    ends = listed(tuple(f"{number} {state(status)}" for status, number in counts.most_common()))
    return f"{counted(len(trials), 'trial')}: {ends}." if trials else "No trial was started."


def _trial_row(trial: Trial, first: float, total: float, number: int) -> TrialRow:
    spans = [(start - first, end - first) for start, end in trial.spans]
    text = "; ".join(f"from {start:.0f} to {end:.0f} s" for start, end in spans)
    steps = plain(trial.last_step)
    if trial.best_step is not None and trial.last_step is not None and trial.best_step != trial.last_step:
        steps = f"{plain(trial.best_step)} of {plain(trial.last_step)}"
    given = parameters(trial.parameters)
    return TrialRow(
        id=trial.id,
        method=trial.method,
        family=trial.family,
        mark=charts.family_mark(trial.family),
        stage=trial.stage or NOTHING,
        parameters=" · ".join(part for part in (given, trial.start_from and f"from {trial.start_from}") if part),
        status=trial.status,
        state=state(trial.status),
        value=score(trial.value),
        steps=steps,
        seconds=figure(trial.seconds),
        reason=trial.reason,
        when=charts.time_bar(spans, total, trial.family, f"time-{number}", text)
        if total > 0 and spans
        else Markup(""),
    )


def panels(run: Run) -> tuple[Panel, ...]:
    """Learning curves of every method with at least one trial that was scored more than once."""
    curved = [trial for trial in run.trials or () if len(trial.curve) > 1]
    scores = [point.value for trial in curved for point in trial.curve]
    methods = dict.fromkeys(trial.method for trial in curved)
    return tuple(
        _panel(method, [trial for trial in curved if trial.method == method], scores, number)
        for number, method in enumerate(methods, 1)
    )


def _panel(method: str, trials: list[Trial], scores: list[float], number: int) -> Panel:
    candidates = [trial for trial in trials if not trial.repeats] or trials
    best = max(candidates, key=lambda trial: max(point.value for point in trial.curve))
    top = max(best.curve, key=lambda point: point.value)
    lines = [
        charts.Line(trial.id, tuple((point.step, point.value) for point in trial.curve), trial is best)
        for trial in trials
    ]
    rate = {key: value for key, value in best.parameters.items() if key == "learning_rate"}
    tail = f" ({parameters(rate)})" if rate else ""
    return Panel(
        method=method,
        chart=charts.curves(method, best.family, lines, scores, f"curve-{number}"),
        caption=f"{best.id}{tail}: {score(top.value)} at step {plain(top.step)}",
    )
