"""Log-probabilities of given answers after given prompts: the loss of training, and a score without gradient.

The prefix that all prompts share is encoded once a batch, with its gradient when one is wanted; only the
positions that predict an answer token are projected to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunewise.engine.forward import causal_mask, common_prefix, encode_prefix, hidden_states, project
from tunewise.engine.model import LanguageModel
from tunewise.engine.scoring import BATCH_TOKENS, batches_by_length


@dataclass(frozen=True)
class Pairs:
    """Prompts and their answers as token ids, row by row; an answer ends with the end token."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> Pairs:
        """The pairs at `rows`, in that order."""
        return Pairs([self.prompts[row] for row in rows], [self.answers[row] for row in rows])

    def shared(self, model: LanguageModel) -> int:
        """How many leading tokens all prompts share, as far as the model's cache can be shared."""
        return common_prefix(self.prompts) if model.forks else 0


@dataclass(frozen=True)
class Tally:
    """What a pass over pairs took, for counting its work."""

    tokens: int
    projected: int
    context: float


def answer_logprobs(model: LanguageModel, pairs: Pairs, shared: int) -> tuple[Tensor, Tensor, Tally]:
    """Log-probabilities of every answer token of one batch, differentiable.

    Args:
        model: carries its weights already.
        pairs: the batch.
        shared: how many leading prompt tokens the batch shares; they are encoded once.

    Returns:
        Log-probabilities [answer tokens], the row that each belongs to [answer tokens], and what it took.
    """
    rows = [
        [*prompt[shared:], *answer[:-1]] for prompt, answer in zip(pairs.prompts, pairs.answers, strict=True)
    ]
    width = max(len(row) for row in rows)
    device = model.device
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    flat_places, targets, owners = [], [], []
    for number, (row, prompt, answer) in enumerate(zip(rows, pairs.prompts, pairs.answers, strict=True)):
        ids[number, : len(row)] = torch.tensor(row)
        first = number * width + len(prompt) - shared - 1
        flat_places.extend(range(first, first + len(answer)))
        targets.extend(answer)
        owners.extend([number] * len(answer))
    prefix = encode_prefix(model, pairs.prompts[0][:shared])
    before = prefix.length if prefix else 0
    mask = causal_mask(before, width, device)
    positions = torch.arange(before, before + width, device=device)[None]
    hidden = hidden_states(model, prefix, ids.to(device), mask, positions)
    read = hidden.reshape(-1, hidden.shape[-1])[torch.tensor(flat_places, device=device)]
    logits = project(model, read)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(targets, device=device), reduction="none")
    tally = Tally(before + len(rows) * width, len(targets), before + width / 2)
    return -losses, torch.tensor(owners, device=device), tally


@torch.inference_mode()
def score_answers(model: LanguageModel, pairs: Pairs, *, batch_tokens: int = BATCH_TOKENS) -> np.ndarray:
    """Log-probability of each whole answer after its prompt, float64 [rows]."""
    shared = pairs.shared(model)
    lengths = [len(p) - shared + len(a) for p, a in zip(pairs.prompts, pairs.answers, strict=True)]
    totals = np.zeros(len(pairs))
    for batch in batches_by_length(lengths, 0, batch_tokens):
        logprobs, owners, tally = answer_logprobs(model, pairs.take(batch), shared)
        model.count("score", tokens=tally.tokens, context=tally.context, projected=tally.projected)
        sums = torch.zeros(len(batch), dtype=torch.float64)
        sums.index_add_(0, owners.cpu(), logprobs.double().cpu())
        totals[batch] = sums.numpy()
    return totals
