"""The page's charts: dot and whisker, score against cost, learning curves, time bars.

Each function takes numbers and gives one inline SVG drawing with a title and a description in words.

>>> "<title" in whisker(Row("lora", "fine-tuning", 0.85, 0.81, 0.88, True), row_scale([0.5, 0.9]), "w-1")
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunewise.report.placement import Box, Placed, place
from tunewise.report.svg import Scale, cost_scale, family_class, mark, picture, score_scale, tag
from tunewise.report.words import MINUS, figure, score

ROW = (260.0, 30.0)
PLOT = (460.0, 330.0)
FRAME = Box(44.0, 14.0, 446.0, 282.0)
PANEL = (280.0, 170.0)
PANEL_FRAME = Box(32.0, 10.0, 268.0, 144.0)
BAR = (150.0, 18.0)


@dataclass(frozen=True)
class Row:
    """A score with its interval, as shares."""

    name: str
    family: str
    score: float
    low: float
    high: float
    picked: bool


@dataclass(frozen=True)
class Point:
    """A score against a cost."""

    name: str
    family: str
    cost: float
    score: float
    picked: bool


@dataclass(frozen=True)
class Line:
    """The validation scores of one trial on its way."""

    name: str
    points: tuple[tuple[float, float], ...]
    lead: bool
    """Whether it is the best of its method; the others are drawn fainter."""


def row_scale(values: list[float]) -> Scale:
    """The score axis that all rows of the leaderboard share."""
    return score_scale(values, 12.0, ROW[0] - 12.0)


def row_axis(scale: Scale) -> Markup:
    """The tick labels above the leaderboard's whiskers."""
    ticks = [
        tag("text", _tick(tick), x=scale(tick), y=16.0, text_anchor="middle", class_="tick")
        for tick in scale.ticks()
    ]
    return tag("svg", *ticks, viewBox=f"0 0 {ROW[0]:g} 22", aria_hidden="true", class_="axis")


def whisker(row: Row, scale: Scale, name: str) -> Markup:
    """One row of the leaderboard: the score as the family's mark, its interval as a line with ends."""
    middle, low, high = ROW[1] / 2, scale(row.low), scale(row.high)
    look = f"whisker {family_class(row.family)}" + (" picked" if row.picked else "")
    return picture(
        ROW,
        name,
        f"{row.name}: {score(row.score)}",
        f"95 % interval from {score(row.low)} to {score(row.high)}",
        *_row_grid(scale),
        tag("line", x1=low, x2=high, y1=middle, y2=middle, class_=look),
        *(tag("line", x1=end, x2=end, y1=middle - 5, y2=middle + 5, class_=look) for end in (low, high)),
        mark(row.family, scale(row.score), middle, 6.5 if row.picked else 5.0),
    )


def _row_grid(scale: Scale) -> list[Markup]:
    """Lines that reach beyond the row: a cell cuts them at its edges, so that they join up from row to row."""
    ends = {"y1": -ROW[1], "y2": 2 * ROW[1], "class_": "grid"}
    return [tag("line", x1=scale(tick), x2=scale(tick), **ends) for tick in scale.ticks()]


def against_cost(points: Sequence[Point], cost: str, name: str) -> Markup:
    """Scores against `cost`, with a line through the points that no other point beats on both."""
    across = cost_scale([point.cost for point in points], FRAME.left + 8, FRAME.right - 8)
    down = score_scale([point.score for point in points], FRAME.bottom, FRAME.top)
    spots = [(across(point.cost), down(point.score)) for point in points]
    front = pareto(points)
    best = ", ".join(f"{point.name} ({score(point.score)} at {figure(point.cost)})" for point in front)
    places = place(spots, [point.name for point in points], Box(FRAME.left + 2, 2, PLOT[0] - 2, FRAME.bottom - 1))
    title = cost + (", logarithmic" if across.log else "")
    return picture(
        PLOT,
        name,
        f"Score against {cost}",
        f"{len(points)} candidates; best for their cost, cheapest first: {best}.",
        *axes(across, down, FRAME, _tick_count),
        tag("text", title, x=FRAME.right, y=PLOT[1] - 8, text_anchor="end", class_="axis-title"),
        tag("polyline", points=_front_line(front, across, down), class_="front"),
        *(_leader(spot, placed) for spot, placed in zip(spots, places, strict=True) if placed and placed.leader),
        *(_spot(point, spot) for point, spot in zip(points, spots, strict=True)),
        *(_label(point, placed) for point, placed in zip(points, places, strict=True) if placed),
    )


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats on both score and cost, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


def curves(method: str, family: str, lines: Sequence[Line], scores: list[float], name: str) -> Markup:
    """The learning curves of one method; `scores` of all methods fix one shared score axis."""
    steps = [step for line in lines for step, _ in line.points]
    across = Scale(min(0.0, *steps), max(steps), PANEL_FRAME.left, PANEL_FRAME.right)
    down = score_scale(scores, PANEL_FRAME.bottom, PANEL_FRAME.top)
    drawn: list[Markup] = []
    for line in sorted(lines, key=lambda line: line.lead):
        look = f"curve {family_class(family)}" + (" lead" if line.lead else "")
        path = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in line.points)
        drawn.append(tag("polyline", tag("title", line.name), points=path, class_=look))
        dots = line.points if line.lead else line.points[-1:]
        drawn += [tag("circle", cx=across(step), cy=down(value), r=2.6, class_=look) for step, value in dots]
    ends = "; ".join(f"{line.name} ends at {score(line.points[-1][1])}" for line in lines)
    return picture(
        PANEL,
        name,
        f"Validation score of {method} by training step",
        ends + ".",
        *axes(across, down, PANEL_FRAME, _tick_count, ticks=4),
        *drawn,
    )


def time_bar(spans: Sequence[tuple[float, float]], total: float, family: str, name: str, text: str) -> Markup:
    """When a trial ran, on a line that stands for all `total` seconds of the study."""
    scale = Scale(0.0, total, 0.0, BAR[0])
    bars = [
        tag(
            "rect",
            x=scale(start),
            y=4.0,
            width=max(scale(end) - scale(start), 1.5),
            height=10.0,
            class_=f"bar {family_class(family)}",
        )
        for start, end in spans
    ]
    rail = tag("line", x1=0.0, x2=BAR[0], y1=BAR[1] / 2, y2=BAR[1] / 2, class_="grid")
    return picture(BAR, name, "When it ran", text, rail, *bars)


def share_bar(share: float, name: str, text: str) -> Markup:
    """A horizontal bar for a share between 0 and 1."""
    width = min(max(share, 0.0), 1.0) * BAR[0]
    rail = tag("rect", x=0.0, y=4.0, width=BAR[0], height=10.0, class_="rail")
    return picture(
        BAR, name, text, f"{100 * share:.1f} %", rail, tag("rect", x=0.0, y=4.0, width=width, height=10.0)
    )


def family_mark(family: str) -> Markup:
    """The family's mark alone, for a legend; the text beside it names the family."""
    return tag("svg", mark(family, 8.0, 8.0), viewBox="0 0 16 16", aria_hidden="true", class_="key")


def axes(
    across: Scale,
    down: Scale,
    frame: Box,
    name: Callable[[float], str],
    ticks: int = 5,
    at: Sequence[float] | None = None,
) -> list[Markup]:
    """Both axes of a plot with lines across it; `name` spells the ticks below, round ones or those `at`."""
    drawn = []
    for tick in down.ticks(ticks):
        y = down(tick)
        drawn.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", _tick(tick), x=frame.left - 6, y=y + 4, text_anchor="end", class_="tick"))
    for tick in across.ticks(ticks) if at is None else at:
        x = across(tick)
        drawn.append(tag("line", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 4, class_="axis-line"))
        drawn.append(tag("text", name(tick), x=x, y=frame.bottom + 18, text_anchor="middle", class_="tick"))
    base = tag("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis-line")
    return [*drawn, base]


def _front_line(front: Sequence[Point], across: Scale, down: Scale) -> str:
    """A staircase: between two points of the front, the cheaper one is the best that can be had."""
    steps: list[tuple[float, float]] = []
    for point in front:
        if steps:
            steps.append((across(point.cost), steps[-1][1]))
        steps.append((across(point.cost), down(point.score)))
    if steps:
        steps.append((FRAME.right, steps[-1][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in steps)


def _spot(point: Point, spot: tuple[float, float]) -> Markup:
    ring = [tag("circle", cx=spot[0], cy=spot[1], r=10.5, class_="ring")] if point.picked else []
    text = f"{point.name}: {score(point.score)} at {figure(point.cost)}"
    return tag("g", tag("title", text), *ring, mark(point.family, *spot))


def _leader(spot: tuple[float, float], placed: Placed) -> Markup:
    box = placed.box
    x = min(max(spot[0], box.left), box.right)
    y = min(max(spot[1], box.top), box.bottom)
    return tag("line", x1=spot[0], y1=spot[1], x2=x, y2=y, class_="leader")


def _label(point: Point, placed: Placed) -> Markup:
    box = placed.box
    look = "label picked" if point.picked else "label"
    return tag(
        "text", point.name, x=(box.left + box.right) / 2, y=box.bottom - 3, text_anchor="middle", class_=look
    )


def _tick(value: float) -> str:
    return f"{value:.3g}".replace("-", MINUS)


def _tick_count(value: float) -> str:
    return f"{value:,.4g}"
