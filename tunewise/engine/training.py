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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewise.engine.adapters import Weights
from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.below import Below
from tunewise.engine.memory import room_for_training
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


@contextmanager
def _adding_to(places: Mapping[str, Tensor], leaves: Mapping[str, Tensor]) -> Iterator[None]:
    """While this lasts, the gradient of each leaf goes to its place as soon as it is there, and is let go."""

    def adder(place: Tensor) -> Callable[[Tensor], None]:
        def add(leaf: Tensor) -> None:
            assert leaf.grad is not None
            place.add_(leaf.grad)
            leaf.grad = None

        return add

    hooks = [leaf.register_post_accumulate_grad_hook(adder(places[name])) for name, leaf in leaves.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
        self._gradient = torch.zeros_like(self._flat)
        self._masters = self._parts(self._flat)
        self._room = room_for_training(model.footprint, self._kind, self._flat.numel(), max(pairs.lengths))
        self._below = Below.of(model, start.tensors, pairs.lengths)
        self._mean: Tensor | None = None
        self._optimizer = torch.optim.AdamW(
            [self._flat], lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )

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
        leaves = {name: part.detach().requires_grad_() for name, part in self._parts(live).items()}
        while self.step < until:
            report = self._one_step(live, leaves)
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
        moments = self._optimizer.state.get(self._flat) or {}
        whole = {
            "master": self._flat,
            "mean": self._mean,
            "first": moments.get("exp_avg"),
            "second": moments.get("exp_avg_sq"),
        }
        tensors = {
            f"{kind}.{name}": part
            for kind, flat in whole.items()
            if flat is not None
            for name, part in self._parts(flat).items()
        }
        return {"step": self.step, "tensors": tensors}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.step = int(state["step"])

        def whole(kind: str) -> Tensor | None:
            parts = [state["tensors"].get(f"{kind}.{name}") for name in self._sizes]
            return None if parts[0] is None else _flatten(parts, self.model.device)

        master, first = whole("master"), whole("first")
        assert master is not None
        self._flat.copy_(master)
        self._mean = whole("mean")
        if first is not None:
            self._optimizer.state[self._flat] = {
                "step": torch.tensor(float(self.step), device=self._flat.device),
                "exp_avg": first,
                "exp_avg_sq": whole("second"),
            }

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of one tensor with all values, by name."""
        parts = flat.split([size.numel() for size in self._sizes.values()])
        return {name: part.view(size) for (name, size), part in zip(self._sizes.items(), parts, strict=True)}

    def _live_copy(self) -> Tensor:
        """What the network computes with: the masters themselves where the dtype is the same."""
        soft = self._kind == "soft-prompt"  # cast inside the pass, so its gradient arrives in float32
        return self._flat if soft else self._flat.to(self.model.dtype)

    def _one_step(self, live: Tensor, parts: dict[str, Tensor]) -> StepReport:
        """Learn from one batch; `live` is what the network computes with, `parts` the leaves that lie in it."""
        step = self.step + 1
        batch = self.pairs.take(self._rows_of(step))
        loss = 0.0
        gradient = self._gradient.zero_()
        with self._learning(parts) as leaves, _adding_to(self._parts(gradient), leaves), torch.enable_grad():
            for part in batch.parts(self._room.tokens):
                loss += self._learn_from(part, batch.answer_tokens)
        self._flat.grad = gradient
        torch.nn.utils.clip_grad_norm_([self._flat], self.recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1.0, step / max(1, self.recipe.warmup_steps))
        self._optimizer.step()
        self._flat.grad = None
        with torch.no_grad():
            if live is not self._flat:
                live.copy_(self._flat)
            self._average()
        return StepReport(step, loss)

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
    def _learning(self, live: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """The model carrying `live`; yields the leaves that gradients arrive at."""
        with self.model.carrying(Weights(self._kind, live, self._settings)):
            if self._kind != "full":
                yield live
                return
            parameters = dict(self.model.network.named_parameters())
            leaves = {name: parameters[name] for name in live}
            for leaf in leaves.values():
                leaf.requires_grad_(True)
            try:
                yield leaves
            finally:
                for leaf in leaves.values():
                    leaf.requires_grad_(False)

    def _rows_of(self, step: int) -> list[int]:
        """Rows of a step: every epoch is an order of its own, drawn from the seed and the epoch alone."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.pairs), generator=generator).tolist()
        size = self.recipe.batch_size
        return order[place * size : (place + 1) * size]
