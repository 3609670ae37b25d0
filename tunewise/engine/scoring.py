"""Exact log-probabilities of a closed list of labels after each prompt, in one pass a batch.

The prompts form a tree by what they share, the labels a trie over their tokens. Its inner nodes follow each prompt
in the same pass; each sees the prompt and its own ancestors only, and positions count depth, so every label is
scored as if it stood alone. Only the last prompt token and the inner nodes are projected to the vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunewise.engine import operations
from tunewise.engine.forward import passes, project, rows_of, run
from tunewise.engine.laying import Ending
from tunewise.engine.memory import LOGITS, tokens_for_scoring, uncollected
from tunewise.engine.model import LanguageModel
from tunewise.engine.operations import wide


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
    cached_tokens: np.ndarray
    """[rows], tokens of each prompt that it shared with others, encoded once."""


@dataclass(frozen=True)
class LabelTrie:
    """Labels as a tree of tokens; node 0 is the end of the prompt, the others are inner nodes, depth first."""

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
        edges: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {}
        # In dictionary order, all that begins with a node comes right after it.
        for label in sorted(map(tuple, labels)):
            path = []
            for depth, token in enumerate(label):
                stem = label[:depth]
                if stem not in index:
                    index[stem] = len(tokens) + 1
                    tokens.append(stem[-1])
                    parents.append(index[stem[:-1]])
                path.append((index[stem], token))
            edges[label] = tuple(path)
        depths = {node: len(stem) for stem, node in index.items()}
        inner = tuple(depths[node + 1] for node in range(len(tokens)))
        return cls(tuple(tokens), tuple(parents), inner, tuple(edges[tuple(label)] for label in labels))

    def ends(self) -> tuple[int, ...]:
        """Of each inner node, counted from 0, the first one after it that does not continue it."""
        ends = list(range(1, len(self.tokens) + 1))
        for node in reversed(range(len(ends))):
            parent = self.parents[node] - 1
            if parent >= 0:
                ends[parent] = max(ends[parent], ends[node])
        return tuple(ends)


def close_labels(labels: Sequence[Sequence[int]], end_id: int) -> list[list[int]]:
    """Labels with the end token added to all of them where one is a prefix of another.

    Only then is the end of a label a question: without its end token, `to` could never lose to `tomorrow`.
    """
    known = {tuple(label) for label in labels}
    ambiguous = any(tuple(label[:cut]) in known for label in labels for cut in range(1, len(label)))
    return [[*label, end_id] if ambiguous else list(label) for label in labels]


@torch.inference_mode()
@uncollected()
def score_labels(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    batch_tokens: int | None = None,
) -> LabelScores:
    """Score every label after every prompt.

    Args:
        model: carries its weights already.
        prompts: token ids of each prompt, none empty.
        labels: token ids of each label, none empty; pass them through `close_labels` first.
        batch_tokens: how many tokens go through the network at once; by default what fits into memory.
    """
    trie = LabelTrie.of(labels)
    ending = Ending(trie.tokens, trie.depths, trie.ends())
    rows = rows_of(model, prompts)
    logprobs = np.zeros((len(rows), len(labels)))
    milliseconds, cached = np.zeros(len(rows)), np.zeros(len(rows), dtype=int)
    shared_ms, since = 0.0, time.perf_counter()
    for laid in passes(model, rows, batch_tokens or tokens_for_scoring(model.footprint), ending):
        start = time.perf_counter()
        shared_ms += (start - since) * 1000
        batch = laid.rows
        nodes = range(1 + len(trie.tokens))
        places = [laid.place(row, len(rows[row].tokens) - 1 + node) for row in batch for node in nodes]
        read = run(model, laid.ids, laid.layout, places).unflatten(0, (len(batch), len(nodes)))
        logprobs[batch] = _label_logprobs(model, read, trie)
        model.count("score", tokens=laid.tokens, products=laid.layout.products, projected=read[..., 0].numel())
        cached[batch] = [laid.leaves[row][0] for row in batch]
        since = time.perf_counter()
        milliseconds[batch] = (since - start) * 1000 / len(batch)
    return LabelScores(
        logprobs=logprobs,
        lengths=np.array([len(label) for label in labels]),
        milliseconds=milliseconds + shared_ms / len(rows),
        prompt_tokens=np.array([len(row.tokens) for row in rows]),
        cached_tokens=cached,
    )


def _label_logprobs(model: LanguageModel, read: Tensor, trie: LabelTrie) -> np.ndarray:
    rows, places, size = read.shape
    wanted = sorted({edge for path in trie.edges for edge in path})
    column = {edge: number for number, edge in enumerate(wanted)}
    by_place: dict[int, list[int]] = {}
    for place, token in wanted:
        by_place.setdefault(place, []).append(token)
    found = torch.zeros(rows, len(wanted), dtype=torch.float64)
    step = max(1, LOGITS // rows)
    for first in range(0, places, step):
        chunk = read[:, first : first + step].reshape(-1, size)
        logits = project(model, chunk)
        normalisers = operations.of(logits).normaliser(logits).view(rows, -1)
        logits = logits.view(rows, -1, model.shape.vocabulary)
        for place in range(first, min(first + step, places)):
            tokens = by_place.get(place, [])
            values = wide(logits[:, place - first, tokens]) - normalisers[:, place - first, None]
            found[:, [column[place, token] for token in tokens]] = values.double().cpu()
    scores = torch.stack([found[:, [column[edge] for edge in path]].sum(dim=1) for path in trie.edges], dim=1)
    result: np.ndarray = scores.numpy()
    return result
