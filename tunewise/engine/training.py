"""The one training loop: learn some weights of a language model from prompts and answers.

What is learned is kept in float32 (updates of a tuned model vanish in bfloat16's eight bits) while the network
computes in its own dtype. The rate warms up and then stays constant, so that a short run is an exact beginning
of a longer one: a trial can be paused, compared with others, and continued bit for bit.

>>> training = Training(model, weights, pairs, Recipe(learning_rate=5e-4, batch_size=16, seed=0))
>>> for report in training.steps(until=48):
...     print(report.step, report.loss)
>>> tuned = training.weights()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewise.cost import STEP
from tunewise.engine.adapters import Weights
from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.below import Below
from tunewise.engine.memory import CHUNK, room_for_training, uncollected
from tunewise.engine.model import LanguageModel
from tunewise.errors import TrialError


@dataclass(frozen=True)
class Recipe:
    """How to learn, whatever is learned."""

    learning_rate: float
    """Peak rate of AdamW (Loshchilov & Hutter 2019)."""
    batch_size: int = 16
    """Examples a step."""
    warmup_steps: int = 6
    """Steps over which the rate rises linearly from zero."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    average: float = 0.0
    """Decay of the running mean of the weights over steps; 0 keeps none, and gives the last step's weights."""
    seed: int = 0
    """Decides the order of the examples."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step."""

    step: int
    loss: float


def _flatten(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """All values one after the other, as a float32 copy."""
    return torch.cat([tensor.detach().to(device, torch.float32).flatten() for tensor in tensors])


class Training:
    """Weights being learned, and where their learning stands."""

    def __init__(self, model: LanguageModel, start: Weights, pairs: Pairs, recipe: Recipe) -> None:
        self.model = model
        self.pairs = pairs
        self.recipe = recipe
        self.step = 0
        self._kind = start.kind
        self._settings = dict(start.settings)
        # All values lie in one tensor, of which each master is a part: one update instead of hundreds.
        self._sizes = {name: tensor.shape for name, tensor in start.tensors.items()}
        self._flat = _flatten(start.tensors.values(), model.device)
        self._first, self._second = torch.zeros_like(self._flat), torch.zeros_like(self._flat)
        self._masters = self._parts(self._flat)
        self._room = room_for_training(model.footprint, self._kind, self._flat.numel(), max(pairs.lengths))
        self._below = Below.of(model, start.tensors, pairs.lengths)
        self._mean: Tensor | None = None
        self._chunks = self._flat.split(CHUNK)
        self._widened = torch.empty_like(self._chunks[0])
        self._optimizer = torch.optim.AdamW(
            self._chunks, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._remember()

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see every example once."""
        return math.ceil(len(self.pairs) / self.recipe.batch_size)

    def steps(self, until: int) -> Iterator[StepReport]:
        """Learn up to step `until`, reporting each step.

        The weights are on the model only while a step is computed, so that between two reports anybody may
        score with the same model.

        Raises:
            TrialError: a loss is not a number, or infinite.
        """
        live = self._live_copy()
        gradient = torch.zeros_like(live)
        while self.step < until:
            with uncollected():
                report = self._one_step(live, gradient)
            if not math.isfinite(report.loss):
                raise TrialError(
                    f"the loss became {report.loss} at step {report.step} "
                    f"(learning rate {self.recipe.learning_rate:g}); a smaller rate may help."
                )
            self.step = report.step
            yield report

    def weights(self) -> Weights:
        """What has been learned so far, or its running mean where one is kept; a copy in the network's dtype."""
        dtype = torch.float32 if self._kind == "soft-prompt" else self.model.dtype
        learned = self._masters if self._mean is None else self._parts(self._mean)
        tensors = {name: tensor.detach().to(dtype, copy=True) for name, tensor in learned.items()}
        return Weights(self._kind, tensors, self._settings)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors by name, and the step."""
        whole = {"master": self._flat, "mean": self._mean, "first": self._first, "second": self._second}
        tensors = {
            f"{kind}.{name}": part
            for kind, flat in whole.items()
            if flat is not None
            for name, part in self._parts(flat).items()
        }
        return {"step": self.step, "tensors": tensors}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.step, kept = int(state["step"]), state["tensors"]
        has_mean = f"mean.{next(iter(self._sizes))}" in kept
        self._mean = torch.empty_like(self._flat) if has_mean else None
        whole = {"master": self._flat, "mean": self._mean, "first": self._first, "second": self._second}
        for kind, flat in whole.items():
            # One tensor at a time: together they are three times the weights, beside those that they go into.
            for name, part in self._parts(flat).items() if flat is not None else ():
                part.copy_(kept[f"{kind}.{name}"])
        self._remember()

    def _remember(self) -> None:
        """Hand the moments and the number of steps so far to the optimizer."""
        moments = zip(self._chunks, self._first.split(CHUNK), self._second.split(CHUNK), strict=True)
        for chunk, first, second in moments:
            step = torch.tensor(float(self.step), device=chunk.device)
            self._optimizer.state[chunk] = {"step": step, "exp_avg": first, "exp_avg_sq": second}

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of one tensor with all values, by name."""
        parts = flat.split([size.numel() for size in self._sizes.values()])
        return {name: part.view(size) for (name, size), part in zip(self._sizes.items(), parts, strict=True)}

    def _live_copy(self) -> Tensor:
        """What the network computes with: the masters themselves where the dtype is the same."""
        soft = self._kind == "soft-prompt"  # cast inside the pass, so its gradient arrives in float32
        return self._flat if soft else self._flat.to(self.model.dtype)

    def _one_step(self, live: Tensor, gradient: Tensor) -> StepReport:
        """Learn from one batch; `live` is what the network computes with, `gradient` room for its gradient."""
        step = self.step + 1
        batch = self.pairs.take(self._rows_of(step))
        parts = list(batch.parts(self._room.tokens))
        loss = 0.0
        # Parts are summed in float32; one alone has nothing to lose.
        total = gradient if len(parts) == 1 or gradient.dtype == self._flat.dtype else torch.zeros_like(self._flat)
        gradient.zero_()
        with self._learning(live, gradient), torch.enable_grad():
            for part in parts:
                loss += self._learn_from(part, batch.answer_tokens)
                if total is not gradient:
                    total += gradient
                    gradient.zero_()
        self._update(total, step)
        self.model.meter[f"train-{self._kind}{STEP}"] += 1
        with torch.no_grad():
            if live is not self._flat:
                live.copy_(self._flat)
            self._average()
        return StepReport(step, loss)

    @torch.no_grad()
    def _update(self, gradient: Tensor, step: int) -> None:
        """One step of AdamW, the gradient clipped to a norm (Pascanu et al. 2013)."""
        chunks = gradient.split(CHUNK)
        norm = torch.stack([self._in_float32(chunk).norm() for chunk in chunks]).norm()
        scale = (self.recipe.clip / (norm + 1e-6)).clamp(max=1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1.0, step / max(1, self.recipe.warmup_steps))
        # A chunk at a time: only its gradient is held in float32.
        for chunk, arrived in zip(self._chunks, chunks, strict=True):
            chunk.grad = self._in_float32(arrived).mul_(scale)
            self._optimizer.step()
            chunk.grad = None

    def _in_float32(self, chunk: Tensor) -> Tensor:
        """A chunk of the gradient, until the next one is asked for."""
        return self._widened[: len(chunk)].copy_(chunk)

    def _learn_from(self, part: Pairs, answer_tokens: int) -> float:
        """Send the gradient of a part of a batch to where it is added up, and return its share of the loss."""
        logprobs, _ = answer_logprobs(
            self.model,
            part,
            f"train-{self._kind}",
            checkpointed=self._room.checkpointed,
            below=self._below,
        )
        loss = -logprobs.sum() / answer_tokens
        loss.backward()
        return float(loss.detach())

    def _average(self) -> None:
        """Move the running mean towards the weights of this step; it starts as those of the first."""
        if not self.recipe.average:
            return
        if self._mean is None:
            self._mean = self._flat.clone()
        self._mean.lerp_(self._flat, 1 - self.recipe.average)

    @contextmanager
    def _learning(self, live: Tensor, gradient: Tensor) -> Iterator[None]:
        """The model carrying `live`, whose gradients are added up where they belong in `gradient`."""
        parts = {name: part.detach() for name, part in self._parts(live).items()}
        with self.model.carrying(Weights(self._kind, parts, self._settings)):
            leaves = dict(self.model.network.named_parameters()) if self._kind == "full" else parts
            for name, place in self._parts(gradient).items():
                leaves[name].requires_grad_(True)
                leaves[name].grad = place
            try:
                yield
            finally:
                for name in parts:
                    leaves[name].requires_grad_(False)
                    leaves[name].grad = None

    def _rows_of(self, step: int) -> list[int]:
        """Rows of a step: every epoch is an order of its own, drawn from the seed and the epoch alone."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.pairs), generator=generator).tolist()
        size = self.recipe.batch_size
        return order[place * size : (place + 1) * size]
