"""The compiled operations: each equals what is written with torch, and torch takes over where there are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tunewise.engine import kernels, operations
from tunewise.engine.attention import Group, Layout, _TreeAttention
from tunewise.engine.operations import ACTIVATIONS
from tunewise.engine.parts import Gate, Norm, Rotation
from tunewise.engine.products import Heads

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
SIZES = [(1, 5), (3, 7), (5, 64), (70, 576)]
"""Rows and values of each: less and more than a vector of the processor, and enough for several threads."""

needed = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="no C compiler on this machine"
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """The library is looked for anew, and again afterwards."""
    kernels._kernels.cache_clear()
    yield
    kernels._kernels.cache_clear()


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    def compute(function: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "serving", lambda *_: None)
            return function()

    return compute


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def close(found: Any, expected: Any) -> None:
    """Equal but for the order of operations: the last digit of bfloat16, the last two of float32."""
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        exact = expected.to(torch.float64)
        scale = 2**-7 if expected.dtype == torch.bfloat16 else 2e-5
        assert torch.allclose(found.to(torch.float64), exact, rtol=scale, atol=scale * float(exact.abs().mean()))
        return
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_norms(by_torch: Callable[..., Any], size: tuple[int, int], dtype: torch.dtype) -> None:
    norm = Norm(SimpleNamespace(weight=drawn(size[1], dtype=dtype, seed=1)), 1e-5)
    x, gradient, more = (drawn(*size, dtype=dtype, seed=seed) for seed in (2, 3, 4))
    factor = norm.forward(x)[1]
    for function in (
        lambda: norm.forward(x),
        lambda: norm.forward(x.clone(), added=more),
        lambda: norm.weighted(x, factor),
        lambda: norm.backward(x, factor, gradient),
        lambda: norm.backward(x, factor, gradient, more),
    ):
        close(function(), by_torch(function))


@needed
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_puts_what_is_added_into_its_input(by_torch: Callable[..., Any], dtype: torch.dtype) -> None:
    norm = Norm(SimpleNamespace(weight=drawn(40, dtype=dtype)), 1e-5)

    def summed() -> Tensor:
        x = drawn(3, 40, dtype=dtype, seed=1)
        norm.forward(x, added=drawn(3, 40, dtype=dtype, seed=2))
        return x

    assert torch.equal(summed(), by_torch(summed))


@needed
def test_norms_take_tensors_that_are_not_contiguous(by_torch: Callable[..., Any]) -> None:
    norm = Norm(SimpleNamespace(weight=drawn(2, 40).t()[:, 0]), 1e-5)
    x, gradient = drawn(5, 3, 80)[..., ::2], drawn(40, 5, 3).permute(1, 2, 0)
    close(norm.forward(x), by_torch(lambda: norm.forward(x)))
    factor = norm.forward(x)[1]
    close(norm.backward(x, factor, gradient), by_torch(lambda: norm.backward(x, factor, gradient)))


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gates(by_torch: Callable[..., Any], name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    gate, (x, through, back) = Gate(name), (drawn(*size, dtype=dtype, seed=seed, scale=3) for seed in (1, 2, 3))
    for function in (
        lambda: gate.forward(x, through, last=False),
        lambda: gate.forward(x.clone(), through, last=True),
        lambda: gate.backward(x, through, back),
    ):
        close(function(), by_torch(function))


@needed
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gates_that_are_far_open_or_shut(by_torch: Callable[..., Any], name: str) -> None:
    gate, one = Gate(name), torch.ones(1)
    for value in (-3e38, -1e15, -1e4, -90.0, -20.0, -5.0, -0.0, 0.0, 5.0, 20.0, 90.0, 1e4, 1e15, 3e38):
        x = torch.tensor([value])
        found, expected = gate.forward(x, one, last=False), by_torch(lambda x=x: gate.forward(x, one, last=False))
        # Torch loses what GELU lets through of values far below zero: 1 + tanh is 0 there.
        assert float(abs(found - expected)) <= 1e-6 * max(0.1, abs(float(expected)))
        if abs(value) < 1e12:
            back = gate.backward(x, one, one)
            for one_back, other in zip(back, by_torch(lambda x=x: gate.backward(x, one, one)), strict=True):
                assert float(abs(one_back - other)) <= 1e-5 * max(0.1, abs(float(other)))


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("place", range(3))
def test_what_is_not_a_number_stays_so(dtype: torch.dtype, place: int) -> None:
    parts = [drawn(2, 64, dtype=dtype, seed=seed) for seed in range(3)]
    parts[place][0, 5] = torch.inf - torch.inf
    gate, norm = Gate("silu"), Norm(SimpleNamespace(weight=parts[2][0]), 1e-5)
    if place < 2:
        assert gate.forward(parts[0], parts[1], last=False)[0, 5].isnan()
    assert any(back[0, 5].isnan() for back in gate.backward(*parts))
    assert norm.forward(parts[0], added=parts[1])[0][0].isnan().any()
    assert not parts[place][1].isnan().any()


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [*SIZES, (9, 5000)])
def test_distributions(by_torch: Callable[..., Any], size: tuple[int, int], dtype: torch.dtype) -> None:
    logits = drawn(*size, dtype=dtype, scale=5)
    norms, targets = operations.of(logits).normaliser(logits), torch.arange(size[0]) % size[1]
    close(norms, logits.to(torch.float64).logsumexp(dim=-1).to(torch.float32))

    def gradient() -> Tensor:
        chances = logits.clone()
        operations.of(chances).chances(chances, norms, targets)
        return chances

    close(gradient(), by_torch(gradient))


@needed
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "size"), [(Heads(1, 1), 2), (Heads(4, 2), 10), (Heads(9, 3), 64)])
def test_rotations(by_torch: Callable[..., Any], heads: Heads, size: int, dtype: torch.dtype) -> None:
    rotation = Rotation(drawn(30, 1, size, seed=1), drawn(30, 1, size, seed=2))
    parts = [drawn(30, count, size, dtype=dtype, seed=count) for count in heads.counts]
    close(rotation.join(parts), by_torch(lambda: rotation.join(parts)))
    joined = drawn(30, sum(heads.counts), size, seed=5)
    close(rotation.part(joined, heads.counts, dtype), by_torch(lambda: rotation.part(joined, heads.counts, dtype)))


@needed
@pytest.mark.parametrize(("heads", "size"), [(Heads(1, 1), 3), (Heads(4, 2), 16), (Heads(6, 3), 64)])
def test_attention_in_frames(by_torch: Callable[..., Any], heads: Heads, size: int) -> None:
    # Two frames of 18 places: a tree of two rows (they share 2), and one row; then a place behind them.
    ends = torch.tensor([18, 18, *[5] * 3, *[18] * 13, *[36] * 18, 37])
    layout = Layout(torch.arange(37), 37, ends, [Group(0, 2, 18, ends)], [])
    joined = drawn(37, sum(heads.counts), size).requires_grad_()
    gradient = drawn(37, heads.query, size, seed=1)

    def both() -> tuple[Tensor, ...]:
        output = _TreeAttention.apply(joined, layout, None, heads, 0.3)  # type: ignore[no-untyped-call]
        return output.detach(), *torch.autograd.grad(output, joined, gradient)

    close(both(), by_torch(both))
    # As a network's own modules hand it over.
    joined = joined.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    close(both(), by_torch(both))


@needed
def test_scores_of_any_size_have_a_softmax() -> None:
    heads = Heads(1, 1)
    ends = torch.tensor([3, 3, 3])
    layout = Layout(torch.arange(3), 3, ends, [Group(0, 1, 3, ends)], [])
    joined = torch.zeros(3, 3, 4)
    joined[:, 0], joined[:, 1, 0], joined[:, 2, 0] = 1.0, torch.tensor([900.0, 1000.0, 800.0]), torch.arange(3.0)
    output = _TreeAttention.apply(joined, layout, None, heads, 1.0)  # type: ignore[no-untyped-call]
    assert output[:, 0, 0].tolist() == [0.0, 1.0, 1.0]


def test_other_dtypes_and_devices_are_left_to_torch() -> None:
    assert kernels.serving(CPU, torch.float64) is None
    assert kernels.serving(torch.device("meta"), torch.float32) is None


@needed
def test_no_default_dtype_changes_what_is_computed(by_torch: Callable[..., Any]) -> None:
    norm, logits = Norm(SimpleNamespace(weight=drawn(40)), 1e-5), drawn(3, 40)
    expected = by_torch(lambda: (norm.forward(logits), operations.of(logits).normaliser(logits)))
    for dtype in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            close((norm.forward(logits), operations.of(logits).normaliser(logits)), expected)
        finally:
            torch.set_default_dtype(torch.float32)


@needed
def test_tensors_that_do_not_go_together_are_refused() -> None:
    compiled, x = kernels.serving(CPU, torch.float32), drawn(4, 8)
    assert compiled is not None
    for call in (
        lambda: compiled.norm(x, drawn(7), 1e-5),
        lambda: compiled.norm(x, drawn(8, dtype=torch.bfloat16), 1e-5),
        lambda: compiled.norm(x.t(), drawn(4), 1e-5, drawn(8, 4)),
        lambda: compiled.gate("silu", x, drawn(4, 7), into_gate=False),
        lambda: compiled.gate("silu", x.t(), x.t(), into_gate=True),
        lambda: compiled.chances(x.t(), drawn(8), torch.zeros(8, dtype=torch.long)),
        lambda: compiled.join([drawn(4, 2, 8), drawn(4, 1, 8), drawn(4, 2, 8)], drawn(4, 1, 8), drawn(4, 1, 8)),
        lambda: compiled.part(drawn(4, 4, 8, dtype=torch.bfloat16), [2, 1, 1], x.dtype, x[:, None], x[:, None]),
    ):
        with pytest.raises(RuntimeError, match="expected a"):
            call()


@needed
@pytest.mark.usefixtures("fresh")
def test_the_compiler_of_this_machine_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[Any] = []
    whole = subprocess.run

    def run(*arguments: Any, **others: Any) -> Any:
        try:
            return whole(*arguments, **others)
        except subprocess.CalledProcessError as error:
            said.append(error.stderr)
            raise

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    assert kernels.serving(CPU, torch.float32) is not None, said


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert kernels.serving(CPU, torch.float32) is None


@pytest.mark.usefixtures("fresh")
def test_with_a_compiler_that_fails_torch_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && echo old || exit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(compiler))
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "cache"))
    assert kernels.serving(CPU, torch.float32) is None
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.fixture
def kept(fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that was compiled, which is looked for anew."""
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    assert kernels.serving(CPU, torch.float32) is not None
    (kept,) = (tmp_path / "kernels").iterdir()
    kernels._kernels.cache_clear()
    return kept


@needed
def test_what_is_compiled_is_kept(kept: Path) -> None:
    written = kept.stat().st_mtime_ns
    assert kernels.serving(CPU, torch.float32) is not None
    assert kept.stat().st_mtime_ns == written


@needed
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_where_others_may_write_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    assert kernels.serving(CPU, torch.float32) is not None
    assert not list(folder.iterdir())


@needed
def test_a_kept_file_that_others_may_write_is_made_anew(kept: Path) -> None:
    kept.unlink()  # it is loaded: writing over it would end this process
    kept.write_bytes(b"not what was compiled")
    kept.chmod(0o666)
    assert kernels.serving(CPU, torch.float32) is not None
    assert kept.stat().st_mode & 0o777 == 0o700
