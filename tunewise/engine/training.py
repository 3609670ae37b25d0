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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewise.engine.adapters import Weights
from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.model import LanguageModel
from tunewise.errors import TrialError

PASS_TOKENS = 4096
"""Tokens that go through the network at once; a batch with more is taken in parts, their gradients added up."""


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


class Training:
    """Weights being learned, and where their learning stands."""

    def __init__(self, model: LanguageModel, start: Weights, pairs: Pairs, recipe: Recipe) -> None:
        self.model = model
        self.pairs = pairs
        self.recipe = recipe
        self.step = 0
        self._kind = start.kind
        self._settings = dict(start.settings)
        self._masters = {
            name: tensor.detach().to(model.device, torch.float32, copy=True)
            for name, tensor in start.tensors.items()
        }
        self._means: dict[str, Tensor] = {}
        # One fused update over hundreds of small tensors, instead of a dozen small operations on each.
        self._optimizer = torch.optim.AdamW(
            list(self._masters.values()),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
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
        live = self._live_copies()
        while self.step < until:
            report = self._one_step(live)
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
        learned = self._means or self._masters
        tensors = {name: tensor.detach().to(dtype, copy=True) for name, tensor in learned.items()}
        return Weights(self._kind, tensors, self._settings)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly: tensors by name, and the step."""
        tensors: dict[str, Tensor] = {}
        for name, master in self._masters.items():
            tensors[f"master.{name}"] = master
            if name in self._means:
                tensors[f"mean.{name}"] = self._means[name]
            moments = self._optimizer.state.get(master)
            if moments:
                tensors[f"first.{name}"] = moments["exp_avg"]
                tensors[f"second.{name}"] = moments["exp_avg_sq"]
        return {"step": self.step, "tensors": tensors}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.step = int(state["step"])
        tensors = state["tensors"]
        for name, master in self._masters.items():
            master.copy_(tensors[f"master.{name}"])
            if f"mean.{name}" in tensors:
                self._means[name] = tensors[f"mean.{name}"].to(master.device, copy=True)
            if f"first.{name}" in tensors:
                self._optimizer.state[master] = {
                    "step": torch.tensor(float(self.step), device=master.device),
                    "exp_avg": tensors[f"first.{name}"].to(master.device, copy=True),
                    "exp_avg_sq": tensors[f"second.{name}"].to(master.device, copy=True),
                }

    def _live_copies(self) -> dict[str, Tensor]:
        """What the network computes with: the masters themselves where the dtype is the same."""
        soft = self._kind == "soft-prompt"  # cast inside the pass, so its gradient arrives in float32
        dtype = torch.float32 if soft else self.model.dtype
        return {
            name: (master if master.dtype == dtype else master.to(dtype)).detach().requires_grad_()
            for name, master in self._masters.items()
        }

    def _one_step(self, live: dict[str, Tensor]) -> StepReport:
        step = self.step + 1
        batch = self.pairs.take(self._rows_of(step))
        loss = 0.0
        with self._learning(live) as leaves, torch.enable_grad():
            for part in batch.parts(PASS_TOKENS):
                loss += self._learn_from(part, batch.answer_tokens, list(leaves.values()))
        torch.nn.utils.clip_grad_norm_(list(self._masters.values()), self.recipe.clip)
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1.0, step / max(1, self.recipe.warmup_steps))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(list(live.values()), list(self._masters.values()))
            self._average()
        return StepReport(step, loss)

    def _learn_from(self, part: Pairs, answer_tokens: int, leaves: Sequence[Tensor]) -> float:
        """Add the gradient of a part of a batch to the masters', and return its share of the loss."""
        logprobs, _ = answer_logprobs(self.model, part, f"train-{self._kind}")
        loss = -logprobs.sum() / answer_tokens
        loss.backward()
        for master, leaf in zip(self._masters.values(), leaves, strict=True):
            if leaf.grad is not None:
                gradient = leaf.grad.to(torch.float32)
                master.grad = gradient if master.grad is None else master.grad + gradient
            leaf.grad = None
        return float(loss.detach())

    def _average(self) -> None:
        """Move the running mean towards the weights of this step; it starts as those of the first."""
        if not self.recipe.average:
            return
        if not self._means:
            self._means = {name: master.clone() for name, master in self._masters.items()}
        for name, master in self._masters.items():
            self._means[name].lerp_(master, 1 - self.recipe.average)

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
