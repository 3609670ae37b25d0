"""Frames hold every piece once, are little filled, and a pass says of every token what it sees."""

from __future__ import annotations

import doctest
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise.engine import frames, laying
from tunewise.engine.laying import Ending, Pass, lay_out
from tunewise.engine.scoring import LabelTrie
from tunewise.engine.tree import Row, grow

SIZES = st.lists(st.integers(1, 200), max_size=60)
TOKENS = st.lists(st.integers(3, 6), min_size=1, max_size=12)


def test_the_example_of_the_module_holds() -> None:
    assert doctest.testmod(frames).failed == 0


@given(sizes=SIZES, lead=st.integers(0, 20))
@settings(deadline=None)
def test_every_piece_stands_in_one_frame_that_is_wide_enough(sizes: list[int], lead: int) -> None:
    found = frames.pack(sizes, lead)
    assert sorted(number for frame in found for number in frame.pieces) == list(range(len(sizes)))
    contents = [lead + sum(sizes[number] for number in frame.pieces) for frame in found]
    assert all(frame.width >= content for frame, content in zip(found, contents, strict=True))
    assert sum(frame.width for frame in found) - sum(contents) <= frames.FILLING * sum(contents)
    assert [frame.width for frame in found] == sorted(frame.width for frame in found)


def test_short_rows_share_frames_and_long_ones_do_not() -> None:
    short = frames.pack([12, 20, 16, 12, 20, 16, 12, 20, 16] * 4)
    assert len(short) < 20
    assert len({frame.width for frame in short}) <= 3
    assert [len(frame.pieces) for frame in frames.pack([300, 400, 300])] == [1, 1, 1]


def test_rows_of_one_length_are_one_product() -> None:
    rows = grow([Row(number, (number,) * 150, 0) for number in range(5)])
    groups = lay_out(rows, torch.device("cpu")).layout.groups
    assert [(group.count, group.width, group.causal) for group in groups] == [(5, 150, True)]


@pytest.fixture(params=[(96, 24), (0, 1), (12, 6)], ids=["frames", "links", "both"])
def widest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees in frames, trees by links, and trees by both."""
    most, link = request.param
    monkeypatch.setattr(frames, "WIDEST", most)
    monkeypatch.setattr(laying, "LINK", link)


@given(
    rows=st.lists(TOKENS, min_size=1, max_size=8),
    labels=st.lists(TOKENS, min_size=2, max_size=5, unique_by=tuple),
    alike=st.booleans(),
)
@settings(deadline=None, max_examples=40)
@pytest.mark.usefixtures("widest")
def test_every_token_sees_its_row_up_to_itself(
    rows: list[list[int]], labels: list[list[int]], alike: bool
) -> None:
    trie = LabelTrie.of(labels)
    ending = Ending(trie.tokens, trie.depths, trie.ends())
    trees = grow([Row(number, tuple(row), len(row) - 1) for number, row in enumerate(rows)])
    laid = lay_out(trees, torch.device("cpu"), ending=ending, alike=alike)
    seen = laid.layout.mask(None, torch.float32)[0, 0] == 0
    assert sorted(laid.rows) == list(range(len(rows)))
    for number, row in enumerate(rows):
        places = [place for first, count in laid.paths[number] for place in range(first, first + count)]
        assert [laid.ids[place] for place in places] == row
        assert seen[places[-1]].nonzero()[:, 0].tolist() == places
        for node, path in branches(trie):
            own = [laid.place(number, len(row) - 1 + inner) for inner in path]
            assert seen[own[-1]].nonzero()[:, 0].tolist() == [*places, *own]
            assert laid.layout.positions[own[-1]] == len(row) - 1 + trie.depths[node - 1]
    # What a row counts as shared, another one reads at the same place.
    readers = Counter(first for path in laid.paths.values() for first, _ in path)
    assert all(readers[first] > 1 for path in laid.paths.values() for first, _ in path[:-1])
    parts = by_parts(laid)
    read = [place for place in range(len(laid.ids)) if seen[place].sum() > 1]
    assert torch.equal(parts[read], seen[read])


def branches(trie: LabelTrie) -> Iterator[tuple[int, list[int]]]:
    """Every inner node with the way to it."""
    for node in range(1, len(trie.tokens) + 1):
        path = [node]
        while trie.parents[path[0] - 1]:
            path.insert(0, trie.parents[path[0] - 1])
        yield node, path


def by_parts(laid: Pass) -> torch.Tensor:
    """Who sees whom by frames and links; seen twice would count twice, so no part may repeat another."""
    times = torch.zeros(len(laid.ids), len(laid.ids), dtype=torch.int)
    places = torch.arange(len(laid.ids))
    for group in laid.layout.groups:
        mask = group.mask(torch.float32)
        for number, frame in enumerate(group.of(places)):
            causal = torch.ones(group.width, group.width).tril().bool()
            own = causal if mask is None else mask[number, 0] == 0
            times[frame[0] : frame[-1] + 1, frame[0] : frame[-1] + 1] += own.int()
    for link in laid.layout.links:
        times[link.queries, link.keys] += 1
    assert times.max() == 1
    return times.bool()
