"""What work costs: counted floating-point operations, and the rates that turn them into seconds.

Work is counted from tokens and the model's shape, never from a clock, so two runs of the same study count the
same. The count follows the usual accounting (Kaplan et al. 2020, appendix B): two operations a parameter a token
for a forward pass, attention added, and only the positions that are projected pay for the vocabulary. Attention
is a kind of its own: it multiplies small matrices, several times slower than the layers' large ones, so that a
long prompt takes longer than its operations say.

>>> shape = ModelShape.from_config(json.loads(Path("config.json").read_text()))
>>> operations("score", shape, tokens=1000, products=70_000, projected=10)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRAINED = ("train-lora", "train-soft-prompt", "train-full")
"""Kinds of training."""
KINDS = ("score", "generate", *TRAINED, "attention")
"""Kinds of work that run at rates of their own. `score` is a pass over given tokens, `generate` one over a new
token of each row; `attention` is the products of queries, keys and values in all passes."""
STEP = "-step"
"""Ends the kind of what a step of training takes however small its batch: weights are read, and written back."""
STEPS = tuple(kind + STEP for kind in TRAINED)
"""Kinds of such steps, counted one by one."""

REQUESTS, UPDATES = 100_000, 1
"""How often a candidate is asked and set up again, for its cost (honesty rule 6)."""


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


PASSES = {"score": 1, "generate": 1, "train-lora": 2, "train-soft-prompt": 2, "train-full": 3}
"""Work in forward passes: gradients of activations cost one more, those of all weights another."""
ATTENTION_PASSES = 3
"""The same for attention, whose every operand is an activation, in any kind of training."""


def operations(
    kind: str, shape: ModelShape, *, tokens: float, products: float, projected: float
) -> dict[str, float]:
    """Operations of one pass by the kind of work they are, backward included where it trains.

    Args:
        kind: one of `KINDS`.
        shape: of the model.
        tokens: that go through the network.
        products: pairs of a query and a key that are multiplied, masked ones included.
        projected: positions whose logits are computed.
    """
    dense = 2 * tokens * shape.block_parameters + 2 * projected * shape.hidden * shape.vocabulary
    attention = 4 * products * shape.layers * shape.heads * shape.head_size
    passes = ATTENTION_PASSES if kind.startswith("train") else 1
    return {kind: PASSES[kind] * dense, "attention": passes * attention}


@dataclass(frozen=True)
class Works:
    """What a candidate costs in counted work."""

    setup: float
    """To make it."""
    request: float
    """To answer one request, what all requests share cached."""


@dataclass(frozen=True)
class Demand:
    """How often a candidate is asked, and made again, over the time that its cost is counted for."""

    requests: float = REQUESTS
    updates: float = UPDATES

    def cost(self, works: Works) -> float:
        """Requests × serving work + updates × set-up work (honesty rule 6)."""
        return self.requests * works.request + self.updates * works.setup


USUAL = Demand()
"""What a run counts costs for."""


def break_even(one: Works, other: Works, updates: float = UPDATES) -> float | None:
    """Requests at which two candidates have cost the same; None where one is the cheaper at any number."""
    setups, requests = updates * (other.setup - one.setup), one.request - other.request
    return setups / requests if requests and setups / requests > 0 else None


def always(one: Works, other: Works, updates: float = UPDATES) -> str:
    """How a candidate that never breaks even with another stands to it."""
    ours, theirs = ((updates * works.setup, works.request) for works in (one, other))
    if ours == theirs:
        return "as dear"
    return "always cheaper" if ours[0] <= theirs[0] and ours[1] <= theirs[1] else "always dearer"
