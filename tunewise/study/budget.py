"""From what the user allows to what the race may spend: minutes become counted work, once, at the start.

>>> terms = settle(Budget.parse("10m"), forecaster, finalists=methods)
>>> terms.allowance.work
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.errors import BudgetError
from tunewise.figures import counted
from tunewise.settings import Budget
from tunewise.study.forecast import Forecaster
from tunewise.study.policy import RESERVE_SHARE, Allowance

TEST_MARGIN = 1.15
"""The test is forecast with this allowance: it must not be what runs out."""
MOST_TEST_SHARE = 0.5
"""Of a budget, at most this goes to the test."""
SAVING_SECONDS = 5.0
"""Leaderboard, recommendation and page."""


@dataclass(frozen=True)
class Terms:
    """What a study may spend, in the unit its decisions are made in."""

    budget: Budget
    work_limit: float | None
    """The whole budget in work; None for a budget in trials."""
    allowance: Allowance
    """What is left of it for the race, the test and the report put aside."""
    test_work: float
    """Forecast of the one test of all finalists."""
    dropped: tuple[str, ...]
    """Methods whose test alone would take too much of the budget."""
    kept_seconds: float
    """Forecast of what follows the search: the test, and saving; 0 where the budget is not in time."""

    @property
    def seconds(self) -> float | None:
        """The budget in seconds, where it is one."""
        return self.budget.limit if self.budget.unit == "seconds" else None

    def to_json(self, rates: Mapping[str, float]) -> dict[str, Any]:
        """The `budget` record of `run.json`."""
        return {
            "text": self.budget.text,
            "unit": self.budget.unit,
            "limit": self.budget.limit,
            "work_limit": self.work_limit,
            "rates": dict(rates),
        }


def settle(budget: Budget, forecaster: Forecaster, methods: Sequence[Any]) -> Terms:
    """Convert `budget`, and check that it holds the baselines and their test.

    Raises:
        BudgetError: it does not; the message says what it would take.
    """
    baselines = [method for method in methods if method.family == "baseline"]
    required = baselines or list(methods[:1])
    models = [method for method in methods if method.work]
    one_test = forecaster.evaluation(forecaster.n_test)
    if budget.unit == "trials":
        if budget.limit < len(required):
            raise BudgetError(
                f"a budget of {counted(int(budget.limit), 'trial')} cannot hold the {len(required)} methods that "
                f"must run ({', '.join(m.name for m in required)}); give --budget {len(required)}trials or more."
            )
        return Terms(budget, None, Allowance(None, int(budget.limit)), len(models) * one_test, (), 0.0)
    least = sum(forecaster.weigh("overhead", forecaster.overhead(m.work)) for m in required)
    least += sum(forecaster.evaluation(forecaster.n_validation + forecaster.n_test) for m in required if m.work)
    if budget.unit == "flop":
        limit, saving = budget.limit, 0.0
    else:
        limit = budget.limit * forecaster.rates["score"]
        saving = SAVING_SECONDS * forecaster.rates["score"]
    least += saving
    if least > limit:
        raise BudgetError(
            f"a budget of {budget.text} cannot hold {', '.join(m.name for m in required)} and their test; "
            f"give --budget {_amount(least, budget, forecaster)} or more."
        )
    # Of many finalists on many rows, as many are tested as half of the budget holds, plain methods before chains.
    models.sort(key=lambda method: (method.starts_from is not None, method.order))
    fitting = int(max(0.0, MOST_TEST_SHARE * (limit - least)) / (TEST_MARGIN * one_test))
    dropped = tuple(method.name for method in models[fitting:])
    test_work = min(fitting, len(models)) * one_test
    room = max(least - saving, limit * (1 - RESERVE_SHARE) - TEST_MARGIN * test_work - saving)
    kept = forecaster.seconds(TEST_MARGIN * test_work + saving) if budget.unit == "seconds" else 0.0
    return Terms(budget, limit, Allowance(room, None, TEST_MARGIN * one_test), test_work, dropped, kept)


def _amount(work: float, budget: Budget, forecaster: Forecaster) -> str:
    if budget.unit == "flop":
        # Two figures, rounded up: what is suggested must be enough.
        unit = 10.0 ** (math.floor(math.log10(work)) - 1)
        return f"{math.ceil(work / unit) * unit:.1e}flop".replace("e+", "e")
    return f"{int(forecaster.seconds(work)) + 1}s"
