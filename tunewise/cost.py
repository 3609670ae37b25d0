"""What work costs: counted floating-point operations, and the rates that turn them into seconds.

Work is counted from tokens and the model's shape, never from a clock, so two runs of the same study count the
same. The count follows the usual accounting (Kaplan et al. 2020, appendix B): two operations a parameter a token
for a forward pass, attention added, and only the positions that are projected pay for the vocabulary.

>>> shape = ModelShape.from_config(json.loads(Path("config.json").read_text()))
>>> forward_flop(shape, tokens=1000, context=70, projected=10) / 1e9
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("score", "generate", "train-lora", "train-soft-prompt", "train-full")
"""Kinds of work that run at rates of their own."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder that decide what a token costs."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape written in a Hugging Face text configuration."""
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return cls(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
        )

    @property
    def block_parameters(self) -> int:
        """Weights that every token passes: attention and gated feed-forward, all layers."""
        queries = self.hidden * self.heads * self.head_size
        keys_values = 2 * self.hidden * self.kv_heads * self.head_size
        return self.layers * (2 * queries + keys_values + 3 * self.hidden * self.intermediate)


def forward_flop(shape: ModelShape, *, tokens: int, context: float, projected: int) -> float:
    """Operations of one forward pass.

    Args:
        shape: of the model.
        tokens: that go through the network, padding included.
        context: mean number of keys that a token sees.
        projected: positions whose logits are computed.
    """
    attention = 4 * shape.layers * shape.heads * shape.head_size * context
    return tokens * (2 * shape.block_parameters + attention) + 2 * projected * shape.hidden * shape.vocabulary


PASSES = {"score": 1.0, "generate": 1.0, "train-lora": 2.0, "train-soft-prompt": 2.0, "train-full": 3.0}
"""Work in forward passes: gradients of activations cost one more, those of all weights another."""


def flop(kind: str, shape: ModelShape, *, tokens: int, context: float, projected: int) -> float:
    """Operations of one pass of a `kind` of `KINDS`, backward included where it trains."""
    return PASSES[kind] * forward_flop(shape, tokens=tokens, context=context, projected=projected)
