r"""Greedy text after each prompt, in batches that share their prefix; finished rows leave the batch.

>>> generate(model, prompts, max_tokens=32, stop=("\n",))[0].text
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewise.engine.forward import Prefix, causal_mask, common_prefix, encode_prefix, new_cache, project, run
from tunewise.engine.model import LanguageModel
from tunewise.engine.scoring import BATCH_TOKENS, batches_by_length


@dataclass(frozen=True)
class Generated:
    """One answer."""

    text: str
    finished: bool
    """Whether it ended by itself or at a stop string, rather than at the limit."""
    milliseconds: float
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> list[Generated]:
    """Continue each prompt greedily.

    Args:
        model: carries its weights already.
        prompts: token ids of each prompt, none empty.
        max_tokens: longest continuation.
        stop: strings that end a continuation; they are cut off.
        batch_tokens: bounds rows × (prompt + continuation) computed side by side.
    """
    shared = common_prefix(prompts) if model.forks else 0
    start = time.perf_counter()
    prefix = encode_prefix(model, prompts[0][:shared])
    prefix_ms = (time.perf_counter() - start) * 1000 / len(prompts)
    length = prefix.length if prefix else 0
    model.count("generate", tokens=length, context=length / 2, projected=0)
    results: dict[int, Generated] = {}
    for batch in batches_by_length([len(p) - shared for p in prompts], max_tokens, batch_tokens):
        start = time.perf_counter()
        rows = [list(prompts[index][shared:]) for index in batch]
        answers = _Batch(model, prefix, rows, stop).run(max_tokens)
        width = max(map(len, rows))
        new = sum(count for _, _, count in answers) + len(rows)
        context = length + width + max_tokens / 2
        model.count("generate", tokens=len(rows) * width + new, context=context, projected=new)
        share = (time.perf_counter() - start) * 1000 / len(batch) + prefix_ms
        for index, (text, finished, count) in zip(batch, answers, strict=True):
            tokens = len(prompts[index]) + length - shared
            results[index] = Generated(text, finished, share, tokens, length, count)
    return [results[index] for index in range(len(prompts))]


class _Batch:
    """Rows that are generated side by side."""

    def __init__(
        self, model: LanguageModel, prefix: Prefix | None, rows: list[list[int]], stop: Sequence[str]
    ) -> None:
        self.model = model
        self.stop = stop
        self.rows = rows
        self.before = prefix.length if prefix else 0
        self.prefix = prefix
        self.new: list[list[int]] = [[] for _ in rows]
        self.texts: list[str | None] = [None] * len(rows)

    def run(self, max_tokens: int) -> list[tuple[str, bool, int]]:
        """Generate until every row has ended; text, whether it ended by itself, and its number of tokens."""
        lengths = torch.tensor([len(row) for row in self.rows], device=self.model.device)
        hidden, cache = self._prefill(lengths)
        width = int(lengths.max())
        key_places = torch.arange(self.before + width, device=self.model.device)
        seen = key_places[None] < (lengths + self.before)[:, None]
        alive = list(range(len(self.rows)))
        last = hidden[torch.arange(len(alive), device=self.model.device), lengths - 1]
        positions = lengths + self.before
        for _ in range(max_tokens):
            chosen = project(self.model, last).argmax(dim=-1)
            going = [place for place, row in enumerate(alive) if not self._ends(row, int(chosen[place]))]
            if not going:
                break
            if len(going) < len(alive):
                keep = torch.tensor(going, device=self.model.device)
                alive = [alive[place] for place in going]
                chosen, positions, seen = chosen[keep], positions[keep], seen[keep]
                for layer in cache.layers:
                    layer.keys, layer.values = layer.keys[keep], layer.values[keep]
            seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
            inputs = {"input_ids": chosen[:, None]}
            last = run(self.model, inputs, seen[:, None, None], positions[:, None], cache)[:, 0]
            positions = positions + 1
        return [self._answer(row) for row in range(len(self.rows))]

    def _prefill(self, lengths: Tensor) -> tuple[Tensor, Any]:
        model = self.model
        ids = torch.zeros(len(self.rows), int(lengths.max()), dtype=torch.long)
        for number, row in enumerate(self.rows):
            ids[number, : len(row)] = torch.tensor(row)
        layers = self.prefix.layers if self.prefix else ()
        count = len(self.rows)
        cache = new_cache([(k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in layers])
        mask = causal_mask(self.before, ids.shape[1], model.device)
        positions = torch.arange(self.before, self.before + ids.shape[1], device=model.device)[None]
        return run(model, {"input_ids": ids.to(model.device)}, mask, positions, cache), cache

    def _ends(self, row: int, token: int) -> bool:
        """Add `token` to `row`; whether that ends it."""
        if token in self.model.end_ids:
            self.texts[row] = self.model.decode(self.new[row])
            return True
        self.new[row].append(token)
        if not self.stop:
            return False
        text = self.model.decode(self.new[row])
        cuts = [text.index(mark) for mark in self.stop if mark in text]
        if cuts:
            self.texts[row] = text[: min(cuts)]
        return bool(cuts)

    def _answer(self, row: int) -> tuple[str, bool, int]:
        text = self.texts[row]
        finished = text is not None
        return (text if text is not None else self.model.decode(self.new[row])), finished, len(self.new[row])
