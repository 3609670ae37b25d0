"""What decoder layers are made of, each with its own gradient: gates, linear layers, norms, rotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunewise.engine import operations
from tunewise.engine.adapters import AdaptableLinear, LowRank


@dataclass(frozen=True)
class Gate:
    """What lets through a part of each value: the activation of one tensor times another."""

    name: str
    """Of the activation."""

    def forward(self, gate: Tensor, through: Tensor, *, last: bool) -> Tensor:
        """Both [tokens, inner]; `last` says that nobody wants `gate` any more."""
        return operations.of(gate).gate(self.name, gate, through, into_gate=last)

    def backward(self, gate: Tensor, through: Tensor, to_inner: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of both, from that of what is let through."""
        return operations.of(gate).gate_back(self.name, gate, through, to_inner)


class Siblings:
    """Linear layers that read the same input; what is alike for all of them is done once."""

    def __init__(self, *layers: AdaptableLinear) -> None:
        self._layers = layers
        self._weights = [layer.weight for layer in layers]
        self._biases = [layer.bias for layer in layers]

    @property
    def learned(self) -> list[Tensor]:
        """Tensors that want a gradient, in the order in which `backward` gives it."""
        updates = [tensor for _, update, _ in self._updates() for tensor in (update.a, update.b)]
        biases = [bias for bias in self._biases if bias is not None]
        return [tensor for tensor in (*self._weights, *biases, *updates) if tensor.requires_grad]

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """[tokens, in] as [tokens, out] of each, and the low-rank updates' inner values, [tokens, all ranks]."""
        parts = zip(self._weights, self._biases, strict=True)
        outputs = [nn.functional.linear(x, weight, bias) for weight, bias in parts]
        updates = self._updates()
        if not updates:
            return outputs, None
        low = (x @ _stacked(updates).t()).mul_(updates[0][1].scale)
        for place, update, ranks in updates:
            outputs[place].addmm_(low[:, ranks], update.b.t())
        return outputs, low

    def backward(
        self, x: Tensor, low: Tensor | None, gradients: Sequence[Tensor], *, wanted: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of the input, if it is wanted, and of `learned`, from those of each output."""
        to_x = None
        if wanted:
            to_x = gradients[0] @ self._weights[0]
            for gradient, weight in zip(gradients[1:], self._weights[1:], strict=True):
                to_x.addmm_(gradient, weight)
        found = [
            gradient.t() @ x
            for gradient, weight in zip(gradients, self._weights, strict=True)
            if weight.requires_grad
        ]
        found += [
            gradient.sum(dim=0)
            for gradient, bias in zip(gradients, self._biases, strict=True)
            if bias is not None and bias.requires_grad
        ]
        updates = self._updates()
        if updates and low is not None:
            to_low = torch.cat([gradients[place] @ update.b for place, update, _ in updates], dim=1)
            to_low *= updates[0][1].scale
            if to_x is not None:
                to_x.addmm_(to_low, _stacked(updates))
            if updates[0][1].a.requires_grad:
                to_a = to_low.t() @ x
                for place, _, ranks in updates:
                    found += [to_a[ranks], gradients[place].t() @ low[:, ranks]]
        return to_x, found

    def _updates(self) -> list[tuple[int, LowRank, slice]]:
        """Low-rank updates: whose, what, and where its ranks stand among those of all."""
        updates: list[tuple[int, LowRank, slice]] = []
        rank = 0
        for place, layer in enumerate(self._layers):
            if layer.update is not None:
                end = rank + len(layer.update.a)
                updates.append((place, layer.update, slice(rank, end)))
                rank = end
        return updates


def _stacked(updates: Sequence[tuple[int, LowRank, slice]]) -> Tensor:
    return updates[0][1].a if len(updates) == 1 else torch.cat([update.a for _, update, _ in updates])


@dataclass(frozen=True, eq=False)
class Norm:
    """Division by the root of the mean square, times a weight (Zhang & Sennrich 2019); in float32 inside."""

    module: Any
    eps: float

    @property
    def learned(self) -> list[Tensor]:
        """The weight, where it wants a gradient."""
        return [self._weight] if self._weight.requires_grad else []

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.module.weight
        return weight

    def forward(self, x: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """[..., size] normed, and its factor; `added` is put into `x` before. See `operations.Plain.norm`."""
        return operations.of(x).norm(x, self._weight, self.eps, added)

    def weighted(self, x: Tensor, factor: Tensor) -> Tensor:
        """The first that `forward` gives, from the second."""
        return operations.of(x).weighted(x, factor, self._weight)

    def backward(
        self, x: Tensor, factor: Tensor, gradient: Tensor, more: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Gradients of the input, with `more` added to it, and of `learned`."""
        learned = []
        if self.learned:
            learned = [(gradient * (x * factor).to(x.dtype)).flatten(0, -2).sum(dim=0)]
        return operations.of(x).norm_back(x, factor, self._weight, gradient, more), learned


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotary positions (Su et al. 2021) of the tokens of a pass, for halves that lie apart."""

    cos: Tensor
    sin: Tensor
    """Each [tokens, 1, head size], in float32 at least."""

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Queries, keys and values, each [tokens, heads, size], as one tensor, the first two turned."""
        return operations.of(parts[0]).join(parts, self.cos, self.sin)

    def part(self, joined: Tensor, counts: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """The way back of a gradient: three parts in `dtype`, with as many heads as `counts` says."""
        return operations.on(joined.device, dtype).part(joined, counts, dtype, self.cos, self.sin)
