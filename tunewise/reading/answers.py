"""The kind of task, its metric, instruction and answer: as given, else told from the targets.

>>> guess_kind(["spam", "ham", "ham", "spam", "ham"], "label")
'classification'
>>> guess_kind(["Hola.", "Me voy.", "Vete.", "Ven."], "spanish")
'generation'
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence

from tunewise.errors import DataError, SettingError, unknown
from tunewise.reading.columns import LABEL_NAME, Columns
from tunewise.reading.words import listed
from tunewise.task import KINDS, Example, Text

MOST_LABELS = 200
LONGEST_LABEL = 60
"""Characters; a longer target is a text."""
IMBALANCED = 0.7
"""From this share of the most frequent label on, macro-F1 is the default metric."""
SHORT_TARGET_WORDS = 3
_NUMBER = re.compile(r"[-+−]?[$€£]?\s?\d[\d.,' ]*(?:e[-+]?\d+)?\s?[%$€£]?", re.IGNORECASE)
MOST_ROWS_NAMED = 10


def kind_of(given: str | None, targets: Sequence[str], column: str, has_words: bool) -> str:
    """The kind given; else classification where labels were given words, else guessed.

    Raises:
        SettingError: the kind is unknown.
    """
    if given is not None:
        kind = given.strip().casefold()
        if kind not in KINDS:
            raise unknown("kind", given, KINDS)
        return kind
    return "classification" if has_words else guess_kind(targets, column)


def guess_kind(targets: Sequence[str], column: str) -> str:
    """Classification when targets are few, short, and repeat; else generation.

    Short: at most 60 characters on one line. Few: at most 200 different ones. They repeat when there are at least
    5 rows for each different target, or 2 where there are at most 10 different ones. A column called label,
    intent, category … asks for less: 2 rows for each target, or at most 10 different ones.
    """
    distinct = set(targets)
    if len(distinct) > MOST_LABELS or any(len(text) > LONGEST_LABEL or "\n" in text for text in distinct):
        return "generation"
    rows_for_each = len(targets) / len(distinct)
    few = len(distinct) <= 10
    named = LABEL_NAME.fullmatch(column) is not None
    enough = {(True, True): 1, (True, False): 2, (False, True): 2, (False, False): 5}[named, few]
    return "classification" if rows_for_each >= enough else "generation"


def number_notice(targets: Sequence[str], column: str) -> str | None:
    """What to say of a column of numbers that was taken for texts to write; None for any other column."""
    if not all(_NUMBER.fullmatch(target.strip()) for target in targets):
        return None
    return (
        f'The column "{column}" holds {len(set(targets)):,} different numbers; they were taken as texts to write '
        "(--kind generation), and how near an answer comes to its number does not count. If the numbers stand for "
        "classes, give --kind classification; if they are amounts, make a column with a few classes of them first."
    )


def metric_of(given: str | None, kind: str, targets: Sequence[str]) -> str:
    """The metric given, by its proper name; else the usual one of the kind.

    Classification: accuracy; macro-F1 when more than 70 % of the rows have the same label. Generation: chrF;
    exact match when the median target has at most 3 words.

    Raises:
        SettingError: the metric is unknown, or is for another kind of task.
    """
    from tunewise import metrics

    if given is None:
        if kind == "classification":
            return "macro_f1" if majority_share(targets) > IMBALANCED else "accuracy"
        median = statistics.median(len(target.split()) for target in targets)
        return "exact_match" if median <= SHORT_TARGET_WORDS else "chrf"
    metric = metrics.get(given)
    if metric.name not in metrics.names(kind):
        raise SettingError(
            f"metric={given}: this metric is not for {kind}; expected one of {', '.join(metrics.names(kind))}. "
            "Name one of these, or set the kind of task."
        )
    return metric.name


def majority_share(targets: Sequence[str]) -> float:
    """Share of the most frequent target; 0 without rows."""
    return max(Counter(targets).values(), default=0) / max(len(targets), 1)


def instruction_for(kind: str, columns: Columns) -> str:
    """A plain instruction made of the column names."""
    *others, last = [_spaced(name) for name in columns.inputs]
    inputs = f"{', '.join(others)} and {last}" if others else last
    target = _spaced(columns.target)
    if kind == "generation":
        return f"Write the {target} for the {inputs}."
    if target.casefold() in ("label", "labels", "class", "target", "category", "answer", "y"):
        return f"Classify the {inputs} as one of the labels."
    return f"Classify the {inputs} by {target}, as one of the labels."


def _spaced(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").strip()


def text_answer(targets: Sequence[str]) -> Text:
    """Room for an answer as long as the targets seen in training and validation.

    Two bytes of UTF-8 are taken for a token, which is ample for English (about four) and still holds for
    languages the tokenizer knows less of; the longest 1 % of targets do not count; 16 to 512 tokens.
    """
    sizes = sorted(len(target.encode()) for target in targets)
    longest = sizes[math.ceil(0.99 * len(sizes)) - 1]
    return Text(max_tokens=min(512, max(16, 8 * math.ceil(longest / 16))))


def check_labels(examples: Sequence[Example], name: str, left_out: int) -> None:
    """Raise DataError unless there are two labels or more, each with at least two examples.

    `left_out` rows were removed before as repeats or leaks; the message says so where it may be the cause.
    """
    counts = Counter(example.target for example in examples)
    cause = f" ({left_out} repeated or leaked rows were left out before)" if left_out else ""
    if len(counts) == 1:
        raise DataError(
            f'{name}: found one label only, "{next(iter(counts))}", in all {len(examples)} rows{cause}; expected '
            "at least two. Is --target the right column? For free text as the answer, give --kind generation."
        )
    rare = {label for label, number in counts.items() if number < 2}
    if rare:
        lone = [example for example in examples if example.target in rare]
        plural = "s" if len(rare) > 1 else ""
        raise DataError(
            f"{name}: found fewer than two examples of the label{plural} {listed([one.target for one in lone])} "
            f"({_rows(lone)}){cause}; expected at least two of each label. Add examples, merge the label with "
            "another, or remove these rows. For free text as the answer, give --kind generation."
        )


def check_known(examples: Sequence[Example], labels: Sequence[str], where: str, data: str) -> None:
    """Raise DataError when `examples` of a given file have labels that the training data do not."""
    foreign = [example for example in examples if example.target not in set(labels)]
    if foreign:
        names = list(dict.fromkeys(example.target for example in foreign))
        raise DataError(
            f"{where}: found the label{'s' if len(names) > 1 else ''} {listed(names)} ({_rows(foreign)}); "
            f"expected only labels that {data} has: {listed(labels)}. Correct these rows, or add "
            "training examples of them."
        )


def _rows(examples: Sequence[Example]) -> str:
    shown = ", ".join(str(example.row) for example in examples[:MOST_ROWS_NAMED])
    more = f" and {len(examples) - MOST_ROWS_NAMED} more" if len(examples) > MOST_ROWS_NAMED else ""
    return f"row{'s' if len(examples) > 1 else ''} {shown}{more}, counted from 0"
