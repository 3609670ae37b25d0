"""Whether the test rows are of another kind than those that a model learns from: other labels, other words.

A random split cannot be shifted; a file given for the test, or the newest rows, can.

>>> shifts(task)
['The test has other words: 31 % of those in its rows do not occur in training, of validation rows 12 %.']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tunewise.reading.similar import key_of, words_of
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
"""By how much more of a row's words are new in the test than in validation."""


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
    if len(task.validation) < 2 or len(task.test) < 2:
        return
    known = frozenset().union(*(words_of(key_of(row)) for row in task.train))
    validation, test = (_new(rows, known) for rows in (task.validation, task.test))
    more = float(test.mean() - validation.mean())
    error = math.sqrt(sum(float(shares.var(ddof=1)) / len(shares) for shares in (validation, test)))
    if more >= LEAST_WORDS and more > STANDARD_ERRORS * error:
        yield (
            f"The test has other words: {100 * test.mean():.0f} % of those in its rows do not occur in training, "
            f"of validation rows {100 * validation.mean():.0f} %. What validation chose may not hold there."
        )


def _new(rows: Dataset, known: frozenset[str]) -> NDArray[np.float64]:
    """Of each row, the share of its words that training does not know."""
    import numpy as np

    found = [words_of(key_of(row)) for row in rows]
    return np.array([len(words - known) / max(len(words), 1) for words in found])
