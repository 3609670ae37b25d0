"""How fast this machine does each kind of work with this model: measured once, then kept.

The measurements are the engine's own passes on random tokens, shaped like a short-text task. They take some
seconds; the kept figures make forecasts, and turn a budget in minutes into counted work. A moment's check tells
whether the machine still is as fast as it was.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewise.cost import KINDS, STEP, STEPS, TRAINED
from tunewise.engine import operations
from tunewise.engine.hardware import kept_rates, machine_key, renew_rates

if TYPE_CHECKING:
    from tunewise.engine.model import LanguageModel

COUNTING = 8
"""Changes with the way that work is counted or done: rates kept before are those of other work."""
PREFIX, LONG_PREFIX, SUFFIX, ROWS = 48, 448, 24, 16
FEW_ROWS = 4
"""Of a small step: beside a large one it tells what any step takes from what its rows take."""
NEW_TOKENS = 12
REPEATS, CHECK_REPEATS = 3, 2
SLOWEST_SHARE, MORE_TRIES = 0.2, 3
"""Training slower than this share of scoring was held up by something else: it is measured so many times more."""
SUSTAINED = 0.85
"""Share of the fastest passes that minutes of work keep up: over 26 trials on two shared cores, the time counted
was 0.84 of the time taken in the median."""
TOLERATED = 1.3
"""Kept rates that are off by more than this factor are measured again."""

WITHOUT_MODEL: Mapping[str, float] = dict.fromkeys(KINDS, 1.0)
"""Rates of a study in which no language model works: all that it counts are seconds."""


def rates_of(model: LanguageModel) -> Mapping[str, float]:
    """Operations per second by kind of work, from the cache or measured now."""
    return kept_rates(_key(model), lambda: _measure(model))


def checked_rates(model: LanguageModel) -> tuple[Mapping[str, float], str | None]:
    """As `rates_of`, but measured again where the machine is no longer as fast; and a note where it is not."""
    kept = rates_of(model)
    now = _seconds(model, _scoring(model, PREFIX), repeats=CHECK_REPEATS)
    change = SUSTAINED * _predicted(kept, now.work) / now.seconds
    if 1 / TOLERATED < change < TOLERATED:
        return kept, None
    rates = renew_rates(_key(model), lambda: _measure(model))
    return rates, f"This machine now works at {change:.1f} times the speed kept for it; it was measured again."


def _key(model: LanguageModel) -> str:
    shape = model.shape
    size = f"{shape.layers}x{shape.hidden}x{shape.intermediate}x{shape.vocabulary}"
    dtype = str(model.dtype).removeprefix("torch.")
    by = operations.name(model.device, model.dtype)
    return f"{machine_key()} | {size} | {dtype} | {by} | counting {COUNTING}"


@dataclass(frozen=True)
class _Timed:
    """Operations by kind, and the seconds they took."""

    work: Mapping[str, float]
    seconds: float


def _measure(model: LanguageModel) -> Mapping[str, float]:
    """Two prompts of different lengths tell attention from the rest; every other kind is what then remains."""
    short, long = _seconds(model, _scoring(model, PREFIX)), _seconds(model, _scoring(model, LONG_PREFIX))
    # seconds = score / its rate + attention / its rate, twice: two equations for two rates.
    share = short.work["score"] / long.work["score"]
    slower = short.seconds - share * long.seconds
    more = short.work["attention"] - share * long.work["attention"]
    # Noise could make either difference of the wrong sign; attention is never faster than the layers.
    attention = min(more / slower if slower * more > 0 else float("inf"), short.work["score"] / short.seconds)
    rates = {"attention": attention, "score": _rest(short, "score", {"attention": attention})}
    rates["generate"] = _rest(_seconds(model, _generating(model)), "generate", rates)
    for kind in TRAINED:
        rates |= _of_training(model, kind, rates)
    return {kind: SUSTAINED * rates[kind] for kind in (*KINDS, *STEPS)}


def _of_training(model: LanguageModel, kind: str, rates: Mapping[str, float]) -> dict[str, float]:
    """Rates of one kind of training, by the fastest of its small and of its large steps.

    Those of a step stand close together, so that a busy moment slows all of them; then they are timed again.
    """
    small, large = _steps(model, kind)
    for _ in range(MORE_TRIES):
        if large.work[kind] / large.seconds > SLOWEST_SHARE * rates["score"]:
            break
        again = _steps(model, kind)
        small, large = (min(pair, key=lambda one: one.seconds) for pair in zip((small, large), again, strict=True))
    return _of_steps(kind, small, large, rates)


def _steps(model: LanguageModel, kind: str) -> tuple[_Timed, _Timed]:
    """A small step and a large one."""
    return _seconds(model, _training(model, kind, FEW_ROWS)), _seconds(model, _training(model, kind, ROWS))


def _of_steps(kind: str, small: _Timed, large: _Timed, rates: Mapping[str, float]) -> dict[str, float]:
    """Operations a second, and what is left of a step's time as steps a second.

    Two steps of different sizes are two equations for both; what noise makes of them stays within bounds: rows
    take a quarter of the large step's time at least.
    """
    own = [timed.seconds - _predicted(rates, _without(timed.work, kind, kind + STEP)) for timed in (small, large)]
    done = [timed.work[kind] for timed in (small, large)]
    rate = (done[1] - done[0]) / max(own[1] - own[0], 1e-9)
    slowest = done[1] / max(own[1], 0.1 * large.seconds)
    rate = min(max(rate, slowest), 4 * slowest)
    fixed = max(own[1] - done[1] / rate, 1e-6)
    return {kind: rate, kind + STEP: 1 / fixed}


def _without(work: Mapping[str, float], *kinds: str) -> dict[str, float]:
    return {kind: count for kind, count in work.items() if kind not in kinds}


def _rest(timed: _Timed, kind: str, rates: Mapping[str, float]) -> float:
    """Rate of `kind`, the time of all else at its own rates taken off; at most nine tenths are."""
    others = _predicted(rates, _without(timed.work, kind))
    return timed.work[kind] / max(timed.seconds - others, 0.1 * timed.seconds)


def _predicted(rates: Mapping[str, float], work: Mapping[str, float]) -> float:
    return sum(count / rates[kind] for kind, count in work.items())


def _seconds(model: LanguageModel, work: Callable[[], object], *, repeats: int = REPEATS) -> _Timed:
    """The fastest of some repeats: a busy machine only slows work down."""
    work()  # the first time pays for allocations
    best = float("inf")
    before: Counter[str] = Counter()
    for _ in range(repeats):
        before, start = Counter(model.meter), time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return _Timed(model.meter - before, best)


def _tokens(model: LanguageModel, counts: list[int]) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(model.shape.vocabulary) for _ in range(count)] for count in counts]


def _prompts(model: LanguageModel, prefix: int, rows: int) -> list[list[int]]:
    shared, *own = _tokens(model, [min(prefix, model.context // 2)] + [SUFFIX] * rows)
    return [shared + row for row in own]


def _scoring(model: LanguageModel, prefix: int) -> Callable[[], object]:
    from tunewise.engine.scoring import score_labels

    prompts, labels = _prompts(model, prefix, 2 * ROWS), _tokens(model, [2] * 6)
    return lambda: score_labels(model, prompts, labels)


def _generating(model: LanguageModel) -> Callable[[], object]:
    from tunewise.engine.generating import generate

    prompts = _prompts(model, PREFIX, ROWS)
    return lambda: generate(model, prompts, max_tokens=NEW_TOKENS)


def _training(model: LanguageModel, kind: str, rows: int) -> Callable[[], object]:
    """A step over so many rows; one training for all repeats, as setting one up is not what is measured."""
    from tunewise.engine.adapters import SOFT_PROMPT, Weights, new_lora
    from tunewise.engine.answers import Pairs
    from tunewise.engine.training import Recipe, Training

    starts = {
        "train-lora": lambda: new_lora(model.network, model.linear_names, 16, 32, 0),
        "train-soft-prompt": lambda: Weights(
            "soft-prompt", {SOFT_PROMPT: model.network.get_input_embeddings().weight[:20].detach().float()}
        ),
        "train-full": lambda: Weights("full", dict(model.network.named_parameters())),
    }
    training: list[Training] = []

    def step() -> None:
        if not training:
            pairs = Pairs(_prompts(model, PREFIX, rows), _tokens(model, [2] * rows))
            nothing_learnt = Recipe(0.0, rows)
            training.append(Training(model, starts[kind](), pairs, nothing_learnt))
        for _ in training[0].steps(training[0].step + 1):
            pass

    return step
