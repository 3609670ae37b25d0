"""What is to be solved: examples, their splits, and the task spec that describes them without rows.

A `Task` is a `TaskSpec` plus a train, a validation and a test `Dataset`. The spec travels with every adapted
model, so that a model saved on one machine knows its input fields, its labels and its metric on another.

>>> spec = TaskSpec("classification", ("text",), Choices(("0", "1"), ("bad", "good")), "Rate it.", "accuracy")
>>> spec.answer.word("1"), spec.fields("fine")
('good', {'text': 'fine'})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunewise.errors import DataError, nearest

if TYPE_CHECKING:
    from tunewise.reading import Profile

Kind = Literal["classification", "generation"]
KINDS: tuple[str, ...] = ("classification", "generation")
Input = str | Mapping[str, str]


@dataclass(frozen=True)
class Choices:
    """An answer that is one of a closed list of labels."""

    labels: tuple[str, ...]
    """The values as they stand in the data, in a fixed order."""
    words: tuple[str, ...]
    """How each label is spelt to the model, in the same order."""

    def word(self, label: str) -> str:
        """The spelling of `label` shown to the model."""
        return self.words[self.labels.index(label)]

    @property
    def are_codes(self) -> bool:
        """Whether any label is a code, whose word says something that the label itself does not."""
        return any(map(self._is_code, self.labels))

    def name(self, label: str) -> str:
        """`label` for people: with its word beside it, where the data hold a code."""
        return f"{label} ({self.word(label)})" if self._is_code(label) else label

    def _is_code(self, label: str) -> bool:
        return self.word(label) not in (label, " ".join(label.replace("_", " ").split()))


@dataclass(frozen=True)
class Text:
    """An answer that is free text."""

    max_tokens: int = 64
    """Longest answer that is generated, in tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are not part of it."""

    def word(self, target: str) -> str:
        """The target as the model sees it: itself."""
        return target


Answer = Choices | Text


@dataclass(frozen=True)
class TaskSpec:
    """The task without its rows."""

    kind: str
    inputs: tuple[str, ...]
    answer: Answer
    instruction: str
    metric: str
    group: str | None = None

    def fields(self, given: Input) -> dict[str, str]:
        """`given` (one text, or a mapping with every input column) as a mapping of input columns to text."""
        if isinstance(given, str):
            if len(self.inputs) != 1:
                raise DataError(
                    f"this task has {len(self.inputs)} input columns ({', '.join(self.inputs)}); "
                    "found one plain text. Give a mapping with those names."
                )
            return {self.inputs[0]: given}
        if not isinstance(given, Mapping):
            raise DataError(f"an input is a text or a mapping of columns to text; found {given!r}.")
        missing = [name for name in self.inputs if name not in given]
        if missing:
            guess = nearest(missing[0], given)
            raise DataError(
                f'input column "{missing[0]}" is missing; found {", ".join(map(str, given)) or "no columns"}, '
                f"expected {', '.join(self.inputs)}." + (f' Is "{guess}" meant? Rename it.' if guess else "")
            )
        return {name: str(given[name]) for name in self.inputs}

    def rows(self, inputs: Sequence[Input]) -> list[dict[str, str]]:
        """Every input as a mapping of input columns to text.

        Raises:
            DataError: `inputs` is a single text rather than a list, or one of them lacks a column.
        """
        if isinstance(inputs, str | Mapping):
            raise DataError("predict takes a list of inputs; found a single one. Put it into a list.")
        return [self.fields(given) for given in inputs]

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        if isinstance(self.answer, Choices):
            answer: dict[str, Any] = {"labels": list(self.answer.labels), "words": list(self.answer.words)}
        else:
            answer = {"max_tokens": self.answer.max_tokens, "stop": list(self.answer.stop)}
        return {
            "kind": self.kind,
            "inputs": list(self.inputs),
            "answer": answer,
            "instruction": self.instruction,
            "metric": self.metric,
            "group": self.group,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskSpec:
        """The inverse of `to_json`; raises KeyError when a field is missing."""
        raw = data["answer"]
        answer: Answer
        if "labels" in raw:
            answer = Choices(tuple(raw["labels"]), tuple(raw["words"]))
        else:
            answer = Text(int(raw["max_tokens"]), tuple(raw["stop"]))
        return cls(
            data["kind"], tuple(data["inputs"]), answer, data["instruction"], data["metric"], data.get("group")
        )


@dataclass(frozen=True)
class Example:
    """One row: input fields and a target."""

    row: int
    """Number of the row in its source, from 0, header not counted."""
    inputs: Mapping[str, str]
    target: str
    group: str | None = None
    source: str = "data"
    """`data` for the main file, `test` or `validation` for a file given for that split."""


@dataclass(frozen=True)
class Dataset:
    """Examples in a fixed order."""

    examples: tuple[Example, ...]

    def __repr__(self) -> str:
        return f"Dataset({len(self)} rows)"

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    @property
    def inputs(self) -> list[Mapping[str, str]]:
        """Input fields of every example."""
        return [example.inputs for example in self.examples]

    @property
    def targets(self) -> list[str]:
        """Target of every example."""
        return [example.target for example in self.examples]

    @property
    def groups(self) -> list[str] | None:
        """Group of every example, or None when the task has no groups."""
        groups = [example.group for example in self.examples]
        return None if not groups or groups[0] is None else [str(group) for group in groups]

    def take(self, indices: Sequence[int]) -> Dataset:
        """The examples at `indices`, in that order."""
        return Dataset(tuple(self.examples[index] for index in indices))


@dataclass(frozen=True)
class Task:
    """A task spec with its rows, split for training, choosing and the one final test."""

    spec: TaskSpec
    train: Dataset
    validation: Dataset
    test: Dataset
    name: str = "task"
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Where the rows came from (path, SHA-256, columns guessed or given): enough to read them again."""
    profile: Profile | None = field(default=None, repr=False)
    """What reading found: duplicates, conflicts, leaks, balance, lengths."""
    folds: tuple[Dataset, ...] = field(default=(), repr=False)
    """Of a task with few rows: those beside the test in folds, of which the first is `validation` and the others
    are `train`; empty where validation rows choose."""

    @property
    def splits(self) -> dict[str, Dataset]:
        """The three splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def tested_in_folds(self) -> bool:
        """Whether what is answered in the folds takes the place of answers to a test split."""
        return bool(self.folds) and not len(self.test)

    @staticmethod
    def read(data: Any, **settings: Any) -> Task:
        """Read a task from a path, frame, list of dicts or `datasets.Dataset`; see `tunewise.reading.read`."""
        from tunewise.reading import read

        return read(data, **settings)
