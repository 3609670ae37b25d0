"""One pass over a tree of tokens, and what is read from it: hidden states, keys and values, logits.

A row begins with the soft prompt that the model carries, if it carries one; its places are counted like tokens,
under ids below zero. Only hidden states come out; `project` turns the few that somebody reads into logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunewise.engine.attention import NOTHING, AttendsBy, Group, Layout, Link, Prefix
from tunewise.engine.memory import LOGITS
from tunewise.engine.model import LanguageModel
from tunewise.engine.tree import Node, Row, grow


@dataclass(frozen=True)
class Ending:
    """Tokens that go on after every row, each after its own ancestors: labels, as a trie."""

    tokens: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    """How far each is from the end of the row, from 1."""
    ancestors: np.ndarray | None = None
    """Bool [tokens, tokens]: which of them each one sees, itself included."""


WIDE_AT_ONCE = 16
"""Positions whose logits are held in float32 at once."""
CALL = 1500
"""Query-key pairs that take as long as starting one more product: what padding may cost instead."""
ALIKE = 8
"""Passes of `filled` trees have a multiple of so many tokens."""
FILLED = 20 * ALIKE
"""Tokens from which on trees are filled: less than 5 % of all is filling."""
NO_ENDING = Ending()


@dataclass(eq=False)
class Pass:
    """Trees laid out one after the other."""

    ids: list[int]
    layout: Layout
    leaves: dict[int, tuple[int, int]]
    """For each row that ends here, the depth and the place of the first token of its own."""
    paths: dict[int, list[tuple[int, int]]]
    """For each row, first place and number of tokens of its nodes in this pass, the leaf last."""

    @property
    def rows(self) -> list[int]:
        """The rows that end in it."""
        return list(self.leaves)

    def place(self, row: int, index: int) -> int:
        """Where token `index` of `row` stands, one of its own; those beyond the row are of its ending."""
        depth, first = self.leaves[row]
        return first + index - depth


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
    for node in nodes:
        weight = node.weight + len(ending.tokens) * node.leaves
        if node.children and weight > budget:
            yield from _passes(model, node.children, encode(model, node, prefix), budget, ending)
            continue
        if waiting and size + weight > budget:
            yield lay_out(model, waiting, prefix, ending)
            waiting, size = [], 0
        waiting.append(node)
        size += weight
    if waiting:
        yield lay_out(model, waiting, prefix, ending)


def encode(model: LanguageModel, node: Node, prefix: Prefix) -> Prefix:
    """`prefix`, then the tokens of `node` alone."""
    laid = lay_out(model, [Node(node.tokens, node.depth, row=0)], prefix)
    kept = laid.layout.kept = {}
    run(model, laid.ids, laid.layout, ())
    model.count("score", tokens=len(laid.ids), products=laid.layout.products, projected=0)
    return prefix.then([kept[layer] for layer in sorted(kept)])


def lay_out(
    model: LanguageModel, trees: Sequence[Node], prefix: Prefix = NOTHING, ending: Ending = NO_ENDING
) -> Pass:
    """The tokens of `trees` one after the other, and who sees whom; nodes without a row are read by nobody."""
    ids: list[int] = []
    positions: list[int] = []
    leaves: dict[int, tuple[int, int]] = {}
    paths: dict[int, list[tuple[int, int]]] = {}
    links: list[Link] = []
    own: list[tuple[int, int, bool]] = []

    def put(node: Node, path: list[tuple[int, int]]) -> None:
        first, count = len(ids), len(node.tokens)
        path = [*path, (first, count)]
        own.append((first, count, node.row is not None))
        ids.extend(node.tokens)
        positions.extend(range(node.depth, node.depth + count))
        if node.row is not None:
            leaves[node.row], paths[node.row] = (node.depth, first), path
            ids.extend(ending.tokens)
            positions.extend(node.depth + count - 1 + depth for depth in ending.depths)
        for child in node.children:
            put(child, path)
        if node.children:
            links.append(Link(slice(first + count, len(ids)), slice(first, first + count)))

    for tree in trees:
        put(tree, [])
    layout = Layout(
        positions=torch.tensor(positions, device=model.device),
        reach=max(positions) + 1,
        groups=list(_groups(own, ending, model.device)),
        links=links,
        earlier=prefix,
    )
    return Pass(ids, layout, leaves, paths)


def filled(trees: Sequence[Node]) -> list[Node]:
    """`trees`, and a few tokens that nobody reads: for each new number of tokens, products are prepared anew."""
    count = sum(tree.weight for tree in trees)
    missing = -count % ALIKE if count >= FILLED else 0
    return [*trees, Node((0,) * missing, 0)] if missing else list(trees)


def _groups(own: Sequence[tuple[int, int, bool]], ending: Ending, device: torch.device) -> Iterator[Group]:
    """Nodes (first place, tokens, whether an ending follows) of similar length side by side."""
    for ends in (False, True):
        nodes = [(first, count) for first, count, leaf in own if (leaf and bool(ending.tokens)) == ends]
        for alike in _alike(nodes, len(ending.tokens) if ends else 0):
            yield _group(alike, ending if ends else NO_ENDING, device)


def _alike(nodes: Sequence[tuple[int, int]], more: int) -> Iterator[list[tuple[int, int]]]:
    """Nodes split by length so that the products of padding and those that a call is worth are fewest.

    Args:
        nodes: first place and number of tokens.
        more: tokens that follow each.
    """
    by_length: dict[int, list[tuple[int, int]]] = {}
    for node in sorted(nodes, key=lambda node: node[1]):
        by_length.setdefault(node[1], []).append(node)
    lengths = list(by_length)
    best, begins = [0.0], [0]
    for end, longest in enumerate(lengths, start=1):
        options = []
        count = 0
        for begin in range(end - 1, -1, -1):
            count += len(by_length[lengths[begin]])
            options.append((best[begin] + CALL + count * (longest + more) ** 2, begin))
        cost, begin = min(options)
        best.append(cost)
        begins.append(begin)
    end = len(lengths)
    while end:
        yield [node for length in lengths[begins[end] : end] for node in by_length[length]]
        end = begins[end]


def _group(nodes: Sequence[tuple[int, int]], ending: Ending, device: torch.device) -> Group:
    firsts = torch.tensor([first for first, _ in nodes], device=device)[:, None]
    counts = torch.tensor([count for _, count in nodes], device=device)[:, None]
    inside = torch.arange(int(counts.max()), device=device)[None]
    real = inside < counts
    places = torch.where(real, firsts + inside, firsts)
    if not ending.tokens:
        return Group(places, real)
    after = torch.arange(len(ending.tokens), device=device)[None]
    places = torch.cat([places, firsts + counts + after], dim=1)
    all_real = torch.cat([real, after.expand(len(nodes), -1) >= 0], dim=1)
    return Group(places, all_real, _seen_with(real, ending, device))


def _seen_with(real: Tensor, ending: Ending, device: torch.device) -> Tensor:
    """Who sees whom in rows followed by an ending: a row's tokens what came before, the ending its ancestors."""
    nodes, width = real.shape
    count = len(ending.tokens)
    seen = torch.zeros(nodes, width + count, width + count, dtype=torch.bool, device=device)
    seen[:, :width, :width] = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    seen[:, width:, :width] = real[:, None]
    seen[:, width:, width:] = torch.from_numpy(ending.ancestors).to(device)
    return seen


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
    places = torch.tensor(read, dtype=torch.long, device=model.device)
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
    numbers = torch.tensor(ids, device=model.device)
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


def wide(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def normaliser(logits: Tensor) -> Tensor:
    """Logarithm of the sum of exponentials of [positions, vocabulary], in float32 at least, [positions]."""
    # A few rows at a time stay in the cache.
    return torch.cat([wide(part).logsumexp(dim=-1) for part in logits.split(WIDE_AT_ONCE)])


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
            for few, tokens in zip(logits.split(WIDE_AT_ONCE), wanted.split(WIDE_AT_ONCE), strict=True):
                scores = wide(few)
                scores -= scores.logsumexp(dim=-1, keepdim=True)
                logprobs.append(scores.gather(1, tokens[:, None])[:, 0])
                if ctx.needs_input_grad[0]:
                    chances = scores.exp_()
                    chances[torch.arange(len(tokens), device=tokens.device), tokens] -= 1
                    few.copy_(chances)
            if ctx.needs_input_grad[0]:
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
