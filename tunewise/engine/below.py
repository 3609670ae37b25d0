"""What frozen lower layers give, computed once for each row and kept: only the layers above run in every pass.

>>> below = Below.of(model, weights.tensors, lengths)
>>> below.states(laid, numbers)      # [tokens of the pass, hidden], as the layers above read them
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from tunewise.engine import memory
from tunewise.engine.forward import embed
from tunewise.engine.laying import Pass
from tunewise.engine.model import LanguageModel
from tunewise.engine.moving import moved

MAPPED = 0.25
"""Share of the memory limit above which the states lie in a file that is mapped into memory."""


class Below:
    """Hidden states in front of the lowest layer that learns."""

    def __init__(self, model: LanguageModel, layers: int, lengths: Sequence[int]) -> None:
        """Make room for the states.

        Args:
            model: whose layers run as blocks.
            layers: how many of them, from the lowest, do not learn.
            lengths: tokens of every row that may be asked for, by its number.
        """
        self.model, self.layers = model, layers
        self._ends = [0, *accumulate(lengths)]
        self._done: set[int] = set()
        self._states = self._room(self._ends[-1], model.shape.hidden)

    @classmethod
    def of(cls, model: LanguageModel, learned: Iterable[str], lengths: Sequence[int]) -> Below | None:
        """The layers below all that learns; None where there are none, or the network has no blocks.

        Args:
            model: that learns.
            learned: names of the learned tensors, as in `Weights`.
            lengths: tokens of every row that it learns from.
        """
        layers = _frozen(model, learned) if model.blocks is not None else 0
        return cls(model, layers, lengths) if layers else None

    @property
    def share(self) -> float:
        """Of a pass through all layers, what the layers above take."""
        return 1 - self.layers / self.model.shape.layers

    @torch.no_grad()
    def states(self, laid: Pass, numbers: Sequence[int]) -> Tensor:
        """Hidden states [tokens, hidden] of a pass, given the numbers of its rows; computed if one is new."""
        if not self._done.issuperset(numbers[row] for row in laid.rows):
            return self._compute(laid, numbers)
        states = self._states.new_zeros(len(laid.ids), self._states.shape[1])
        for row in laid.rows:
            begin = self._ends[numbers[row]]
            for first, count in laid.paths[row]:
                states[first : first + count] = self._states[begin : begin + count]
                begin += count
        return moved(states, self.model.device)

    def _compute(self, laid: Pass, numbers: Sequence[int]) -> Tensor:
        blocks = self.model.blocks
        assert blocks is not None
        states = blocks.lower(embed(self.model, laid.ids), laid.layout, self.layers)
        share = 1 - self.share
        self.model.count("score", tokens=share * laid.tokens, products=share * laid.layout.products, projected=0)
        for row in laid.rows:
            number, path = numbers[row], [states[first : first + count] for first, count in laid.paths[row]]
            self._states[self._ends[number] : self._ends[number + 1]] = torch.cat(path).cpu()
            self._done.add(number)
        return states

    def _room(self, tokens: int, size: int) -> Tensor:
        dtype = self.model.dtype
        if tokens * size * dtype.itemsize <= MAPPED * memory.limit():
            return torch.empty(tokens, size, dtype=dtype)
        folder = tempfile.mkdtemp(prefix="tunewise-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        file = Path(folder, "states")
        return torch.from_file(str(file), shared=True, size=tokens * size, dtype=dtype).view(tokens, size)


def _frozen(model: LanguageModel, learned: Iterable[str]) -> int:
    """How many layers lie below all that learns."""
    layers = list(model.decoder.layers)
    number_of = {id(layer): number for number, layer in enumerate(layers)}
    prefixes = {
        f"{name}.": number_of[id(module)]
        for name, module in model.network.named_modules()
        if id(module) in number_of
    }
    norm = next(name for name, module in model.network.named_modules() if module is model.decoder.norm)
    lowest = len(layers)
    for name in learned:
        inside = next((number for prefix, number in prefixes.items() if name.startswith(prefix)), None)
        if inside is None and not name.startswith(f"{norm}."):
            return 0  # embeddings, a soft prompt, a head that may be tied to the embeddings
        lowest = min(lowest, len(layers) if inside is None else inside)
    return lowest
