"""From what the user allows to what the race may spend: minutes become counted work, once, at the start.

>>> trials = least_trials(task.spec, model, methods, forecaster)
>>> terms = settle(Budget.parse("10m"), forecaster, methods, trials)
>>> terms.allowance.work
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewise.adapted import ModelRef
from tunewise.errors import BudgetError
from tunewise.methods.base import first_of
from tunewise.settings import Budget
from tunewise.study.folding import NO_FOLDS, Folding
from tunewise.study.forecast import Forecaster
from tunewise.study.ladders import least_passes
from tunewise.study.policy import RESERVE_SHARE
from tunewise.study.proposals import Allowance
from tunewise.task import TaskSpec

TEST_MARGIN = 1.15
"""The test is forecast with this allowance: it must not be what runs out."""
MOST_TEST_SHARE = 0.5
"""Of what zero-shot and its test leave of a budget, at most this goes to the tests of the others."""
MOST_FOLDS_SHARE = 0.6
"""Of what they and the tests leave, at most this goes to the other folds."""
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
    """Whether that is enough for a finalist of average price, and for a tuned one."""

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


def least_trials(
    spec: TaskSpec, model: ModelRef | None, methods: Sequence[Any], forecaster: Forecaster
) -> dict[str, float]:
    """Work of the first trial of each method that starts from the base model, shortened as far as the race may.

    Args:
        spec: of the task.
        model: the base model.
        methods: that are compared.
        forecaster: of the task.
    """
    least = {}
    for method in methods:
        if method.starts_from is None:
            settings = first_of(method.search_space(spec, model, forecaster.n_train))
            if "epochs" in settings:
                settings["epochs"] = least_passes(settings["epochs"])
            least[method.name] = forecaster.fit(method, settings, int(settings.get("shots", 0)))
    return least


def settle(
    budget: Budget,
    forecaster: Forecaster,
    methods: Sequence[Any],
    trials: Mapping[str, float],
    folding: Folding = NO_FOLDS,
) -> Terms:
    """Convert `budget`, and check that it holds a candidate and its test; methods that it does not are dropped.

    Baselines and zero-shot are always among what runs, as far as they and their tests fit; where neither is
    compared, the cheapest method is.

    Args:
        budget: as it was asked for.
        forecaster: of the task.
        methods: to compare.
        trials: work of the first trial of each method, as `least_trials` gives it.
        folding: what the other folds take; they get three fifths of the budget at most.

    Raises:
        BudgetError: it holds none; the message says what that would take.
    """
    models = sorted(
        (method for method in methods if method.work),
        key=lambda method: (method.starts_from is not None, method.order),
    )
    tests = {method.name: TEST_MARGIN * forecaster.test(method) for method in models}
    whole = {name: work + tests.get(name, 0.0) for name, work in trials.items()}
    baselines = sorted((one.name for one in methods if one.family == "baseline"), key=whole.__getitem__)
    plainest = [method.name for method in models if method.family == "prompt engineering"][:1]
    always = [*baselines, *plainest] or [min(whole, key=whole.__getitem__)]
    if budget.unit == "trials":
        dropped = always[int(budget.limit) :]
        return Terms(budget, None, Allowance(None, int(budget.limit), tests), tuple(dropped), folding.work)
    if budget.unit == "flop":
        limit, saving = budget.limit, 0.0
    else:
        limit = budget.limit * forecaster.rates["score"]
        saving = SAVING_SECONDS * forecaster.rates["score"]
    first = saving + whole[always[0]]
    if first > limit:
        raise BudgetError(
            f"a budget of {budget.text} cannot hold {always[0]} and its test, the least there is; "
            f"give --budget {amount(first, budget, forecaster)} or more."
        )
    held = _fitting(always, whole, limit - saving)
    least = saving + math.fsum(trials[name] for name in held)
    tested = {name: tests[name] for name in held if name in tests}
    # Of many finalists on many rows, as many are tested as half of the rest holds, plain methods before chains.
    others = [method.name for method in models if method.name not in always]
    tested |= {
        name: tests[name]
        for name in _fitting(others, tests, MOST_TEST_SHARE * (limit - least - sum(tested.values())))
    }
    dropped = [name for name in (*always, *others) if name not in held and name not in tested]
    room = MOST_FOLDS_SHARE * (limit - least - sum(tested.values()))
    kept = min(folding.work, room)
    longest = room / folding.fits if folding.fits else math.inf
    left = (1 - RESERVE_SHARE) * limit - sum(tested.values()) - kept - saving
    allowance = Allowance(max(least - saving, left), None, tested, longest, spends_rest=kept >= folding.work)
    return Terms(budget, limit, allowance, tuple(dropped), kept, room >= folding.needed)


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
