"""What a finalist took to make, and takes to run.

>>> costs.to_json()["per_1000_requests"]["milliseconds"]
8320.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.cost import Works
from tunewise.rule import figure


@dataclass(frozen=True)
class Costs:
    """Figures of one candidate; None where a run did not record them."""

    works: Works
    labels: float | None = None
    """Rows it was trained on, or chose its examples from."""
    setup_seconds: float | None = None
    setup_mb: float | None = None
    """Largest resident memory while it was made."""
    milliseconds: float | None = None
    """Mean of a request, measured in the test, where requests come together."""
    prompt_tokens: float | None = None
    """Mean of a request that had to be read."""
    cached_tokens: float | None = None
    """Mean of a request that it shared with others."""
    serving_mb: float | None = None
    """Memory that answering takes, forecast from its tensors."""

    @classmethod
    def from_row(cls, row: Mapping[str, str], lines: Sequence[Mapping[str, Any]]) -> Costs:
        """Of a row of the leaderboard, and its answers to the test rows."""
        cached = [line["cached_tokens"] for line in lines if line.get("cached_tokens") is not None]
        return cls(
            works=Works(figure(row, "setup_work", default=0.0), figure(row, "request_work", default=0.0)),
            labels=_known(row, "n_train"),
            setup_seconds=_known(row, "fit_seconds"),
            setup_mb=_known(row, "peak_rss_mb"),
            milliseconds=_known(row, "ms_per_example"),
            prompt_tokens=_known(row, "prompt_tokens"),
            cached_tokens=sum(cached) / len(cached) if cached else None,
            serving_mb=_known(row, "serving_mb"),
        )

    def to_json(self, price: float | None = None) -> dict[str, Any]:
        """What it took to make, and what a thousand requests take.

        Args:
            price: of a unit of work; then both are told in money as well.
        """
        each = {"milliseconds": self.milliseconds, "prompt_tokens": self.prompt_tokens}
        each["cached_tokens"] = self.cached_tokens
        thousand = {name: None if value is None else round(1000 * value, 1) for name, value in each.items()}
        return {
            "setup": {
                "labels": self.labels,
                "work": self.works.setup,
                **({} if price is None else {"money": price * self.works.setup}),
                "seconds": self.setup_seconds,
                "peak_mb": self.setup_mb,
            },
            "per_1000_requests": {
                "work": 1000 * self.works.request,
                **({} if price is None else {"money": 1000 * price * self.works.request}),
                **thousand,
            },
            "serving_mb": self.serving_mb,
        }


def _known(row: Mapping[str, str], column: str) -> float | None:
    """A figure; None where the column is missing or empty. Raises CandidateError for what is no number."""
    return figure(row, column) if (row.get(column) or "").strip() else None
