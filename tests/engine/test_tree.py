"""Rows as trees: every row can be read from its path, what is shared is stored once, what is read is its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunewise.engine.tree import Node, Row, common_prefix, grow

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


def texts(nodes: list[Node], before: tuple[int, ...] = ()) -> dict[int, tuple[int, ...]]:
    """Tokens of every row, read along its path; depths are checked on the way."""
    found: dict[int, tuple[int, ...]] = {}
    for node in nodes:
        assert node.depth == len(before)
        assert node.tokens
        if node.row is not None:
            assert not node.children
            found[node.row] = before + node.tokens
        found |= texts(list(node.children), before + node.tokens)
    return found


@given(ROWS, st.data())
def test_paths_spell_the_rows_and_keep_what_is_their_own(tokens: list[list[int]], data: st.DataObject) -> None:
    rows = [Row(n, tuple(row), data.draw(st.integers(0, len(row) - 1))) for n, row in enumerate(tokens)]
    nodes = grow(rows)
    assert texts(nodes) == {row.number: row.tokens for row in rows}
    assert sum(node.leaves for node in nodes) == len(rows)
    for node in nodes:
        check_own(node, {row.number: row for row in rows})
    assert sum(node.weight for node in nodes) <= sum(len(row) for row in tokens)


def check_own(node: Node, rows: dict[int, Row]) -> None:
    if node.row is not None:
        assert node.depth <= rows[node.row].shareable
    for child in node.children:
        check_own(child, rows)


@given(ROWS)
def test_every_shared_token_is_stored_once(tokens: list[list[int]]) -> None:
    nodes = grow([Row(n, tuple(row), len(row) - 1) for n, row in enumerate(tokens)])
    stems = {tuple(row[: cut + 1]) for row in tokens for cut in range(len(row) - 1)}
    # Every last token is a row's own; what comes before is there once for each different beginning.
    assert sum(node.weight for node in nodes) <= len(stems) + len(tokens)


def test_what_may_not_be_shared_is_not() -> None:
    assert len(grow([Row(0, (1, 2, 3), 2), Row(1, (1, 2, 4), 2)])) == 1
    assert len(grow([Row(0, (1, 2, 3), 2), Row(1, (1, 2, 4), 0)])) == 2


def test_a_depth_that_stands_elsewhere_is_left_out() -> None:
    nodes = grow([Row(0, (7, 1, 2), 2), Row(1, (7, 3, 4), 2)], depth=1)
    assert [node.tokens for node in nodes] == [(1, 2), (3, 4)]


def test_the_common_prefix_leaves_a_token_to_each() -> None:
    assert common_prefix([[1, 2, 3], [1, 2, 4]]) == 2
    assert common_prefix([[1, 2], [1, 2, 4]]) == 1
    assert common_prefix([[1, 2], [1, 2]]) == 1
