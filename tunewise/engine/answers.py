"""Log-probabilities of given answers after given prompts: the loss of training, and a score without gradient.

Rows form a tree: what several share is computed once, with its gradient when one is wanted, and no padding goes
through the network. Only the positions that predict an answer token are projected to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tunewise.engine.below import Below
from tunewise.engine.forward import passes, rows_of, run, token_logprobs
from tunewise.engine.laying import Pass, lay_out
from tunewise.engine.memory import tokens_for_scoring, uncollected
from tunewise.engine.model import LanguageModel
from tunewise.engine.moving import placed
from tunewise.engine.tree import Row, common_prefix, grow


@dataclass(frozen=True)
class Pairs:
    """Prompts and their answers as token ids, row by row; an answer ends with the end token."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]
    numbers: Sequence[int] = ()
    """Of rows that were taken from others, where they stood there."""

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Sequence[int]) -> Pairs:
        """The pairs at `rows`, in that order."""
        numbers = [self.numbers[row] for row in rows] if self.numbers else list(rows)
        return Pairs([self.prompts[row] for row in rows], [self.answers[row] for row in rows], numbers)

    @property
    def answer_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(map(len, self.answers))

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row that go through the network: an answer's last one is never read."""
        return [len(prompt) + len(answer) - 1 for prompt, answer in zip(self.prompts, self.answers, strict=True)]

    def parts(self, tokens: int) -> Iterator[Pairs]:
        """The pairs in parts of about `tokens` tokens, what all prompts share counted once; one pair at least."""
        shared = common_prefix(self.prompts)
        rows: list[int] = []
        size = shared
        for row, (prompt, answer) in enumerate(zip(self.prompts, self.answers, strict=True)):
            own = len(prompt) - shared + len(answer)
            if rows and size + own > tokens:
                yield self.take(rows)
                rows, size = [], shared
            rows.append(row)
            size += own
        if rows:
            yield self.take(rows)


def answer_logprobs(
    model: LanguageModel, pairs: Pairs, kind: str, *, checkpointed: bool = False, below: Below | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of every answer token of one batch, in one pass, differentiable.

    Args:
        model: carries its weights already.
        pairs: the batch.
        kind: of work that the pass counts as.
        checkpointed: see `run`.
        below: what layers that do not learn give for the rows that `pairs` were taken from.

    Returns:
        Log-probabilities [answer tokens], and the row that each belongs to [answer tokens].
    """
    rows = _rows(model, pairs)
    laid = lay_out(grow(rows), model.device, alike=True)
    return _read(model, pairs, rows, laid, kind, checkpointed=checkpointed, below=below)


@torch.inference_mode()
@uncollected()
def score_answers(model: LanguageModel, pairs: Pairs, *, batch_tokens: int | None = None) -> np.ndarray:
    """Log-probability of each whole answer after its prompt, float64 [rows]."""
    totals = torch.zeros(len(pairs), dtype=torch.float64)
    rows = _rows(model, pairs)
    for laid in passes(model, rows, batch_tokens or tokens_for_scoring(model.footprint)):
        logprobs, owners = _read(model, pairs, rows, laid, "score")
        totals.index_add_(0, owners.cpu(), logprobs.double().cpu())
    scores: np.ndarray = totals.numpy()
    return scores


def _rows(model: LanguageModel, pairs: Pairs) -> list[Row]:
    """Prompts with their answers but the last token; what predicts an answer token is not shared."""
    texts = [[*prompt, *answer[:-1]] for prompt, answer in zip(pairs.prompts, pairs.answers, strict=True)]
    return rows_of(model, texts, [len(answer) for answer in pairs.answers])


def _read(
    model: LanguageModel,
    pairs: Pairs,
    rows: Sequence[Row],
    laid: Pass,
    kind: str,
    *,
    checkpointed: bool = False,
    below: Below | None = None,
) -> tuple[Tensor, Tensor]:
    places: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    for row in sorted(laid.rows):
        answer = pairs.answers[row]
        places.extend(laid.place(row, rows[row].shareable + index) for index in range(len(answer)))
        targets.extend(answer)
        owners.extend([row] * len(answer))
    given = None if below is None else (below.layers, below.states(laid, pairs.numbers))
    share = 1.0 if below is None else below.share
    hidden = run(model, laid.ids, laid.layout, places, checkpointed=checkpointed, below=given)
    logprobs = token_logprobs(model, hidden, placed(targets, model.device))
    products = share * laid.layout.products
    model.count(kind, tokens=share * laid.tokens, products=products, projected=len(targets))
    return logprobs, placed(owners, model.device)
