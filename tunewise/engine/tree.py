"""Rows as a tree of shared beginnings, so that what several rows begin with goes through the network once.

>>> roots = grow([Row(0, (1, 2, 3, 4), 3), Row(1, (1, 2, 3, 5), 3), Row(2, (9,), 0)])
>>> [(node.tokens, len(node.children)) for node in roots]
[((1, 2, 3), 2), ((9,), 0)]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, order=True)
class Row:
    """Tokens that go through the network, and how many of them may be shared."""

    number: int
    tokens: tuple[int, ...]
    shareable: int
    """Leading tokens that other rows may share; what is read of the row comes after them."""


@dataclass(frozen=True)
class Node:
    """Tokens that the same rows read, one after the other."""

    tokens: tuple[int, ...]
    depth: int
    """Tokens before it in its rows: the position of its first one."""
    children: tuple[Node, ...] = ()
    row: int | None = None
    """The row that ends here; leaves have one, and only they."""

    @property
    def weight(self) -> int:
        """Tokens of the node and of all below it."""
        return len(self.tokens) + sum(child.weight for child in self.children)

    @property
    def saved(self) -> int:
        """Tokens that its children would have more without it."""
        return len(self.tokens) * (len(self.children) - 1)

    def before(self, child: Node) -> Node:
        """A child that repeats the tokens of this node."""
        return Node((*self.tokens, *child.tokens), self.depth, child.children, child.row)

    @property
    def leaves(self) -> int:
        """Rows that end in it or below it."""
        return sum(child.leaves for child in self.children) if self.children else 1


def in_order(rows: Sequence[Row]) -> list[Row]:
    """`rows` in dictionary order: those that share a beginning stand next to each other."""
    return sorted(rows, key=lambda row: (row.tokens, row.number))


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all rows share, leaving at least one token to each row."""
    ordered = sorted(map(tuple, rows))
    return _shared(ordered[0], ordered[-1], min(map(len, rows)) - 1)


def grow(rows: Sequence[Row], *, depth: int = 0) -> list[Node]:
    """The trees of `rows`; every token that may be shared is.

    Args:
        rows: none of them empty or shareable as a whole.
        depth: tokens that all of them share and that stand elsewhere already.
    """
    return list(_split(in_order(rows), depth)) if rows else []


def _split(rows: Sequence[Row], depth: int) -> Iterator[Node]:
    """Nodes of rows in dictionary order that are the same up to `depth`."""
    if len(rows) == 1:
        yield _leaf(rows[0], depth)
        return
    # In dictionary order, what the first and the last share is what all share.
    shared = _shared(rows[0].tokens, rows[-1].tokens, min(row.shareable for row in rows))
    if shared > depth:
        yield Node(rows[0].tokens[depth:shared], depth, tuple(_parts(rows, shared)))
    else:
        yield from _parts(rows, depth)


def _parts(rows: Sequence[Row], depth: int) -> Iterator[Node]:
    """Nodes of rows that part at `depth`, or may share no more."""
    for _, group in groupby(rows, key=lambda row: row.tokens[depth]):
        more = []
        for row in group:
            if row.shareable > depth:
                more.append(row)
            else:
                yield _leaf(row, depth)
        if more:
            yield from _split(more, depth)


def _leaf(row: Row, depth: int) -> Node:
    return Node(row.tokens[depth:], depth, row=row.number)


def _shared(first: Sequence[int], last: Sequence[int], most: int) -> int:
    count = 0
    while count < most and first[count] == last[count]:
        count += 1
    return count
