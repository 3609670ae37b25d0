"""What more labels are worth: the learning curves as one drawing, and what follows from each in words.

>>> found = section(run)  # doctest: +SKIP
>>> found.chart, found.rows[0].cells  # doctest: +SKIP
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunewise.figures import counted
from tunewise.report.placement import Box
from tunewise.report.records import Band, LearningCurve, Recommendation, Run
from tunewise.report.svg import Scale, family_class, mark, picture, score_scale, tag
from tunewise.report.words import MINUS, NOTHING, count, interval, listed, score

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


def section(run: Run) -> LearningSection | None:
    """The learning curves of a run; None where none were measured."""
    told = run.recommendation
    if told is None or not told.learning:
        return None
    curves = sorted(told.learning.curves, key=lambda curve: -_means(curve)[-1][1])
    sizes = sorted({size for curve in curves for size in curve.scores})
    return LearningSection(
        summary=_summary(told),
        chart=_chart(curves, told),
        sizes=tuple(count(size) for size in sizes),
        twice=count(2 * told.learning.labels),
        rows=tuple(_row(curve, sizes, told) for curve in curves),
        notes=tuple(_notes(told)),
    )


def _summary(told: Recommendation) -> str:
    learning = told.learning
    assert learning is not None
    return (
        f"Each candidate made again from fewer training rows, with the settings that the study found and at least "
        f"40 training steps: means of three draws, their range as a line. Choices within a fit used the same "
        f"{counted(learning.validation, 'validation row')} at every size, which are not counted. Nothing was "
        f"chosen by these scores. Beyond {count(learning.labels)} rows the curves are extrapolated: a power law "
        "is fitted, and its 95 % band is widened by how far it misses the last point when that is left out."
    )


def _notes(told: Recommendation) -> list[str]:
    learning = told.learning
    assert learning is not None
    notes = []
    if learning.constant:
        flat = listed(tuple(f"{name} ({score(value)})" for name, value in learning.constant.items()))
        notes.append(f"More labels change nothing for {flat}.")
    notes += [f"{name} has no curve, a fit failed: {reason}" for name, reason in learning.failed.items()]
    left = tuple(name for name in learning.unmeasured if name not in learning.failed)
    if left:
        notes.append(f"Not measured, or not to the end: {listed(left)}. tunewise curve goes on.")
    return notes


def _row(curve: LearningCurve, sizes: Sequence[int], told: Recommendation) -> LearningRow:
    means = dict(_means(curve))
    at_sizes = [score(means[size]) if size in means else NOTHING for size in sizes]
    return LearningRow(
        name=curve.name,
        picked=curve.name == told.pick,
        cells=(*at_sizes, _band(curve.twice), _band(curve.four_times), _saved(curve, told.pick)),
    )


def _band(band: Band | None) -> str:
    return NOTHING if band is None else f"{score(band.value)} {interval(band.interval)}"


def _saved(curve: LearningCurve, pick: str) -> str:
    if curve.name == pick:
        return "the pick"
    if curve.advantage is None:
        return NOTHING
    ends = curve.advantage_interval
    span = "" if ends is None else f" [{_signed(ends.low)}, {_signed(ends.high)}]"
    return f"{_signed(curve.advantage)}{span}"


def _signed(labels: float) -> str:
    return f"{labels:+,.0f}".replace("-", MINUS)


def _means(curve: LearningCurve) -> list[tuple[int, float]]:
    return [(size, statistics.fmean(found)) for size, found in sorted(curve.scores.items())]


def _chart(curves: Sequence[LearningCurve], told: Recommendation) -> Markup:
    """Scores against training rows, both axes shared by all candidates."""
    learning = told.learning
    assert learning is not None
    sizes = sorted({size for curve in curves for size in curve.scores})
    bands = [curve.twice for curve in curves if curve.twice]
    values = [value for curve in curves for found in curve.scores.values() for value in found]
    values += [band.value for band in bands] + list(learning.constant.values())
    values += [end for curve in curves if curve.name == told.pick and curve.twice for end in _ends(curve.twice)]
    across = Scale(float(sizes[0]), 2.0 * learning.labels, FRAME.left + 8, FRAME.right, log=True)
    down = score_scale(values, FRAME.bottom, FRAME.top)
    lines = [
        _line(curve, across, down, learning.labels, picked=curve.name == told.pick)
        for curve in sorted(curves, key=lambda curve: curve.name == told.pick)
    ]
    ends = "; ".join(f"{curve.name} {score(_means(curve)[-1][1])}" for curve in curves)
    title = tag(
        "text", "training rows, logarithmic", x=FRAME.right, y=PLOT[1] - 6, text_anchor="end", class_="axis-title"
    )
    here = across(float(learning.labels))
    return picture(
        PLOT,
        "learning-curves",
        "Score by number of training rows",
        f"With all {count(learning.labels)} training rows: {ends}.",
        *_grid(across, down, [*sizes, 2 * learning.labels]),
        tag("line", x1=here, x2=here, y1=FRAME.top, y2=FRAME.bottom, class_="today"),
        tag("text", "all rows of this run", x=here - 6, y=FRAME.top + 16, text_anchor="end", class_="tick"),
        tag("text", "extrapolated", x=here + 6, y=FRAME.top + 16, class_="tick"),
        *_constants(learning.constant, down),
        *lines,
        *_names(curves, learning.constant, down, told.pick),
        title,
    )


def _ends(band: Band) -> tuple[float, float]:
    return (band.value, band.value) if band.interval is None else (band.interval.low, band.interval.high)


def _grid(across: Scale, down: Scale, sizes: Sequence[int]) -> list[Markup]:
    drawn = []
    for tick in down.ticks():
        y = down(tick)
        drawn.append(tag("line", x1=FRAME.left, x2=FRAME.right, y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", f"{tick:.3g}", x=FRAME.left - 6, y=y + 4, text_anchor="end", class_="tick"))
    free = -LEAST_APART
    for size in sizes:
        x = across(float(size))
        drawn.append(tag("line", x1=x, x2=x, y1=FRAME.bottom, y2=FRAME.bottom + 4, class_="axis-line"))
        if x - free >= LEAST_APART:
            drawn.append(tag("text", count(size), x=x, y=FRAME.bottom + 18, text_anchor="middle", class_="tick"))
            free = x
    drawn.append(tag("line", x1=FRAME.left, x2=FRAME.right, y1=FRAME.bottom, y2=FRAME.bottom, class_="axis-line"))
    return drawn


def _line(curve: LearningCurve, across: Scale, down: Scale, labels: int, *, picked: bool) -> Markup:
    """One candidate: the range of its draws, its means, and what is expected beyond them."""
    look = f"curve {family_class(curve.family)}" + (" lead" if picked else "")
    means = [(across(float(size)), down(value)) for size, value in _means(curve)]
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
    ends = [(curve.name, down(curve.twice.value if curve.twice else _means(curve)[-1][1])) for curve in curves]
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
