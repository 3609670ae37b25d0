"""Decoder layers of the usual kind, computed as few large operations with gradients of their own.

Norm, projections, rotation, attention, projection, norm, gated feed-forward: that is a layer of Llama, Mistral,
Qwen and their like. A layer here is two autograd functions with attention between them. Sums are written where
they are wanted; what the backward pass can work out again cheaply is not kept; nothing frozen gets a gradient.
Whether a network is of this kind is tried when it is loaded, not guessed from its name; others run through their
own modules, with the same attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tunewise.engine import products
from tunewise.engine.adapters import AdaptableLinear
from tunewise.engine.attention import AttendsBy
from tunewise.engine.operations import ACTIVATIONS
from tunewise.engine.parts import Gate, Norm, Rotation, Siblings
from tunewise.engine.products import Heads

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = ("q_norm", "k_norm")
ALIASES = {"swish": "silu"}
MLP = {"gate_proj", "up_proj", "down_proj"}
"""Names of the modules that a layer of this kind has, and no others but the activation."""


@dataclass(frozen=True, eq=False)
class Block:
    """One layer."""

    number: int
    before: Norm
    attention: Siblings
    """Queries, keys and values."""
    head_norms: tuple[Norm, Norm] | None
    """Of each head's queries and keys, where the model has them."""
    output: Siblings
    between: Norm
    gates: Siblings
    """The gate and what it lets through."""
    down: Siblings
    gate: Gate
    heads: Heads
    scale: float
    window: int | None

    def run(self, hidden: Tensor, rotation: Rotation, layout: AttendsBy, read: Tensor | None = None) -> Tensor:
        """[tokens, hidden] after this layer; only the places `read`, where they are given."""
        learned = self._learned(self.before, self.attention, *(self.head_norms or ()))
        joined = _Before.apply(hidden, self, rotation, *learned)  # type: ignore[no-untyped-call]
        attended = layout.attend(self.number, joined, self.heads, self.scale, self.window)
        if read is not None:
            hidden, attended = hidden.index_select(0, read), attended.index_select(0, read)
        learned = self._learned(self.output, self.between, self.gates, self.down)
        after: Tensor = _After.apply(hidden, attended, self, *learned)  # type: ignore[no-untyped-call]
        return after

    def _learned(self, *parts: Siblings | Norm) -> list[Tensor]:
        # Without a gradient there is nothing to hand to autograd, and nothing to look for.
        return [tensor for part in parts for tensor in part.learned] if torch.is_grad_enabled() else []


class _Before(torch.autograd.Function):
    """From hidden states to rotated queries and keys, and values: [tokens, all heads, size]."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, block: Block, rotation: Rotation, *learned: Tensor) -> Tensor:
        heads = block.heads
        x, factor = block.before.forward(hidden)
        flat, low = block.attention.forward(x)
        parts = [part.unflatten(1, (count, -1)) for part, count in zip(flat, heads.counts, strict=True)]
        raw: list[Tensor] = []
        factors: list[Tensor] = []
        if block.head_norms is not None:
            raw = parts[:2]
            normed = [norm.forward(part) for norm, part in zip(block.head_norms, raw, strict=True)]
            parts, factors = [part for part, _ in normed] + parts[2:], [scale for _, scale in normed]
        ctx.save_for_backward(hidden, factor, low, *raw, *factors)
        ctx.block, ctx.rotation = block, rotation
        return rotation.join(parts).to(products.computed_in(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, factor, low, *normed = ctx.saved_tensors
        block, rotation = ctx.block, ctx.rotation
        parts = rotation.part(gradients[0], block.heads.counts, hidden.dtype)
        to_norms: list[Tensor] = []
        if block.head_norms is not None:
            for place, norm in enumerate(block.head_norms):
                parts[place], more = norm.backward(normed[place], normed[2 + place], parts[place])
                to_norms += more
        wanted = ctx.needs_input_grad[0] or bool(block.before.learned)
        flat = [part.flatten(1) for part in parts]
        x = block.before.weighted(hidden, factor)
        to_x, to_linear = block.attention.backward(x, low, flat, wanted=wanted)
        to_hidden, to_norm = None, []
        if to_x is not None:
            to_hidden, to_norm = block.before.backward(hidden, factor, to_x)
        return to_hidden, None, None, *to_norm, *to_linear, *to_norms


class _After(torch.autograd.Function):
    """From what was attended to, to the hidden states after the layer."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, attended: Tensor, block: Block, *learned: Tensor) -> Tensor:
        (middle,), low_seen = block.output.forward(attended.flatten(1).to(hidden.dtype))
        x, factor = block.between.forward(middle, added=hidden)
        (gate, through), low_x = block.gates.forward(x)
        inner = block.gate.forward(gate, through, last=not any(ctx.needs_input_grad))
        (result,), low_inner = block.down.forward(inner)
        ctx.save_for_backward(attended, low_seen, middle, factor, gate, through, low_x, low_inner)
        ctx.block = block
        return result.add_(middle)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        attended, low_seen, middle, factor, gate, through, low_x, low_inner = ctx.saved_tensors
        block, gradient = ctx.block, gradients[0]
        inner = block.gate.forward(gate, through, last=False)
        to_inner, to_down = block.down.backward(inner, low_inner, [gradient])
        to_gate, to_through = block.gate.backward(gate, through, to_inner)
        x = block.between.weighted(middle, factor)
        to_x, to_gates = block.gates.backward(x, low_x, [to_gate, to_through])
        to_middle, to_norm = block.between.backward(middle, factor, to_x, more=gradient)
        seen = attended.flatten(1).to(middle.dtype)
        to_seen, to_output = block.output.backward(seen, low_seen, [to_middle])
        to_attended = to_seen.to(attended.dtype).view(attended.shape)
        return to_middle, to_attended, None, *to_output, *to_norm, *to_gates, *to_down


@dataclass(frozen=True, eq=False)
class Blocks:
    """All layers of a network, its rotation and its last norm."""

    layers: tuple[Block, ...]
    rotary: Any
    norm: Any

    def run(
        self, hidden: Tensor, layout: AttendsBy, read: Tensor, *, first: int = 0, checkpointed: bool = False
    ) -> Tensor:
        """[places, hidden] after all layers, normed, at the places `read`: behind them nothing sees the others.

        Args:
            hidden: what goes into the layer `first`, [tokens, hidden]; embeddings by default.
            layout: who sees whom.
            read: places of the pass.
            first: the layer to begin with.
            checkpointed: whether the backward pass computes each layer again from its input (Chen et al. 2016).
        """
        rotation = self.rotation(hidden, layout.positions)
        for block in self.layers[first:]:
            places = read if block is self.layers[-1] else None
            if checkpointed:
                hidden = checkpoint(
                    block.run, hidden, rotation, layout, places, use_reentrant=False, preserve_rng_state=False
                )
            else:
                hidden = block.run(hidden, rotation, layout, places)
        if first == len(self.layers):
            hidden = hidden.index_select(0, read)
        normed: Tensor = self.norm(hidden)
        return normed

    def lower(self, hidden: Tensor, layout: AttendsBy, count: int) -> Tensor:
        """[tokens, hidden] after the lowest `count` layers."""
        rotation = self.rotation(hidden, layout.positions)
        for block in self.layers[:count]:
            hidden = block.run(hidden, rotation, layout)
        return hidden

    def rotation(self, hidden: Tensor, positions: Tensor) -> Rotation:
        """Of tokens at `positions`, finer than the dtype that the network rounds it to."""
        wide = hidden[:0].to(torch.promote_types(hidden.dtype, torch.float32))
        cos, sin = self.rotary(wide, positions[None])
        return Rotation(cos[0, :, None], sin[0, :, None])


def read(decoder: Any, config: Any, asked: Mapping[int, tuple[float, int | None]]) -> Blocks | None:
    """The layers of a decoder as blocks; none where its modules are others.

    Args:
        decoder: embeddings, layers and last norm, with `AdaptableLinear` layers in it.
        config: its text configuration.
        asked: scale and window that each layer asked its attention for.
    """
    activation = getattr(config, "hidden_act", None) or ""
    activation = ALIASES.get(activation, activation)
    layers = getattr(decoder, "layers", ())
    if activation not in ACTIVATIONS or not all(hasattr(decoder, name) for name in ("rotary_emb", "norm")):
        return None
    if not layers or len(asked) != len(layers) or not all(_usual(layer) for layer in layers):
        return None
    size = layers[0].self_attn.q_proj.out_features // config.num_attention_heads
    heads = Heads(config.num_attention_heads, layers[0].self_attn.k_proj.out_features // size)
    blocks = []
    for number, layer in enumerate(layers):
        attention, mlp = layer.self_attn, layer.mlp
        blocks.append(
            Block(
                number=number,
                before=_norm(layer.input_layernorm),
                attention=Siblings(attention.q_proj, attention.k_proj, attention.v_proj),
                head_norms=_pair(attention) if hasattr(attention, HEAD_NORMS[0]) else None,
                output=Siblings(attention.o_proj),
                between=_norm(layer.post_attention_layernorm),
                gates=Siblings(mlp.gate_proj, mlp.up_proj),
                down=Siblings(mlp.down_proj),
                gate=Gate(activation),
                heads=heads,
                scale=asked[number][0],
                window=asked[number][1],
            )
        )
    return Blocks(tuple(blocks), decoder.rotary_emb, decoder.norm)


def _usual(layer: Any) -> bool:
    """Whether a layer has the modules of this kind, and no others."""

    def names(module: Any) -> set[str]:
        return {name for name, _ in module.named_children()}

    if names(layer) != LAYER:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    if names(attention) not in (ATTENTION, ATTENTION | set(HEAD_NORMS)) or names(mlp) - {"act_fn"} != MLP:
        return False
    linears = [getattr(attention, name) for name in ATTENTION] + [getattr(mlp, name) for name in MLP]
    norms = [layer.input_layernorm, layer.post_attention_layernorm]
    return all(isinstance(linear, AdaptableLinear) for linear in linears) and all(
        _eps(norm) is not None and getattr(norm, "weight", None) is not None for norm in norms
    )


def _eps(norm: Any) -> float | None:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def _norm(module: Any) -> Norm:
    eps = _eps(module)
    assert eps is not None
    return Norm(module, float(eps))


def _pair(attention: Any) -> tuple[Norm, Norm]:
    query, key = (_norm(getattr(attention, name)) for name in HEAD_NORMS)
    return query, key
