"""Which trials run, in which order, and for how long: the race, as one readable function.

A `Race` asks its runner for trials and decides by their outcomes and their counted work alone. The study's runner
works, or repeats from the journal what was done before; that of `tunewise plan` only forecasts. Both therefore go
through the same decisions.

1. Baselines always; they are what a budget must hold.
2. Prompts, zero-shot first, for at most a fifth of the work, or of the trials; one of each kind in any case.
3. Tuned methods, the most promising first: every rate up to a rung, the best rate (by validation log-loss) to the
   end; the first rate alone where validation rows are few. Before each of them breadth is cut, until what waits
   fits by its forecast (`ladders`): rates before methods, or families before rates where the same budget pays for
   folds. What cannot fit is said, not squeezed.
4. Chains among them, behind the plain method at whose best rate they go, through the best prompt.
5. The two leading tuned methods again, with a second and a third seed: what training by chance does to a score.
   Such a trial is evidence about its method; it is never what is handed over, so nothing is chosen by its luck.
6. Work left over goes to the next rate of the leading method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tunewise.methods.base import first_of
from tunewise.study.evaluation import preference
from tunewise.study.forecast import BATCH_SIZE, Forecaster
from tunewise.study.ladders import Ladder, fit_in, leading, shortened
from tunewise.study.proposals import Allowance, Outcome, Proposal, Runner, method_of
from tunewise.task import TaskSpec

PROMPT_SHARE = 0.20
ANOTHER_SEED = "another seed"
REPEATED = 2
"""Leading tuned methods that are trained again."""
MORE_SEEDS = (1, 2)
"""A second and a third, as what is added to the first."""
TOLERANCE = 1.25
"""By which a trial may take more than its forecast although others that are asked for with it need the rest."""
ROWS_FOR_RATES = 20
"""Validation rows below which every method goes at its first rate: on so few, rungs were never tried."""
RESERVE_SHARE = 0.07
"""Of the budget, kept for saving, reporting and forecasts that were too low."""
TOO_DEAR_AGAIN = "left out, it could not be done again in the other folds."


@dataclass
class Race:
    """One run of the policy."""

    spec: TaskSpec
    model: Any
    methods: Sequence[Any]
    forecaster: Forecaster
    allowance: Allowance
    runner: Runner
    promise: Mapping[str, float] = field(default_factory=dict)
    """How much is expected of each family of methods (`study.advice`): what promises least is given up first."""
    seeds: Sequence[int] = MORE_SEEDS
    """Added to the seed of the study for trials again with another one."""
    spent: float = 0.0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    made: dict[str, Proposal] = field(default_factory=dict)
    """What was asked for, by trial."""
    _numbers: dict[str, int] = field(default_factory=dict)
    _waiting: list[Any] = field(default_factory=list)
    """Tuned methods whose turn is still to come."""
    _freed: float = 0.0
    """Work that methods without a candidate no longer need for their test."""

    def go(self) -> None:
        """Run the whole policy."""
        prompts = [m for m in self.methods if m.family == "prompt engineering"]
        baselines = [self._proposal(m, {}, "baseline", None) for m in self.methods if m.family == "baseline"]
        self._do_all([replace(one, forecast_work=self.forecaster.fit(one.method, {})) for one in baselines])
        self._prompts(prompts)
        self._waiting = [method for method in self.methods if _is_tuned(method)]
        climbed: list[Ladder] = []
        # What is left is shared out anew before each: forecasts are not what trials then cost.
        while self._waiting:
            ladders = fit_in(
                self._able(),
                self._price,
                self._fits,
                self.runner.say,
                shorten=not self._tuned_before,
                families_first=self.allowance.pays_folds,
            )
            self._give_up([one for one in self._waiting if one not in [ladder.method for ladder in ladders]])
            # The most promising goes first: one tuned trial finishes before breadth is spent elsewhere.
            ladder = self._first(ladders)
            if ladder is None:
                self._give_up(list(self._waiting))
                break
            self._climb(ladder)
            climbed.append(ladder)
            self._waiting.remove(ladder.method)
            self._free_unless_tested(ladder.method)
        self._repeat(climbed)
        if self.allowance.spends_rest:
            self._spend_the_rest(climbed)

    def _give_up(self, methods: Sequence[Any]) -> None:
        for method in methods:
            if method in self._waiting:
                self._waiting.remove(method)
            self._freed += self._test(method)
            self.runner.give_up(method.name)

    def _free_unless_tested(self, method: Any) -> None:
        """What was put aside for its test, where none of its trials finished."""
        if self.best_of(method.name) is None:
            self._give_up([method])

    def _test(self, method: Any) -> float:
        return self.allowance.tests.get(method.name, 0.0)

    def best_of(self, method: str) -> Outcome | None:
        """The finished trial of `method` with the highest validation score."""
        finished = [
            outcome
            for trial, outcome in self.outcomes.items()
            if outcome.status == "finished" and method_of(trial) == method and not self.made[trial].repeats
        ]
        return max(finished, key=_preference, default=None)

    def _prompts(self, methods: Sequence[Any]) -> None:
        share = PROMPT_SHARE if any(map(_is_tuned, self.methods)) else 1.0
        limit, most = self.spent + share * self._left(), share * self._trials_left()
        before = len(self.outcomes)
        plain = any(_is_tuned(method) and method.starts_from is None for method in self.methods)
        for place, method in enumerate(methods):
            # Zero-shot always; of what is left in trials, a plain tuned method has one at least.
            kept_back = 1 if place and plain else 0
            space = list(_grid(method.search_space(self.spec, self.model, self.forecaster.n_train)))
            wanted: list[Proposal] = []
            missing = ""
            for parameters in space:
                work = self.forecaster.fit(method, parameters, parameters.get("shots", 0))
                promised = work + math.fsum(proposal.forecast_work for proposal in wanted)
                trials = len(wanted) + 1
                # A shorter prompt may fit where a longer one does not.
                too_dear = promised > self._left() or work > self.allowance.longest
                if too_dear or trials + kept_back > self._trials_left():
                    missing = missing or "the budget holds no more"
                elif wanted and self.spent + promised > limit:
                    missing = "to leave work for tuning"
                elif wanted and len(self.outcomes) - before + trials > most:
                    missing = "to leave trials for tuning"
                else:
                    one = self._proposal(method, parameters, "prompt", None)
                    wanted.append(replace(one, forecast_work=work))
            if not wanted:
                self.runner.say(f"{method.name}: left out, the budget does not hold it.")
                self._give_up([method])
                continue
            if missing:
                self.runner.say(f"{method.name}: {len(wanted)} of its {len(space)} prompts, {missing}.")
            self._do_all(wanted)
            self._free_unless_tested(method)

    def _able(self) -> list[Ladder]:
        """Ladders of the waiting methods that can start, and can be done again in the other folds."""
        waiting = {method.name for method in self._waiting}
        chains = [
            method for method in self._waiting if method.starts_from not in waiting and not self._starts(method)
        ]
        for method in chains:
            self.runner.say(f"{method.name}: left out, there is no finished {method.starts_from} to start from.")
        self._give_up(chains)
        found = [self._whole_ladder(method) for method in self._waiting]
        able = [one for one in found if self._redone(one)]
        if not self._tuned_before and not any(one in leading(found) for one in able):
            short = shortened(found, self._redone)
            able = [short, *(one for one in able if one.method is not short.method)] if short else able
        for ladder in found:
            if ladder.method not in [one.method for one in able]:
                self.runner.say(f"{ladder.method.name}: {TOO_DEAR_AGAIN}")
        return able

    def _first(self, ladders: Sequence[Ladder]) -> Ladder | None:
        """The one to climb: the most promising that waits for no other."""
        ready = [ladder for ladder in leading(ladders) if self._starts(ladder.method)]
        return min(ready, key=lambda one: one.standing, default=None)

    def _starts(self, method: Any) -> bool:
        """Whether what it starts from is there: the base model, or a finished trial."""
        return method.starts_from is None or self.best_of(method.starts_from) is not None

    def _redone(self, ladder: Ladder) -> bool:
        """Whether a trial of it could be done again in the other folds, the prompt that it starts from first."""
        best = self.best_of(ladder.method.starts_from) if ladder.method.starts_from else None
        once = self._price(replace(ladder, rates=ladder.rates[:1])) + (best.work if best else 0.0)
        return once <= self.allowance.longest

    @property
    def _tuned_before(self) -> bool:
        """Whether a tuned trial finished."""
        finished = (outcome.trial for outcome in self.outcomes.values() if outcome.status == "finished")
        return any(_is_tuned(self.made[trial].method) for trial in finished)

    def _whole_ladder(self, method: Any) -> Ladder:
        space = dict(method.search_space(self.spec, self.model, self.forecaster.n_train))
        rates = tuple(space.pop("learning_rate"))
        # A chain goes at the rate that did best for its plain method, and few rows cannot tell one from another.
        if method.starts_from is not None or self.forecaster.n_validation < ROWS_FOR_RATES:
            rates = rates[:1]
        epochs = int(space.pop("epochs")[0])
        fixed = first_of(space)
        # A chain follows the plain method at whose best rate it goes.
        plain = self._plain_of(method)
        promise = min(self.promise.get(family, 0.0) for family in {method.family, *(one.family for one in plain)})
        follows = frozenset({one.name for one in plain} | ({method.starts_from} - {None}))
        return Ladder(method, rates, epochs, fixed, promise, follows)

    def _rates(self, method: Any) -> tuple[float, ...]:
        """Those that it lists, the one known best first."""
        space = method.search_space(self.spec, self.model, self.forecaster.n_train)
        return tuple(space["learning_rate"])

    def _fits(self, ladders: Sequence[Ladder], kept_back: float = 0.0) -> bool:
        trials = sum(len(ladder.rates) for ladder in ladders)
        kept = {ladder.method.name for ladder in ladders}
        freed = sum(self._test(method) for method in self._waiting if method.name not in kept)
        left = self._left() + freed - kept_back
        return trials <= self._trials_left() and sum(map(self._price, ladders)) <= left

    def _price(self, ladder: Ladder) -> float:
        shots = self._demonstrations(ladder.method)
        epoch = self.forecaster.epoch(ladder.method.work, ladder.fixed.get("batch_size", BATCH_SIZE), shots)
        passes = ladder.epochs + (len(ladder.rates) - 1) * ladder.rung
        return passes * epoch + len(ladder.rates) * self.forecaster.beginning(ladder.method)

    def _demonstrations(self, method: Any) -> int:
        if method.starts_from is None:
            return 0
        best = self.best_of(method.starts_from)
        return int(self.made[best.trial].parameters.get("shots", 0)) if best else 0

    def _climb(self, ladder: Ladder) -> None:
        """Every rate to the rung, then the best rate to the end."""
        method = ladder.method
        start_from = None
        rates = ladder.rates
        if method.starts_from is not None:
            best = self.best_of(method.starts_from)
            assert best is not None
            start_from = best.trial
            rates = (self._best_rate(method) or rates[0], *rates[1:])
        first = [self._proposal(method, ladder.parameters(rate), "rung", start_from) for rate in rates]
        if len(first) == 1:
            only = self._do(replace(first[0], stage="full run", forecast_work=self._price(ladder)))
            others = [rate for rate in self._rates(method) if rate != rates[0]]
            waiting = [self._whole_ladder(one) for one in self._waiting if one is not method]
            waiting = [replace(one, rates=one.rates[:1]) for one in waiting]
            if only.status == "failed" and others and self._fits([ladder, *waiting]):
                # A rate that breaks the training leaves the method without a candidate.
                again = self._proposal(method, ladder.parameters(others[0]), "full run", start_from)
                self._do(replace(again, forecast_work=self._price(ladder)))
            return
        share = self._price(replace(ladder, rates=rates[:1], epochs=ladder.rung))
        outcomes = self._do_all([replace(p, until=ladder.rung, forecast_work=share) for p in first])
        paused = list(zip(first, outcomes, strict=True))
        # A trial that ended before its rung is finished already; a failed one is out of the race.
        alive = sorted((pair for pair in paused if pair[1].status == "paused"), key=lambda pair: pair[1].rank)
        if not alive:
            return
        rest = self._price(replace(ladder, rates=rates[:1])) - share
        while alive:
            proposal, _ = alive.pop(0)
            outcome = self._do(replace(proposal, stage="full run", forecast_work=rest))
            if outcome.status != "failed" or rest > self._left():  # else the next best at the rung
                break
        for proposal, _ in alive:
            rate = proposal.parameters["learning_rate"]
            self.runner.prune(proposal.trial, f"learning rate {rate:g} was behind at the rung")

    def _best_rate(self, method: Any) -> float | None:
        """The rate of the best finished trial of the plain method with the same kind of work."""
        best = next((self.best_of(plain.name) for plain in self._plain_of(method)), None)
        return float(self.made[best.trial].parameters["learning_rate"]) if best else None

    def _plain_of(self, method: Any) -> list[Any]:
        """Of a chain, the plain methods with the same kind of work."""
        if method.starts_from is None:
            return []
        return [plain for plain in self.methods if plain.work == method.work and plain.starts_from is None]

    def _repeat(self, ladders: Sequence[Ladder]) -> None:
        """A second seed for each leading method, then a third, as long as a whole trial and its test fit."""
        by_name = {ladder.method.name: ladder for ladder in ladders}
        best = [outcome for outcome in map(self.best_of, by_name) if outcome is not None]
        leading = sorted(best, key=_preference, reverse=True)[:REPEATED]
        for more in self.seeds:
            wanted: list[Proposal] = []
            taken: list[Ladder] = []
            for outcome in leading:
                before = self.made[outcome.trial]
                one = replace(
                    by_name[before.method.name],
                    rates=(before.parameters["learning_rate"],),
                    epochs=before.parameters["epochs"],
                )
                test = self._test(one.method)
                if not self._fits([*taken, one], kept_back=test):
                    break
                taken.append(one)
                self._freed -= test  # it meets the test as well
                again = self._proposal(one.method, before.parameters, ANOTHER_SEED, before.start_from)
                wanted.append(
                    replace(again, repeats=outcome.trial, more_seed=more, forecast_work=self._price(one))
                )
            done = self._do_all(wanted)
            if len(done) < len(leading) or any(outcome.status == "out_of_budget" for outcome in done):
                return

    def _spend_the_rest(self, ladders: Sequence[Ladder]) -> None:
        """The next rates of the leading tuned method, as long as a whole trial fits."""
        names = {ladder.method.name for ladder in ladders if ladder.method.starts_from is None}
        best = [outcome for outcome in map(self.best_of, sorted(names)) if outcome is not None]
        if not best:
            return
        name = method_of(max(best, key=_preference).trial)
        ladder = next(ladder for ladder in ladders if ladder.method.name == name)
        own = [made.parameters for trial, made in self.made.items() if method_of(trial) == name]
        tried = {parameters.get("learning_rate") for parameters in own}
        wanted: list[Proposal] = []
        taken: list[Ladder] = []
        for rate in self._whole_ladder(ladder.method).rates:
            one = replace(ladder, rates=(rate,))
            if rate in tried:
                continue
            if not self._fits([*taken, one]):
                break
            taken.append(one)
            proposal = self._proposal(ladder.method, ladder.parameters(rate), "next rate", None)
            wanted.append(replace(proposal, forecast_work=self._price(one)))
        self._do_all(wanted)

    def _proposal(self, method: Any, parameters: Mapping[str, Any], stage: str, start: str | None) -> Proposal:
        number = self._numbers[method.name] = self._numbers.get(method.name, 0) + 1
        return Proposal(f"{method.name}-{number}", method, dict(parameters), stage, start)

    def _do(self, proposal: Proposal) -> Outcome:
        return self._do_all([proposal])[0]

    def _do_all(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """Have trials run that do not depend on each other.

        What each may take is settled before any of them starts, so that it is the same however many run at a time.
        """
        limited = []
        together = math.fsum(proposal.forecast_work for proposal in proposals)
        for proposal in proposals:
            limit = None
            if self.allowance.work is not None:
                # Twice its forecast at most, and little beyond it where others need the rest: one that was
                # forecast too low must not eat what others were promised.
                own, left = proposal.forecast_work, max(0.0, self._left())
                room = min(2 * own, max(left - (together - own), min(TOLERANCE * own, left)))
                limit = self._work_of(proposal.trial) + room
                if proposal.method.work is not None:
                    start = self._work_of(proposal.start_from) if proposal.start_from else 0.0
                    limit = min(limit, self.allowance.longest - start)
            limited.append(replace(proposal, work_limit=limit))
        outcomes = self.runner.run_all(limited)
        for proposal, outcome in zip(proposals, outcomes, strict=True):
            self.spent += outcome.work - self._work_of(proposal.trial)
            self.outcomes[proposal.trial] = outcome
            self.made[proposal.trial] = proposal
        return outcomes

    def _work_of(self, trial: str) -> float:
        before = self.outcomes.get(trial)
        return before.work if before else 0.0

    def _left(self) -> float:
        return math.inf if self.allowance.work is None else self.allowance.work + self._freed - self.spent

    def _trials_left(self) -> float:
        return math.inf if self.allowance.trials is None else self.allowance.trials - len(self.outcomes)


def _is_tuned(method: Any) -> bool:
    return method.work is not None and method.work.startswith("train")


def _preference(outcome: Outcome) -> tuple[float, float]:
    return preference(outcome.value, outcome.log_loss)


def _grid(space: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """All combinations, the first values of all hyper-parameters first; one empty one for an empty space."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))
