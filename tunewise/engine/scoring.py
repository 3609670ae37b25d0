"""Exact log-probabilities of a closed list of labels after each prompt, in one pass a batch.

The labels form a trie over their tokens. Its inner nodes follow each prompt in the same pass; a 4-D mask lets a
node see the prompt and its own ancestors only, and positions count depth, so every label is scored as if it
stood alone. Only the last prompt token and the inner nodes are projected to the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunewise.engine.forward import Prefix, causal_mask, common_prefix, encode_prefix, hidden_states, project
from tunewise.engine.model import LanguageModel

BATCH_TOKENS = 2048
PROJECTED_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Log-probabilities of labels, and what they took."""

    logprobs: np.ndarray
    """[rows, labels], summed over each label's tokens, float64."""
    lengths: np.ndarray
    """[labels], tokens of each label."""
    milliseconds: np.ndarray
    """[rows], each row's share of its batch."""
    prompt_tokens: np.ndarray
    """[rows], tokens of the whole prompt, soft prompt included."""
    cached_tokens: int
    """Tokens of each prompt that were shared and encoded once."""


@dataclass(frozen=True)
class LabelTrie:
    """Labels as a tree of tokens; node 0 is the end of the prompt, the others are inner nodes."""

    tokens: tuple[int, ...]
    """Token of each inner node 1, 2, …"""
    parents: tuple[int, ...]
    """Parent node of each inner node, always an earlier one."""
    depths: tuple[int, ...]
    """Depth of each inner node, from 1."""
    edges: tuple[tuple[tuple[int, int], ...], ...]
    """For each label, the (node, token) pairs whose log-probabilities add up to its own."""

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]]) -> LabelTrie:
        """The trie of `labels`; every label must have at least one token, and none may repeat."""
        index: dict[tuple[int, ...], int] = {(): 0}
        tokens: list[int] = []
        parents: list[int] = []
        edges = []
        for label in labels:
            path = []
            for depth, token in enumerate(label):
                stem = tuple(label[:depth])
                if stem not in index:
                    index[stem] = len(tokens) + 1
                    tokens.append(stem[-1])
                    parents.append(index[stem[:-1]])
                path.append((index[stem], token))
            edges.append(tuple(path))
        depths = {node: len(stem) for stem, node in index.items()}
        return cls(tuple(tokens), tuple(parents), tuple(depths[n + 1] for n in range(len(tokens))), tuple(edges))

    def ancestors(self) -> np.ndarray:
        """Bool [inner nodes, inner nodes]: whether column is row's ancestor, or row itself."""
        count = len(self.tokens)
        seen = np.eye(count, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent:
                seen[node] |= seen[parent - 1]
        return seen


def close_labels(labels: Sequence[Sequence[int]], end_id: int) -> list[list[int]]:
    """Labels with the end token added to all of them where one is a prefix of another.

    Only then is the end of a label a question: without its end token, `to` could never lose to `tomorrow`.
    """
    known = {tuple(label) for label in labels}
    ambiguous = any(tuple(label[:cut]) in known for label in labels for cut in range(1, len(label)))
    return [[*label, end_id] if ambiguous else list(label) for label in labels]


@torch.inference_mode()
def score_labels(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> LabelScores:
    """Score every label after every prompt.

    Args:
        model: carries its weights already.
        prompts: token ids of each prompt, none empty.
        labels: token ids of each label, none empty; pass them through `close_labels` first.
        batch_tokens: how many tokens go through the network at once.
    """
    trie = LabelTrie.of(labels)
    shared = common_prefix(prompts) if model.forks else 0
    start = time.perf_counter()
    prefix = encode_prefix(model, prompts[0][:shared])
    prefix_ms = (time.perf_counter() - start) * 1000
    length = prefix.length if prefix else 0
    soft = length - shared
    logprobs = np.zeros((len(prompts), len(labels)))
    milliseconds = np.zeros(len(prompts))
    model.count("score", tokens=length, context=length / 2, projected=0)
    for batch in batches_by_length([len(p) - shared for p in prompts], len(trie.tokens), batch_tokens):
        start = time.perf_counter()
        rows = [list(prompts[index][shared:]) for index in batch]
        logprobs[batch] = _score_batch(model, prefix, rows, trie)
        width = max(map(len, rows))
        model.count(
            "score",
            tokens=len(rows) * (width + len(trie.tokens)),
            context=length + width / 2,
            projected=len(rows) * (1 + len(trie.tokens)),
        )
        milliseconds[batch] = (time.perf_counter() - start) * 1000 / len(batch)
    return LabelScores(
        logprobs=logprobs,
        lengths=np.array([len(label) for label in labels]),
        milliseconds=milliseconds + prefix_ms / len(prompts),
        prompt_tokens=np.array([len(prompt) + soft for prompt in prompts]),
        cached_tokens=length,
    )


def batches_by_length(lengths: Sequence[int], extra: int, batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of similar length, each at most `batch_tokens` once padded (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * (lengths[index] + extra) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _score_batch(
    model: LanguageModel, prefix: Prefix | None, rows: list[list[int]], trie: LabelTrie
) -> np.ndarray:
    lengths = torch.tensor([len(row) for row in rows], device=model.device)
    width, nodes = int(lengths.max()), len(trie.tokens)
    before = prefix.length if prefix else 0
    ids = torch.zeros(len(rows), width + nodes, dtype=torch.long, device=model.device)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row, device=model.device)
    if nodes:
        ids[:, width:] = torch.tensor(trie.tokens, device=model.device)
    positions = torch.arange(width, device=model.device).expand(len(rows), -1) + before
    if nodes:
        depths = torch.tensor(trie.depths, device=model.device)
        positions = torch.cat([positions, (lengths - 1 + before)[:, None] + depths[None]], dim=1)
    mask = _trie_mask(before, lengths, width, trie, model.device)
    hidden = hidden_states(model, prefix, ids, mask, positions)
    last = hidden[torch.arange(len(rows), device=model.device), lengths - 1][:, None]
    read = torch.cat([last, hidden[:, width:]], dim=1) if nodes else last
    return _label_logprobs(model, read, trie)


def _trie_mask(before: int, lengths: Tensor, width: int, trie: LabelTrie, device: torch.device) -> Tensor:
    nodes = len(trie.tokens)
    causal = causal_mask(before, width, device)
    if not nodes:
        return causal
    rows = len(lengths)
    mask = torch.zeros(rows, 1, width + nodes, before + width + nodes, dtype=torch.bool, device=device)
    mask[:, :, :width, : before + width] = causal
    seen = torch.arange(before + width, device=device)[None] < (lengths + before)[:, None]
    mask[:, :, width:, : before + width] = seen[:, None, None]
    mask[:, :, width:, before + width :] = torch.from_numpy(trie.ancestors()).to(device)
    return mask


def _label_logprobs(model: LanguageModel, read: Tensor, trie: LabelTrie) -> np.ndarray:
    rows, places, size = read.shape
    wanted = sorted({edge for path in trie.edges for edge in path})
    column = {edge: number for number, edge in enumerate(wanted)}
    by_place: dict[int, list[int]] = {}
    for place, token in wanted:
        by_place.setdefault(place, []).append(token)
    found = torch.zeros(rows, len(wanted), dtype=torch.float64)
    step = max(1, PROJECTED_AT_ONCE // rows)
    for first in range(0, places, step):
        chunk = read[:, first : first + step].reshape(-1, size)
        logits = project(model, chunk).view(rows, -1, model.shape.vocabulary)
        normaliser = logits.logsumexp(dim=-1)
        for place in range(first, min(first + step, places)):
            tokens = by_place.get(place, [])
            values = logits[:, place - first, tokens] - normaliser[:, place - first, None]
            found[:, [column[place, token] for token in tokens]] = values.double().cpu()
    scores = torch.stack([found[:, [column[edge] for edge in path]].sum(dim=1) for path in trie.edges], dim=1)
    result: np.ndarray = scores.numpy()
    return result
