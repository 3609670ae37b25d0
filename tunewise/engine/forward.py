"""One forward pass over rows that share a prefix: the prefix is encoded once, the rows go on from it.

A *prefix* is whatever all rows begin with: a soft prompt (embeddings), then tokens. Its keys and values are
computed for a batch of one and expanded, so gradients of every row flow back into it exactly as if each row had
encoded it alone (the sum over rows is the gradient of the expanded tensor). Rows are padded on the right, where
causal attention never looks from a real token, so padding changes nothing.

Only hidden states come out; `project` turns the few positions somebody reads into logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewise.engine.model import LanguageModel


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of a shared prefix, one pair a layer, each [1, heads, length, head size]."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all rows share, leaving at least one token to each row."""
    shortest = min(len(row) for row in rows)
    first = rows[0]
    for index in range(shortest - 1):
        if any(row[index] != first[index] for row in rows):
            return index
    return max(shortest - 1, 0)


def encode_prefix(model: LanguageModel, tokens: Sequence[int]) -> Prefix | None:
    """Encode the soft prompt that `model` carries, then `tokens`; None when both are empty."""
    soft = model.soft_prompt
    if soft is None and not tokens:
        return None
    parts = []
    if soft is not None:
        parts.append(soft.to(model.device, model.dtype).unsqueeze(0))
    if tokens:
        ids = torch.tensor([list(tokens)], device=model.device)
        parts.append(model.network.get_input_embeddings()(ids))
    embeddings = torch.cat(parts, dim=1)
    length = embeddings.shape[1]
    cache = new_cache(())
    mask = torch.ones(length, length, dtype=torch.bool, device=model.device).tril()[None, None]
    positions = torch.arange(length, device=model.device)[None]
    run(model, {"inputs_embeds": embeddings}, mask, positions, cache)
    layers = tuple((layer.keys, layer.values) for layer in cache.layers)
    return Prefix(layers, length)


def hidden_states(
    model: LanguageModel, prefix: Prefix | None, ids: Tensor, mask: Tensor, positions: Tensor
) -> Tensor:
    """Last hidden states of `ids`, continuing `prefix`.

    Args:
        model: carries its weights already.
        prefix: what every row begins with, or None.
        ids: token ids [rows, tokens].
        mask: which keys each query sees, bool [rows or 1, 1, tokens, prefix length + tokens].
        positions: position of each token, prefix counted, [rows or 1, tokens].

    Returns:
        Hidden states [rows, tokens, hidden], in the model's dtype.
    """
    rows = ids.shape[0]
    layers: Sequence[tuple[Tensor, Tensor]] = ()
    if prefix is not None:
        layers = [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in prefix.layers]
    return run(model, {"input_ids": ids}, mask, positions, new_cache(layers))


def causal_mask(prefix_length: int, tokens: int, device: torch.device) -> Tensor:
    """The mask of plain rows that continue a prefix, bool [1, 1, tokens, prefix_length + tokens]."""
    keys = torch.arange(prefix_length + tokens, device=device)
    queries = torch.arange(tokens, device=device) + prefix_length
    return (keys[None, :] <= queries[:, None])[None, None]


def project(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Logits over the vocabulary, in float32 at least, for hidden states [..., hidden]."""
    logits: Tensor = model.network.get_output_embeddings()(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    cap = getattr(model.network.config.get_text_config(), "final_logit_softcapping", None)
    return cap * torch.tanh(logits / cap) if cap else logits


def new_cache(layers: Sequence[tuple[Tensor, Tensor]]) -> Any:
    """A growing cache that begins with `layers`, keys and values [rows, heads, length, head size]."""
    from transformers import DynamicCache

    # Without a config: with one, layers of a sliding window drop the keys that a shared prefix still needs.
    return DynamicCache(ddp_cache_data=list(layers)) if layers else DynamicCache()


def run(model: LanguageModel, inputs: dict[str, Tensor], mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Last hidden states of `inputs` (ids or embeddings) after what `cache` holds; the cache grows by them.

    Without a cache nothing comes before, and nothing is kept.
    """
    network = model.network
    decoder = network.get_decoder() if hasattr(network, "get_decoder") else network.model
    output = decoder(
        **inputs,
        attention_mask=_mask_by_layer(network.config.get_text_config(), mask, positions, model.dtype),
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def _mask_by_layer(config: Any, mask: Tensor, positions: Tensor, dtype: torch.dtype) -> Any:
    kinds = set(getattr(config, "layer_types", None) or ())
    full = _additive(mask, dtype)
    if "sliding_attention" not in kinds:
        return full
    # Keys sit at the prefix's positions, then at the rows' own.
    prefix = mask.shape[-1] - positions.shape[-1]
    before = torch.arange(prefix, device=positions.device).expand(positions.shape[0], -1)
    keys = torch.cat([before, positions], dim=-1)
    near = positions[:, :, None] - keys[:, None, :] < config.sliding_window
    return {"full_attention": full, "sliding_attention": _additive(mask & near[:, None], dtype)}


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    # An additive mask takes torch's fast CPU attention kernel; a boolean one is converted on every layer.
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)
