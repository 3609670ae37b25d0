"""One pass over a tree of tokens, and what is read from it: hidden states, keys and values, logits.

A row begins with the soft prompt that the model carries, if it carries one; its places are counted like tokens,
under ids below zero. Only hidden states come out; `project` turns the few that somebody reads into logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunewise.engine import operations
from tunewise.engine.attention import NOTHING, AttendsBy, Prefix
from tunewise.engine.laying import LINK, NO_ENDING, Ending, Pass, lay_out
from tunewise.engine.memory import LOGITS
from tunewise.engine.model import LanguageModel
from tunewise.engine.moving import placed
from tunewise.engine.operations import wide
from tunewise.engine.tree import Node, Row, grow


def rows_of(model: LanguageModel, rows: Sequence[Sequence[int]], own: Sequence[int] | None = None) -> list[Row]:
    """Rows to grow trees of, each after the places of the soft prompt that the model carries.

    Args:
        model: carries its weights already.
        rows: token ids of each.
        own: how many tokens at the end of each must not be shared; the last one by default.
    """
    count = 0 if model.soft_prompt is None else len(model.soft_prompt)
    lead = range(-count, 0)
    kept = own or [1] * len(rows)
    return [
        Row(number, (*lead, *tokens), count + len(tokens) - last)
        for number, (tokens, last) in enumerate(zip(rows, kept, strict=True))
    ]


def passes(model: LanguageModel, rows: Sequence[Row], budget: int, ending: Ending = NO_ENDING) -> Iterator[Pass]:
    """Passes over `rows` of about `budget` tokens each; what more rows share than fit into one is encoded before.

    Args:
        model: carries its weights already; encoding counts as scoring.
        rows: from `rows_of`.
        budget: tokens of a pass; one row at least.
        ending: what every row goes on with.
    """
    yield from _passes(model, grow(rows), NOTHING, budget, ending)


def _passes(
    model: LanguageModel, nodes: Sequence[Node], prefix: Prefix, budget: int, ending: Ending
) -> Iterator[Pass]:
    waiting: list[Node] = []
    size = 0
    left = list(reversed(nodes))
    while left:
        node = left.pop()
        weight = ending.size(node)
        if node.children and weight > budget:
            if node.saved < LINK:
                left.extend(map(node.before, reversed(node.children)))
            else:
                yield from _passes(model, node.children, encode(model, node, prefix), budget, ending)
            continue
        if waiting and size + weight > budget:
            yield lay_out(waiting, model.device, prefix, ending)
            waiting, size = [], 0
        waiting.append(node)
        size += weight
    if waiting:
        yield lay_out(waiting, model.device, prefix, ending)


def encode(model: LanguageModel, node: Node, prefix: Prefix) -> Prefix:
    """`prefix`, then the tokens of `node` alone."""
    laid = lay_out([Node(node.tokens, node.depth, row=0)], model.device, prefix)
    kept = laid.layout.kept = {}
    run(model, laid.ids, laid.layout, ())
    model.count("score", tokens=laid.tokens, products=laid.layout.products, projected=0)
    return prefix.then([kept[layer] for layer in sorted(kept)])


def run(
    model: LanguageModel,
    ids: Sequence[int],
    layout: AttendsBy,
    read: Sequence[int],
    *,
    checkpointed: bool = False,
    below: tuple[int, Tensor] | None = None,
) -> Tensor:
    """One pass.

    Args:
        model: carries its weights already.
        ids: tokens of the pass, node by node.
        layout: who sees whom.
        read: places whose states are wanted.
        checkpointed: keep little for a backward pass and compute the rest again, where the network has blocks.
        below: how many of the lowest blocks are done already, and what they gave, [tokens, hidden].

    Returns:
        Last hidden states [places, hidden], in the model's dtype.
    """
    places = placed(read, model.device)
    first, hidden = below if below is not None else (0, embed(model, ids))
    if model.blocks is not None:
        return model.blocks.run(hidden, layout, places, first=first, checkpointed=checkpointed)
    return run_modules(model, hidden, layout).index_select(0, places)


def run_modules(model: LanguageModel, hidden: Tensor, layout: AttendsBy) -> Tensor:
    """Last hidden states [tokens, hidden] by the network's own modules, from embeddings [tokens, hidden]."""
    output = model.decoder(
        inputs_embeds=hidden[None],
        attention_mask=_no_mask(model.network.config.get_text_config(), model.device),
        position_ids=layout.positions[None],
        use_cache=False,
        layout=layout,
    )
    last: Tensor = output.last_hidden_state[0]
    return last


def embed(model: LanguageModel, ids: Sequence[int]) -> Tensor:
    """Embeddings [tokens, hidden]; ids below zero are places of the soft prompt, counted from its end."""
    numbers = placed(ids, model.device)
    embeddings: Tensor = model.network.get_input_embeddings()(numbers.clamp(min=0))
    if model.soft_prompt is None:
        return embeddings
    soft = numbers < 0
    learned = model.soft_prompt.to(model.device, model.dtype)
    # Indexing goes both ways: the gradient of every place finds its own vector.
    return torch.where(soft[:, None], learned[numbers.clamp(max=-1)], embeddings)


def project(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Logits over the vocabulary for hidden states [..., hidden], in the model's dtype."""
    logits: Tensor = model.network.get_output_embeddings()(hidden)
    cap = _cap(model)
    return (cap * torch.tanh(wide(logits) / cap)).to(logits.dtype) if cap else logits


def token_logprobs(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of one token after each hidden state [tokens, hidden], differentiable, [tokens]."""
    head = model.network.get_output_embeddings()
    if head.weight.requires_grad or _cap(model):
        return -nn.functional.cross_entropy(wide(project(model, hidden)), targets, reduction="none")
    logprobs: Tensor = _TokenLogprobs.apply(hidden, targets, head)  # type: ignore[no-untyped-call]
    return logprobs


class _TokenLogprobs(torch.autograd.Function):
    """Through a head that does not learn: a row's gradient is its own, so it is made at once and scaled later.

    Logits of a few tokens at a time are all that is held of the vocabulary (as in Hsu et al. 2024, Liger Kernel).
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: nn.Linear) -> Tensor:
        logprobs, gradients = [], []
        for part, wanted in zip(hidden.split(LOGITS), targets.split(LOGITS), strict=True):
            logits = head(part)
            norms = operations.of(logits).normaliser(logits)
            logprobs.append(wide(logits.gather(1, wanted[:, None])[:, 0]) - norms)
            if ctx.needs_input_grad[0]:
                operations.of(logits).chances(logits, norms, wanted)
                gradients.append(logits @ head.weight)
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(logprobs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (away,) = ctx.saved_tensors
        return (-gradients[0][:, None] * away).to(away.dtype), None, None


def _cap(model: LanguageModel) -> float | None:
    cap: float | None = getattr(model.network.config.get_text_config(), "final_logit_softcapping", None)
    return cap


def _no_mask(config: Any, device: torch.device) -> Any:
    # The layout says who sees whom; a mask that is made already keeps transformers from making one.
    nothing = torch.zeros(1, 1, 1, 1, device=device)
    kinds = set(getattr(config, "layer_types", None) or ())
    return (
        dict.fromkeys(("full_attention", "sliding_attention"), nothing)
        if "sliding_attention" in kinds
        else nothing
    )
