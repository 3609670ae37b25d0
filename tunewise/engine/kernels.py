"""What lies between a layer's products, compiled for this machine: norms, gates, rotation, short rows' attention.

Written with torch, each of these is a walk over memory for every sum and every factor; in `kernels.c` each is one.
The file is compiled when it is first wanted, with the C compiler of the machine, and kept in the cache folder.
Where there is none, on other systems than Linux, in other dtypes and on a GPU, the same is done with torch.
`TUNEWISE_KERNELS=off` leaves the compiler alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewise.engine.hardware import processor_features, processor_name
from tunewise.errors import SettingError

SOURCE = Path(__file__).with_name("kernels.c")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
"""Nothing that would let the compiler suppose that all numbers are finite."""
TIMEOUT = 120
"""Seconds that a compiler may take; it takes two."""
DTYPES = (torch.float32, torch.bfloat16)
WIDEST = 96
"""Places of a frame whose attention is quicker here than as a product."""
GATES = {"silu": 0, "gelu_pytorch_tanh": 1}
"""Activations, as `kernels.c` counts them."""


def compiled(x: Tensor) -> Kernels | None:
    """What computes on tensors like `x`; None where torch does."""
    return _kernels() if serves(x.device, x.dtype) else None


def serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether operations on such tensors are compiled here."""
    return device.type == "cpu" and dtype in DTYPES and _kernels() is not None


@cache
def _kernels() -> Kernels | None:
    library = _library()
    return Kernels(library) if library is not None else None


def _library() -> Any:
    """The compiled file, loaded; None where that cannot be."""
    wish = os.environ.get("TUNEWISE_KERNELS", "on")
    if wish not in ("on", "off"):
        raise SettingError(f"TUNEWISE_KERNELS is {wish!r}; expected on or off.")
    if wish == "off" or not sys.platform.startswith("linux"):
        return None
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        try:
            path = _kept(compiler)
            _torchs_threads()
            return ctypes.CDLL(str(path))
        except (OSError, subprocess.SubprocessError):  # no room, flags that it does not know, another OpenMP
            continue
    return None


def _kept(compiler: str) -> Path:
    """The compiled file in the cache folder; it is of one source, compiler and kind of processor."""
    from tunewise.catalog import cache_folder

    said = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT, check=True).stdout
    processor = f"{processor_name()} {processor_features()}".encode()
    of = hashlib.sha256(b"\n".join([SOURCE.read_bytes(), " ".join(FLAGS).encode(), said, processor]))
    path = cache_folder() / "kernels" / f"{of.hexdigest()[:16]}.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            parts, whole = Path(folder, "kernels.o"), Path(folder, path.name)
            # Linked without OpenMP: its names are those of the library that torch has loaded.
            for command in (
                [compiler, *FLAGS, "-c", str(SOURCE), "-o", str(parts)],
                [compiler, "-shared", str(parts), "-o", str(whole), "-lm"],
            ):
                subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True)
            whole.replace(path)
    return path


def _torchs_threads() -> None:
    """Make the OpenMP that torch uses known to what is loaded next: a second one would fight it for the cores."""
    folder = Path(torch.__file__).parent
    for found in (*folder.glob("lib/libgomp*"), *folder.parent.glob("torch.libs/libgomp*")):
        ctypes.CDLL(str(found), mode=ctypes.RTLD_GLOBAL)


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


class Kernels:
    """The functions of `kernels.c` on tensors on the CPU, all of one of `DTYPES` unless said otherwise.

    What each gives is said where the same is written with torch: `parts.Norm`, `parts.Gate`, `parts.Rotation`, and
    the frames of `attention`.
    """

    def __init__(self, library: Any) -> None:
        self._functions: dict[str, Any] = {}
        for name, types in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = types, None
            self._functions[name] = function

    def norm(self, x: Tensor, weight: Tensor, eps: float, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`added` put into `x` [..., size], then `x` normed, and its factor [..., 1] in float32."""
        y, factor = _like(x), torch.empty(*x.shape[:-1], 1)
        self._run("tw_norm", x, added, weight, y, factor, *_rows(x), eps, False, _wide(x))
        return y, factor

    def weighted(self, x: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
        """`x` normed, from its factor."""
        y = _like(x)
        self._run("tw_norm", x, None, weight, y, factor, *_rows(x), 0.0, True, _wide(x))
        return y

    def norm_back(
        self, x: Tensor, factor: Tensor, weight: Tensor, to_y: Tensor, more: Tensor | None = None
    ) -> Tensor:
        """The gradient of `x` from that of `x` normed, with `more` added to it."""
        to_x = _like(x)
        self._run("tw_norm_back", x, factor, weight, to_y, more, to_x, *_rows(x), _wide(x))
        return to_x

    def gate(self, kind: int, gate: Tensor, through: Tensor, *, into_gate: bool) -> Tensor:
        """What is let through, in the place of `gate` where nobody wants that any more."""
        inner = gate if into_gate else _like(gate)
        self._run("tw_gate", gate, through, inner, gate.numel(), kind, _wide(gate))
        return inner

    def gate_back(self, kind: int, gate: Tensor, through: Tensor, to_inner: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of `gate` and `through`."""
        to_gate, to_through = _like(gate), _like(gate)
        self._run("tw_gate_back", gate, through, to_inner, to_gate, to_through, gate.numel(), kind, _wide(gate))
        return to_gate, to_through

    def normaliser(self, logits: Tensor) -> Tensor:
        """Logarithm of the sum of exponentials of [positions, vocabulary], in float32, [positions]."""
        normaliser = torch.empty(len(logits))
        self._run("tw_normaliser", logits, normaliser, *_rows(logits), _wide(logits))
        return normaliser

    def chances(self, logits: Tensor, normaliser: Tensor, targets: Tensor) -> None:
        """Turn logits [positions, vocabulary] into the gradient of each negative log-probability of its target."""
        self._run("tw_chances", logits, normaliser, targets, *_rows(logits), _wide(logits))

    def join(self, parts: Sequence[Tensor], cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values, each [tokens, heads, size], as one tensor in float32, the first two turned."""
        query, key, value = parts
        tokens, queries, size = query.shape
        keys = key.shape[1]
        joined = torch.empty(tokens, queries + 2 * keys, size)
        self._run("tw_join", query, key, value, cos, sin, joined, tokens, queries, keys, size, _wide(query))
        return joined

    def part(
        self, joined: Tensor, counts: Sequence[int], dtype: torch.dtype, cos: Tensor, sin: Tensor
    ) -> list[Tensor]:
        """The way back: [tokens, all heads, size] in float32 as three in `dtype`, the first two turned back."""
        tokens, _, size = joined.shape
        parts = [torch.empty(tokens, count, size, dtype=dtype) for count in counts]
        self._run("tw_part", joined, cos, sin, *parts, tokens, counts[0], counts[1], size, _wide(parts[0]))
        return parts

    def attend(
        self,
        joined: Tensor,
        ends: Tensor,
        frames: Tensor,
        counts: Sequence[int],
        scale: float,
        into: Sequence[Tensor],
    ) -> None:
        """Attention within `frames` (first place and width of each, [frames, 2]), all in float32.

        Args:
            joined: queries, keys and values, [tokens, all heads, size].
            ends: of every place, the first one behind it that does not see it, [tokens].
            frames: no wider than `WIDEST`.
            counts: heads of queries, keys and values.
            scale: of the products.
            into: output [tokens, heads, size] and logarithm of the normaliser [tokens, heads], to be filled.
        """
        self._run("tw_attend", joined, ends, frames, *into, len(frames), *counts[:2], joined.shape[-1], scale)

    def attend_back(
        self,
        grad: Tensor,
        joined: Tensor,
        ends: Tensor,
        frames: Tensor,
        counts: Sequence[int],
        scale: float,
        merged: Sequence[Tensor],
        back: Tensor,
    ) -> None:
        """Fill `back` with the gradient of `joined`, from the output and normaliser of all that a token sees."""
        tensors = (grad, joined, ends, frames, *merged, back)
        self._run("tw_attend_back", *tensors, len(frames), *counts[:2], joined.shape[-1], scale)

    def _run(self, name: str, *arguments: Any) -> None:
        # Copies that make a tensor contiguous must outlive the call.
        held = [value.contiguous() if isinstance(value, Tensor) else value for value in arguments]
        self._functions[name](*(value.data_ptr() if isinstance(value, Tensor) else value for value in held))


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype)


def _rows(x: Tensor) -> tuple[int, int]:
    """How many rows, of how many values."""
    size = x.shape[-1]
    return x.numel() // size, size


def _wide(x: Tensor) -> bool:
    return x.dtype == torch.float32
