"""Whether the test rows are of another kind than those that a model learns from: other labels, other words.

A random split cannot be shifted; a file given for the test, or the newest rows, can.

>>> shifts(task)
['The test has other words: 31 % of those in its rows do not occur in training; of training rows left out ...']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tunewise.reading.similar import in_clusters, key_of, likeness, near_clusters, words_of
from tunewise.reading.splits import in_folds
from tunewise.task import Choices, Dataset, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SURE, STANDARD_ERRORS = 0.001, 3.29
"""P value below which a difference is none of chance, as it is looked for in every task; and the same in normal
standard errors."""
LEAST_MIX = 0.10
"""Share of the rows that would have to change their label."""
LEAST_WORDS = 0.05
"""By how much more of a row's words are new in the test than in rows left out of training."""
PARTS = 5
"""Of the training rows, each left out in turn to see how many words are new to the others."""


def shifts(task: Task) -> list[str]:
    """What differs between training and test by more than chance and by enough to matter, as sentences."""
    return [*_of_labels(task), *_of_words(task)]


def _of_labels(task: Task) -> Iterator[str]:
    import numpy as np
    from scipy import stats

    answer = task.spec.answer
    if not isinstance(answer, Choices) or len(answer.labels) < 2:
        return
    counts = np.array(
        [[Counter(rows.targets)[label] for label in answer.labels] for rows in (task.train, task.test)]
    )
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] < 2:
        return
    mixes = counts / counts.sum(axis=1, keepdims=True)
    apart = float(np.abs(mixes[0] - mixes[1]).sum() / 2)
    if apart >= LEAST_MIX and stats.chi2_contingency(counts).pvalue < SURE:
        present = [label for label in answer.labels if label in {*task.train.targets, *task.test.targets}]
        place = int((mixes[1] - mixes[0]).argmax())
        yield (
            f"The test has another mix of labels than training: {answer.name(present[place])} is "
            f"{100 * mixes[1][place]:.0f} % of its rows, and {100 * mixes[0][place]:.0f} % of those for training. "
            "Scores are those of the test's mix."
        )


def _of_words(task: Task) -> Iterator[str]:
    if len(task.train) < 2 or len(task.test) < 2:
        return
    left_out = _new_when_left_out(task.train)
    test = _new(_words(task.test), _words(task.train))
    more = float(test.mean() - left_out.mean())
    error = math.sqrt(sum(float(shares.var(ddof=1)) / len(shares) for shares in (left_out, test)))
    if more >= LEAST_WORDS and more > STANDARD_ERRORS * error:
        yield (
            f"The test has other words: {100 * test.mean():.0f} % of those in its rows do not occur in training; "
            f"of training rows left out in turn it is {100 * left_out.mean():.0f} %. What was learned and chosen "
            "may not hold there."
        )


def _new_when_left_out(rows: Dataset) -> NDArray[np.float64]:
    """Of each row, the share of its words that rows of the other parts do not know.

    Near-duplicates and groups stay together, as those of a test row do not stand in training either.
    """
    import numpy as np

    near, _ = near_clusters(rows.examples, likeness(rows))
    together = in_clusters(rows.examples, near)
    words = _words(rows)
    found = []
    for part in in_folds([""] * len(rows), together, PARTS, "words"):
        held = set(part)
        others = [some for place, some in enumerate(words) if place not in held]
        found.append(_new([words[place] for place in part], others))
    return np.concatenate(found)


def _words(rows: Dataset) -> list[frozenset[str]]:
    return [words_of(key_of(row)) for row in rows]


def _new(rows: Sequence[frozenset[str]], others: Sequence[frozenset[str]]) -> NDArray[np.float64]:
    """Of each row, the share of its words that no other has."""
    import numpy as np

    known = frozenset().union(*others)
    return np.array([len(words - known) / max(len(words), 1) for words in rows])
