"""What reading found in the data: sizes, balance, lengths, and everything that was left out or looks wrong.

A profile is plain numbers and sentences; it is stored in `task.json` and shown by `tunewise plan` and the report.

>>> profile = Profile(rows_read=3, rows_used=3, rows={"train": 1, "validation": 1, "test": 1})
>>> Profile.from_json(profile.to_json()) == profile
True
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tunewise.figures import counted
from tunewise.reading.answers import IMBALANCED, majority_share
from tunewise.reading.clean import Conflict
from tunewise.reading.noise import NOTHING_REPEATED, Agreement
from tunewise.reading.shift import shifts
from tunewise.reading.splits import DEFAULT_TEST
from tunewise.task import Choices, Dataset, Task

MOST_ROWS_SHOWN = 20
MOST_CONFLICTS_SHOWN = 10
FEW_TEST_ROWS = 100
FEW_ROWS_A_LABEL = 10
_FEW_ROWS = (
    (
        "train",
        "For training",
        "little can be learnt from so few, and another draw of rows may rank the methods otherwise",
    ),
    ("test", "In the test", "scores of single labels, and intervals, are rough"),
)
"""Split, its place in a sentence, and what follows from few rows of a label in it."""
_MISSING_WORDS = frozenset({"nan", "null", "<na>", "n/a", "#n/a"})


@dataclass(frozen=True)
class Profile:
    """What reading found. Row numbers are those of the source, from 0; at most 20 are listed of each kind."""

    rows_read: int
    """Rows of the data, without files given for the test or validation."""
    rows_used: int
    """Of these, rows that are in a split."""
    rows: Mapping[str, int]
    """Split → its rows."""
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Split → label → rows; empty when the answer is free text."""
    majority_share: float | None = None
    """Share of the most frequent label in all splits."""
    lengths: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`input` and `target` → median, p95 and max, in characters."""
    incomplete: int = 0
    """Rows left out because the input, the target or the group is empty."""
    incomplete_rows: tuple[int, ...] = ()
    duplicates: int = 0
    """Rows left out because the same input with the same target stood before."""
    duplicate_rows: tuple[int, ...] = ()
    test_duplicates: int = 0
    """Repeated rows of a given test file; they are kept."""
    conflicts: int = 0
    """Inputs that stand with more than one target; they are kept."""
    conflict_samples: tuple[Conflict, ...] = ()
    leaks: int = 0
    """Rows left out because a given test or validation file holds a (near-)duplicate or a row of their group."""
    leak_rows: tuple[int, ...] = ()
    validation_leaks: int = 0
    """Rows of a given validation file left out because the given test file holds a (near-)duplicate."""
    near_duplicate_clusters: int = 0
    """Clusters of several near-duplicate rows; each stays in one split."""
    near_duplicates: int = 0
    """Rows in these clusters."""
    groups: int | None = None
    """Groups in all splits; None when the task has none."""
    repeated_inputs: int = 0
    """Inputs that stand more than once, before repeats were left out."""
    repeated_agreement: float = 1.0
    """Of pairs of rows of such an input, the share with the same target."""
    warnings: tuple[str, ...] = ()
    """What a reader should know, one sentence each."""

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        """The inverse of `to_json`; keys that this version does not know are left out."""
        values = {entry.name: data[entry.name] for entry in fields(cls) if entry.name in data}
        samples = values.pop("conflict_samples", ())
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        conflicts = tuple(Conflict(one["text"], tuple(one["targets"]), tuple(one["rows"])) for one in samples)
        return cls(**{**values, **lists, "conflict_samples": conflicts})


@dataclass(frozen=True)
class Findings:
    """What cleaning and splitting found, before it is put into words."""

    rows_read: int
    incomplete: tuple[int, ...] = ()
    incomplete_given: int = 0
    """Incomplete rows left out of files given for the test or validation."""
    duplicates: tuple[int, ...] = ()
    test_duplicates: int = 0
    conflicts: Sequence[Conflict] = ()
    leaks: tuple[int, ...] = ()
    validation_leaks: int = 0
    cluster_sizes: Sequence[int] = ()
    """Sizes of the clusters of several near-duplicates."""
    templated: bool = False
    """Likeness was given up: the inputs share most of their words."""
    notices: tuple[str, ...] = ()
    """Sentences on what was guessed and may not be meant."""
    agreement: Agreement = NOTHING_REPEATED
    """What inputs that stand more than once say of the labels."""
    by_time: bool = False
    """Whether the newest rows are the test."""
    may_shift: bool = False
    """Whether the test was not drawn at random from the rows."""


def profile_of(task: Task, found: Findings) -> Profile:
    """Describe the splits of `task` and what was found on the way to them."""
    splits = task.splits
    examples = [example for split in splits.values() for example in split]
    targets = [example.target for example in examples]
    classification = isinstance(task.spec.answer, Choices)
    labels = {name: _counts(split, task) for name, split in splits.items()} if classification else {}
    share = majority_share(targets) if classification else None
    return Profile(
        rows_read=found.rows_read,
        rows_used=sum(example.source == "data" for example in examples),
        rows={name: len(split) for name, split in splits.items()},
        labels=labels,
        majority_share=share,
        lengths={
            "input": _lengths([sum(map(len, example.inputs.values())) for example in examples]),
            "target": _lengths([len(target) for target in targets]),
        },
        incomplete=len(found.incomplete) + found.incomplete_given,
        incomplete_rows=found.incomplete[:MOST_ROWS_SHOWN],
        duplicates=len(found.duplicates),
        duplicate_rows=found.duplicates[:MOST_ROWS_SHOWN],
        test_duplicates=found.test_duplicates,
        conflicts=len(found.conflicts),
        conflict_samples=tuple(found.conflicts[:MOST_CONFLICTS_SHOWN]),
        leaks=len(found.leaks),
        leak_rows=found.leaks[:MOST_ROWS_SHOWN],
        validation_leaks=found.validation_leaks,
        near_duplicate_clusters=len(found.cluster_sizes),
        near_duplicates=sum(found.cluster_sizes),
        groups=len({example.group for example in examples}) if task.spec.group else None,
        repeated_inputs=found.agreement.inputs,
        repeated_agreement=found.agreement.share,
        warnings=(
            *found.notices,
            *_of_cleaning(found, classification, grouped=task.spec.group is not None),
            *(_of_noise(found.agreement) if classification else ()),
            *(shifts(task) if found.may_shift and len(task.train) else ()),
            *(_of_times(task) if found.by_time else ()),
            *_of_splits(_readable(labels, task), share, len(task.test)),
        ),
    )


def of_folds(profile: Profile, task: Task) -> Profile:
    """`profile` with what it says of splits said of the folds of `task` instead."""
    before = _of_splits(_readable(profile.labels, task), profile.majority_share, profile.rows["test"])
    labels = {name: _counts(split, task) for name, split in task.splits.items()} if profile.labels else {}
    sizes = sorted({len(fold) for fold in task.folds})
    each = " to ".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
    folds = f"{len(task.folds)} folds of {each} rows"
    screened = "candidates are screened on the first, and the best of them are fitted without each of the others"
    if task.tested_in_folds:
        few = (
            f"The data have {counted(profile.rows_used, 'row')}, too few for a test split: in {folds}, {screened} "
            f"in turn. Their answers to those {sum(map(len, task.folds[1:]))} rows are the test, and intervals "
            "are rough."
        )
    else:
        few = (
            f"Too few rows for a validation split to choose on: in {folds}, {screened} as well. Their answers to "
            f"all {sum(map(len, task.folds))} rows choose, and what meets the test was fitted on them all."
        )
    return replace(
        profile,
        rows={name: len(split) for name, split in task.splits.items()},
        labels=labels,
        warnings=(
            *(text for text in profile.warnings if text not in before),
            few,
            *_of_splits(_readable(labels, task), profile.majority_share, len(task.test) or None),
        ),
    )


def _of_cleaning(found: Findings, classification: bool, *, grouped: bool) -> list[str]:
    """Sentences on what was left out or looks wrong."""
    dropped, repeated, leaked = found.incomplete, found.duplicates, found.leaks
    left_out = len(dropped) + found.incomplete_given
    conflicts = len(found.conflicts) if classification else 0
    repeats = ("row that only repeats", "rows that only repeat")
    stands = ("row that stands", "rows that stand")
    nearly = "word for word or nearly so, or with its group," if grouped else "word for word or nearly so,"
    sentences = {
        f"Left out: {counted(left_out, 'row')} without an input, a target or a group.": left_out,
        f"Left out: {counted(len(repeated), *repeats)} an earlier row with the same target.": len(repeated),
        f"Left out of training: {counted(len(leaked), *stands)}, {nearly} among those for the test or validation, "
        "too.": len(leaked),
        f"Left out of validation: {counted(found.validation_leaks, *stands)}, {nearly} among those for the test, "
        "too.": found.validation_leaks,
        f"Kept: {counted(found.test_duplicates, *repeats)} an earlier row of the given test file.": (
            found.test_duplicates
        ),
        f"Kept: {counted(conflicts, 'input')} with conflicting labels{_sample(found.conflicts)}; no one can say "
        "which label is right.": conflicts,
        "The inputs share so many words that near-duplicates cannot be told apart; only equal inputs were kept on "
        "one side of the splits.": found.templated,
    }
    return [sentence for sentence, applies in sentences.items() if applies]


def _of_times(task: Task) -> list[str]:
    """That the newest moment is far more than the rows wanted for a test."""
    rows = len(task.train) + len(task.validation) + len(task.test)
    share = len(task.test) / rows
    if share <= 2 * DEFAULT_TEST:
        return []
    return [f"The newest {100 * share:.0f} % of the rows are the test: so many are of the newest time, or times."]


def _of_noise(found: Agreement) -> list[str]:
    """What labels allow, where enough inputs stand more than once and some of them with another label."""
    if not found.tells:
        return []
    ends = found.interval
    return [
        f"{found.inputs:,} inputs stand more than once, and of two rows of the same input "
        f"{100 * (1 - found.share):.1f} % carry different labels. If the others are labelled as they are, no "
        f"model can be right in more than about {found.ceiling:.3f} of them (95 % interval {ends.low:.3f} to "
        f"{ends.high:.3f})."
    ]


def _of_splits(labels: Mapping[str, Mapping[str, int]], share: float | None, test_rows: int | None) -> list[str]:
    """Sentences on sizes and balance; None for no test split."""
    sentences = []
    if test_rows is not None and test_rows < FEW_TEST_ROWS:
        sentences.append(f"The test has {counted(test_rows, 'row')}: below {FEW_TEST_ROWS}, intervals are rough.")
    for split, where, why in _FEW_ROWS:
        few = [label for label, rows in labels.get(split, {}).items() if 0 < rows < FEW_ROWS_A_LABEL]
        if few:
            has = "have" if len(few) > 1 else "has"
            sentences.append(f"{where}, {_named(few)} {has} fewer than {FEW_ROWS_A_LABEL} rows: {why}.")
    for split, counts in labels.items():
        absent = [label for label, rows in counts.items() if rows == 0]
        if absent and sum(counts.values()):
            sentences.append(f"No row of the {split} split has {_named(absent)}.")
    if share is not None and share > IMBALANCED:
        totals = Counter[str]()
        for counts in labels.values():
            totals.update(counts)
        sentences.append(
            f'{100 * share:.0f} % of the rows have the label "{totals.most_common(1)[0][0]}": accuracy says '
            "little; prefer macro-F1 or MCC."
        )
    odd = sorted({label for counts in labels.values() for label in counts if label.casefold() in _MISSING_WORDS})
    if odd:
        sentences.append(f"The data have {_named(odd)}, which may stand for a missing target.")
    return sentences


def _counts(split: Dataset, task: Task) -> dict[str, int]:
    counts = Counter(split.targets)
    answer = task.spec.answer
    return {label: counts[label] for label in answer.labels} if isinstance(answer, Choices) else {}


def _readable(labels: Mapping[str, Mapping[str, int]], task: Task) -> dict[str, dict[str, int]]:
    """`labels` under the names that people know them by."""
    answer = task.spec.answer
    if not isinstance(answer, Choices):
        return {}
    return {split: {answer.name(label): n for label, n in counts.items()} for split, counts in labels.items()}


def _lengths(sizes: list[int]) -> dict[str, float]:
    ordered = sorted(sizes)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return {"median": statistics.median(ordered), "p95": p95, "max": ordered[-1]}


def _named(labels: Sequence[str]) -> str:
    shown = ", ".join(f'"{label}"' for label in labels[:5])
    more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
    return f"the label{'s' if len(labels) > 1 else ''} {shown}{more}"


def _sample(conflicts: Sequence[Conflict]) -> str:
    return f" (rows {', '.join(map(str, conflicts[0].rows[:5]))}, for example)" if conflicts else ""
