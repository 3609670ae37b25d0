"""Which pieces of a tree stand together in a frame: a run of places whose attention is one small product.

Rows of a few tokens each would take a product for every row, or copies there and back to stand side by side with
padding. Packed into frames they stay where they are, and all frames of one width are one product under a mask.
What is wider than a frame is a frame of its own.

>>> [(frame.pieces, frame.width) for frame in pack([60, 40, 80, 21])]
[((0,), 61), ((1, 3), 61), ((2,), 80)]
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTHS = (0, 24, 32, 40, 48, 64, 80, 96)
"""What is tried to pack pieces to; 0 leaves each alone."""
WIDEST = WIDTHS[-1]
CALL = 5.0
"""Tokens through the network that take as long as one more product a layer."""
FRAME = 0.5
"""The same of one more frame."""
PAIR = 1 / 1000
"""The same of one query-key pair."""
FILLING = 0.03
"""Most of the tokens that may be added to make frames equally wide."""


@dataclass(frozen=True)
class Frame:
    """Consecutive places."""

    pieces: tuple[int, ...]
    """Their numbers, in the order in which they stand."""
    width: int
    """Places; those behind the last piece are filling."""


def pack(sizes: Sequence[int], lead: int = 0) -> list[Frame]:
    """Pieces in the frames that cost least, those of equal width next to each other.

    Args:
        sizes: tokens of each piece.
        lead: tokens that every frame begins with.
    """
    if len(sizes) < 2:
        return [Frame((number,), lead + size) for number, size in enumerate(sizes)]
    # Several widths may pack alike, long pieces at every one.
    packings = dict.fromkeys(_packed(sizes, width - lead) for width in WIDTHS)
    return min((_framed(packed, sizes, lead) for packed in packings), key=_cost)


def _cost(frames: Sequence[Frame]) -> float:
    """Of `frames`, in tokens through the network."""
    widths = [frame.width for frame in frames]
    return CALL * len(set(widths)) + sum(FRAME + PAIR * width**2 + width for width in widths)


def _packed(sizes: Sequence[int], width: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of pieces that fit into `width` together, the fullest place first (best fit, decreasing)."""
    packed: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for number in sorted(range(len(sizes)), key=lambda number: (-sizes[number], number)):
        size = sizes[number]
        place = bisect_left(room, (size, -1))
        if place < len(room):
            left, which = room.pop(place)
        else:
            left, which = width, len(packed)
            packed.append([])
        packed[which].append(number)
        if left > size:
            insort(room, (left - size, which))
    return tuple(map(tuple, packed))


def _framed(packed: Sequence[tuple[int, ...]], sizes: Sequence[int], lead: int) -> list[Frame]:
    """Frames of what is packed, filled where that is worth a product."""
    counts = [lead + sum(sizes[number] for number in numbers) for numbers in packed]
    most = FILLING * sum(counts)
    for price in (1.0, 4.0, float("inf")):
        widths = dict(_widths(counts, price))
        if sum(widths[count] - count for count in counts) <= most:
            break
    frames = [Frame(numbers, widths[count]) for numbers, count in zip(packed, counts, strict=True)]
    return sorted(frames, key=lambda frame: frame.width)


def _widths(counts: Sequence[int], price: float) -> Iterator[tuple[int, int]]:
    """For each number of tokens how wide its frame is, where filling costs `price` a token."""
    many: dict[int, int] = {}
    for count in sorted(counts):
        many[count] = many.get(count, 0) + 1
    lengths = list(many)
    best, begins = [0.0], [0]
    for end, widest in enumerate(lengths, start=1):
        options = []
        frames = filling = 0
        for begin in range(end - 1, -1, -1):
            frames += many[lengths[begin]]
            filling += many[lengths[begin]] * (widest - lengths[begin])
            paid = price * filling if filling else 0.0
            options.append((best[begin] + CALL + PAIR * frames * widest**2 + paid, begin))
        cost, begin = min(options)
        best.append(cost)
        begins.append(begin)
    end = len(lengths)
    while end:
        for length in lengths[begins[end] : end]:
            yield length, lengths[end - 1]
        end = begins[end]
