"""From what the user allows to what the race may spend: minutes become counted work, once, at the start.

>>> terms = settle(Budget.parse("10m"), forecaster, finalists=methods)
>>> terms.allowance.work
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.errors import BudgetError
from tunewise.settings import Budget
from tunewise.study.folding import NO_FOLDS, Folding
from tunewise.study.forecast import Forecaster
from tunewise.study.policy import RESERVE_SHARE
from tunewise.study.proposals import Allowance

TEST_MARGIN = 1.15
"""The test is forecast with this allowance: it must not be what runs out."""
MOST_TEST_SHARE = 0.5
"""Of what zero-shot and its test leave of a budget, at most this goes to the tests of the others."""
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
    dropped: tuple[str, ...]
    """Methods that the budget does not hold, or whose test alone would take too much of it."""
    folds: float = 0.0
    """Work put aside for the finalists in the other folds, where there are folds."""
    holds_folds: bool = True
    """Whether that is enough for a finalist of average price, and for a tuned one whatever its best step."""

    @property
    def reserve(self) -> float:
        """Work kept for saving, reporting and forecasts that were too low."""
        return RESERVE_SHARE * (self.work_limit or 0.0)

    @property
    def tests(self) -> Mapping[str, float]:
        """Work put aside for the one test of each method that needs a model."""
        return self.allowance.tests

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


def settle(
    budget: Budget,
    forecaster: Forecaster,
    methods: Sequence[Any],
    folding: Folding = NO_FOLDS,
) -> Terms:
    """Convert `budget`, and check that it holds a baseline and its test; those that it does not hold are dropped.

    Baselines and zero-shot are always among what runs, as far as they and their tests fit.

    Args:
        budget: as it was asked for.
        forecaster: of the task.
        methods: to compare.
        folding: what the other folds take; they get half of the budget at most.

    Raises:
        BudgetError: it holds none; the message says what that would take.
    """
    baselines = [method for method in methods if method.family == "baseline"]
    required = baselines or list(methods[:1])
    models = sorted(
        (method for method in methods if method.work),
        key=lambda method: (method.starts_from is not None, method.order),
    )
    zero_shot = next((method for method in models if method.family == "prompt engineering"), None)
    tests = {method.name: TEST_MARGIN * forecaster.test(method) for method in models}
    if budget.unit == "trials":
        always = dict.fromkeys(method.name for method in (*required, zero_shot) if method is not None)
        dropped = tuple(always)[int(budget.limit) :]
        return Terms(budget, None, Allowance(None, int(budget.limit), tests), dropped, folding.work)
    if budget.unit == "flop":
        limit, saving = budget.limit, 0.0
    else:
        limit = budget.limit * forecaster.rates["score"]
        saving = SAVING_SECONDS * forecaster.rates["score"]
    prices = {method.name: _least(method, forecaster) for method in required}
    required = sorted(required, key=lambda method: prices[method.name])
    first = saving + prices[required[0].name]
    if first > limit:
        raise BudgetError(
            f"a budget of {budget.text} cannot hold {required[0].name} and its test, the least there is; "
            f"give --budget {amount(first, budget, forecaster)} or more."
        )
    held = _fitting([method.name for method in required], prices, limit - saving)
    unheld = tuple(method.name for method in required if method.name not in held)
    least = saving + math.fsum(prices[name] for name in held)
    chosen = []
    if zero_shot is not None:
        held_already = zero_shot.name in held
        trial = 0.0 if held_already else forecaster.prompt_trial(0) + forecaster.beginning(zero_shot)
        chosen = _fitting([zero_shot.name], tests, limit - least - trial)
        least += trial if chosen else 0.0
    # Of many finalists on many rows, as many are tested as half of the rest holds, plain methods before chains.
    others = [method.name for method in models if method is not zero_shot]
    room = MOST_TEST_SHARE * (limit - least - sum(tests[name] for name in chosen))
    tested = {name: tests[name] for name in (*chosen, *_fitting(others, tests, room))}
    dropped = tuple(method.name for method in models if method.name not in tested)
    room = MOST_TEST_SHARE * (limit - least - sum(tested.values()))
    kept = min(folding.work, room)
    longest = room / folding.fits if folding.fits else math.inf
    left = (1 - RESERVE_SHARE) * limit - sum(tested.values()) - kept - saving
    allowance = Allowance(max(least - saving, left), None, tested, longest, spends_rest=kept >= folding.work)
    return Terms(budget, limit, allowance, (*unheld, *dropped), kept, room >= folding.needed)


def _least(method: Any, forecaster: Forecaster) -> float:
    """Work of running a method that must run, and of its test."""
    rows = forecaster.n_validation + forecaster.n_test
    return forecaster.beginning(method) + (forecaster.evaluation(rows) if method.work else 0.0)


def _fitting(names: Sequence[str], tests: Mapping[str, float], room: float) -> list[str]:
    """As many of the first `names` as `room` holds the tests of."""
    totals = itertools.accumulate(tests[name] for name in names)
    return [name for name, total in zip(names, totals, strict=True) if total <= room]


def amount(work: float, budget: Budget, forecaster: Forecaster) -> str:
    """`work` as a budget in the unit of `budget` is written."""
    if budget.unit == "flop":
        # Two figures, rounded up: what is suggested must be enough.
        unit = 10.0 ** (math.floor(math.log10(work)) - 1)
        return f"{math.ceil(work / unit) * unit:.1e}flop".replace("e+", "e")
    return f"{int(forecaster.seconds(work)) + 1}s"
