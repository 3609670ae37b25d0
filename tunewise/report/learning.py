"""What more labels are worth: the learning curves as one drawing, and what follows from each in words.

>>> found = section(run)  # doctest: +SKIP
>>> found.chart, found.rows[0].cells  # doctest: +SKIP
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunewise.figures import counted, listed
from tunewise.report.charts import axes
from tunewise.report.placement import Box
from tunewise.report.records import Band, Learning, LearningCurve, Run
from tunewise.report.svg import Scale, family_class, mark, picture, score_scale, tag
from tunewise.report.words import MINUS, NOTHING, count, interval, score
from tunewise.run_files import Interval

PLOT = (960.0, 430.0)
FRAME = Box(48.0, 16.0, 800.0, 384.0)
"""Of the curves; names stand to the right of it."""
LEAST_APART = 28.0
"""Units between two tick labels."""


@dataclass(frozen=True)
class LearningRow:
    """One candidate, in words."""

    name: str
    picked: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class LearningSection:
    """The whole section."""

    summary: str
    chart: Markup
    sizes: tuple[str, ...]
    twice: str
    rows: tuple[LearningRow, ...]
    notes: tuple[str, ...]
    saved: tuple[LearningRow, ...] = ()
    """Of each candidate, the rows that it saves beside each of them, in the order of these lines."""


def section(run: Run) -> LearningSection | None:
    """The learning curves of a run; None where none were measured."""
    told = run.recommendation
    if told is None or told.learning is None:
        return None
    learning, pick = told.learning, told.pick
    curves = sorted(learning.curves, key=lambda curve: -_last(curve))
    sizes = sorted({size for curve in curves for size in curve.scores})
    return LearningSection(
        summary=_summary(learning, in_folds="folds" in run.task.values),
        chart=_chart(curves, learning, sizes, pick),
        sizes=tuple(count(size) for size in sizes),
        twice=count(2 * learning.labels),
        rows=tuple(_row(curve, sizes, pick) for curve in curves),
        notes=tuple(_notes(learning)),
        saved=_saved_beside(curves, pick),
    )


def _summary(learning: Learning, *, in_folds: bool) -> str:
    where = "at sizes that do not learn from them" if in_folds else "at every size, which are not counted"
    return (
        f"Each candidate made again from fewer training rows, with the settings that the study found and at least "
        f"40 training steps: means of three draws, their range as a line. Choices within a fit used the same "
        f"{counted(learning.validation, 'validation row')} {where}. Nothing was "
        f"chosen by these scores. Beyond {count(learning.labels)} rows the curves are extrapolated: a power law "
        "is fitted, and its 95 % band is widened by how far it misses the last point when that is left out."
    )


def _notes(learning: Learning) -> list[str]:
    notes = []
    if learning.constant:
        flat = listed(tuple(f"{name} ({score(value)})" for name, value in learning.constant.items()))
        notes.append(f"More labels change nothing for {flat}.")
    notes += [f"{name} has no curve, a fit failed: {reason}" for name, reason in learning.failed.items()]
    left = tuple(name for name in learning.unmeasured if name not in learning.failed)
    if left:
        notes.append(f"Not measured, or not to the end: {listed(left)}. tunewise curve goes on.")
    return notes


def _row(curve: LearningCurve, sizes: Sequence[int], pick: str) -> LearningRow:
    means = curve.means
    return LearningRow(
        name=curve.name,
        picked=curve.name == pick,
        cells=(
            *(score(means.get(size)) for size in sizes),
            _band(curve.twice),
            _band(curve.four_times),
            _saved(curve, pick),
        ),
    )


def _band(band: Band | None) -> str:
    return NOTHING if band is None else f"{score(band.value)} {interval(band.interval)}"


def _saved(curve: LearningCurve, pick: str) -> str:
    return "the pick" if curve.name == pick else _rows_saved(curve.advantage, curve.advantage_interval)


def _saved_beside(curves: Sequence[LearningCurve], pick: str) -> tuple[LearningRow, ...]:
    """Of each candidate; of two the column beside the scores says it."""
    if len(curves) < 3 or not any(curve.saves for curve in curves):
        return ()
    return tuple(_beside(curve, curves, pick) for curve in curves)


def _beside(curve: LearningCurve, curves: Sequence[LearningCurve], pick: str) -> LearningRow:
    """What one candidate saves beside each."""
    found = [curve.saves.get(other.name) for other in curves]
    cells = tuple(NOTHING if one is None else _rows_saved(one.value, one.interval) for one in found)
    return LearningRow(curve.name, curve.name == pick, cells)


def _rows_saved(labels: float | None, ends: Interval | None) -> str:
    if labels is None or ends is None:  # a figure without an interval, as older runs tell it, may be all chance
        return NOTHING
    return f"{_signed(labels)} [{_signed(ends.low)}, {_signed(ends.high)}]"


def _signed(labels: float) -> str:
    return f"{labels:+,.0f}".replace("-", MINUS)


def _last(curve: LearningCurve) -> float:
    """Mean score of the largest size."""
    return list(curve.means.values())[-1]


def _chart(curves: Sequence[LearningCurve], learning: Learning, sizes: Sequence[int], pick: str) -> Markup:
    """Scores against training rows, both axes shared by all candidates."""
    values = [value for curve in curves for found in curve.scores.values() for value in found]
    values += [curve.twice.value for curve in curves if curve.twice] + list(learning.constant.values())
    values += [end for curve in curves if curve.name == pick and curve.twice for end in _ends(curve.twice)]
    across = Scale(float(sizes[0]), 2.0 * learning.labels, FRAME.left + 8, FRAME.right, log=True)
    down = score_scale(values, FRAME.bottom, FRAME.top)
    lines = [
        _line(curve, across, down, learning.labels, picked=curve.name == pick)
        for curve in sorted(curves, key=lambda curve: curve.name == pick)
    ]
    ends = "; ".join(f"{curve.name} {score(_last(curve))}" for curve in curves)
    title = tag(
        "text", "training rows, logarithmic", x=FRAME.right, y=PLOT[1] - 6, text_anchor="end", class_="axis-title"
    )
    ticks = [float(size) for size in (*sizes, 2 * learning.labels)]
    readable = _readable(ticks, across)
    here = across(float(learning.labels))
    return picture(
        PLOT,
        "learning-curves",
        "Score by number of training rows",
        f"With all {count(learning.labels)} training rows: {ends}.",
        *axes(across, down, FRAME, lambda tick: count(tick) if tick in readable else "", at=ticks),
        tag("line", x1=here, x2=here, y1=FRAME.top, y2=FRAME.bottom, class_="today"),
        tag("text", "all rows of this run", x=here - 6, y=FRAME.top + 16, text_anchor="end", class_="tick"),
        tag("text", "extrapolated", x=here + 6, y=FRAME.top + 16, class_="tick"),
        *_constants(learning.constant, down),
        *lines,
        *_names(curves, learning.constant, down, pick),
        title,
    )


def _readable(ticks: Sequence[float], across: Scale) -> set[float]:
    """Ticks whose labels do not run into each other."""
    found: list[float] = []
    for tick in ticks:
        if not found or across(tick) - across(found[-1]) >= LEAST_APART:
            found.append(tick)
    return set(found)


def _ends(band: Band) -> tuple[float, float]:
    return (band.value, band.value) if band.interval is None else (band.interval.low, band.interval.high)


def _line(curve: LearningCurve, across: Scale, down: Scale, labels: int, *, picked: bool) -> Markup:
    """One candidate: the range of its draws, its means, and what is expected beyond them."""
    look = f"curve {family_class(curve.family)}" + (" lead" if picked else "")
    means = [(across(float(size)), down(value)) for size, value in curve.means.items()]
    drawn = [tag("title", curve.name)]
    if curve.twice is not None:
        last, far = means[-1], across(2.0 * labels)
        if picked:
            low, high = (down(end) for end in _ends(curve.twice))
            cone = [last, (far, low), (far, high)]
            drawn.append(tag("polygon", points=_path(cone), class_=f"cone {family_class(curve.family)}"))
        drawn.append(
            tag("polyline", points=_path([last, (far, down(curve.twice.value))]), class_=f"{look} beyond")
        )
    drawn.append(tag("polyline", points=_path(means), class_=look))
    for (x, y), (_, found) in zip(means, sorted(curve.scores.items()), strict=True):
        drawn.append(tag("line", x1=x, x2=x, y1=down(min(found)), y2=down(max(found)), class_=f"range {look}"))
        drawn.append(mark(curve.family, x, y, 5.5 if picked else 4.0))
    return tag("g", *drawn)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _constants(constant: Mapping[str, float], down: Scale) -> list[Markup]:
    return [
        tag("line", tag("title", name), x1=FRAME.left, x2=FRAME.right, y1=y, y2=y, class_="constant")
        for name, y in ((name, down(value)) for name, value in constant.items())
    ]


def _names(curves: Sequence[LearningCurve], constant: Mapping[str, float], down: Scale, pick: str) -> list[Markup]:
    """Names to the right of where each line ends, moved apart where they would overlap."""
    ends = [(curve.name, down(curve.twice.value if curve.twice else _last(curve))) for curve in curves]
    ends += [(name, down(value)) for name, value in constant.items()]
    ends.sort(key=lambda end: end[1])
    places = _apart([y for _, y in ends], 14.0, FRAME.top + 4, FRAME.bottom)
    drawn = []
    for (name, y), at in zip(ends, places, strict=True):
        drawn.append(tag("line", x1=FRAME.right + 2, y1=y, x2=FRAME.right + 14, y2=at, class_="leader"))
        look = "label picked" if name == pick else "label"
        drawn.append(tag("text", name, x=FRAME.right + 18, y=at + 4, class_=look))
    return drawn


def _apart(wanted: Sequence[float], distance: float, top: float, bottom: float) -> list[float]:
    """Places near those `wanted`, which rise, at least `distance` from each other."""
    places: list[float] = []
    for y in wanted:
        places.append(max(y, top, places[-1] + distance if places else top))
    for below, above in itertools.pairwise(range(len(places) - 1, -1, -1)):
        places[below] = min(places[below], bottom)
        places[above] = min(places[above], places[below] - distance)
    return places
