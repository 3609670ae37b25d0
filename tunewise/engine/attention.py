"""Attention over a tree of tokens: every product that somebody reads, and none that is masked.

A pass holds nodes one after the other, each before what continues it. A token attends to its own node up to
itself, to all of the nodes above, and to what was encoded earlier. Nodes below one lie next to each other, so each
of these is one plain product without a mask; their results are merged by their normalisers, which is exact
(Milakov & Gimelshein 2018; Dao et al. 2022). The backward pass of a part needs only the merged output and
normaliser, so each part's gradient is exact on its own too.

Where that cannot be (a sliding window that is shorter than a row, a GPU), the same tree is written as a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

NAME = "tunewise"
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models add to attention, and a layout does not: capped scores, sinks, learned biases."""
ROOM = 32
"""Tokens that storage grows by at a time."""
KeysValues = tuple[Tensor, Tensor]
"""Of one layer, each [1, key heads, tokens, head size]."""


class Group:
    """Nodes of similar length, side by side: their attention to themselves."""

    def __init__(self, places: Tensor, real: Tensor, seen: Tensor | None = None) -> None:
        """Tokens and who sees whom.

        Args:
            places: where each token stands in the pass, [nodes, width]; padding repeats a place.
            real: which of them are tokens, bool [nodes, width].
            seen: which keys each query sees, bool [nodes, width, width]; None where that is all up to itself.
        """
        self.places, self.real, self.seen = places, real, seen
        self.nodes, self.width = places.shape
        # Worked out once: every layer asks for them, forward and backward.
        self._flat = places.flatten()
        self._whole = bool(real.all())
        self._kept = real.flatten().nonzero()[:, 0]
        self._spots = self._flat[self._kept]
        alone = self.nodes == 1 and self._whole
        first = int(self._flat[0])
        self._span = slice(first, first + self.width) if alone and seen is None else None
        self._mask: Tensor | None = None

    @property
    def causal(self) -> bool:
        """Whether every token sees all up to itself."""
        return self.seen is None

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What it sees as an additive mask [nodes, 1, width, width]; None where it is causal."""
        if self.seen is not None and (self._mask is None or self._mask.dtype != dtype):
            self._mask = _additive(self.seen, dtype)[:, None]
        return self._mask

    def gather(self, heads: Tensor) -> Tensor:
        """[heads, tokens, …] as [nodes, heads, width, …]."""
        if self._span is not None:
            return heads[None, :, self._span]
        side_by_side: Tensor = heads.index_select(1, self._flat).unflatten(1, (self.nodes, self.width))
        return side_by_side.transpose(0, 1)

    def gather_tokens(self, heads: Tensor) -> Tensor:
        """As `gather`, with zeros for padding."""
        gathered = self.gather(heads)
        return gathered if self._whole else gathered * self.real[:, None, :, None]

    def scatter(self, whole: Tensor, part: Tensor) -> None:
        """Write [nodes, heads, width, …] to its places in [heads, tokens, …], padding left out."""
        if self._span is not None:
            whole[:, self._span] = part[0]
            return
        flat = part.transpose(0, 1).flatten(1, 2)
        whole.index_copy_(1, self._spots, flat if self._whole else flat.index_select(1, self._kept))


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
    groups: list[Group]
    links: list[Link]
    earlier: Sequence[KeysValues] = ()
    """Keys and values, by layer, that every token sees."""
    kept: dict[int, KeysValues] | None = None
    """Filled with the keys and values of this pass by layer, where somebody wants them."""
    calls: int = 0
    """How often a layer has asked: what tells whether a network hands the layout on."""
    _mask: dict[int | None, Tensor] = field(default_factory=dict)

    @property
    def before(self) -> int:
        """Tokens that were encoded before the pass."""
        return self.earlier[0][0].shape[2] if self.earlier else 0

    @property
    def products(self) -> int:
        """Query-key pairs that are multiplied."""
        own = sum(group.nodes * group.width**2 for group in self.groups)
        above = sum(_length(link.queries) * _length(link.keys) for link in self.links)
        return own + above + self.before * len(self.positions)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """Attention of one layer, [1, heads, tokens, head size]; a `window` is given where it limits anything."""
        if self.kept is not None:
            self.kept[layer] = (key, value)
        earlier = self.earlier[layer] if self.earlier else None
        if window is None and _has_parts(query):
            output: Tensor = _TreeAttention.apply(query, key, value, self, earlier, scale)  # type: ignore[no-untyped-call]
            return output
        if earlier is not None:
            key, value = torch.cat([earlier[0], key], dim=2), torch.cat([earlier[1], value], dim=2)
        return _masked(query, key, value, self.mask(window, query.dtype), scale)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """The same as one additive mask, [1, 1, tokens, earlier + tokens]; a window is the last tokens seen."""
        if window not in self._mask:
            seen = self._seen()
            if window is not None:
                every = torch.cat([torch.arange(self.before, device=seen.device), self.positions])
                seen &= self.positions[:, None] - every[None] < window
            self._mask[window] = _additive(seen, dtype)[None, None]
        return self._mask[window]

    def _seen(self) -> Tensor:
        before, count = self.before, len(self.positions)
        seen = torch.zeros(count, before + count, dtype=torch.bool, device=self.positions.device)
        seen[:, :before] = True
        for link in self.links:
            seen[link.queries, before + link.keys.start : before + link.keys.stop] = True
        for group in self.groups:
            own = group.seen if group.seen is not None else _causal(group.width, seen.device)[None]
            own = own & group.real[:, :, None] & group.real[:, None, :]
            node, query, key = own.expand(group.nodes, -1, -1).nonzero(as_tuple=True)
            seen[group.places[node, query], before + group.places[node, key]] = True
        return seen


@dataclass(eq=False)
class Slots:
    """Rows that are written side by side, one token of each in a pass, after what was encoded for all of them."""

    earlier: Sequence[KeysValues] = ()
    """Keys and values, by layer, that all rows see."""
    positions: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Of each row's token in this pass, [rows]."""
    reach: int = 0
    calls: int = 0
    _keys: list[Tensor] = field(default_factory=list)
    """By layer, [rows, key heads, room, head size]."""
    _values: list[Tensor] = field(default_factory=list)
    _lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Tokens of its own that each row has, [rows]."""
    _seen: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))
    """Which of its own keys each row sees, [rows, longest]."""

    @property
    def before(self) -> int:
        """Tokens that all rows share."""
        return self.earlier[0][0].shape[2] if self.earlier else 0

    @property
    def products(self) -> int:
        """Query-key pairs that a pass multiplies."""
        return self._seen.numel() + self.before * len(self._lengths)

    def add(self, kept: Mapping[int, KeysValues], paths: Sequence[Sequence[int]]) -> None:
        """Add rows, whose tokens stand at `paths` in the pass that `kept` is of."""
        device = kept[0][0].device
        longest = max(map(len, paths))
        places = torch.tensor([[*path, *[0] * (longest - len(path))] for path in paths], device=device)
        counts = torch.tensor([len(path) for path in paths], device=device)
        self._lengths = torch.cat([self._lengths.to(device), counts])
        for which, stored in enumerate((self._keys, self._values)):
            for layer in sorted(kept):
                new = kept[layer][which][0][:, places].transpose(0, 1)
                if layer < len(stored):
                    room = max(longest, stored[layer].shape[2])
                    stored[layer] = torch.cat([_widened(stored[layer], room), _widened(new, room)])
                else:
                    stored.append(new.contiguous())

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        places = torch.tensor(rows, dtype=torch.long, device=self._lengths.device)
        self._lengths = self._lengths[places]
        self._keys = [keys[places] for keys in self._keys]
        self._values = [values[places] for values in self._values]

    def begin(self) -> None:
        """Prepare for a pass: where the new tokens go, and what they see."""
        longest = int(self._lengths.max()) + 1
        if longest > self._keys[0].shape[2]:
            self._keys = [_widened(keys, longest + ROOM) for keys in self._keys]
            self._values = [_widened(values, longest + ROOM) for values in self._values]
        self.positions = self._lengths + self.before
        self.reach = self.before + longest
        self._seen = torch.arange(longest, device=self.positions.device)[None] <= self._lengths[:, None]

    def end(self) -> None:
        """The tokens of the pass now belong to their rows."""
        self._lengths = self._lengths + 1

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """Attention of one layer, [1, heads, rows, head size]; the new keys and values are stored."""
        rows = torch.arange(len(self._lengths), device=query.device)
        for stored, new in ((self._keys[layer], key), (self._values[layer], value)):
            stored[rows, :, self._lengths] = new[0].transpose(0, 1)
        longest = self._seen.shape[1]
        keys, values = self._keys[layer][:, :, :longest], self._values[layer][:, :, :longest]
        q = query[0].unflatten(0, (key.shape[1], -1)).permute(2, 0, 1, 3)  # rows, key heads, their heads, size
        if window is None and _has_parts(query):
            return self._merged(layer, q, keys, values, scale)
        seen = self._seen
        if self.earlier:
            shared = [tensor.expand(len(rows), -1, -1, -1) for tensor in self.earlier[layer]]
            keys, values = torch.cat([shared[0], keys], dim=2), torch.cat([shared[1], values], dim=2)
            seen = torch.cat([seen.new_ones(len(rows), self.before), seen], dim=1)
        if window is not None:
            places = torch.arange(seen.shape[1], device=seen.device)
            seen = seen & (self.positions[:, None] - places[None] < window)
        output = _masked(q, keys, values, _additive(seen, q.dtype)[:, None, None], scale)
        return output.permute(1, 2, 0, 3).flatten(0, 1)[None]

    def _merged(self, layer: int, q: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        mask = _additive(self._seen, q.dtype)[:, None, None].expand(-1, 1, q.shape[2], -1)
        part, weight = _product(q, keys, values, scale, mask, causal=False)
        # Heads first, as where all rows are folded into one product.
        output = part.permute(1, 2, 0, 3).flatten(0, 1).to(torch.promote_types(q.dtype, torch.float32))
        normaliser = weight.permute(1, 2, 0).flatten(0, 1).contiguous()
        if self.earlier:
            k, v = (tensor[0] for tensor in self.earlier[layer])
            heads = q.permute(1, 2, 0, 3).flatten(0, 1)
            _merge(output, normaliser, slice(0, heads.shape[1]), heads, k, v, scale)
        return output[None].to(q.dtype)


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
    layout: Layout | Slots | None = None,
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
    layout.calls += 1
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    window = sliding_window if sliding_window is not None and sliding_window < layout.reach else None
    return layout.attend(module.layer_idx, query, key, value, scale, window).transpose(1, 2), None


def _has_parts(query: Tensor) -> bool:
    """Whether this device has a product that gives its normaliser, with its own backward."""
    return query.device.type == "cpu"


class _TreeAttention(torch.autograd.Function):
    """The merged parts, and their gradients. Computed in float32 at least: for short rows it is also faster."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        earlier: KeysValues | None,
        scale: float,
    ) -> Tensor:
        dtype = torch.promote_types(query.dtype, torch.float32)
        q, k, v = query[0].to(dtype), key[0].to(dtype), value[0].to(dtype)
        output, normaliser = torch.empty_like(q), torch.empty(q.shape[:2], dtype=dtype)
        for group in layout.groups:
            keys, values = (_widest(group.gather(tensor), q.shape[0]) for tensor in (k, v))
            part, weight = _product(group.gather(q), keys, values, scale, group.mask(dtype), causal=group.causal)
            group.scatter(output, part)
            group.scatter(normaliser, weight)
        for link in layout.links:
            _merge(output, normaliser, link.queries, q, k[:, link.keys], v[:, link.keys], scale)
        if earlier is not None:
            everywhere = slice(0, q.shape[1])
            _merge(output, normaliser, everywhere, q, earlier[0][0].to(dtype), earlier[1][0].to(dtype), scale)
        ctx.save_for_backward(query, key, value, output, normaliser)
        ctx.layout, ctx.scale = layout, scale
        return output[None].to(query.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, key, value, output, normaliser = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        if layout.earlier:
            raise NotImplementedError("keys of an earlier pass take no gradient; put its tokens into this one.")
        dtype = output.dtype
        q, k, v = query[0].to(dtype), key[0].to(dtype), value[0].to(dtype)
        grad = grads[0][0].to(dtype)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for group in layout.groups:
            _own_gradients(group, grad, (q, k, v), (dq, dk, dv), output, normaliser, scale)
        for link in layout.links:
            at, keys = link.queries, link.keys
            folded = (_folded(tensor[:, at], k.shape[0]) for tensor in (grad, q, output))
            part_grad, part_q, part_output = folded
            gq, gk, gv = _product_backward(
                part_grad,
                part_q,
                k[None, :, keys],
                v[None, :, keys],
                part_output,
                normaliser[:, at].reshape(1, k.shape[0], -1),
                scale,
                None,
                causal=False,
            )
            dq[:, at] += gq.reshape(q.shape[0], -1, q.shape[2])
            dk[:, keys] += gk[0]
            dv[:, keys] += gv[0]
        gradients = (dq[None].to(query.dtype), dk[None].to(key.dtype), dv[None].to(value.dtype))
        return (*gradients, None, None, None)


def _own_gradients(
    group: Group,
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor],
    output: Tensor,
    normaliser: Tensor,
    scale: float,
) -> None:
    q, k, v = (group.gather(tensor) for tensor in inputs)
    parts = _product_backward(
        group.gather_tokens(grad),
        q,
        _widest(k, q.shape[1]),
        _widest(v, q.shape[1]),
        group.gather(output),
        group.gather(normaliser),
        scale,
        group.mask(q.dtype),
        causal=group.causal,
    )
    for whole, part in zip(gradients, parts, strict=True):
        heads = whole.shape[0]
        group.scatter(whole, part if part.shape[1] == heads else part.unflatten(1, (heads, -1)).sum(dim=2))


def _widest(heads: Tensor, count: int) -> Tensor:
    """[nodes, key heads, width, size] with each key head repeated for its query heads."""
    repeat = count // heads.shape[1]
    return heads if repeat == 1 else heads.repeat_interleave(repeat, dim=1)


def _merge(output: Tensor, normaliser: Tensor, at: slice, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
    """Add what the queries `at` see in `k` and `v` [key heads, keys, head size]."""
    part, weight = _product(_folded(q[:, at], k.shape[0]), k[None], v[None], scale, None, causal=False)
    before = normaliser[:, at]
    weight = weight.reshape(before.shape)
    both = torch.logaddexp(before, weight)
    output[:, at] *= (before - both).exp_()[:, :, None]
    output[:, at] += part.reshape(q.shape[0], -1, q.shape[2]) * (weight - both).exp_()[:, :, None]
    normaliser[:, at] = both


def _folded(heads: Tensor, key_heads: int) -> Tensor:
    """[heads, tokens, size] as [1, key heads, all queries of a key head, size]: no key is repeated."""
    return heads.reshape(1, key_heads, -1, heads.shape[-1])


def _product(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """Attention [rows, heads, queries, size], and the logarithm of its normaliser [rows, heads, queries]."""
    output, normaliser = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=scale
    )
    return output, normaliser


def _product_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    normaliser: Tensor,
    scale: float,
    mask: Tensor | None,
    *,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, output, normaliser, 0.0, causal, attn_mask=mask, scale=scale
    )
    return gradients


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Attention under an additive mask, as [rows, heads, queries, size]."""
    repeat = q.shape[1] // k.shape[1]
    if repeat > 1:
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    zeros = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return zeros.masked_fill_(~seen, torch.finfo(dtype).min)


def _widened(stored: Tensor, room: int) -> Tensor:
    """[rows, key heads, tokens, size] with space for `room` tokens."""
    return torch.nn.functional.pad(stored, (0, 0, 0, room - stored.shape[2]))


def _causal(width: int, device: torch.device) -> Tensor:
    return torch.ones(width, width, dtype=torch.bool, device=device).tril()


def _length(part: slice) -> int:
    return int(part.stop - part.start)
