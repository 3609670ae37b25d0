"""Keys and values of rows that are written side by side, one token of each in a pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunewise.engine import products
from tunewise.engine.attention import NOTHING, Prefix, limiting
from tunewise.engine.moving import placed
from tunewise.engine.products import Heads

ROOM = 32
"""Tokens that storage grows by at a time."""


@dataclass(eq=False)
class Slots:
    """Rows after what was encoded for all of them, and who sees whom when each gets a token."""

    earlier: Prefix = NOTHING
    """What all rows see."""
    positions: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Of each row's token in this pass, [rows]."""
    _stored: list[Tensor] = field(default_factory=list)
    """By layer, [rows, room, keys and values, head size]."""
    _lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Tokens of its own that each row has, [rows]."""
    _rows: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    """Their numbers, 0 to rows."""
    _longest: int = 0
    """Own tokens that the longest row has with the one of this pass."""
    _mask: Tensor | None = None
    """Which of its own keys each row sees, additive [rows, 1, 1, longest]."""

    @property
    def products(self) -> int:
        """Query-key pairs that a pass multiplies."""
        return len(self._lengths) * (self._longest + self.earlier.length)

    def add(self, kept: Mapping[int, Tensor], paths: Sequence[Sequence[int]]) -> None:
        """Add rows, whose tokens stand at `paths` in the pass that `kept` is of."""
        device = kept[0].device
        longest = max(map(len, paths))
        places = placed([[*path, *[0] * (longest - len(path))] for path in paths], device)
        counts = placed([len(path) for path in paths], device)
        self._lengths = torch.cat([self._lengths.to(device), counts])
        for layer in sorted(kept):
            new = kept[layer][places]
            if layer < len(self._stored):
                room = max(longest, self._stored[layer].shape[1])
                self._stored[layer] = torch.cat([_widened(self._stored[layer], room), _widened(new, room)])
            else:
                self._stored.append(new)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        places = placed(rows, self._lengths.device)
        self._lengths = self._lengths[places]
        self._each(lambda stored: stored[places])

    def _each(self, change: Callable[[Tensor], Tensor]) -> None:
        """Change what is stored, a layer at a time: two of all layers would take twice the memory."""
        for layer, stored in enumerate(self._stored):
            self._stored[layer] = change(stored)

    def begin(self) -> None:
        """Prepare for a pass: where the new tokens go, and what they see."""
        self._longest = longest = int(self._lengths.max()) + 1
        if longest > self._stored[0].shape[1]:
            self._each(lambda stored: _widened(stored, longest + ROOM))
        self.positions = self._lengths + self.earlier.length
        device = self.positions.device
        self._rows = torch.arange(len(self._lengths), device=device)
        seen = torch.arange(longest, device=device)[None] <= self._lengths[:, None]
        self._mask = products.additive(seen, self._stored[0].dtype)[:, None, None]

    def end(self) -> None:
        """The tokens of the pass now belong to their rows."""
        self._lengths = self._lengths + 1

    def attend(self, layer: int, joined: Tensor, heads: Heads, scale: float, window: int | None) -> Tensor:
        """As `Layout.attend`, for one token of each row; its keys and values are stored."""
        stored = self._stored[layer]
        stored[self._rows, self._lengths] = heads.keys_values(joined)
        own = stored[:, : self._longest].transpose(1, 2).split(heads.key, dim=1)
        earlier = self.earlier.of(layer)
        window = limiting(window, self.earlier.length + self._longest)
        if window is None and products.has_parts(joined):
            return self._merged(joined[:, : heads.query], own, earlier, heads, scale)
        mask = self._mask
        assert mask is not None
        if earlier is not None:
            shared = earlier.transpose(0, 1).expand(len(stored), -1, -1, -1).split(heads.key, dim=1)
            own = tuple(torch.cat(pair, dim=2) for pair in zip(shared, own, strict=True))
            mask = torch.cat([mask.new_zeros(len(stored), 1, 1, self.earlier.length), mask], dim=3)
        if window is not None:
            places = torch.arange(mask.shape[3], device=mask.device)
            mask = mask + products.additive(self.positions[:, None] - places < window, mask.dtype)[:, None, None]
        output = products.masked(joined[:, : heads.query, None], own[0], own[1], mask, scale)
        return output[:, :, 0]

    def _merged(
        self, query: Tensor, own: Sequence[Tensor], earlier: Tensor | None, heads: Heads, scale: float
    ) -> Tensor:
        """What queries [rows, heads, size] see in their own rows, and in what all share: one product for all."""
        part, weight = products.product(query[:, :, None], own[0], own[1], scale, self._mask)
        output, normaliser = part[:, :, 0], weight[:, :, 0]
        if earlier is not None:
            k, v = earlier[None].transpose(1, 2).split(heads.key, dim=1)
            part, weight = products.product(query[None].transpose(1, 2), k, v, scale)
            products.merge(output, normaliser, part[0].transpose(0, 1), weight[0].transpose(0, 1))
        return output


def _widened(stored: Tensor, room: int) -> Tensor:
    """[rows, tokens, …] with space for `room` tokens."""
    return torch.nn.functional.pad(stored, (0, 0, 0, 0, 0, room - stored.shape[1]))
