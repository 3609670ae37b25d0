"""What a pass takes of memory, and how much may go through the network at once within a limit.

The limit is a share of what the machine has, not of what is free at the moment: how a batch is parted shows in the
last digits of its gradient, and a study must come out the same twice. `TUNEWISE_MEMORY` sets it, as in `4GB`.

>>> room_for_training(model, "lora", learned=4_900_000, longest=200)
Room(tokens=4096, checkpointed=False)
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from tunewise.cost import ModelShape
from tunewise.errors import TrialError
from tunewise.figures import bytes_of

PASS_TOKENS = 4096
"""Tokens that go through the network at once in training, at most: more are not faster."""
BATCH_TOKENS = 2048
"""The same in scoring."""
VARIABLE = "TUNEWISE_MEMORY"
"""Names the limit, as in `4GB`."""
SHARE = 0.8
"""Of the machine's memory, without a limit of the user's."""
LIBRARIES = 500e6
"""Bytes that the process takes before a model is loaded, with everything imported."""
SLACK = 1.15
"""By which a pass takes more than the tensors that are counted: padding, small ones, what the allocator keeps."""
MASTER = 4
"""Bytes of a value in float32."""
CHUNK = 1 << 24
"""Values that the optimizer updates at once, and whose gradients it holds in float32."""
LOGITS = 256
"""Positions whose logits are held at once."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
MALLOC_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""Variables by which a user sets them."""


@dataclass(frozen=True)
class Room:
    """How a batch goes through the network."""

    tokens: int
    """At once; a batch with more is taken in parts, one row at least."""
    checkpointed: bool
    """Whether only the inputs of layers are kept for the backward pass, and the rest is computed again."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model in one dtype."""

    shape: ModelShape
    itemsize: int
    """Of a value of the network."""
    parameters: int

    @property
    def weights(self) -> float:
        """Of all weights."""
        return float(self.parameters * self.itemsize)

    def kept(self, *, checkpointed: bool = False) -> float:
        """For each token, from the forward to the backward pass."""
        shape = self.shape
        if checkpointed:
            return float(shape.layers * shape.hidden * self.itemsize)
        attention = self._wide * shape.head_size * (2 * shape.heads + 2 * shape.kv_heads)
        return float(shape.layers * (attention + self.itemsize * (2 * shape.hidden + 2 * shape.intermediate)))

    @property
    def passing(self) -> float:
        """For each token, while a layer is computed."""
        shape = self.shape
        attention = self._wide * shape.head_size * 4 * (shape.heads + 2 * shape.kv_heads)
        return float(attention + self.itemsize * (4 * shape.hidden + 6 * shape.intermediate))

    @property
    def logits(self) -> float:
        """Of the positions that are projected at once, with what is made of them."""
        return float(LOGITS * self.shape.vocabulary * (self.itemsize + 1))

    def learning(self, kind: str, learned: int, *, parted: bool = False) -> float:
        """Of what learns: masters and moments in float32, what the network computes with, gradients.

        Args:
            kind: as in `Weights`.
            learned: how many values.
            parted: whether a batch is taken in parts, whose gradients are summed in float32.
        """
        same = kind == "soft-prompt" or self.itemsize == MASTER
        live = 0 if same else self.itemsize
        gradient = MASTER if same else self.itemsize
        summed = MASTER if parted and not same else 0
        return float(learned * (3 * MASTER + live + gradient + summed) + MASTER * min(learned, CHUNK))

    def training(
        self, kind: str, learned: int, tokens: float, *, checkpointed: bool = False, parted: bool = False
    ) -> float:
        """Everything, while a pass over `tokens` is trained on; see `learning`."""
        layer = self.kept() / self.shape.layers if checkpointed else 0.0
        each = self.kept(checkpointed=checkpointed) + self.passing + layer
        fixed = LIBRARIES + self.weights + self.learning(kind, learned, parted=parted) + self.logits
        return fixed + SLACK * each * tokens

    def cache(self, tokens: float) -> float:
        """Keys and values of `tokens`."""
        return float(tokens * self.shape.layers * 2 * self.shape.kv_heads * self.shape.head_size * self._wide)

    def scoring(self, tokens: float) -> float:
        """Everything, while a pass over `tokens` is scored."""
        return LIBRARIES + self.weights + self.logits + SLACK * self.passing * tokens

    @property
    def _wide(self) -> int:
        return max(4, self.itemsize)


def keep_freed() -> None:
    """Let memory that is freed stay with the process, for the next pass.

    By default glibc gives large blocks back to the system, which clears them page by page when they are asked for
    again, pass after pass. Elsewhere, and where the user has set glibc's own variables, nothing is changed.
    """
    libc = _glibc()
    if libc is not None and not any(name in os.environ for name in MALLOC_SETTINGS):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back() -> None:
    """Give what is free back to the system, where work is done."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's search for cycles: passes make none, but objects enough to set it off often."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@cache
def _glibc() -> Any:
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def limit() -> float:
    """Bytes that may be used.

    Raises:
        SettingError: `TUNEWISE_MEMORY` is not a size.
    """
    wish = os.environ.get(VARIABLE)
    if wish is not None:
        return bytes_of(wish, VARIABLE)
    return SHARE * _machine_bytes()


def _machine_bytes() -> float:
    """Memory of the GPU where there is one, else of the machine, or what of it this process is given."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    total = float(psutil.virtual_memory().total)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                total = min(total, float(file.read()))
        except (OSError, ValueError):  # no such file, or no limit in it
            continue
    return total


def room_for_training(footprint: Footprint, kind: str, learned: int, longest: int) -> Room:
    """How much of a batch may be trained on at once.

    Args:
        footprint: of the model.
        kind: of weights that learn.
        learned: how many values.
        longest: tokens of the longest row.

    Raises:
        TrialError: not even one row fits.
    """
    most = limit()
    for checkpointed in (False, True):
        fixed = footprint.training(kind, learned, 0, checkpointed=checkpointed, parted=True)
        each = footprint.training(kind, learned, 1, checkpointed=checkpointed, parted=True) - fixed
        tokens = int((most - fixed) / each)
        if tokens >= longest:
            return Room(min(tokens, PASS_TOKENS), checkpointed)
    needed = footprint.training(kind, learned, longest, checkpointed=True, parted=True)
    raise TrialError(
        f"training would take about {needed / 1e9:.1f} GB for one row of {longest:,} tokens, with {learned:,} "
        f"values learned; {most / 1e9:.1f} GB may be used. Learn fewer values (lora, soft-prompt), shorten the "
        "rows, or raise the limit with TUNEWISE_MEMORY."
    )


def tokens_for_scoring(footprint: Footprint) -> int:
    """How many tokens may be scored at once; a few in any case."""
    fixed = footprint.scoring(0)
    tokens = (limit() - fixed) / (footprint.scoring(1) - fixed)
    return max(64, min(BATCH_TOKENS, int(tokens)))
