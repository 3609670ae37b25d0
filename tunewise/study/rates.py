"""How fast this machine does each kind of work with this model: measured once, then kept.

The measurements are the engine's own passes on random tokens, shaped like a short-text task. They take some
seconds; the kept figures make forecasts, and turn a budget in minutes into counted work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tunewise.cost import KINDS
from tunewise.engine.hardware import kept_rates, machine_key

if TYPE_CHECKING:
    from tunewise.engine.model import LanguageModel

PREFIX, SUFFIX, ROWS = 48, 24, 16
REPEATS = 3


def rates_of(model: LanguageModel) -> Mapping[str, float]:
    """Operations per second by kind of work, from the cache or measured now."""
    shape = model.shape
    size = f"{shape.layers}x{shape.hidden}x{shape.intermediate}x{shape.vocabulary}"
    key = f"{machine_key()} | {size} | {str(model.dtype).removeprefix('torch.')}"
    return kept_rates(key, lambda: _measure(model))


def _measure(model: LanguageModel) -> Mapping[str, float]:
    work = _workloads(model)
    return {kind: _rate(model, kind, work[kind]) for kind in KINDS}


def _rate(model: LanguageModel, kind: str, work: Callable[[], None]) -> float:
    work()  # the first time pays for allocations
    rates = []
    for _ in range(REPEATS):
        before, start = model.meter[kind], time.perf_counter()
        work()
        rates.append((model.meter[kind] - before) / (time.perf_counter() - start))
    return max(rates)  # the fastest: a busy machine only slows work down


def _workloads(model: LanguageModel) -> dict[str, Callable[[], None]]:
    from tunewise.engine.adapters import SOFT_PROMPT, Weights, new_lora
    from tunewise.engine.answers import Pairs
    from tunewise.engine.generating import generate
    from tunewise.engine.scoring import score_labels
    from tunewise.engine.training import Recipe, Training

    draw = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(model.shape.vocabulary) for _ in range(count)]

    prefix = tokens(PREFIX)
    prompts = [prefix + tokens(SUFFIX) for _ in range(2 * ROWS)]
    labels = [tokens(2) for _ in range(6)]
    pairs = Pairs(prompts[:ROWS], [tokens(2) for _ in range(ROWS)])
    soft = model.network.get_input_embeddings().weight[:20].detach().float()
    starts = {
        "train-lora": lambda: new_lora(model.network, model.linear_names, 16, 32, 0),
        "train-soft-prompt": lambda: Weights("soft-prompt", {SOFT_PROMPT: soft}),
        "train-full": lambda: Weights("full", dict(model.network.named_parameters())),
    }

    def train(kind: str) -> Callable[[], None]:
        # One training for all repeats: setting one up is not what is measured. A rate of zero learns nothing.
        training: list[Training] = []

        def step() -> None:
            if not training:
                training.append(Training(model, starts[kind](), pairs, Recipe(0.0, ROWS)))
            for _ in training[0].steps(training[0].step + 1):
                pass

        return step

    return {
        "score": lambda: _drop(score_labels(model, prompts, labels)),
        "generate": lambda: _drop(generate(model, prompts[:ROWS], max_tokens=8)),
        **{kind: train(kind) for kind in starts},
    }


def _drop(result: object) -> None:
    """Results of a measurement are of no use."""
