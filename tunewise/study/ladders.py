"""Tuned methods with their rates and passes, cut until their forecast fits what is left of the budget.

Halving that is not fitted to the budget loses most at small budgets, because nothing finishes; and trials that end
after half of their passes lose more than methods that were never tried. So rates go first, down to one a method;
then whole methods, the least promising first; and where no method fits whole, the most promising is shortened.
Where finalists go through folds on the same budget, families go first instead, the least promising first: each
method that is screened may take the place of a better one there.

>>> fit_in([ladder], price=lambda one: one.epochs, fits=lambda some: sum(a.epochs for a in some) < 6, say=print)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

RUNG_SHARE = 0.25
"""A rung is this share of the full number of passes."""
LEAST_SHARE = 0.5
"""Of its passes, what a shortened trial keeps: at a third of them it is no better than the best prompt.

On real outcomes of six tasks with 128 labelled rows (benchmarks/evidence/passes.py), LoRA and all weights are 2
points below it at a third of their passes, 9 and 12 above at half."""


def least_passes(passes: int) -> int:
    """Of its passes, those that a trial must keep where it is shortened."""
    return math.ceil(passes * LEAST_SHARE)


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
    follows: frozenset[str] = frozenset()
    """Methods whose turn comes before its own: what it starts from, and the plain one at whose rate it goes."""

    whole: int = 0
    """Passes before it was shortened; 0 where it was not."""

    @property
    def least(self) -> int:
        """Passes that it must keep where it is shortened."""
        return least_passes(self.whole or self.epochs)

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


def fit_in(
    ladders: Sequence[Ladder],
    price: Price,
    fits: Fits,
    say: Callable[[str], None],
    *,
    shorten: bool = True,
    families_first: bool = False,
) -> list[Ladder]:
    """The ladders, cut until they fit.

    Args:
        ladders: as the methods would like them.
        price: forecast of one ladder.
        fits: whether some ladders fit what is left of the budget.
        say: told of every method that is given up.
        shorten: whether one may be, where none fits with all of its passes.
        families_first: whether what promises least goes before a more promising method gives up a rate.
    """
    kept = [ladder for ladder in ladders if fits([_at_one_rate(ladder)])]
    first = leading(ladders)
    if shorten and not any(ladder in first for ladder in kept):
        # A chain that fits takes no place of a plain method that fits with fewer passes.
        short = shortened(ladders, lambda ladder: fits([_at_one_rate(ladder)]))
        if short is not None and (short.method in [one.method for one in first] or not kept):
            kept = [_at_one_rate(short), *kept]
    for ladder in ladders:
        if ladder.method not in [one.method for one in kept]:
            say(f"{ladder.method.name}: left out, the budget does not hold it.")
    while kept := _with_their_starts(kept, ladders, say):
        least = min(ladder.promise for ladder in kept)
        giving = {ladder.method.name for ladder in kept if ladder.promise == least or not families_first}
        chosen = _with_fewer_rates(kept, giving, price, fits)
        if fits(chosen):
            return chosen
        dropped = max(kept, key=lambda ladder: (ladder.standing, price(ladder)))
        kept = [ladder for ladder in kept if ladder is not dropped]
        say(f"{dropped.method.name}: left out, the budget does not hold it beside those that go first.")
    return []


def _with_their_starts(
    kept: Sequence[Ladder], ladders: Sequence[Ladder], say: Callable[[str], None]
) -> list[Ladder]:
    """Without chains whose start was among the ladders, and is not kept."""
    names = {ladder.method.name for ladder in kept}
    gone = {ladder.method.name for ladder in ladders} - names
    for ladder in kept:
        if ladder.method.starts_from in gone:
            say(f"{ladder.method.name}: left out with {ladder.method.starts_from}, which it would start from.")
    return [ladder for ladder in kept if ladder.method.starts_from not in gone]


def leading(ladders: Sequence[Ladder]) -> list[Ladder]:
    """Those that wait for none of the others."""
    names = {ladder.method.name for ladder in ladders}
    return [ladder for ladder in ladders if names.isdisjoint(ladder.follows)]


def shortened(ladders: Sequence[Ladder], holds: Callable[[Ladder], bool]) -> Ladder | None:
    """The most promising that can be shortened until it holds; None where each would lose too many passes.

    A chain only where none of those can that wait for no other, and where what it starts from is there.
    """
    names, first = {ladder.method.name for ladder in ladders}, leading(ladders)
    ready = [one for one in ladders if one not in first and one.method.starts_from not in names]
    for group in (first, ready):
        for ladder in sorted(group, key=lambda one: one.standing):
            for epochs in range(ladder.epochs, ladder.least - 1, -1):
                if holds(short := replace(ladder, epochs=epochs, whole=ladder.whole or ladder.epochs)):
                    return short
    return None


def _at_one_rate(ladder: Ladder) -> Ladder:
    return replace(ladder, rates=ladder.rates[:1])


def _with_fewer_rates(
    ladders: Sequence[Ladder], giving: Collection[str], price: Price, fits: Fits
) -> list[Ladder]:
    """The last rate taken off the ladder with the most, of equals the least promising, until they fit.

    Of the methods in `giving` alone.
    """
    chosen = list(ladders)
    while not fits(chosen):
        wide = [one for one in chosen if len(one.rates) > 1 and one.method.name in giving]
        if not wide:
            break
        widest = max(wide, key=lambda ladder: (len(ladder.rates), ladder.standing, price(ladder)))
        chosen = [replace(one, rates=one.rates[:-1]) if one is widest else one for one in chosen]
    return chosen
