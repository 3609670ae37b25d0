"""A base model in memory: network, tokenizer, and the few facts about them that the engine needs.

>>> model = loading.load(Path("~/models/smollm2").expanduser())
>>> model.encode("Hello"), model.dtype
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewise.cost import ModelShape, operations
from tunewise.engine.adapters import Weights, attached
from tunewise.engine.blocks import Blocks
from tunewise.engine.memory import Footprint
from tunewise.errors import SettingError


@dataclass(eq=False)
class LanguageModel:
    """A causal language model and its tokenizer; the only mutable thing is which weights it carries."""

    network: Any
    tokenizer: Any
    folder: Path
    linear_names: list[str]
    shape: ModelShape
    blocks: Blocks | None = None
    """Its layers as few large operations, where they are of the usual kind."""
    soft_prompt: Tensor | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    meter: Counter[str] = field(default_factory=Counter)
    """Floating-point operations counted so far, by kind of work; only ever grows."""

    def count(self, kind: str, *, tokens: float, products: float, projected: int) -> None:
        """Add a pass of one `kind` to the meter; see `tunewise.cost.operations`."""
        work = operations(kind, self.shape, tokens=tokens, products=products, projected=projected)
        for part, count in work.items():
            self.meter[part] += round(count)

    @property
    def decoder(self) -> Any:
        """The network without its output head."""
        network = self.network
        return network.get_decoder() if hasattr(network, "get_decoder") else network.model

    @property
    def footprint(self) -> Footprint:
        """What it takes of memory."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return Footprint(self.shape, self.dtype.itemsize, parameters)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the network computes in."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the network's tensors are."""
        device: torch.device = self.network.device
        return device

    @property
    def context(self) -> int:
        """Longest sequence in tokens, from the configuration (a tokenizer may claim 1e30)."""
        return int(self.network.config.get_text_config().max_position_embeddings)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        end: int | None = self.tokenizer.eos_token_id
        if end is None:
            raise SettingError(f"the tokenizer in {self.folder} names no end-of-text token; one is needed.")
        return end

    @property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends an answer: the tokenizer's own, and those of the generation settings."""
        more = getattr(self.network.generation_config, "eos_token_id", None) or ()
        return frozenset({self.end_id, *([more] if isinstance(more, int) else more)})

    @property
    def has_chat_template(self) -> bool:
        """Whether the tokenizer knows how turns are written."""
        return bool(self.tokenizer.chat_template)

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        """Token ids of `text`.

        Args:
            text: what to encode.
            special: whether control strings inside mean control tokens; never for a user's text.
            start: whether the tokenizer adds what starts a document (a BOS token, for example).
        """
        encoded = self.tokenizer(text, add_special_tokens=start, split_special_tokens=not special)
        return list(encoded["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, control tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def control_strings(self) -> tuple[str, ...]:
        """Strings that the tokenizer would turn into control tokens."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(token.content for token in added)

    @contextmanager
    def carrying(self, weights: Weights | None) -> Iterator[None]:
        """The model with `weights` put on, for the length of a `with` block."""
        # One network serves all candidates: another thread waits until these weights are off again.
        with self.lock, attached(self.network, weights) as soft_prompt:
            before, self.soft_prompt = self.soft_prompt, soft_prompt
            try:
                yield
            finally:
                self.soft_prompt = before
