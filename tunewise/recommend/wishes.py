"""What may be asked of a pick beside its score: how often it is used, how fast and small it is, what may change.

>>> Wishes(requests=1e6, max_ms=50.0).unmet(entry)
'it takes 61.3 ms a request, more than 50'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunewise.cost import USUAL, Demand
from tunewise.errors import SettingError
from tunewise.recommend.evidence import Entry

INSTRUCTED = "prompt engineering"
"""The family whose instruction may be changed at request time: weights are those of the base model."""


@dataclass(frozen=True)
class Wishes:
    """How a candidate will be used; everything has the value that a run goes by."""

    requests: float = USUAL.requests
    """A month, or any other span that `updates` are counted over."""
    updates: float = USUAL.updates
    """How often it is set up again in that span."""
    max_ms: float | None = None
    """Milliseconds a request may take, as measured in the test."""
    max_memory_mb: float | None = None
    """Memory that answering may take, as forecast from its tensors."""
    real_time: bool = False
    """Whether the instruction must be free to change with each request."""
    price_per_hour: float | None = None
    """Of the machine, in any currency."""

    @classmethod
    def of(cls, **given: Any) -> Wishes:
        """With what is usual for everything that is None."""
        return cls(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        for name, value, least in (
            ("requests per month", self.requests, 0.0),
            ("updates per month", self.updates, 0.0),
            ("max ms", self.max_ms, 0.0),
            ("max memory", self.max_memory_mb, 0.0),
            ("price per hour", self.price_per_hour, 0.0),
        ):
            if value is not None and not least <= value < float("inf"):
                raise SettingError(f"{name}: found {value:g}; expected a number of {least:g} or more.")

    @property
    def demand(self) -> Demand:
        """What costs are counted for."""
        return Demand(self.requests, self.updates)

    def unmet(self, entry: Entry) -> str | None:
        """Why a finalist will not do; None when it will."""
        costs = entry.costs
        if self.real_time and entry.family != INSTRUCTED:
            return "it was made for one instruction, which cannot be changed with a request"
        for figure, most, text, unit in (
            (costs.milliseconds, self.max_ms, "takes", "ms a request"),
            (costs.serving_mb, self.max_memory_mb, "needs", "MB"),
        ):
            if most is None:
                continue
            if figure is None:
                return f"this run did not record how many {unit} it {text}"
            if figure > most:
                return f"it {text} {figure:,.1f} {unit}, more than {most:,.12g}"
        return None

    def words(self) -> Iterator[str]:
        """Everything that differs from what a run goes by."""
        if self.demand != USUAL:
            setups = f"{self.updates:g} set-up{'' if self.updates == 1 else 's'}"
            yield f"{self.requests:,.12g} requests and {setups} a month"
        if self.max_ms is not None:
            yield f"at most {self.max_ms:g} ms a request, in the mean of the test's batches"
        if self.max_memory_mb is not None:
            yield f"at most {self.max_memory_mb:,.12g} MB"
        if self.real_time:
            yield "an instruction that can change with each request"
