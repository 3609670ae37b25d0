"""Trees of tokens laid out as one pass: where each token stands, what it sees, and who reads it.

A node stands right before all that continues it, so what is below it are the places up to an end; with the end of
every place, who sees whom is known. Rows of a few tokens stand together in frames (`frames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from tunewise.engine import frames
from tunewise.engine.attention import NOTHING, Group, Layout, Link, Prefix
from tunewise.engine.moving import placed
from tunewise.engine.tree import Node

ALIKE = 8
"""Passes that are laid out to be `alike` have a multiple of so many tokens."""
FILLING = 0.05
"""Less than this of a pass is filling."""
LINK = 24
"""Tokens that a node must save to be linked to what is below it: a product a layer, and merging what it gives. One
that saves less is repeated in every frame below it."""


@dataclass(frozen=True)
class Ending:
    """Tokens that go on after every row, each after its own ancestors: labels, as a trie in depth-first order."""

    tokens: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    """How far each is from the end of the row, from 1."""
    ends: tuple[int, ...] = ()
    """Of each, which of them is the first that does not continue it."""

    def size(self, node: Node) -> int:
        """Tokens of a node and of all below it, where every row goes on with this."""
        return node.weight + len(self.tokens) * node.leaves


NO_ENDING = Ending()


@dataclass(eq=False)
class Pass:
    """Trees laid out one after the other."""

    ids: list[int]
    layout: Layout
    leaves: dict[int, tuple[int, int]]
    """For each row that ends here, the depth and the place of the first token of its own."""
    paths: dict[int, list[tuple[int, int]]]
    """For each row, first place and number of tokens of its nodes in this pass, the leaf last."""
    tokens: int
    """Without filling."""

    @property
    def rows(self) -> list[int]:
        """The rows that end in it."""
        return list(self.leaves)

    def place(self, row: int, index: int) -> int:
        """Where token `index` of `row` stands, one of its own; those beyond the row are of its ending."""
        depth, first = self.leaves[row]
        return first + index - depth


def lay_out(
    trees: Sequence[Node],
    device: torch.device,
    prefix: Prefix = NOTHING,
    ending: Ending = NO_ENDING,
    *,
    alike: bool = False,
) -> Pass:
    """The tokens of `trees` one after the other, and who sees whom.

    Args:
        trees: from `grow`; nodes without a row are read by nobody.
        device: of the layout's tensors.
        prefix: what every token sees besides.
        ending: what every row goes on with.
        alike: fill to a multiple of `ALIKE`, where there is room for filling: for each new number of tokens all
            products are prepared anew, which takes time and memory.
    """
    places = _Places(ending)
    places.put(trees, [])
    if alike:
        places.fill_alike()
    ends = placed(places.ends, device)
    layout = Layout(
        positions=placed(places.positions, device),
        reach=max(places.positions) + 1,
        ends=ends,
        groups=list(_groups(places.frames, ends)),
        links=places.links,
        earlier=prefix,
    )
    return Pass(places.ids, layout, places.leaves, places.paths, len(places.ids) - places.filling)


def _groups(found: Sequence[tuple[int, int, bool]], ends: torch.Tensor) -> Iterator[Group]:
    """Neighbouring frames (first place, width, whether they are chains) of the same width."""
    for width, alike in groupby(found, key=lambda frame: frame[1]):
        members = list(alike)
        chains = all(chain for _, _, chain in members)
        yield Group(members[0][0], len(members), width, None if chains else ends)


class _Places:
    """The places of a pass, while they are filled."""

    def __init__(self, ending: Ending) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.ends: list[int] = []
        self.leaves: dict[int, tuple[int, int]] = {}
        self.paths: dict[int, list[tuple[int, int]]] = {}
        self.frames: list[tuple[int, int, bool]] = []
        self.links: list[Link] = []
        self.filling = 0
        self._ending = ending

    def put(self, nodes: Sequence[Node], path: Sequence[tuple[int, int]]) -> None:
        """Nodes that continue the same one, whose way from the root is `path`."""
        pieces: list[Node] = []
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if not node.children or self._ending.size(node) <= frames.WIDEST:
                pieces.append(node)
            elif node.saved >= LINK:
                self._stem(node, path)
            else:
                short: list[Node] = []
                for child in node.children:
                    if len(node.tokens) + self._ending.size(child) <= frames.WIDEST:
                        short.append(child)
                    else:
                        waiting.append(node.before(child))
                self._pack(short, path, node)
        self._pack(pieces, path)

    def _pack(self, pieces: Sequence[Node], path: Sequence[tuple[int, int]], lead: Node | None = None) -> None:
        """Pieces in frames, each of which begins with the tokens of `lead`."""
        before = len(lead.tokens) if lead else 0
        for frame in frames.pack([self._ending.size(piece) for piece in pieces], before):
            first = len(self.ids)
            members = [pieces[number] for number in frame.pieces]
            if lead:
                # Alone in its frame, a piece shares the lead with nobody.
                alone = len(members) == 1
                members = [lead.before(members[0]) if alone else replace(lead, children=tuple(members))]
            for piece in members:
                self._piece(piece, path)
            chain = len(members) == 1 and self._is_chain(members[0])
            self._fill(first + frame.width - len(self.ids))
            self.frames.append((first, frame.width, chain))

    def fill_alike(self) -> None:
        """Fill to a multiple of `ALIKE` tokens."""
        missing = -len(self.ids) % ALIKE
        if self.filling + missing < FILLING * (len(self.ids) + missing):
            self._fill(missing)

    def _is_chain(self, node: Node) -> bool:
        return not node.children and (node.row is None or not self._ending.tokens)

    def _stem(self, node: Node, path: Sequence[tuple[int, int]]) -> None:
        """A node in a frame of its own, linked to what is below it."""
        first, count = len(self.ids), len(node.tokens)
        self._tokens(node)
        self.frames.append((first, count, True))
        self.put(node.children, [*path, (first, count)])
        self.ends[first : first + count] = [len(self.ids)] * count
        self.links.append(Link(slice(first + count, len(self.ids)), slice(first, first + count)))

    def _piece(self, node: Node, path: Sequence[tuple[int, int]]) -> None:
        """A node and all that is below it."""
        first, count = len(self.ids), len(node.tokens)
        path = [*path, (first, count)]
        self._tokens(node)
        if node.row is not None:
            self.leaves[node.row], self.paths[node.row] = (node.depth, first), path
            base = len(self.ids)
            self.ids.extend(self._ending.tokens)
            self.positions.extend(node.depth + count - 1 + depth for depth in self._ending.depths)
            self.ends.extend(base + end for end in self._ending.ends)
        for child in node.children:
            self._piece(child, path)
        self.ends[first : first + count] = [len(self.ids)] * count

    def _tokens(self, node: Node) -> None:
        self.ids.extend(node.tokens)
        self.positions.extend(range(node.depth, node.depth + len(node.tokens)))
        self.ends.extend([0] * len(node.tokens))

    def _fill(self, count: int) -> None:
        """Tokens that nobody reads, and that see themselves alone."""
        first = len(self.ids)
        self.ids.extend([0] * count)
        self.positions.extend([0] * count)
        self.ends.extend(range(first + 1, first + count + 1))
        self.filling += count
