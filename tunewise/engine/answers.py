"""Log-probabilities of given answers after given prompts: the loss of training, and a score without gradient.

The prefix that all prompts share is encoded once a batch, with its gradient when one is wanted; only the
positions that predict an answer token are projected to the vocabulary. Short rows are packed one after the other
behind their prefix, under a mask that keeps them apart, so that no padding is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunewise.engine.forward import causal_mask, common_prefix, encode_prefix, hidden_states, project, run
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
    rows = [[*prompt[shared:], *answer[:-1]] for prompt, answer in zip(pairs.prompts, pairs.answers, strict=True)]
    prefix = list(pairs.prompts[0][:shared])
    lay_out = _packed if _packing_pays(model, len(prefix), rows) else _padded
    hidden, first_places, tokens, context = lay_out(model, prefix, rows)
    places: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for number, (prompt, answer) in enumerate(zip(pairs.prompts, pairs.answers, strict=True)):
        first = first_places[number] + len(prompt) - shared - 1
        places.extend(range(first, first + len(answer)))
        targets.extend(answer)
        owners.extend([number] * len(answer))
    logits = project(model, hidden[torch.tensor(places, device=model.device)])
    wanted = torch.tensor(targets, device=model.device)
    losses = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    return -losses, torch.tensor(owners, device=model.device), Tally(tokens, len(targets), context)


Layout = tuple[Tensor, list[int], int, float]
"""Hidden states [places, hidden], the place of each row's first token, tokens computed, keys seen on average."""


def _packing_pays(model: LanguageModel, prefix: int, rows: Sequence[Sequence[int]]) -> bool:
    """Whether one long row costs less than padded ones.

    Packing computes no padding, but its attention multiplies every token with every other, masked or not.
    """
    if not model.forks:
        return False
    packed = prefix + sum(map(len, rows))
    width = max(map(len, rows))
    attention = 2 * model.shape.layers * model.shape.heads * model.shape.head_size
    weights = model.shape.block_parameters
    padded = prefix + len(rows) * width
    return packed * (weights + attention * packed) <= padded * (weights + attention * (prefix + width))


def _packed(model: LanguageModel, prefix: list[int], rows: Sequence[Sequence[int]]) -> Layout:
    """The prefix, then all rows one after the other, each seeing the prefix and itself only."""
    tokens = [*prefix, *(token for row in rows for token in row)]
    embeddings = model.network.get_input_embeddings()(torch.tensor([tokens], device=model.device))
    soft = model.soft_prompt
    if soft is not None:
        embeddings = torch.cat([soft.to(model.device, model.dtype)[None], embeddings], dim=1)
    before = embeddings.shape[1] - sum(map(len, rows))
    owners = torch.tensor([-1] * before + [n for n, row in enumerate(rows) for _ in row], device=model.device)
    places = [*range(before), *(before + place for row in rows for place in range(len(row)))]
    count = len(places)
    earlier = torch.ones(count, count, dtype=torch.bool, device=model.device).tril()
    mask = earlier & ((owners[None] == owners[:, None]) | (owners[None] == -1))
    positions = torch.tensor([places], device=model.device)
    hidden = run(model, {"inputs_embeds": embeddings}, mask[None, None], positions, None)
    firsts, first = [], before
    for row in rows:
        firsts.append(first)
        first += len(row)
    return hidden[0], firsts, count, count


def _padded(model: LanguageModel, prefix: list[int], rows: Sequence[Sequence[int]]) -> Layout:
    """The prefix once, then the rows side by side, padded on the right."""
    width = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    encoded = encode_prefix(model, prefix)
    before = encoded.length if encoded else 0
    mask = causal_mask(before, width, model.device)
    positions = torch.arange(before, before + width, device=model.device)[None]
    hidden = hidden_states(model, encoded, ids.to(model.device), mask, positions)
    firsts = [number * width for number in range(len(rows))]
    return hidden.reshape(-1, hidden.shape[-1]), firsts, before + len(rows) * width, before + width / 2


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
