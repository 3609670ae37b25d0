"""The recommendation as a record: what `recommendation.json` holds.

>>> ci = Compared(0.1, (0.0, 0.2), 0.04)
>>> ci.to_json()
{'value': 0.1, 'ci': [0.0, 0.2], 'p': 0.04}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError
from tunewise.rule import Status

FORMAT = 1


@dataclass(frozen=True)
class Compared:
    """A paired difference of two test scores, as shares."""

    value: float
    ci: tuple[float, float]
    """Two-sided 95 % interval."""
    p: float | None
    """Two-sided, not adjusted for other comparisons; None in folds, which share rows and are not tested."""
    upper: float | None = None
    """One-sided 95 % upper bound."""

    @property
    def turned(self) -> Compared:
        """The same the other way round; a one-sided bound does not turn."""
        low, high = self.ci
        return Compared(-self.value, (-high, -low), self.p)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        data: dict[str, Any] = {"value": self.value, "ci": list(self.ci), "p": self.p}
        return data if self.upper is None else data | {"upper": self.upper}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Compared:
        """The inverse of `to_json`."""
        low, high = data["ci"]
        return cls(data["value"], (low, high), data["p"], data.get("upper"))


@dataclass(frozen=True)
class Recommendation:
    """Which candidate to use, what was shown of it, and why."""

    pick: str
    status: Status
    score: float
    """Of the pick on the test split; in folds, what it is expected to be on new rows."""
    ci: tuple[float, float]
    """95 % interval of the score."""
    reasons: tuple[str, ...]
    tied_with: tuple[str, ...]
    """Finalists the pick cannot be told from: Holm-adjusted two-sided p of at least 0.05."""
    runner_up: str | None
    """The highest test score among the others; None when there are no others."""
    difference: Compared | None
    """Pick minus runner-up."""
    margin: float
    """In points."""
    warnings: tuple[str, ...]
    reference: str
    nominee: str
    metric: str
    n_test: int
    differences: Mapping[str, Compared]
    """Every other finalist minus the pick."""
    smallest_margin_shown: float | None
    """In points: the smallest margin at which the nominee would be shown; None when there are no others."""
    rows_needed: int | None
    """Test rows that would show the margin; None when it is shown, or when no number of rows would."""
    next_commands: tuple[str, ...]
    sources: tuple[str, ...] = ()
    """Of each reason, the file of the run folder that its numbers come from."""
    conditions: tuple[str, ...] = ()
    """What would make another finalist the pick."""
    costs: Mapping[str, Any] = field(default_factory=dict)
    """Of every finalist, what it took to make and what a thousand requests take."""
    break_even_requests: Mapping[str, float | None] = field(default_factory=dict)
    """Of every other finalist, the requests at which it and the pick have cost the same; None at no number."""
    front: tuple[str, ...] = ()
    """Finalists that no other beats in score, serving work and set-up work at once."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Finalists that do not do what was asked, with the reason."""
    demand: Mapping[str, float] = field(default_factory=dict)
    """Requests and set-ups that costs are counted for."""
    seeds: Mapping[str, Any] = field(default_factory=dict)
    """Scores of finalists trained with several seeds, and the pick beside the others as methods; empty without."""
    learning: Mapping[str, Any] = field(default_factory=dict)
    """What more labels are worth, by the learning curves; empty where none were measured."""
    folds: int = 0
    """Folds of which all but the first took the place of a test; the score is then corrected for the choice."""
    folder: Path = field(default=Path(), compare=False)
    """The run folder; not written."""

    def load(self) -> Any:
        """The recommended predictor, ready to use; raises CandidateError when its folder cannot be read."""
        import tunewise

        return tunewise.load(self.folder / "candidates" / self.pick)

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        data = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "folder"}
        data |= {name: list(value) for name, value in data.items() if isinstance(value, tuple)}
        data["difference"] = self.difference.to_json() if self.difference else None
        data["differences"] = {name: compared.to_json() for name, compared in self.differences.items()}
        return {"format": FORMAT, **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], folder: Path = Path()) -> Recommendation:
        """The inverse of `to_json`; raises CandidateError for another format or a missing field."""
        if data.get("format") != FORMAT:
            raise CandidateError(
                f"{folder / 'recommendation.json'}: found format {data.get('format')!r}, expected {FORMAT}. "
                "Rebuild it with `tunewise report`."
            )
        try:
            # Fields with a default came later: an older file has none of them.
            names = [one.name for one in fields(cls) if one.name in data or _is_needed(one)]
            values = {name: data[name] for name in names}
            for one in fields(cls):
                if one.name in values and str(one.type).startswith("tuple"):
                    values[one.name] = tuple(values[one.name])
            values["difference"] = Compared.from_json(data["difference"]) if data["difference"] else None
            compared = {name: Compared.from_json(one) for name, one in data["differences"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CandidateError(
                f"{folder / 'recommendation.json'}: cannot be read ({error!r}); expected the fields of "
                "docs/run-folder.md. Rebuild it with `tunewise report`."
            ) from None
        return cls(**(values | {"differences": compared, "folder": folder}))


def _is_needed(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING
