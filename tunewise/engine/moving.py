"""Numbers and states on their way to the device that computes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def placed(values: Sequence[Any], device: torch.device) -> Tensor:
    """Integers, nested or not, as a tensor on `device`."""
    return moved(torch.tensor(values, dtype=torch.long), device)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; to a GPU by way of pinned memory, so that the processor goes on meanwhile."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
