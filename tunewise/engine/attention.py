"""Attention over a tree of tokens: every product that somebody reads, and none that is masked.

A pass holds nodes one after the other, each before what continues it. A token attends to its own node up to
itself, to all of the nodes above, and to what was encoded earlier. Short nodes stand together in frames, of which
only what is seen is multiplied (`kernels`), or all of one width are one product under a mask; all that is below a
long node is one product with it, without a mask. Results are merged by their normalisers (`products`).

Where that cannot be (a sliding window that is shorter than a row, a GPU), the same tree is written as a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from tunewise.engine import kernels, products
from tunewise.engine.kernels import Frames, Kernels
from tunewise.engine.products import Heads

NAME = "tunewise"
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models add to attention, and a layout does not: capped scores, sinks, learned biases."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of tokens that were encoded before."""

    layers: tuple[Tensor, ...] = ()
    """Of each layer, [tokens, keys and values, head size]."""

    @property
    def length(self) -> int:
        """How many tokens they are of."""
        return len(self.layers[0]) if self.layers else 0

    def of(self, layer: int) -> Tensor | None:
        """Keys and values of one layer, if there are any."""
        return self.layers[layer] if self.layers else None

    def then(self, layers: Sequence[Tensor]) -> Prefix:
        """These, and what was encoded after them."""
        if not self.layers:
            return Prefix(tuple(layers))
        return Prefix(tuple(torch.cat(pair) for pair in zip(self.layers, layers, strict=True)))


NOTHING = Prefix()


class Group:
    """Frames of equal width, one after the other; tokens of a frame see no others of the group."""

    def __init__(self, first: int, count: int, width: int, ends: Tensor | None = None) -> None:
        """Which places.

        Args:
            first: the first one.
            count: of frames.
            width: places of each.
            ends: see `Layout`; None where every token sees all of its frame up to itself.
        """
        self.places = slice(first, first + count * width)
        self.count, self.width = count, width
        self._ends = ends
        self._mask: Tensor | None = None

    @property
    def causal(self) -> bool:
        """Whether every token sees all of its frame up to itself."""
        return self._ends is None

    def of(self, tokens: Tensor) -> Tensor:
        """A view of [tokens, …] as [frames, width, …]."""
        frames: Tensor = tokens[self.places].unflatten(0, (self.count, self.width))
        return frames

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What it sees as an additive mask [frames, 1, width, width]; None where it is causal."""
        if self._ends is not None and (self._mask is None or self._mask.dtype != dtype):
            ends = self.of(self._ends)
            places = torch.arange(self.places.start, self.places.stop, device=ends.device)
            self._mask = products.additive(_seen(places.view_as(ends), ends), dtype)[:, None]
        return self._mask


@dataclass(frozen=True, eq=False)
class Link:
    """A node and all that continue it: `queries` see all of `keys`."""

    queries: slice
    keys: slice


@dataclass(eq=False)
class Layout:
    """Who sees whom in one pass."""

    positions: Tensor
    """Of each token, what came before the pass included, [tokens]."""
    reach: int
    """One more than the last position."""
    ends: Tensor
    """Of each place, the first one behind it that does not see it, [tokens]."""
    groups: list[Group]
    """Frames; places behind the last one see nothing."""
    links: list[Link]
    earlier: Prefix = NOTHING
    """What every token sees."""
    kept: dict[int, Tensor] | None = None
    """Filled with the keys and values of this pass by layer, where somebody wants them."""
    asked: dict[int, tuple[float, int | None]] = field(default_factory=dict)
    """Scale and window that each layer asked for: what tells whether a network hands the layout on."""

    def __post_init__(self) -> None:
        self._mask: dict[int | None, Tensor] = {}

    @property
    def framed(self) -> int:
        """Places in frames."""
        return self.groups[-1].places.stop

    @cached_property
    def small(self) -> Frames:
        """The frames that are not too wide for `kernels`."""
        found = [
            (first, group.width)
            for group in self.groups
            if group.width <= kernels.WIDEST
            for first in range(group.places.start, group.places.stop, group.width)
        ]
        return Frames(self.ends, torch.tensor(found, dtype=torch.long).view(-1, 2))

    def compiled(self, joined: Tensor) -> tuple[Kernels | None, list[Group]]:
        """What computes the frames of `small`, and the groups that are left to products."""
        compiled = kernels.serving(joined.device, joined.dtype) if joined.dtype == torch.float32 else None
        if compiled is None or not len(self.small.places):
            return None, self.groups
        return compiled, [group for group in self.groups if group.width > kernels.WIDEST]

    @property
    def products(self) -> int:
        """Query-key pairs that are multiplied."""
        own = sum(group.count * group.width**2 for group in self.groups)
        above = sum(_length(link.queries) * _length(link.keys) for link in self.links)
        return own + above + self.earlier.length * len(self.positions)

    def attend(self, layer: int, joined: Tensor, heads: Heads, scale: float, window: int | None) -> Tensor:
        """Attention of one layer.

        Args:
            layer: its number.
            joined: queries, keys and values, [tokens, all heads, head size], in `products.computed_in`.
            heads: how many are which.
            scale: of the products.
            window: how many tokens back this layer sees, where it is limited.

        Returns:
            [tokens, heads of the queries, head size].
        """
        self.asked[layer] = (scale, window)
        if self.kept is not None:
            self.kept[layer] = heads.keys_values(joined).contiguous()
        earlier = self.earlier.of(layer)
        if limiting(window, self.reach) is None and products.has_parts(joined):
            output: Tensor = _TreeAttention.apply(joined, self, earlier, heads, scale)  # type: ignore[no-untyped-call]
            return output
        q, k, v = heads.split(joined[None])
        if earlier is not None:
            k, v = (torch.cat(pair, dim=2) for pair in zip(_keys_values(earlier, heads), (k, v), strict=True))
        return products.masked(q, k, v, self.mask(limiting(window, self.reach), q.dtype), scale)[0].transpose(0, 1)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """The same as one additive mask, [1, 1, tokens, earlier + tokens]; a window is the last tokens seen."""
        if window not in self._mask:
            places = torch.arange(len(self.ends), device=self.ends.device)
            own = _seen(places, self.ends)
            seen = torch.cat([own.new_ones(len(own), self.earlier.length), own], dim=1)
            if window is not None:
                before = torch.arange(self.earlier.length, device=seen.device)
                every = torch.cat([before, self.positions])
                seen &= self.positions[:, None] - every[None] < window
            self._mask[window] = products.additive(seen, dtype)[None, None]
        return self._mask[window]


class AttendsBy(Protocol):
    """What a layer asks for its attention: `Layout`, or `slots.Slots`."""

    @property
    def positions(self) -> Tensor:
        """Of each token of the pass, [tokens]."""

    def attend(self, layer: int, joined: Tensor, heads: Heads, scale: float, window: int | None) -> Tensor:
        """See `Layout.attend`."""


def limiting(window: int | None, reach: int) -> int | None:
    """`window` where it is shorter than what comes before some token."""
    return window if window is not None and window < reach else None


class _TreeAttention(torch.autograd.Function):
    """The merged parts, and their gradients."""

    @staticmethod
    def forward(
        ctx: Any, joined: Tensor, layout: Layout, earlier: Tensor | None, heads: Heads, scale: float
    ) -> Tensor:
        joined = joined.contiguous()
        output = joined.new_empty(len(joined), heads.query, joined.shape[-1])
        normaliser = joined.new_empty(len(joined), heads.query)
        output[layout.framed :], normaliser[layout.framed :] = 0, 0
        compiled, groups = layout.compiled(joined)
        if compiled is not None:
            compiled.attend(joined, layout.small, heads.counts, scale, (output, normaliser))
        for group in groups:
            part, weight = products.product(
                *heads.split(group.of(joined)), scale, group.mask(joined.dtype), causal=group.causal
            )
            group.of(output).copy_(part.transpose(1, 2))
            group.of(normaliser).copy_(weight.transpose(1, 2))
        q, k, v = heads.split(joined[None])
        for link in layout.links:
            at, keys = link.queries, link.keys
            _see(output[at], normaliser[at], q[:, :, at], (k[:, :, keys], v[:, :, keys]), scale)
        if earlier is not None:
            _see(output, normaliser, q, _keys_values(earlier, heads), scale)
        ctx.save_for_backward(joined, output, normaliser)
        ctx.layout, ctx.heads, ctx.scale = layout, heads, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        joined, output, normaliser = ctx.saved_tensors
        layout, heads, scale = ctx.layout, ctx.heads, ctx.scale
        if layout.earlier.layers:
            raise NotImplementedError("keys of an earlier pass take no gradient; put its tokens into this one.")
        grad, back = grads[0], torch.empty_like(joined)
        compiled, groups = layout.compiled(joined)
        if compiled is not None:
            merged = (output, normaliser)
            compiled.attend_back(grad, joined, layout.small, heads.counts, scale, merged, back)
        for group in groups:
            gradients = products.product_backward(
                group.of(grad).transpose(1, 2),
                heads.split(group.of(joined)),
                group.of(output).transpose(1, 2),
                group.of(normaliser).transpose(1, 2),
                scale,
                group.mask(joined.dtype),
                causal=group.causal,
            )
            for place, gradient in zip(heads.split(group.of(back)), gradients, strict=True):
                place.copy_(gradient)
        back[layout.framed :] = 0
        q, k, v = heads.split(joined[None])
        to_q, to_k, to_v = heads.split(back[None])
        grad, output, normaliser = (tensor[None].transpose(1, 2) for tensor in (grad, output, normaliser))
        for link in layout.links:
            at, keys = link.queries, link.keys
            gradients = products.product_backward(
                grad[:, :, at],
                (q[:, :, at], k[:, :, keys], v[:, :, keys]),
                output[:, :, at],
                normaliser[:, :, at],
                scale,
            )
            places = (to_q[:, :, at], to_k[:, :, keys], to_v[:, :, keys])
            for place, gradient in zip(places, gradients, strict=True):
                place += gradient
        return back, None, None, None, None


def _see(output: Tensor, normaliser: Tensor, q: Tensor, read: Sequence[Tensor], scale: float) -> None:
    """Merge into [tokens, heads, size] what queries [1, heads, tokens, size] see in keys and values."""
    part, weight = products.product(q, read[0], read[1], scale)
    products.merge(output, normaliser, part[0].transpose(0, 1), weight[0].transpose(0, 1))


def _keys_values(stored: Tensor, heads: Heads) -> Sequence[Tensor]:
    """[tokens, keys and values, size] as keys and values, each [1, key heads, tokens, size]."""
    key, value = stored[None].transpose(1, 2).split(heads.key, dim=1)
    return key, value


def register() -> None:
    """Make the attention known to transformers under `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    # Only for ordinary passes through the same network: where there is a layout, it says who sees whom.
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()["sdpa"])


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: AttendsBy | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention of one layer, as transformers asks for it.

    Args:
        module: the layer's attention; its number says which earlier keys are its own.
        query: [1, heads, tokens, head size].
        key: [1, key heads, tokens, head size], as `value`.
        value: see `key`.
        attention_mask: of a pass without a layout.
        layout: who sees whom; without one the pass is an ordinary one.
        scaling: of the products; one over the root of the head size by default.
        sliding_window: how far back this layer sees, where it is limited.
        others: for an ordinary pass; a layout knows no dropout, it would not be exact.

    Returns:
        [1, tokens, heads, head size], and no weights.
    """
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, weights = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, sliding_window=sliding_window, **others
        )
        return output, weights
    if any(others.get(name) is not None for name in UNKNOWN):
        raise ValueError(f"{type(module).__name__} wants {', '.join(UNKNOWN)}; a layout has none of them.")
    joined = torch.cat([query, key, value], dim=1)[0].transpose(0, 1)
    output = layout.attend(
        module.layer_idx,
        joined.to(products.computed_in(joined)),
        Heads(query.shape[1], key.shape[1]),
        scaling if scaling is not None else query.shape[-1] ** -0.5,
        sliding_window,
    )
    return output[None].to(query.dtype), None


def _seen(places: Tensor, ends: Tensor) -> Tensor:
    """Who sees whom among [..., places], given the end of each: bool [..., queries, keys]."""
    queries, keys = places[..., :, None], places[..., None, :]
    return (keys <= queries) & (queries < ends[..., None, :])


def _length(part: slice) -> int:
    return int(part.stop - part.start)
