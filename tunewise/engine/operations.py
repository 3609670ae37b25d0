"""What lies between a layer's products: norms, gates, rotation, distributions over the vocabulary.

Written with torch here; compiled for a CPU in `kernels`, and fused by torch.compile for a
GPU where the user asks for it. Whoever needs one asks `on` for what computes it on a device in a dtype.

>>> operations.of(x).norm(x, weight, 1e-5)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from tunewise.engine import kernels
from tunewise.errors import SettingError

WIDE_AT_ONCE = 4
"""Positions whose logits a CPU holds in float32 at once: a few stay in its cache."""


@dataclass(frozen=True)
class Activation:
    """A function of single values, and its gradient."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    """From the gradient of the output and the input."""


ACTIVATIONS = {
    "silu": Activation(nn.functional.silu, torch.ops.aten.silu_backward),
    "gelu_pytorch_tanh": Activation(
        lambda x: nn.functional.gelu(x, approximate="tanh"),
        lambda grad, x: torch.ops.aten.gelu_backward(grad, x, approximate="tanh"),
    ),
}


def of(x: Tensor) -> Operations:
    """What computes on tensors like `x`."""
    return on(x.device, x.dtype)


def on(device: torch.device, dtype: torch.dtype) -> Operations:
    """What computes on a device in a dtype."""
    return kernels.serving(device, dtype) or (fused() if device.type == "cuda" and _wished() else PLAIN)


def name(device: torch.device, dtype: torch.dtype) -> str:
    """Who computes there, for records: last digits differ."""
    found = on(device, dtype)
    return "compiled" if isinstance(found, kernels.Kernels) else "torch" if found is PLAIN else "torch.compile"


def wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Plain:
    """With torch, on any device in any dtype; tensors that do not go together raise RuntimeError."""

    def norm(self, x: Tensor, weight: Tensor, eps: float, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`x` over the root of its mean square, times a weight (Zhang & Sennrich 2019); in float32 inside.

        Args:
            x: [..., size]; contiguous where something is added.
            weight: [size].
            eps: added to the mean square.
            added: put into `x` before, in its place.

        Returns:
            [..., size] normed, and what it was multiplied by before the weight, [..., 1] in float32.
        """
        if added is not None:
            x += added
        size = torch.linalg.vector_norm(wide(x), dim=-1, keepdim=True)
        factor = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        return self.weighted(x, factor, weight), factor

    def weighted(self, x: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
        """The first that `norm` gives, from the second."""
        return (x * factor).to(x.dtype) * weight

    def norm_back(
        self, x: Tensor, factor: Tensor, weight: Tensor, to_y: Tensor, more: Tensor | None = None
    ) -> Tensor:
        """The gradient of `x` from that of `x` normed, with `more` added to it."""
        unit = x * factor
        to_unit = (to_y * weight).to(unit.dtype)
        along = (to_unit * unit).mean(dim=-1, keepdim=True)
        to_x = to_unit.addcmul_(unit, along, value=-1).mul_(factor)
        return (to_x if more is None else to_x.add_(more)).to(x.dtype)

    def gate(self, name: str, gate: Tensor, through: Tensor, *, into_gate: bool) -> Tensor:
        """The activation `name` of `gate`, times `through`; the place of `gate` may be used where it says so."""
        return ACTIVATIONS[name].forward(gate).mul_(through)

    def gate_back(self, name: str, gate: Tensor, through: Tensor, to_inner: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `gate` and `through`, from that of what is let through."""
        activation = ACTIVATIONS[name]
        to_through = activation.forward(gate).mul_(to_inner)
        return activation.backward(to_inner * through, gate), to_through

    def join(self, parts: Sequence[Tensor], cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values, each [tokens, heads, size], as one tensor, the first two turned."""
        joined = torch.cat([part.to(cos.dtype) for part in parts], dim=1)
        _turn(joined[:, : -parts[2].shape[1]], cos, sin)
        return joined

    def part(
        self, joined: Tensor, counts: Sequence[int], dtype: torch.dtype, cos: Tensor, sin: Tensor
    ) -> list[Tensor]:
        """The way back of a gradient: three parts in `dtype`, with as many heads as `counts` says."""
        back = joined.to(cos.dtype, copy=True)
        _turn(back[:, : -counts[2]], cos, sin, -1)
        return [part.to(dtype) for part in back.split(list(counts), dim=1)]

    def normaliser(self, logits: Tensor) -> Tensor:
        """Logarithm of the sum of exponentials of [positions, vocabulary], in float32 at least, [positions]."""
        return torch.cat([wide(few).logsumexp(dim=-1) for few in logits.split(_at_once(logits))])

    def chances(self, logits: Tensor, normaliser: Tensor, targets: Tensor) -> None:
        """Turn logits [positions, vocabulary] into the gradient of each negative log-probability of its target."""
        parts = (tensor.split(_at_once(logits)) for tensor in (logits, normaliser, targets))
        for few, norm, tokens in zip(*parts, strict=True):
            chances = wide(few).sub(norm[:, None]).exp_()
            chances[torch.arange(len(tokens), device=tokens.device), tokens] -= 1
            few.copy_(chances)


PLAIN = Plain()
FUSABLE = ("norm", "weighted", "norm_back", "gate", "gate_back", "join", "part", "normaliser", "chances")


class Fused(Plain):
    """The same, each as one kernel that torch.compile writes; the first call of each takes seconds."""

    def __init__(self, backend: str = "inductor") -> None:
        for operation in FUSABLE:
            whole = torch.compile(getattr(PLAIN, operation), dynamic=True, fullgraph=True, backend=backend)
            setattr(self, operation, whole)


Operations = Plain | kernels.Kernels


@cache
def fused() -> Fused:
    """Made once: each operation is compiled once in a process."""
    return Fused()


@cache
def _wished() -> bool:
    wish = os.environ.get("TUNEWISE_COMPILE", "0")
    if wish not in ("0", "1"):
        raise SettingError(f"TUNEWISE_COMPILE is {wish!r}; expected 1 (use torch.compile on a GPU) or 0.")
    return wish == "1"


def _at_once(logits: Tensor) -> int:
    return WIDE_AT_ONCE if logits.device.type == "cpu" else max(1, len(logits))


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int = 1) -> None:
    """Turn [tokens, heads, size] in place by angles [tokens, 1, size], or back with `sign` -1."""
    half = x.shape[-1] // 2
    across = x * sin
    x *= cos
    x[..., :half].sub_(across[..., half:], alpha=sign)
    x[..., half:].add_(across[..., :half], alpha=sign)
