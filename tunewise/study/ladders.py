"""Tuned methods with their rates and passes, cut until their forecast fits what is left of the budget.

Halving that is not fitted to the budget loses most at small budgets, because nothing finishes; and trials that end
after half of their passes lose more than methods that were never tried. So rates go first, down to one a method;
then whole methods, the least promising first; and only a method that is left alone is shortened.

>>> fit_in([ladder], price=lambda one: one.epochs, fits=lambda some: sum(a.epochs for a in some) < 6, say=print)
"""

from __future__ import annotations

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
    promise: float = 0.0
    """How much is expected of its family."""

    @property
    def rung(self) -> int:
        """Passes after which the rates are compared."""
        return max(1, round(self.epochs * RUNG_SHARE))

    def parameters(self, rate: float) -> dict[str, Any]:
        """The hyper-parameters of one of its trials."""
        return {"learning_rate": rate, "epochs": self.epochs, **self.fixed}

    @property
    def standing(self) -> tuple[float, bool, int]:
        """How readily it is given up: what promises least, then chains before plain methods, then the later."""
        return (-self.promise, self.method.starts_from is not None, self.method.order)


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
    while not fits(wanted) and any(len(ladder.rates) > 1 for ladder in wanted):
        widest = max(wanted, key=lambda ladder: (len(ladder.rates), ladder.standing, price(ladder)))
        wanted = [replace(one, rates=one.rates[:-1]) if one is widest else one for one in wanted]
    while len(wanted) > 1 and not fits(wanted):
        dropped = max(wanted, key=lambda ladder: (ladder.standing, price(ladder)))
        say(f"{dropped.method.name}: left out, the budget does not hold it beside what promises more.")
        wanted = [ladder for ladder in wanted if ladder is not dropped]
    if len(wanted) != 1:
        return wanted
    alone = shortened(wanted[0], lambda one: fits([one]))
    if alone is None:
        say(f"{wanted[0].method.name}: left out, its shortest useful trial does not fit the budget.")
    return [alone] if alone else []


def shortened(ladder: Ladder, fits: Callable[[Ladder], bool]) -> Ladder | None:
    """With as many passes as fit; None where `LEAST_PASSES` are too many."""
    while not fits(ladder) and ladder.epochs > LEAST_PASSES:
        ladder = replace(ladder, epochs=ladder.epochs - 1)
    return ladder if fits(ladder) else None
