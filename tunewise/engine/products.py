"""Products of queries, keys and values, with the normaliser that lets parts of a softmax be merged.

Softmax over all keys is the mean of softmaxes over parts of them, weighted by their normalisers (Milakov &
Gimelshein 2018). The backward pass of a part needs only the merged output and normaliser (Dao et al. 2022), so
each part's gradient is exact on its own too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of a layer stand in one tensor [..., tokens, all heads, size], in this order."""

    query: int
    key: int
    """Heads of the keys, and again of the values; several heads of the queries may read the same one."""

    @property
    def counts(self) -> list[int]:
        """Of queries, keys and values."""
        return [self.query, self.key, self.key]

    def split(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of the three, each [..., heads, tokens, size]."""
        query, key, value = joined.transpose(-3, -2).split(self.counts, dim=-3)
        return query, key, value

    def keys_values(self, joined: Tensor) -> Tensor:
        """What others may read of [tokens, all heads, size]: [tokens, keys and values, size]."""
        return joined[:, self.query :]


def has_parts(joined: Tensor) -> bool:
    """Whether this device has a product that gives its normaliser, with its own backward."""
    return joined.device.type == "cpu"


def computed_in(joined: Tensor) -> torch.dtype:
    """What attention is computed in: float32 at least where there are parts; for short rows it is also faster."""
    return torch.promote_types(joined.dtype, torch.float32) if has_parts(joined) else joined.dtype


def product(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None = None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Attention [rows, heads, queries, size], and the logarithm of its normaliser [rows, heads, queries]."""
    output, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=scale
    )
    return output, normaliser


def product_backward(
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    output: Tensor,
    normaliser: Tensor,
    scale: float,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values of one part, from the output and normaliser of the whole."""
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, *inputs, output, normaliser, 0.0, causal, attn_mask=mask, scale=scale
    )
    return gradients


def merge(output: Tensor, normaliser: Tensor, part: Tensor, weight: Tensor) -> None:
    """Add to `output` [tokens, heads, size] and its `normaliser` [tokens, heads] what the tokens see elsewhere."""
    both = torch.logaddexp(normaliser, weight)
    output.mul_((normaliser - both).exp_()[..., None]).addcmul_(part, (weight - both).exp_()[..., None])
    normaliser.copy_(both)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention under an additive mask, as [rows, heads, queries, size], by whatever the device is best at."""
    repeat = q.shape[1] // k.shape[1]
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What is seen as a mask that is added to scores."""
    zeros = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return zeros.masked_fill_(~seen, torch.finfo(dtype).min)
