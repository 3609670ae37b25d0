"""Tuned methods with their rates and passes, cut until their forecast fits what is left of the budget.

Halving that is not fitted to the budget loses most at small budgets, because nothing finishes. So breadth goes
first (third rates), then some length, then second rates, then more length; then whole methods, chains first; and
only a method that is left alone is cut to the bone.

>>> fit_in([ladder], price=lambda one: one.epochs, fits=lambda some: sum(a.epochs for a in some) < 6, say=print)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RUNG_SHARE = 0.25
"""A rung is this share of the full number of passes."""
LEAST_PASSES = 2


@dataclass(frozen=True)
class Ladder:
    """A tuned method with the rates that it will try."""

    method: Any
    rates: tuple[float, ...]
    epochs: int
    fixed: Mapping[str, Any]
    """Hyper-parameters other than rate and epochs."""

    @property
    def rung(self) -> int:
        """Passes after which the rates are compared."""
        return max(1, round(self.epochs * RUNG_SHARE))

    def parameters(self, rate: float) -> dict[str, Any]:
        """The hyper-parameters of one of its trials."""
        return {"learning_rate": rate, "epochs": self.epochs, **self.fixed}

    @property
    def standing(self) -> tuple[bool, int]:
        """How readily it is given up: chains before plain methods, the later in its family before the earlier."""
        return (self.method.starts_from is not None, self.method.order)


Price = Callable[[Ladder], float]
Fits = Callable[[Sequence[Ladder]], bool]


def fit_in(ladders: Sequence[Ladder], price: Price, fits: Fits, say: Callable[[str], None]) -> list[Ladder]:
    """The ladders, cut until they fit.

    Args:
        ladders: as the methods would like them.
        price: forecast of one ladder.
        fits: whether some ladders fit what is left of the budget.
        say: told of every method that is given up.
    """
    wanted = list(ladders)
    while wanted:
        chosen = _cut(wanted, price, fits, alone=len(wanted) == 1)
        if fits(chosen):
            return chosen
        dropped = max(wanted, key=lambda ladder: (ladder.standing, price(ladder)))
        say(f"{dropped.method.name}: left out, its shortest useful trial does not fit the budget.")
        wanted = [ladder for ladder in wanted if ladder is not dropped]
    return []


def _cut(ladders: Sequence[Ladder], price: Price, fits: Fits, *, alone: bool) -> list[Ladder]:
    full = {ladder.method.name: ladder.epochs for ladder in ladders}
    chosen = list(ladders)
    for rates, share in ((2, 1.0), (2, 0.6), (1, 0.6), (1, 0.5), *([(1, 0.0)] if alone else [])):
        for shorten in (_fewer_rates, _fewer_passes):
            least = {name: max(LEAST_PASSES, math.ceil(passes * share)) for name, passes in full.items()}
            while not fits(chosen):
                shorter = shorten(chosen, price, rates, least)
                if shorter is None:
                    break
                chosen = shorter
    return chosen


def _fewer_rates(
    ladders: Sequence[Ladder], price: Price, rates: int, least: Mapping[str, int]
) -> list[Ladder] | None:
    """Drop the last rate of the ladder with the most rates, of equals the readiest to give; keep `rates`."""
    several = [ladder for ladder in ladders if len(ladder.rates) > rates]
    if not several:
        return None
    widest = max(several, key=lambda a: (len(a.rates), a.standing, price(a)))
    return [replace(a, rates=a.rates[:-1]) if a is widest else a for a in ladders]


def _fewer_passes(
    ladders: Sequence[Ladder], price: Price, rates: int, least: Mapping[str, int]
) -> list[Ladder] | None:
    """Take a pass off the dearest ladder that has more than its `least`."""
    several = [a for a in ladders if a.epochs > least[a.method.name]]
    if not several:
        return None
    dearest = max(several, key=price)
    return [replace(a, epochs=a.epochs - 1) if a is dearest else a for a in ladders]
