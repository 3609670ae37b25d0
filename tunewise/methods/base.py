"""What a method is, and the one handle on compute that it gets.

>>> @dataclass(frozen=True)
... class Mine(Method):
...     name, family, needs = "mine", "prompt engineering", frozenset({"label-scores"})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from tunewise.adapted import ModelRef, Predictor
from tunewise.task import Dataset, TaskSpec

FAMILIES = ("baseline", "prompt engineering", "prompt tuning", "fine-tuning", "hybrid")

OFFERED = frozenset({"gradients", "label-scores"})
"""What a model that is loaded here offers a method; one behind a server would offer less."""

Distribution = Sequence[Any]
"""The values of a hyper-parameter that are worth trying, the most promising first."""

SearchSpace = dict[str, Distribution]
"""Hyper-parameters by name; one that is left out keeps the default of its field."""


def first_of(space: SearchSpace) -> dict[str, Any]:
    """The most promising settings of a search space."""
    return {name: values[0] for name, values in space.items()}


@dataclass(frozen=True)
class Verdict:
    """What the study says of a candidate it has scored."""

    value: float | None
    """Score on the validation split; None where there is none."""
    stop: bool
    """Whether to stop here: the rung is reached, or the budget is spent."""
    log_loss: float | None = None
    """Mean negative log-probability of the right answers: finer than the score, to break its ties."""
    keep: bool = False
    """Whether to keep the state now: to pause, or so that an interruption costs little."""

    def better_than(self, other: Verdict | None) -> bool:
        """Whether this is the better one; without scores, the later one is."""
        if other is None or self.value is None or other.value is None:
            return True
        if self.value != other.value or self.log_loss is None or other.log_loss is None:
            return self.value > other.value
        return self.log_loss < other.log_loss


class Trial(Protocol):
    """A method's only handle on compute: what it spends is metered, what it offers is scored by the study."""

    seed: int
    folder: Path

    @property
    def ends_at(self) -> int | None:
        """Step to check at, and to end or pause at, where the study knows it; None where the method decides."""
        ...

    def spend(self, kind: str, flop: float) -> None:
        """Count work that the engine does not count by itself."""
        ...

    def check(self, step: int, candidate: Predictor, *, epoch: float | None = None) -> Verdict:
        """Have `candidate` scored by the study's one evaluation loop."""
        ...

    def progress(self, step: int, steps: int, loss: float | None = None) -> bool:
        """Tell how far the fit is; whether it must end now."""
        ...

    def wants_state(self) -> bool:
        """Whether it is time to keep a state between two checks."""
        ...

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep `state` (tensors under `tensors`, plain values beside it), to go on exactly from it."""
        ...

    def state(self) -> dict[str, Any] | None:
        """The state kept last, or None."""
        ...


class Method(Protocol):
    """One way of adapting a model; a frozen dataclass, its fields are its hyper-parameters.

    A method that derives from this class starts from the base model, applies to every task and has nothing to
    search, unless it says otherwise.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """What it asks of a model, of `OFFERED` or beyond; nothing for baselines."""
    starts_from: ClassVar[str | None] = None
    """The method whose best result it starts from, or None to start from the base model."""
    order: ClassVar[int]
    """Its place within its family: the cheaper first try goes first."""
    learns_from_rows: ClassVar[bool] = True
    """Whether more labelled rows may make its result better."""
    work: ClassVar[str | None]
    """The kind of work (`tunewise.cost.KINDS`) that a fit consists of; None where no language model works."""

    @classmethod
    def applies(cls, spec: TaskSpec, model: ModelRef | None) -> str | None:
        """Why it does not apply to this task and model, or None."""
        return None

    @classmethod
    def search_space(cls, spec: TaskSpec, model: ModelRef | None, n_train: int) -> SearchSpace:
        """The hyper-parameters worth trying, the most promising values first."""
        return {}

    def fit(self, start: Predictor, train: Dataset, validation: Dataset, trial: Trial) -> Predictor:
        """Adapt `start` to the training rows; never sees the test split, owns no evaluation."""
        ...
