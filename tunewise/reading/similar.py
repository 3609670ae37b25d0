"""Which rows are (nearly) the same, exactly and without comparing every pair.

Two inputs are *equal* when they are the same after Unicode normalisation (NFKC), case folding, and with
punctuation and white space collapsed. They are *near-duplicates* when the Jaccard similarity of their sets of
words is at least 0.9: two 19-word sentences that differ in one word just are; shorter ones must have the same
words. Words and not letters are compared, so that short sentences built alike ("example 17", "example 18") stay
different rows.

Near-duplicates are found by prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Wang, Li and Feng 2012): with
the words of each set ordered from rare to frequent, two sets of about n words that are 0.9 alike share at least k
of their first ⌊n/10⌋ + k words, for any k. So only rows with k rare words in common are compared, and no pair is
missed. A larger k looks at more words and compares fewer rows; here k = 2 + ⌊n/10⌋.

>>> normalise("What 's  UP?"), similar_pairs([frozenset("abcdefghi"), frozenset("abcdefghij"), frozenset("xyz")])
('what s up', [(0, 1)])
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.task import Example

_APART = re.compile(r"[\W_]+")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Thai, Lao, kana and Han: written without spaces between words."""
_FIELDS_APART = "\x1f"
_FEWEST_WORDS = 9
"""In smaller sets a similarity of 0.9 means the same words."""
_MOST_PAIRS_A_ROW = 100
_ROWS_AT_ONCE = 512


def normalise(text: str) -> str:
    """`text` as it is compared: NFKC, case folded, punctuation and white space collapsed to one space.

    A text of nothing but punctuation keeps it: ":)" and ":(" are not the same.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _APART.sub(" ", folded).strip() or " ".join(folded.split())


def key_of(example: Example) -> str:
    """The normalised input fields of `example` as one text."""
    return _FIELDS_APART.join(normalise(text) for text in example.inputs.values())


def words_of(key: str) -> frozenset[str]:
    """The set of words of a normalised text; pairs of letters where words are not spaced."""
    words: set[str] = set()
    for word in key.replace(_FIELDS_APART, " ").split():
        if _UNSPACED.search(word) and len(word) > 2:
            words.update(word[start : start + 2] for start in range(len(word) - 1))
        else:
            words.add(word)
    return frozenset(words)


def similar_pairs(sets: Sequence[frozenset[str]]) -> list[tuple[int, int]] | None:
    """Positions (i < j) of all pairs with a Jaccard similarity of at least 0.9; `sets` are all different.

    None when there are more than 100 pairs a row: the rows are built on one long template, and their likeness
    says nothing.
    """
    rows = [position for position, words in enumerate(sets) if len(words) >= _FEWEST_WORDS]
    if len(rows) < 2:
        return []
    pairs = []
    for a, b in _candidates([sets[row] for row in rows]):
        one, other = sets[rows[a]], sets[rows[b]]
        # common / (sum of sizes − common) ≥ 9 / 10, in whole numbers
        if 19 * len(one & other) >= 9 * (len(one) + len(other)):
            pairs.append((rows[a], rows[b]))
            if len(pairs) > _MOST_PAIRS_A_ROW * len(rows):
                return None
    return sorted(pairs)


def _candidates(sets: Sequence[frozenset[str]]) -> Iterator[tuple[int, int]]:
    """Pairs that share enough of their rarest words, and are of about the same size."""
    import numpy

    starts, sizes, shared = _prefixes(sets)
    for first in range(0, len(sets), _ROWS_AT_ONCE):
        common = (starts[first : first + _ROWS_AT_ONCE] @ starts.T).tocoo()
        one, other = common.row + first, common.col
        kept = (
            (one < other)
            & (common.data >= numpy.minimum(shared[one], shared[other]))
            & (10 * sizes[one] >= 9 * sizes[other])
            & (10 * sizes[other] >= 9 * sizes[one])
        )
        yield from zip(one[kept].tolist(), other[kept].tolist(), strict=True)


def _prefixes(sets: Sequence[frozenset[str]]) -> tuple[Any, Any, Any]:
    """The rarest words of each set as a sparse 0/1 matrix (set, word), the sets' sizes, and the k of each."""
    import numpy
    from scipy.sparse import csr_array

    frequency = Counter(word for words in sets for word in words)
    rank = {word: place for place, word in enumerate(sorted(frequency, key=lambda word: (frequency[word], word)))}
    sizes = numpy.array([len(words) for words in sets])
    shared = 2 + sizes // 10
    columns: list[int] = []
    ends = [0]
    for words, size, k in zip(sets, sizes.tolist(), shared.tolist(), strict=True):
        columns += sorted(map(rank.__getitem__, words))[: size // 10 + k]
        ends.append(len(columns))
    ones = numpy.ones(len(columns), dtype=numpy.int32)
    return csr_array((ones, columns, ends), shape=(len(sets), len(rank))), sizes, shared


@dataclass(frozen=True)
class Likeness:
    """Near-duplicate inputs among all rows that were read."""

    number: dict[str, int]
    """Normalised input → the number of its set of words."""
    like: dict[int, set[int]]
    """Number → the numbers of its near-duplicates, itself not counted."""
    templated: bool = False
    """There were too many pairs: only rows with the same words count as near-duplicates."""

    def of(self, example: Example) -> int:
        """The number of the example's set of words."""
        return self.number[key_of(example)]

    def near(self, examples: Iterable[Example]) -> set[int]:
        """Numbers of `examples` and of all their near-duplicates."""
        own = {self.of(example) for example in examples}
        return own.union(*(self.like.get(number, set()) for number in own))

    def ties(self, example: Example) -> list[object]:
        """What the example has in common with its near-duplicates, for `clusters`."""
        number = self.of(example)
        pairs = ((min(number, other), max(number, other)) for other in self.like.get(number, ()))
        return [number, *pairs]


def likeness(examples: Iterable[Example]) -> Likeness:
    """Compare all `examples`, of whichever source, with each other."""
    of_words: dict[frozenset[str], int] = {}
    number: dict[str, int] = {}
    for example in examples:
        key = key_of(example)
        if key not in number:
            number[key] = of_words.setdefault(words_of(key), len(of_words))
    like: defaultdict[int, set[int]] = defaultdict(set)
    pairs = similar_pairs(list(of_words))
    for one, other in pairs or ():
        like[one].add(other)
        like[other].add(one)
    return Likeness(number, dict(like), templated=pairs is None)


def clusters(links: Sequence[Sequence[object]]) -> list[int]:
    """Connected rows: rows that share a link get the same number.

    Args:
        links: for each row, hashable things that tie it to the other rows that hold them.

    Returns:
        For each row the position of the first row of its cluster.
    """
    parent = list(range(len(links)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[object, int] = {}
    for row, ties in enumerate(links):
        for tie in ties:
            a, b = root(first_with.setdefault(tie, row)), root(row)
            parent[max(a, b)] = min(a, b)
    return [root(row) for row in range(len(links))]


def near_clusters(examples: Sequence[Example], like: Likeness) -> tuple[list[int], bool]:
    """The cluster of near-duplicates that each example is in, and whether likeness was given up for it.

    When near-duplicates would tie more than half of the rows together, the rows are built on one long template:
    then only equal inputs are tied.
    """
    near = clusters([like.ties(example) for example in examples])
    if 2 * max(Counter(near).values()) > len(near):
        equal = clusters([[key_of(example)] for example in examples])
        if equal != near:
            return equal, True
    return near, False


def in_clusters(examples: Sequence[Example], near: Sequence[int]) -> list[int]:
    """For each example the cluster that must stay together: its near-duplicates, and the rows of its group."""
    return clusters(
        [
            [("near", number), *([("group", example.group)] if example.group else [])]
            for number, example in zip(near, examples, strict=True)
        ]
    )
