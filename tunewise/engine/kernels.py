"""What lies between a layer's products, compiled: norms, gates, rotation, short rows' attention, distributions.

Written with torch, each of these is a walk over memory for every sum and every factor; in `kernels.c` each is one.
Without a C compiler, on other systems than Linux, in other dtypes and on a GPU, the same is done with torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewise.engine import compiling

SOURCE = Path(__file__).with_name("kernels.c")
DTYPES = (torch.float32, torch.bfloat16)
WIDEST = 96
"""Places of a frame whose attention is quicker here than as a product."""
GATES = {"silu": 0, "gelu_pytorch_tanh": 1}
"""Activations, as `kernels.c` counts them."""


def serving(device: torch.device, dtype: torch.dtype) -> Kernels | None:
    """What computes on such tensors; None where torch does."""
    return _kernels() if device.type == "cpu" and dtype in DTYPES else None


@cache
def _kernels() -> Kernels | None:
    library = compiling.load(SOURCE, [f"WIDEST={WIDEST}"])
    return Kernels(library) if library is not None else None


_FLAG, _COUNT, _FLOAT, _TENSOR = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_SIGNATURES: dict[str, Sequence[Any]] = {
    "tw_norm": (*[_TENSOR] * 5, *[_COUNT] * 2, _FLOAT, _FLAG, _FLAG),
    "tw_norm_back": (*[_TENSOR] * 6, *[_COUNT] * 2, _FLAG),
    "tw_gate": (*[_TENSOR] * 3, _COUNT, _FLAG, _FLAG),
    "tw_gate_back": (*[_TENSOR] * 5, _COUNT, _FLAG, _FLAG),
    "tw_normaliser": (*[_TENSOR] * 2, *[_COUNT] * 2, _FLAG),
    "tw_chances": (*[_TENSOR] * 3, *[_COUNT] * 2, _FLAG),
    "tw_join": (*[_TENSOR] * 6, *[_COUNT] * 4, _FLAG),
    "tw_part": (*[_TENSOR] * 6, *[_COUNT] * 4, _FLAG),
    "tw_attend": (*[_TENSOR] * 5, *[_COUNT] * 4, _FLOAT),
    "tw_attend_back": (*[_TENSOR] * 7, *[_COUNT] * 4, _FLOAT),
}


@dataclass(frozen=True, eq=False)
class Frames:
    """Runs of places whose tokens see one another, and no others of the frames."""

    ends: Tensor
    """Of every place of the pass, the first one behind it that does not see it, [tokens]."""
    places: Tensor
    """First place and width of each frame, no wider than `WIDEST`, [frames, 2]."""

    def given(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Both, as they are read for a pass of `tokens`."""
        ends = _given(self.ends, (tokens,), torch.long)
        return ends, _given(self.places, (len(self.places), 2), torch.long)


class Kernels:
    """The functions of `kernels.c` on tensors on the CPU, all of one of `DTYPES` unless said otherwise.

    They are those of `operations.Plain`, and the attention of frames. For tensors that do not go together each
    raises RuntimeError, as torch does.
    """

    def __init__(self, library: Any) -> None:
        self._functions: dict[str, Any] = {}
        for name, types in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None
            self._functions[name] = function

    def norm(self, x: Tensor, weight: Tensor, eps: float, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`added` put into `x` [..., size], then `x` normed, and its factor [..., 1] in float32."""
        rows, size = _rows(x)
        if added is None:
            x = x.contiguous()
        else:
            _place(x, x.shape, x.dtype)
            added = _given(added, x.shape, x.dtype)
        weight = _given(weight, (size,), x.dtype)
        y, factor = _new(x.shape, x.dtype), _new((*x.shape[:-1], 1))
        self._run("tw_norm", x, added, weight, y, factor, rows, size, eps, False, _wide(x))
        return y, factor

    def weighted(self, x: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
        """`x` normed, from its factor."""
        rows, size = _rows(x)
        weight, factor = _given(weight, (size,), x.dtype), _given(factor, (*x.shape[:-1], 1))
        x, y = x.contiguous(), _new(x.shape, x.dtype)
        self._run("tw_norm", x, None, weight, y, factor, rows, size, 0.0, True, _wide(x))
        return y

    def norm_back(
        self, x: Tensor, factor: Tensor, weight: Tensor, to_y: Tensor, more: Tensor | None = None
    ) -> Tensor:
        """The gradient of `x` from that of `x` normed, with `more` added to it."""
        rows, size = _rows(x)
        weight, factor = _given(weight, (size,), x.dtype), _given(factor, (*x.shape[:-1], 1))
        to_y = _given(to_y, x.shape, x.dtype)
        if more is not None:
            more = _given(more, x.shape, x.dtype)
        x, to_x = x.contiguous(), _new(x.shape, x.dtype)
        self._run("tw_norm_back", x, factor, weight, to_y, more, to_x, rows, size, _wide(x))
        return to_x

    def gate(self, name: str, gate: Tensor, through: Tensor, *, into_gate: bool) -> Tensor:
        """What is let through, in the place of `gate` where nobody wants that any more."""
        through = _given(through, gate.shape, gate.dtype)
        inner = _place(gate, gate.shape, gate.dtype) if into_gate else _new(gate.shape, gate.dtype)
        gate = gate.contiguous()
        self._run("tw_gate", gate, through, inner, gate.numel(), GATES[name], _wide(gate))
        return inner

    def gate_back(self, name: str, gate: Tensor, through: Tensor, to_inner: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `gate` and `through`."""
        through, to_inner = (_given(tensor, gate.shape, gate.dtype) for tensor in (through, to_inner))
        gate, to_gate, to_through = gate.contiguous(), _new(gate.shape, gate.dtype), _new(gate.shape, gate.dtype)
        numbers = gate.numel(), GATES[name], _wide(gate)
        self._run("tw_gate_back", gate, through, to_inner, to_gate, to_through, *numbers)
        return to_gate, to_through

    def normaliser(self, logits: Tensor) -> Tensor:
        """Logarithm of the sum of exponentials of [positions, vocabulary], in float32, [positions]."""
        rows, size = _rows(logits)
        logits, normaliser = logits.contiguous(), _new((rows,))
        self._run("tw_normaliser", logits, normaliser, rows, size, _wide(logits))
        return normaliser

    def chances(self, logits: Tensor, normaliser: Tensor, targets: Tensor) -> None:
        """Turn logits [positions, vocabulary] into the gradient of each negative log-probability of its target."""
        rows, size = _rows(_place(logits, logits.shape, logits.dtype))
        normaliser, targets = _given(normaliser, (rows,)), _given(targets, (rows,), torch.long)
        self._run("tw_chances", logits, normaliser, targets, rows, size, _wide(logits))

    def join(self, parts: Sequence[Tensor], cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values, each [tokens, heads, size], as one tensor in float32, the first two turned."""
        tokens, queries, size = parts[0].shape
        keys, dtype = parts[1].shape[1], parts[0].dtype
        held = [
            _given(part, (tokens, n, size), dtype) for part, n in zip(parts, (queries, keys, keys), strict=True)
        ]
        angles = [_given(angle, (tokens, 1, size)) for angle in (cos, sin)]
        joined = _new((tokens, queries + 2 * keys, size))
        self._run("tw_join", *held, *angles, joined, tokens, queries, keys, size, dtype == torch.float32)
        return joined

    def part(
        self, joined: Tensor, counts: Sequence[int], dtype: torch.dtype, cos: Tensor, sin: Tensor
    ) -> list[Tensor]:
        """The way back: [tokens, all heads, size] in float32 as three in `dtype`, the first two turned back."""
        tokens, _, size = joined.shape
        joined = _given(joined, (tokens, sum(counts), size))
        angles = [_given(angle, (tokens, 1, size)) for angle in (cos, sin)]
        parts = [_new((tokens, count, size), dtype) for count in counts]
        self._run("tw_part", joined, *angles, *parts, tokens, counts[0], counts[1], size, dtype == torch.float32)
        return parts

    def attend(
        self, joined: Tensor, frames: Frames, counts: Sequence[int], scale: float, into: Sequence[Tensor]
    ) -> None:
        """Attention within `frames`, all in float32.

        Args:
            joined: queries, keys and values, [tokens, all heads, size].
            frames: who sees whom.
            counts: heads of queries, keys and values.
            scale: of the products.
            into: output [tokens, heads, size] and logarithm of the normaliser [tokens, heads], to be filled.
        """
        tokens, _, size = joined.shape
        held = (_given(joined, (tokens, sum(counts), size)), *frames.given(tokens))
        output, normaliser = _place(into[0], (tokens, counts[0], size)), _place(into[1], (tokens, counts[0]))
        self._run("tw_attend", *held, output, normaliser, len(frames.places), *counts[:2], size, scale)

    def attend_back(
        self,
        grad: Tensor,
        joined: Tensor,
        frames: Frames,
        counts: Sequence[int],
        scale: float,
        merged: Sequence[Tensor],
        back: Tensor,
    ) -> None:
        """Fill `back` with the gradient of `joined`, from the output and normaliser of all that a token sees."""
        tokens, _, size = joined.shape
        held = (_given(joined, (tokens, sum(counts), size)), *frames.given(tokens))
        grad, output = (_given(tensor, (tokens, counts[0], size)) for tensor in (grad, merged[0]))
        normaliser, back = _given(merged[1], (tokens, counts[0])), _place(back, joined.shape)
        numbers = (len(frames.places), *counts[:2], size, scale)
        self._run("tw_attend_back", grad, *held, output, normaliser, back, *numbers)

    def _run(self, name: str, *arguments: Any) -> None:
        """Call a function with contiguous tensors, numbers, and None for a tensor that is not there."""
        self._functions[name](*(value.data_ptr() if isinstance(value, Tensor) else value for value in arguments))


def _new(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(tuple(shape), dtype=dtype, device="cpu")


def _given(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor to be read, contiguous; the caller holds it until it has been."""
    if tensor.dtype != dtype or not tensor.is_cpu or tensor.shape != shape:
        found = f"{tuple(tensor.shape)} in {tensor.dtype} on {tensor.device}"
        raise RuntimeError(f"expected a tensor of {tuple(shape)} in {dtype} on the CPU, found {found}")
    return tensor.contiguous()


def _place(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor to be written, which must be contiguous itself."""
    if not tensor.is_contiguous():
        raise RuntimeError(f"expected a contiguous tensor to write to, found strides {tensor.stride()}")
    return _given(tensor, shape, dtype)


def _rows(x: Tensor) -> tuple[int, int]:
    """How many rows, of how many values."""
    size = x.shape[-1]
    return x.numel() // size, size


def _wide(x: Tensor) -> bool:
    return x.dtype == torch.float32
