r"""Text after each prompt: a row that ends gives its place to the next one, and all share what they begin with.

>>> generate(model, prompts, max_tokens=32, stop=("\n",))[0].text
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunewise.engine.attention import NOTHING, Prefix
from tunewise.engine.forward import encode, project, rows_of, run
from tunewise.engine.laying import Pass, lay_out
from tunewise.engine.memory import tokens_for_scoring, uncollected
from tunewise.engine.model import LanguageModel
from tunewise.engine.operations import wide
from tunewise.engine.slots import Slots
from tunewise.engine.tree import Node, Row, common_prefix, grow, in_order

MOST_ROWS = 64
"""Rows that are written side by side: a step reads all weights, and many rows take little longer than one."""
WRITTEN = 8
"""Tokens that are kept for rows on their way, as a multiple of those that are read at once."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; greedily at temperature zero."""

    temperature: float = 0.0
    """Logits are divided by it."""
    top_p: float = 1.0
    """Only the likeliest tokens that make up this probability are drawn from (Holtzman et al. 2020)."""
    seed: int = 0
    """Each row draws from a generator of its own, so its text does not depend on the rows beside it."""


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


@uncollected()
def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
    sampling: Sampling | None = None,
    batch_tokens: int | None = None,
) -> list[Generated]:
    """Continue each prompt.

    Args:
        model: carries its weights already.
        prompts: token ids of each prompt, none empty.
        max_tokens: longest continuation.
        stop: strings that end a continuation; they are cut off.
        sampling: how tokens are drawn; greedily by default.
        batch_tokens: bounds the tokens that are read at once, and, `WRITTEN` times, those that rows on their way
            have of their own; by default what fits into memory.
    """
    start = time.perf_counter()
    writing = Writing(model, prompts, max_tokens, stop, sampling or Sampling(), batch_tokens)
    for _ in writing.tokens():
        pass
    # Rows overlap in time, so that only a share of the whole can be given to each.
    milliseconds = (time.perf_counter() - start) * 1000 / max(1, len(prompts))
    return [
        Generated(text.text, text.finished, milliseconds, len(row.tokens), writing.prefix.length, len(text.tokens))
        for row, text in zip(writing.rows, writing.texts, strict=True)
    ]


def stream(
    model: LanguageModel,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
    sampling: Sampling | None = None,
) -> Iterator[str]:
    """Pieces of the text after one prompt, as they are written; together they are what `generate` gives."""
    writing = Writing(model, [prompt], max_tokens, stop, sampling or Sampling())
    given = 0
    for _ in writing.tokens():
        text = writing.texts[0]
        safe = text.text if text.ended else _safe(model.decode(text.tokens), stop)
        if len(safe) > given:
            yield safe[given:]
            given = len(safe)


def _safe(text: str, stop: Sequence[str]) -> str:
    """The part of an unfinished `text` that no later token can change: no half character, no half stop string."""
    text = text.rstrip("\ufffd")
    held = max(
        (size for mark in stop for size in range(1, len(mark)) if text.endswith(mark[:size])),
        default=0,
    )
    return text[: len(text) - held]


@dataclass
class _Text:
    """One row as far as it is written."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    """Of all tokens; made when it ends, or is looked through for stop strings."""
    finished: bool = False
    ended: bool = False


class Writing:
    """Rows on their way: prompts that wait, rows that are written side by side, texts that have ended."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        max_tokens: int,
        stop: Sequence[str],
        sampling: Sampling,
        batch_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.rows = rows_of(model, prompts)
        self.texts = [_Text() for _ in prompts]
        self.prefix: Prefix = NOTHING
        self._max_tokens = max_tokens
        self._stop = tuple(stop)
        self._sampling = sampling
        self._budget = batch_tokens or tokens_for_scoring(model.footprint)
        self._draws: dict[int, torch.Generator] = {}

    @torch.inference_mode()
    def tokens(self) -> Iterator[int]:
        """Write everything; yields the number of each row that got a token or ended."""
        waiting = in_order(self.rows)[::-1]
        if not waiting or self._max_tokens < 1:
            return
        self._encode_shared()
        own = max(len(row.tokens) for row in waiting) - self.prefix.length + self._max_tokens
        places = max(1, min(MOST_ROWS, len(waiting), WRITTEN * self._budget // own))
        slots = Slots(self.prefix)
        alive: list[int] = []
        chosen: list[int] = []
        while waiting or alive:
            # A quarter of the places is filled at once: reading prompts one by one would cost a pass for each.
            if waiting and len(alive) <= places - max(1, places // 4):
                taken = list(range(len(alive)))
                fresh, tokens = self._read(waiting, places - len(alive), slots)
                alive, chosen = [*alive, *fresh], [*chosen, *tokens]
            else:
                taken = []
                fresh, chosen = alive, self._step(alive, chosen, slots)
            first = len(taken)
            going = [self._take(row, token) for row, token in zip(alive[first:], chosen[first:], strict=True)]
            if not all(going):
                keep = [*taken, *(first + place for place, goes in enumerate(going) if goes)]
                slots.keep(keep)
                alive, chosen = [alive[place] for place in keep], [chosen[place] for place in keep]
            yield from fresh

    def _encode_shared(self) -> None:
        """Encode what all prompts share."""
        shared = common_prefix([row.tokens for row in self.rows]) if len(self.rows) > 1 else 0
        if shared:
            self.prefix = encode(self.model, Node(self.rows[0].tokens[:shared], 0), NOTHING)

    def _read(self, waiting: list[Row], most: int, slots: Slots) -> tuple[list[int], list[int]]:
        """Read the next prompts into free places; their numbers, and the first token of each."""
        rows: list[Row] = []
        size = 0
        while waiting and len(rows) < most:
            size += len(waiting[-1].tokens) - self.prefix.length
            if rows and size > self._budget:
                break
            rows.append(waiting.pop())
        laid = lay_out(grow(rows, depth=self.prefix.length), self.model.device, self.prefix)
        kept: dict[int, Tensor] = {}
        laid.layout.kept = kept
        last = [laid.place(row.number, len(row.tokens) - 1) for row in rows]
        hidden = run(self.model, laid.ids, laid.layout, last)
        slots.add(kept, [_path(laid, row.number) for row in rows])
        numbers = [row.number for row in rows]
        tokens = self._choose(numbers, project(self.model, hidden))
        self.model.count("score", tokens=laid.tokens, products=laid.layout.products, projected=len(rows))
        return numbers, tokens

    def _step(self, rows: list[int], tokens: list[int], slots: Slots) -> list[int]:
        """The next token of each of `rows`, whose last ones were `tokens`."""
        slots.begin()
        hidden = run(self.model, tokens, slots, range(len(tokens)))
        slots.end()
        self.model.count("generate", tokens=len(rows), products=slots.products, projected=len(rows))
        return self._choose(rows, project(self.model, hidden))

    def _choose(self, rows: list[int], logits: Tensor) -> list[int]:
        if self._sampling.temperature <= 0:
            tokens: list[int] = logits.argmax(dim=-1).tolist()
            return tokens
        return [self._draw(row, scores) for row, scores in zip(rows, logits, strict=True)]

    def _draw(self, row: int, logits: Tensor) -> int:
        """A token of the smallest set that holds `top_p` of the probability."""
        if row not in self._draws:
            self._draws[row] = torch.Generator().manual_seed(self._sampling.seed * 1_000_003 + row)
        likely = (wide(logits) / self._sampling.temperature).softmax(dim=-1).cpu()
        probabilities, order = likely.sort(descending=True)
        beyond = probabilities.cumsum(dim=0) - probabilities >= self._sampling.top_p
        beyond[0] = False  # the likeliest always stays
        drawn = torch.multinomial(probabilities.masked_fill(beyond, 0.0), 1, generator=self._draws[row])
        return int(order[drawn])

    def _take(self, row: int, token: int) -> bool:
        """Add `token` to `row`; whether the row goes on."""
        text = self.texts[row]
        if token in self.model.end_ids:
            text.text = self.model.decode(text.tokens)
            text.finished = text.ended = True
            return False
        text.tokens.append(token)
        text.ended = len(text.tokens) >= self._max_tokens
        if text.ended or self._stop:
            text.text = self.model.decode(text.tokens)
        cuts = [text.text.index(mark) for mark in self._stop if mark in text.text]
        if cuts:
            text.text = text.text[: min(cuts)]
            text.finished = text.ended = True
        return not text.ended


def _path(laid: Pass, row: int) -> list[int]:
    """Places of all tokens of `row` in the pass."""
    return [place for first, count in laid.paths[row] for place in range(first, first + count)]
