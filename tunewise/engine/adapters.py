"""Weights that can be put onto a language model and taken off again: LoRA, soft prompts, changed tensors.

The base model's own tensors are never written to: a LoRA sits beside a linear layer, a soft prompt is handed to
the forward pass, and fully tuned tensors are swapped in by reference and swapped out again. The names are those
of PEFT and Hugging Face, so that what is saved loads there.

>>> with model.carrying(weights):
...     scores = score_labels(model, prompts, labels)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SOFT_PROMPT = "prompt_embeddings"


@dataclass(frozen=True, eq=False)
class Weights:
    """Learned tensors and how they attach to a base model."""

    kind: str
    tensors: Mapping[str, Tensor]
    """`lora`: `MODULE.lora_A` [r, in] and `MODULE.lora_B` [out, r]; `soft-prompt`: `prompt_embeddings`
    [length, hidden]; `full`: every changed parameter under its own name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the tensors alone do not say, such as `alpha` and `rank`."""

    def __repr__(self) -> str:
        return f"Weights({self.kind!r}, {self.parameters:,} values)"

    @property
    def parameters(self) -> int:
        """Number of learned values."""
        return sum(tensor.numel() for tensor in self.tensors.values())


@dataclass(frozen=True, eq=False)
class LowRank:
    """An update of a linear layer: `scale * (x A^T) B^T` (Hu et al. 2021)."""

    a: Tensor
    """[rank, in]"""
    b: Tensor
    """[out, rank]"""
    scale: float


class AdaptableLinear(nn.Linear):
    """A linear layer with an empty place beside it for a low-rank update.

    Without an update it is the layer it replaces, sharing its tensors and its name in the state dict.
    """

    update: LowRank | None = None

    @classmethod
    def around(cls, linear: nn.Linear) -> AdaptableLinear:
        """An adaptable layer on the very tensors of `linear`."""
        with torch.device("meta"):
            layer = cls(linear.in_features, linear.out_features, bias=linear.bias is not None)
        layer.weight = linear.weight
        layer.bias = linear.bias
        return layer

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer, and the update where there is one."""
        update = self.update
        if update is None:
            return nn.functional.linear(input, self.weight, self.bias)
        if self.weight.requires_grad:  # a gradient for the layer itself too: left to autograd
            output = nn.functional.linear(input, self.weight, self.bias)
            low = nn.functional.linear(input, update.a) * update.scale
            return output + nn.functional.linear(low, update.b)
        updated: Tensor = _Updated.apply(  # type: ignore[no-untyped-call]
            input, self.weight, self.bias, update.a, update.b, update.scale
        )
        return updated


class _Updated(torch.autograd.Function):
    """A frozen linear layer with a low-rank update: the same products, each sum written where it is wanted."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = input.reshape(-1, input.shape[-1])
        low = rows @ a.t()
        output = nn.functional.linear(rows, weight, bias).addmm_(low, b.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.scale = scale
        return output.view(*input.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rows, weight, a, b, low = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_low = (gradient @ b).mul_(ctx.scale)
        to_a, to_b = to_low.t() @ rows, (gradient.t() @ low).mul_(ctx.scale)
        to_input = None
        if ctx.needs_input_grad[0]:
            to_input = (gradient @ weight).addmm_(to_low, a).view(*gradients[0].shape[:-1], -1)
        return to_input, None, None, to_a, to_b, None


def make_adaptable(network: nn.Module) -> list[str]:
    """Replace every linear layer except the output head by an `AdaptableLinear`; the names of those replaced."""
    head = getattr(network, "get_output_embeddings", lambda: None)()
    names = [name for name, module in network.named_modules() if type(module) is nn.Linear and module is not head]
    for name in names:
        parent_name, _, leaf = name.rpartition(".")
        parent = network.get_submodule(parent_name) if parent_name else network
        setattr(parent, leaf, AdaptableLinear.around(getattr(parent, leaf)))
    return names


def new_lora(network: nn.Module, names: list[str], rank: int, alpha: float, seed: int) -> Weights:
    """A LoRA of `rank` on the layers `names`: A uniform as in Kaiming initialisation, B zero; float32."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, AdaptableLinear)
        bound = 1 / math.sqrt(layer.in_features)  # kaiming_uniform_ with a = sqrt(5), PEFT's choice
        a = torch.empty(rank, layer.in_features).uniform_(-bound, bound, generator=generator)
        tensors[f"{name}.lora_A"] = a
        tensors[f"{name}.lora_B"] = torch.zeros(layer.out_features, rank)
    return Weights("lora", tensors, {"rank": rank, "alpha": alpha, "targets": names})


@contextmanager
def attached(network: nn.Module, weights: Weights | None) -> Iterator[Tensor | None]:
    """Put `weights` onto `network` for the length of a `with` block; yields the soft prompt, if it is one."""
    if weights is None:
        yield None
    elif weights.kind == "soft-prompt":
        yield weights.tensors[SOFT_PROMPT]
    elif weights.kind == "lora":
        with _lora_attached(network, weights):
            yield None
    else:
        with _tensors_swapped(network, weights):
            yield None


@contextmanager
def _lora_attached(network: nn.Module, weights: Weights) -> Iterator[None]:
    scale = float(weights.settings["alpha"]) / int(weights.settings["rank"])
    layers: list[AdaptableLinear] = []
    try:
        for key, a in weights.tensors.items():
            name, _, side = key.rpartition(".")
            if side != "lora_A":
                continue
            layer = network.get_submodule(name)
            assert isinstance(layer, AdaptableLinear)
            b = weights.tensors[f"{name}.lora_B"]
            place = layer.weight
            layer.update = LowRank(a.to(place.device, place.dtype), b.to(place.device, place.dtype), scale)
            layers.append(layer)
        yield
    finally:
        for layer in layers:
            layer.update = None


@contextmanager
def _tensors_swapped(network: nn.Module, weights: Weights) -> Iterator[None]:
    parameters = dict(network.named_parameters())
    kept = {name: parameters[name].data for name in weights.tensors}
    try:
        for name, tensor in weights.tensors.items():
            parameters[name].data = tensor.to(kept[name].device, kept[name].dtype)
        yield
    finally:
        for name, tensor in kept.items():
            parameters[name].data = tensor
