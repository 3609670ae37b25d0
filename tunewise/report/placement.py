"""Labels beside points without overlaps.

Placing labels optimally is NP-hard (Marks & Shieber 1991); a dozen points need only a greedy search: each
label takes the nearest free place around its point, crowded points first, and keeps a leader line when that
place is far away.

>>> first, second = place([(50, 50), (50, 58)], ["lora", "full"], Box(0, 0, 200, 100))
>>> first is not None and second is not None and not first.box.meets(second.box)
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LETTER = 6.9
"""Width of a letter in units at 12 units of type; wide enough for the system fonts met."""
LINE = 13.0
POINT = 9.0
RINGS = (14.0, 19.0, 27.0, 38.0, 52.0, 68.0, 88.0, 112.0, 140.0)


@dataclass(frozen=True)
class Box:
    """A rectangle, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether two rectangles share any area."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)

    def inside(self, other: Box) -> bool:
        """Whether this rectangle lies within `other`."""
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Placed:
    """A label's place: its box and whether it needs a leader line to its point."""

    box: Box
    leader: bool


def place(points: Sequence[tuple[float, float]], labels: Sequence[str], bounds: Box) -> list[Placed | None]:
    """A place for each label, or None where no place within `bounds` is free; no two places overlap."""
    dots = [Box(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points]
    order = sorted(range(len(points)), key=lambda index: -_crowd(points, index))
    found: dict[int, Placed] = {}
    for index in order:
        taken = [placed.box for placed in found.values()] + dots
        place = _nearest(points[index], len(labels[index]) * LETTER, taken, bounds)
        if place is not None:
            found[index] = place
    return [found.get(index) for index in range(len(points))]


def _crowd(points: Sequence[tuple[float, float]], index: int) -> int:
    return sum(math.dist(points[index], other) < 60 for other in points)


def _nearest(point: tuple[float, float], width: float, taken: list[Box], bounds: Box) -> Placed | None:
    for ring in RINGS:
        for angle in (0, 180, -90, 90, -45, 45, -135, 135, -20, 20, 160, -160, -70, 70, 110, -110):
            box = _box(point, width, ring, math.radians(angle))
            if box.inside(bounds) and not any(box.meets(other) for other in taken):
                return Placed(box, leader=ring > RINGS[1])
    return None


def _box(point: tuple[float, float], width: float, ring: float, angle: float) -> Box:
    """The label's box when it leaves its point in direction `angle` at distance `ring`."""
    x, y = point[0] + ring * math.cos(angle), point[1] + ring * math.sin(angle)
    left = x - width * (1 - math.cos(angle)) / 2
    return Box(left, y - LINE / 2, left + width, y + LINE / 2)
