"""Drawing by hand: tags, scales and the marks of each family.

Every chart is inline SVG made from numbers, so that the page needs no script and no library. Colours come
from the page's style sheet through classes, so that one drawing serves light, dark and print; each family
has a shape as well as a colour. All text goes through `tag`, which escapes it.

>>> str(tag("text", "a < b", x=3.0, text_anchor="end"))
'<text x="3" text-anchor="end">a &lt; b</text>'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

FAMILIES = ("baseline", "prompt engineering", "prompt tuning", "fine-tuning", "hybrid")
LOG_FROM = 20.0
"""Axes turn logarithmic when the largest value is more than this many times the smallest."""

MEASURABLE = 1e-9
"""Costs below this count as zero."""


def tag(name: str, *content: str, **attributes: object) -> Markup:
    """An element; `text_anchor` becomes `text-anchor`, `class_` becomes `class`, None leaves an attribute out."""
    parts = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _plain(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup("").join(escape(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(parts), inside)


def picture(size: tuple[float, float], name: str, title: str, text: str, *content: str) -> Markup:
    """An `svg` element that a screen reader announces as one image with a title and a description."""
    return tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", text, id=f"{name}-desc"),
        *content,
        viewBox=f"0 0 {size[0]:g} {size[1]:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_=name.partition("-")[0],
    )


def family_class(family: str) -> str:
    """The style sheet's class for a family's colour."""
    return "f-" + (family.replace(" ", "-") if family in FAMILIES else "other")


def mark(family: str, x: float, y: float, size: float = 5.0) -> Markup:
    """The family's shape around (x, y), `size` units from its middle to its edge."""
    look = f"mark {family_class(family)}"
    if family == "fine-tuning":
        side = size * 0.9
        return tag("rect", x=x - side, y=y - side, width=2 * side, height=2 * side, class_=look)
    if family in ("baseline", "prompt tuning", "hybrid"):
        reach = size * 1.2
        flat = {"baseline": 1.0, "prompt tuning": -1.0}.get(family)
        if flat is None:
            corners = [(0.0, -reach), (reach, 0.0), (0.0, reach), (-reach, 0.0)]
        else:
            corners = [(-reach, -flat * reach * 0.8), (reach, -flat * reach * 0.8), (0.0, flat * reach)]
        return tag("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners), class_=look)
    return tag("circle", cx=x, cy=y, r=size, class_=look)


@dataclass(frozen=True)
class Scale:
    """Numbers to units along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` stands; values outside the axis are drawn at its end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        share = 0.5 if high <= low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round numbers on the axis."""
        if not self.log:
            return _round_ticks(self.low, self.high, wanted)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, math.ceil((last - first) / wanted))
        return [10.0**power for power in range(first, last + 1, stride)]


def score_scale(values: list[float], start: float, end: float) -> Scale:
    """An axis of scores around `values` that ends on round numbers and stays within what a share can be."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(high - low, 0.02) * 0.04
    step = _step(high - low + 2 * room, 5)
    floor = math.floor((low - room) / step) * step
    ceiling = math.ceil((high + room) / step) * step
    return Scale(max(floor, min(0.0, low)), max(min(ceiling, 1.0), high), start, end)


def cost_scale(values: list[float], start: float, end: float) -> Scale:
    """An axis of costs: logarithmic for a range of more than 20 times, otherwise linear from zero.

    A cost of zero has no logarithm; it is drawn at the axis's lower end, below every measured cost.
    """
    positive = [value for value in values if value > MEASURABLE]
    if positive and max(positive) > LOG_FROM * min(positive):
        return Scale(min(positive) / 2.5, max(positive) * 2.5, start, end, log=True)
    return Scale(0.0, max(positive, default=1.0) * 1.12, start, end)


def _step(span: float, wanted: int) -> float:
    raw = span / wanted
    size = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)


def _round_ticks(low: float, high: float, wanted: int) -> list[float]:
    step = _step(max(high - low, 1e-9), wanted)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
